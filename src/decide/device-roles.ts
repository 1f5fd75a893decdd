// Which devices are uplinks, which are pod devices, which of them can run XDP, which source address SNAT writes on each, and whose
// frames and packets come in by it. Pure.
import { type Address, familyOf, type Prefix, prefixContains, unusableReason } from "../lib/address.ts";
import type { Device, Links, Route } from "./network.ts";
import type { OtherNodes } from "./node-addresses.ts";

export type DeviceRole = "uplink" | "pod";
export type XdpOption = "auto" | "on" | "off";

export interface RolesQuestion {
  readonly network: Links;
  /** Uplinks by name; empty: found by the rules. */
  readonly named: readonly string[];
  /** InternalIPs of this node's Node object. */
  readonly ownAddresses: readonly Address[];
  readonly others: OtherNodes;
}

/** Devices that a route to another node's address or pods leaves by. A default route counts by itself. */
function routesToOthers({ network, others }: RolesQuestion): Set<string> {
  const found = new Set<string>();
  for (const route of network.routes) {
    if (found.has(route.device)) continue;
    // A pod of this node may have an address out of another node's range: its own host route leads to no other node.
    const isOwnPod = isHostRoute(route) && !route.viaGateway && !others.hasAddress(route.address);
    if (route.isDefault || (!isOwnPod && others.prefixes.overlaps(route))) found.add(route.device);
  }
  return found;
}

const isHostRoute = (route: Route): boolean => route.length === (familyOf(route.address) === "IPv4" ? 32 : 128);

/**
 * The role of each device that has one, by ifindex. An uplink is named, or has an address of this node, the default route, or
 * a route to another node's address or pods, overlays included. A pod device is any other veth that a bridge has enslaved or
 * that has a host route. Enslaved devices and loopback are never uplinks: what is above them is.
 */
export function deviceRoles(question: RolesQuestion): Map<number, DeviceRole> {
  const { network, named, ownAddresses } = question;
  const toOthers = routesToOthers(question);
  const withHostRoute = new Set(network.routes.filter(isHostRoute).map(({ device }) => device));
  const bridges = new Set(network.devices.filter(({ kind }) => kind === "bridge").map(({ name }) => name));
  const roles = new Map<number, DeviceRole>();
  for (const device of network.devices) {
    if (device.linkType === "loopback") continue;
    const isUplink =
      named.length > 0 && named.includes(device.name)
        ? true
        : device.master === "" &&
          // With --devices given, overlays that lead to other nodes' pods still count: nobody lists those.
          (named.length === 0 || device.kind === "vxlan" || device.kind === "ipip" || device.kind === "wireguard") &&
          (toOthers.has(device.name) || device.addresses.some(({ address }) => ownAddresses.includes(address)));
    // An address of its own above an uplink, with a MAC of its own (VRRP): frames for it are nobody's at the uplink.
    const isAboveUplink =
      (device.kind === "macvlan" || device.kind === "ipvlan") &&
      device.addresses.length > 0 &&
      network.devices.some(({ name, ifindex }) => name === device.lower && roles.get(ifindex) === "uplink");
    if (isUplink || isAboveUplink) roles.set(device.ifindex, "uplink");
    else if (device.kind === "veth" && (bridges.has(device.master) || withHostRoute.has(device.name))) {
      roles.set(device.ifindex, "pod");
    }
  }
  return roles;
}

/** Why `deviceRoles` calls this device an uplink, as a clause about "it". */
export function uplinkReason(question: RolesQuestion, device: Device): string {
  const { network, named, ownAddresses } = question;
  if (named.includes(device.name)) return "it is named by --devices";
  const own = device.addresses.find(({ address }) => ownAddresses.includes(address));
  if (own !== undefined) return `it has ${own.address} of this Node`;
  if (network.routes.some((route) => route.isDefault && route.device === device.name))
    return "it has the default route";
  if (routesToOthers(question).has(device.name)) return "a route to another node's address or pods leaves by it";
  return `it has an address of its own and lies on the uplink ${device.lower}`;
}

