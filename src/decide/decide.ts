// What this node's kernel and sockets ought to be, from what is known and what is believed of them. Pure. What is not known whole
// may add, and takes nothing away: a role stays, a mark stays, a program stays, an announcement stays.
import type { Address } from "../lib/address.ts";
import type { HealthCheck } from "../model/model-interface.ts";
import type { Notice } from "../model/objects.ts";
import {
  acceptedMac,
  type DeviceRole,
  defaultRouteAddresses,
  deviceRoles,
  isXdpDevice,
  needsL3,
  podAddresses,
  snatSources,
  tunnelOfRoutes,
  type XdpOption,
} from "./device-roles.ts";
import { fitDevices, roomNotices } from "./device-room.ts";
import { decideHealth, type EffectState, type Health } from "./health.ts";
import { kubeProxyNotices } from "./kube-proxy-notices.ts";
import { machineNotices } from "./machine-notice.ts";
import type { Device, Network } from "./network.ts";
import { type NodeAddresses, otherNodes } from "./node-addresses.ts";
import type { NetFamily } from "./served-families.ts";
import { uplinkNotices } from "./uplink-notices.ts";

/** Something that is read again and again. */
export interface Input<T> {
  /** Another number when the value is another. */
  readonly generation: number;
  /** Nothing is missing: what it does not name is not there. */
  readonly complete: boolean;
  readonly value: T;
}

/** What the operator asked for. */
export interface Wishes {
  /** Uplinks by name; empty: found by the rules. */
  readonly devices: readonly string[];
  readonly xdp: XdpOption;
  readonly sockets: "all" | "host-only" | "auto";
  /** Bit in the mark of translated packets where a firewall asks for it; 0: never. */
  readonly forwardMark: number;
}

export interface ObjectFacts {
  readonly addresses: NodeAddresses;
  /** Of Services and host ports, the same array while they are the same. */
  readonly families: readonly NetFamily[];
  /** This node is being removed. */
  readonly goingAway: boolean;
  /** Some pod here is not reached by translating at the socket. */
  readonly bypassesSockets: boolean;
  readonly healthChecks: readonly HealthCheck[];
  /** When the oldest change that is not in force came, milliseconds since the epoch; 0: there is none. */
  readonly waitingSinceMs: number;
}

export interface FirewallFacts {
  /** Translated packets must carry the mark. */
  readonly marks: boolean;
  /** Why packets may not be forwarded, "": nothing is in their way. */
  readonly problem: string;
  /** Why packets may leave unprotected, "": they do not. */
  readonly ipsec: string;
}

/** Another proxy on this node. */
export interface OtherProxyFacts {
  /** How it is known to run: "process 4711"; "": it does not, as far as can be seen from here. */
  readonly running: string;
  /** Kinds of rules that it has here. */
  readonly rules: readonly string[];
  /** Connections through our frontends that the kernel translates for it. */
  readonly connections: number;
}

/** Until when flow tables let nobody in; jiffies or nanoseconds as in the settings. */
export interface FlowFacts {
  readonly tcpFullUntil: bigint;
  readonly udpFullUntil: bigint;
  readonly crowdedUntil: bigint;
}

export interface Inputs {
  readonly wishes: Wishes;
  /** So many devices the programs can know. */
  readonly mostDevices: number;
  readonly objects: Input<ObjectFacts>;
  readonly network: Input<Network>;
  readonly firewall: Input<FirewallFacts>;
  readonly otherProxy: Input<OtherProxyFacts>;
  readonly flows: Input<FlowFacts>;
  readonly nowMs: number;
}

/** What is known of the kernel's side. */
export interface Believed {
  /** Rows of all objects have been in force since this process began. */
  readonly filled: boolean;
  /** There are rows that serve: `filled`, or those of an agent before. */
  readonly serves: boolean;
  readonly handingOver: boolean;
  readonly effects: readonly EffectState[];
  readonly settings: DesiredSettings;
  /** What was decided last; undefined at first. */
  readonly previous: Desired | undefined;
}

