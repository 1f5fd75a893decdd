// Which LoadBalancer addresses this node ought to announce, and where: an answer for each Service, computed anew only for those
// whose answer may be another. A change costs the same with ten Services and with ten thousand.
import { isDeepStrictEqual } from "node:util";
import { announcerOf } from "../l2/eligibility.ts";
import type { Model } from "../model/model.ts";
import type { ObjectEvent, ObjectKey } from "../model/objects.ts";
import type { Claim } from "./announcer.ts";
import { deviceForAddress } from "./device-roles.ts";
import type { NodeNetwork } from "./node-network.ts";

export interface Claims {
  /** To be told of events before the model is. */
  note(events: readonly ObjectEvent[]): void;
  /** Devices, addresses or routes of this node are others. */
  noteNetwork(): void;
  /** As the model and the network are now. The same array as long as nothing in it changed. */
  current(): readonly Claim[];
}

export function createClaims(
  nodeName: string,
  model: Pick<Model, "services" | "slices" | "slicesOf" | "nodes" | "pools" | "l2Advertisements">,
  network: Pick<NodeNetwork, "network" | "roles">,
): Claims {
  /** Of Services that have some. */
  const claims = new Map<ObjectKey, readonly Claim[]>();
  const dirty = new Set<ObjectKey>();
  let allDirty = true;
  let list: readonly Claim[] = [];

  function claimsOf(key: ObjectKey): Claim[] {
    const service = model.services().get(key);
    const found: Claim[] = [];
    for (const { address, by } of service?.grants.addresses ?? []) {
      if (by !== "pool") continue;
      const best = announcerOf({
        service: service!,
        address,
        nodes: model.nodes().values(),
        advertisements: model.l2Advertisements().values(),
        pools: model.pools().values(),
        endpoints: model.slicesOf(key),
      });
      if (best?.node !== nodeName) continue;
      const named = network.network().devices.filter((device) => best.interfaces.includes(device.name));
      const devices =
        best.interfaces.length > 0 ? named : [deviceForAddress(address, network.network(), network.roles())];
      for (const device of devices) {
        if (device === undefined || network.roles().get(device.ifindex) !== "uplink") continue;
        found.push({ address, service: key, device: device.name, ifindex: device.ifindex, mac: device.mac });
      }
    }
    return found;
  }

  /** True when its answer is another one. */
  function refresh(key: ObjectKey): boolean {
    const found = claimsOf(key);
    if (isDeepStrictEqual(found, claims.get(key) ?? [])) return false;
    if (found.length > 0) claims.set(key, found);
    else claims.delete(key);
    return true;
  }

  /** Each address once on a device: Services may share one. */
  function flatten(): Claim[] {
    const byPlace = new Map<string, Claim>();
    for (const found of claims.values()) {
      for (const claim of found) {
        const place = `${claim.address}%${claim.ifindex}`;
        if (!byPlace.has(place)) byPlace.set(place, claim);
      }
    }
    return [...byPlace.values()];
  }

  return {
    note(events) {
      for (const { kind, key, object } of events) {
        if (kind === "Service") dirty.add(key);
        else if (kind === "EndpointSlice") {
          const before = model.slices().get(key);
          if (before !== undefined) dirty.add(`${before.namespace}/${before.service}`);
          if (object !== undefined) dirty.add(`${object.namespace}/${object.service}`);
        } else if (kind === "Node" || kind === "AddressPool" || kind === "L2Advertisement") allDirty = true;
      }
    },
    noteNetwork() {
      allDirty = true;
    },
    current() {
      if (!allDirty && dirty.size === 0) return list;
      if (allDirty) {
        for (const key of claims.keys()) dirty.add(key);
        for (const [key, { grants }] of model.services()) {
          if (grants.addresses.length > 0) dirty.add(key);
        }
      }
      let isOther = false;
      for (const key of dirty) isOther = refresh(key) || isOther;
      allDirty = false;
      dirty.clear();
      if (isOther) list = flatten();
      return list;
    },
  };
}