/**
 * A device on which XDP frames can be received and sent by redirect. Not below VLAN devices: XDP does not see a tag that the
 * NIC has stripped, and would take their frames for its own (trap C7).
 */
export function isXdpDevice(device: Device, network: Links, xdp: XdpOption): boolean {
  if (xdp === "off" || device.linkType !== "ether") return false;
  if (network.devices.some(({ kind, lower }) => kind === "vlan" && lower === device.name)) return false;
  if (xdp === "on") return device.kind === "" || device.kind === "veth";
  return device.kind === "";
}

/** What is asked of each device again and again, gathered once for a reading of the network. */
interface LinkIndex {
  readonly byName: ReadonlyMap<string, Device>;
  readonly routesBy: ReadonlyMap<string, readonly Route[]>;
  readonly ownAddresses: ReadonlySet<Address>;
}
const indexes = new WeakMap<Links, LinkIndex>();

function indexOf(network: Links): LinkIndex {
  const known = indexes.get(network);
  if (known !== undefined) return known;
  const routesBy = new Map<string, Route[]>();
  for (const route of network.routes) {
    const routes = routesBy.get(route.device);
    if (routes === undefined) routesBy.set(route.device, [route]);
    else routes.push(route);
  }
  const made: LinkIndex = {
    byName: new Map(network.devices.map((device) => [device.name, device])),
    routesBy,
    ownAddresses: new Set(network.devices.flatMap(({ addresses }) => addresses.map(({ address }) => address))),
  };
  indexes.set(network, made);
  return made;
}

/**
 * The address that the kernel would use as source for packets that leave by `device`, per family: the preferred source of its
 * routes, else its own first address (of its bridge, for a port), else the node's. "" when there is none.
 */
export function snatSources(
  device: Device,
  network: Links,
  ownAddresses: readonly Address[],
): { readonly IPv4: Address | ""; readonly IPv6: Address | "" } {
  const { byName, routesBy } = indexOf(network);
  const holder = byName.get(device.master) ?? device;
  const of = (family: "IPv4" | "IPv6"): Address | "" => {
    const own = holder.addresses.filter(({ address }) => familyOf(address) === family).map(({ address }) => address);
    const preferred = (routesBy.get(holder.name) ?? [])
      .filter((route) => route.source !== "" && familyOf(route.source) === family)
      .sort((a, b) => a.metric - b.metric || a.length - b.length)
      .map(({ source }) => source);
    const node = ownAddresses.find((address) => familyOf(address) === family);
    // A device with the node's own address speaks as the node, whatever else it has.
    if (node !== undefined && own.includes(node)) return node;
    return own[0] ?? preferred[0] ?? node ?? "";
  };
  return { IPv4: of("IPv4"), IPv6: of("IPv6") };
}

/** What frames for this machine are addressed to where they come in by `device`: the MAC of the bridge that it is a port of, else its own. */
export function acceptedMac(device: Device, network: Links): Uint8Array {
  const master = indexOf(network).byName.get(device.master);
  return (master?.kind === "bridge" ? master : device).mac;
}

/**
 * The address of the only pod behind a pod device, per family, "" where that is not known: behind a bridge's port, with several
 * routes over the device, or with one that leads to more than an address or through a router.
 */
export function podAddresses(
  device: Device,
  network: Links,
): { readonly IPv4: Address | ""; readonly IPv6: Address | "" } {
  const { routesBy, ownAddresses: own } = indexOf(network);
  const of = (family: "IPv4" | "IPv6"): Address | "" => {
    // Every device has a route to link-local addresses, and IPv6 one to each address of its own: neither leads to a pod.
    const routes = (routesBy.get(device.name) ?? []).filter(
      (route) =>
        familyOf(route.address) === family &&
        (route.isDefault || unusableReason(route.address) !== "link-local") &&
        !(isHostRoute(route) && own.has(route.address)),
    );
    const [only] = routes;
    return only !== undefined && routes.length === 1 && isHostRoute(only) && !only.viaGateway ? only.address : "";
  };
  return device.master === "" ? { IPv4: of("IPv4"), IPv6: of("IPv6") } : { IPv4: "", IPv6: "" };
}