export interface DesiredDevice {
  readonly device: Device;
  readonly role: DeviceRole | undefined;
  /** Has no role as far as is known: programs that it has stay. */
  readonly keep: boolean;
  /** XDP is to be tried. */
  readonly xdp: boolean;
  /** Of the bridge that it is a port of, else 0. */
  readonly bridge: number;
  readonly accepts: Uint8Array;
  readonly sources: { readonly IPv4: Address | ""; readonly IPv6: Address | "" };
  readonly pods: { readonly IPv4: Address | ""; readonly IPv6: Address | "" };
}

export interface DesiredDevices {
  readonly list: readonly DesiredDevice[];
  /** So many would be in the list if there was room for all. */
  readonly asked: number;
  readonly roles: ReadonlyMap<number, DeviceRole>;
  /** What the list does not name is gone. */
  readonly isWhole: boolean;
  /** Programs for devices without a link header are needed. */
  readonly needsL3: boolean;
  /** Forwarding must be on there, for the families of node and Services: sysctls of these names. None before the objects have come. */
  readonly forwarding: readonly { readonly device: string; readonly family: NetFamily }[];
  /** What it was decided from. */
  readonly basis: {
    readonly network: Network;
    readonly addresses: NodeAddresses;
    readonly families: readonly NetFamily[];
    readonly complete: boolean;
  };
}

export interface DesiredSettings extends FlowFacts {
  readonly sockets: "all" | "host-only";
  /** Indexes of devices, 0: none. */
  readonly uplink: number;
  readonly tunnel: number;
  readonly sourceRoutes: boolean;
  readonly forwardMark: number;
  readonly handover: boolean;
  /** Conntrack is asked for another proxy's connections before a flow is opened. */
  readonly otherProxy: boolean;
}

export interface Desired {
  /** The maps are to hold what the objects ask for. */
  readonly maps: boolean;
  readonly devices: DesiredDevices;
  /** Programs are to be on devices and sockets: rows are there. */
  readonly attach: boolean;
  readonly settings: DesiredSettings;
  /** Announcements are to be those of the objects; false: as they are. */
  readonly announce: boolean;
  /** undefined: as they are. */
  readonly healthPorts: readonly HealthCheck[] | undefined;
  readonly health: Health;
  readonly notices: readonly Notice[];
}

export function decide(inputs: Inputs, believed: Believed): Desired {
  const { objects, network, nowMs } = inputs;
  const devices = decideDevices(inputs, believed.previous?.devices);
  return {
    maps: objects.complete,
    devices,
    attach: believed.serves,
    settings: decideSettings(inputs, believed, devices),
    announce: believed.filled && objects.complete && network.complete,
    healthPorts: believed.filled && objects.complete ? objects.value.healthChecks : undefined,
    health: decideHealth({
      synced: objects.complete,
      filled: believed.filled,
      waitingSinceMs: objects.value.waitingSinceMs,
      goingAway: objects.value.goingAway,
      effects: believed.effects,
      nowMs,
    }),
    notices: [
      ...machineNotices({
        forwarding: inputs.firewall.value.problem,
        ipsec: inputs.firewall.value.ipsec,
        tunnel: tunnelOfRoutes(network.value).problem,
        goingAway: objects.value.goingAway,
      }),
      ...kubeProxyNotices(inputs.otherProxy.value),
      ...roomNotices(devices.asked, devices.list.length),
      ...(network.complete ? uplinkNotices(network.value, inputs.wishes.devices, devices.roles) : []),
    ],
  };
}

