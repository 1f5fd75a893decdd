// Which LoadBalancer addresses this node may announce, on which devices, and which nodes come before it: what the election says of
// each, looked at anew only where it, or the network that it depends on, is another.
import { isDeepStrictEqual } from "node:util";
import { type DeviceRole, deviceForAddress } from "../decide/device-roles.ts";
import {
  createElection,
  type Election,
  type ElectionModel,
  pooledAddresses,
  type Standing,
} from "../decide/election.ts";
import type { Ineligible } from "../decide/eligibility.ts";
import type { Device, Network, Route } from "../decide/network.ts";
import type { Candidacy } from "../l2/announcement.ts";
import type { Address } from "../lib/address.ts";
import type { Notice, ObjectEvent, ObjectKey } from "../model/objects.ts";

export interface Announcements {
  /** To be told of events before the model is. */
  note(events: readonly ObjectEvent[]): void;
  /** Devices, addresses or routes of this node may be others. */
  noteNetwork(): void;
  /** As the model and the network are now. The same array as long as nothing in it changed. */
  current(): readonly Candidacy[];
  /**
   * Addresses that this node may announce as every node reckons, and had a device for, and has none now: other nodes have to be told
   * not to rely on it. What it never had a device for is left out, as one that is not there may be meant so (`interfaces`).
   */
  lacking(): readonly Address[];
  notices(): readonly Notice[];
  /**
   * The node that ought to announce the Service's first address that one may, and that address. "" when none may, and why then; "" too
   * when it has no address of ours.
   */
  announcerOf(service: ObjectKey): {
    readonly node: string;
    readonly address: Address | "";
    readonly reason: Ineligible | "";
  };
  /** Addresses that this node ought to announce, and how many no node may announce, by why. */
  summary(): {
    readonly elected: ReturnType<Election["wonBy"]>;
    readonly unannounced: ReturnType<Election["unannounced"]>;
  };
}

/** What of the network decides where an address belongs. */
interface Ground {
  readonly uplinks: readonly Device[];
  readonly defaults: readonly Route[];
}

export function createAnnouncements(
  nodeName: string,
  model: ElectionModel,
  network: { network(): Network; roles(): ReadonlyMap<number, DeviceRole> },
): Announcements {
  const election = createElection(model, nodeName);
  /** Of addresses that this node may announce, whether it has a device for them or not. */
  const candidacies = new Map<Address, readonly Candidacy[]>();
  /** The `interfaces` by which it had a device for an address. */
  const had = new Map<Address, string>();
  const lost = new Set<Address>();
  const due = new Set<Address>();
  let ground: Ground = { uplinks: [], defaults: [] };
  let networkNoted = true;
  let list: readonly Candidacy[] = [];

  function settle(): void {
    for (const address of election.settle()) due.add(address);
  }

  function readGround(): Ground {
    const { devices, routes } = network.network();
    const roles = network.roles();
    return {
      uplinks: devices.filter(({ ifindex }) => roles.get(ifindex) === "uplink"),
      defaults: routes.filter(({ isDefault }) => isDefault),
    };
  }

  function candidaciesOf(address: Address, { interfaces, above }: Standing): Candidacy[] {
    const { uplinks, defaults } = ground;
    const devices =
      interfaces.length > 0
        ? uplinks.filter(({ name }) => interfaces.includes(name))
        : [deviceForAddress(address, { devices: uplinks, routes: defaults }, network.roles())];
    const { service, order } = election.outcome(address)!;
    const below = order.filter((name) => name !== nodeName && !above.includes(name));
    return devices
      .filter((device) => device !== undefined)
      .map(({ name, ifindex, mac }) => ({ address, service, device: name, ifindex, mac, above, below }));
  }

  function noteDevice(address: Address, standing: Standing | undefined, isThere: boolean): void {
    const interfaces = standing?.interfaces.join(" ");
    if (interfaces !== undefined && isThere) had.set(address, interfaces);
    else if (had.get(address) !== interfaces) had.delete(address);
    if (!isThere && had.has(address)) lost.add(address);
    else lost.delete(address);
  }

  return {
    note: election.note,
    noteNetwork() {
      networkNoted = true;
    },
    current() {
      settle();
      if (networkNoted) {
        networkNoted = false;
        const now = readGround();
        if (!isDeepStrictEqual(now, ground)) {
          ground = now;
          for (const address of candidacies.keys()) due.add(address);
        }
      }
      let isOther = false;
      for (const address of due) {
        const standing = election.standing(address, nodeName);
        const before = candidacies.get(address) ?? [];
        const found = standing === undefined ? undefined : candidaciesOf(address, standing);
        isOther ||= !isDeepStrictEqual(found ?? [], before);
        if (found === undefined) candidacies.delete(address);
        else candidacies.set(address, found);
        noteDevice(address, standing, (found ?? []).length > 0);
      }
      due.clear();
      if (isOther) list = [...candidacies.values()].flat();
      return list;
    },
    lacking: () => [...lost],
    notices: () =>
      [...lost].map((address) => {
        const object = `Service ${election.outcome(address)?.service ?? ""}`;
        const message = `could not announce ${address}: the device or the route that it was announced by is gone; other nodes are told not to rely on this one`;
        return { object, file: "", field: "status.loadBalancer", reason: "not-announced", message, severity: "error" };
      }),
    summary() {
      settle();
      return { elected: election.wonBy(nodeName), unannounced: election.unannounced() };
    },
    announcerOf(service) {
      settle();
      const addresses = pooledAddresses(model.services().get(service));
      const nodes = addresses.map((address) => election.outcome(address)?.node ?? "");
      const node = nodes.find((name) => name !== "") ?? "";
      return {
        node,
        address: addresses[nodes.indexOf(node)] ?? "",
        reason: node === "" && addresses[0] !== undefined ? (election.whyNobody(addresses[0]) ?? "") : "",
      };
    },
  };
}