/** Dummy devices on which other proxies keep every Service's address, also after they have gone: these are no addresses of a node. */
const HOLDERS_OF_SERVICES: ReadonlySet<string> = new Set(["kube-ipvs0", "kube-dummy-if"]);

/** The addresses that this node's devices have, with their networks: no Service may take what goes to them. */
export function heldNetworks(network: Links): Prefix[] {
  return network.devices.filter(({ name }) => !HOLDERS_OF_SERVICES.has(name)).flatMap(({ addresses }) => addresses);
}

/** The device that `address` belongs on: the uplink with the longest prefix over it, else the default route's. */
export function deviceForAddress(
  address: Address,
  network: Links,
  roles: ReadonlyMap<number, DeviceRole>,
): Device | undefined {
  const uplinks = network.devices.filter(
    (device) => roles.get(device.ifindex) === "uplink" && device.linkType === "ether",
  );
  let best: { readonly device: Device; readonly length: number } | undefined;
  for (const device of uplinks) {
    for (const own of device.addresses) {
      if (!prefixContains(own, address)) continue;
      if (best === undefined || own.length > best.length) best = { device, length: own.length };
    }
  }
  if (best !== undefined) return best.device;
  const route = network.routes
    .filter((one) => one.isDefault && familyOf(one.address) === familyOf(address))
    .sort((a, b) => a.metric - b.metric)[0];
  return uplinks.find(({ name }) => name === route?.device);
}

/** Device and addresses of the default route: what a node without a Node object is known by. */
export function defaultRouteAddresses(network: Links): { readonly device: string; readonly addresses: Address[] } {
  const routes = network.routes.filter(({ isDefault }) => isDefault).sort((a, b) => a.metric - b.metric);
  const device = network.devices.find(({ name }) => name === routes[0]?.device);
  const addresses: Address[] = [];
  for (const family of ["IPv4", "IPv6"] as const) {
    const first = device?.addresses.find(({ address }) => familyOf(address) === family);
    if (first !== undefined) addresses.push(first.address);
  }
  return { device: device?.name ?? "", addresses };
}

/**
 * The device that all routes with an encapsulation of their own (lwtunnel, `ip route add … encap ip …`) lead to, and one sentence
 * when there is none such for all of them, else "". A device must be a tunnel that takes what the route says (collect_md).
 */
export function tunnelOfRoutes(network: Links): { readonly ifindex: number; readonly problem: string } {
  const routes = network.routes.filter(({ encapsulation }) => encapsulation !== "");
  const names = [...new Set(routes.map(({ device }) => device))].sort();
  const foreign = routes.find(({ encapsulation }) => encapsulation !== "ip" && encapsulation !== "ip6");
  const device = network.devices.find(({ name }) => name === names[0]);
  if (names.length === 1 && foreign === undefined && device !== undefined) {
    return { ifindex: device.ifindex, problem: "" };
  }
  if (routes.length === 0) return { ifindex: 0, problem: "" };
  const reason =
    foreign !== undefined
      ? `the encapsulation '${foreign.encapsulation}' of a route by ${foreign.device} cannot be applied to them`
      : `routes with an encapsulation lead to several devices (${names.join(", ")})`;
  return {
    ifindex: 0,
    problem: `packets from outside for backends behind such routes are dropped (DROP_NO_ROUTE): ${reason}; use one tunnel device for all of them, or externalTrafficPolicy Local`,
  };
}

/** Some device has no link header: overlays of CNIs, WireGuard, tun. They come when they like. */
export function needsL3({ devices }: Links): boolean {
  return devices.some(({ linkType }) => linkType !== "ether" && linkType !== "loopback");
}