/** The same answer as before when it is asked the same: a turn without a change of nodes or network costs nothing here. */
function decideDevices(
  { wishes, mostDevices, objects, network }: Inputs,
  previous: DesiredDevices | undefined,
): DesiredDevices {
  const { addresses, families } = objects.value;
  const complete = objects.complete && network.complete;
  const before = previous?.basis;
  if (
    previous !== undefined &&
    before?.network === network.value &&
    before.addresses === addresses &&
    before.families === families &&
    before.complete === complete
  )
    return previous;
  const links = network.value;
  const own = addresses.own.length > 0 ? addresses.own : defaultRouteAddresses(links).addresses;
  const others = otherNodesOf(addresses);
  const found = deviceRoles({ network: links, named: wishes.devices, ownAddresses: own, others });
  const present = new Set(links.devices.map(({ ifindex }) => ifindex));
  const stays = complete ? [] : [...(previous?.roles ?? [])].filter(([one]) => !network.complete || present.has(one));
  const roles = new Map(stays);
  for (const [ifindex, role] of found) if (!roles.has(ifindex)) roles.set(ifindex, role);
  const bridges = new Map(
    links.devices.flatMap(({ kind, name, ifindex }) => (kind === "bridge" ? [[name, ifindex]] : [])),
  );
  const all: DesiredDevice[] = [];
  const forwarding: { device: string; family: NetFamily }[] = [];
  // Until then the node's addresses are guessed from its devices, which may have a family that the cluster has not.
  const forwarded = (objects.complete ? families : []).filter((family) =>
    own.some((address) => address.includes(":") === (family === "ipv6")),
  );
  for (const device of links.devices) {
    if (device.linkType === "loopback") continue;
    const role = roles.get(device.ifindex);
    all.push({
      device,
      role,
      keep: role === undefined && !complete,
      xdp: role === "uplink" && isXdpDevice(device, links, wishes.xdp),
      bridge: bridges.get(device.master) ?? 0,
      accepts: acceptedMac(device, links),
      sources: snatSources(device, links, own),
      pods: role === "pod" ? podAddresses(device, links) : { IPv4: "", IPv6: "" },
    });
  }
  const list = fitDevices(all, mostDevices);
  const fitting = new Set(list);
  for (const one of all) if (!fitting.has(one)) roles.delete(one.device.ifindex);
  for (const { device, role } of list) {
    if (role !== undefined && device.master === "")
      for (const family of forwarded) forwarding.push({ device: device.name, family });
  }
  return {
    list,
    asked: all.length,
    roles,
    isWhole: network.complete,
    needsL3: needsL3(links),
    forwarding,
    basis: { network: links, addresses, families, complete },
  };
}

/** The index of other nodes is made anew when they are others, not for each event of the network. */
const indexes = new WeakMap<NodeAddresses, ReturnType<typeof otherNodes>>();
function otherNodesOf(addresses: NodeAddresses): ReturnType<typeof otherNodes> {
  const known = indexes.get(addresses) ?? otherNodes(addresses);
  indexes.set(addresses, known);
  return known;
}

function decideSettings(
  inputs: Inputs,
  { settings, handingOver }: Believed,
  { roles }: DesiredDevices,
): DesiredSettings {
  const { wishes, objects, network, firewall, otherProxy, flows } = inputs;
  const { devices, routesBySource } = network.value;
  const { device } = defaultRouteAddresses(network.value);
  const uplink =
    devices.find(({ name }) => name === device) ?? devices.find(({ ifindex }) => roles.get(ifindex) === "uplink");
  const tunnel = tunnelOfRoutes(network.value).ifindex;
  const { tcpFullUntil, udpFullUntil, crowdedUntil } = flows.complete ? flows.value : settings;
  return {
    // A sidecar or a sandbox must see the Service's own address: its pod's packets are translated instead (trap A16).
    sockets:
      wishes.sockets !== "auto"
        ? wishes.sockets
        : objects.value.bypassesSockets
          ? "host-only"
          : objects.complete
            ? "all"
            : settings.sockets,
    uplink: uplink?.ifindex ?? (network.complete && objects.complete ? 0 : settings.uplink),
    tunnel: network.complete ? tunnel : tunnel || settings.tunnel,
    sourceRoutes: routesBySource || (!network.complete && settings.sourceRoutes),
    forwardMark: firewall.value.marks
      ? wishes.forwardMark
      : firewall.complete || wishes.forwardMark === 0
        ? 0
        : settings.forwardMark,
    handover: handingOver,
    otherProxy:
      otherProxy.value.rules.length > 0 ||
      otherProxy.value.connections > 0 ||
      (!otherProxy.complete && settings.otherProxy),
    tcpFullUntil,
    udpFullUntil,
    crowdedUntil,
  };
}
