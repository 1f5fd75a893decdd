// The network of a lab as scripts: a LAN that switches and routes, nodes, clients and hosts on it, and three ways to
// connect pods. Decides nothing about which pods there are, and knows nothing of Services.
import type { Address } from "../lib/address.ts";
import { familyOf } from "../lib/address.ts";
import {
  hostLength,
  LAN_PREFIX,
  lanAddresses,
  lanGateways,
  overlayAddresses,
  overlayMac,
  POD_NETWORK,
  POD_NETWORK6,
  podGateways,
  podPrefixes,
  uplinkMac,
} from "./addressing.ts";
import { namespaceName } from "./lab-paths.ts";
import type { NetworkScript } from "./shell.ts";

export type Cni = "bridge" | "ptp" | "vxlan";

export interface LabNetwork {
  readonly lab: string;
  readonly cni: Cni;
  readonly ipv6: boolean;
  /** Conntrack, a CNI's masquerade rules, INVALID dropped in FORWARD, strict reverse-path filters on the nodes. */
  readonly netfilter: boolean;
  /** Bridged packets of the nodes pass netfilter. */
  readonly bridgeNetfilter: boolean;
  /** false: devices that packets leave by after our programs complete checksums themselves, so that a wrong one shows. */
  readonly txOffload: boolean;
  /** An XDP program on the LAN's ends of the uplinks, by this object file; "" for none. Without one veth takes no redirected frames. */
  readonly xdpPassObject: string;
}

export interface PodAttachment {
  /** Names the pod's namespace `pN` and its device `vethN`. */
  readonly sequence: number;
  readonly node: number;
  readonly addresses: readonly Address[];
  /** Its address may be outside the node's prefix: host routes lead to it. */
  readonly fixed: boolean;
}

const VXLAN_MTU = 1450;
const VXLAN_DEVICE = "flannel.1";

/** Devices that join nodes to the LAN and to each other. */
export function uplinks(network: LabNetwork): string[] {
  return network.cni === "vxlan" ? ["eth0", VXLAN_DEVICE] : ["eth0"];
}

function nodeNamespace(network: LabNetwork, node: number): string {
  return namespaceName(network.lab, `node${node}`);
}

function lanNamespace(network: LabNetwork): string {
  return namespaceName(network.lab, "lan");
}

function route(verb: "add" | "replace" | "del", destination: string, rest: string): string {
  return `route ${verb} ${destination} ${rest}`.trimEnd();
}

function addressAdd(address: Address, length: number, device: string): string {
  return `addr add ${address}/${length} dev ${device}${familyOf(address) === "IPv6" ? " nodad" : ""}`;
}

/** With the prefix of the network that it is in: the LAN's, or a node's pods'. */
function memberAdd(address: Address, device: string): string {
  return addressAdd(address, familyOf(address) === "IPv4" ? 24 : 64, device);
}

function hostAdd(address: Address, device: string): string {
  return addressAdd(address, hostLength(address), device);
}

function hostRoute(verb: "add" | "replace" | "del", address: Address, rest: string): string {
  return route(verb, `${address}/${hostLength(address)}`, rest);
}

function defaultRoute(gateway: Address): string {
  return route("add", familyOf(gateway) === "IPv4" ? "default" : "::/0", `via ${gateway} dev eth0`);
}

function sysctlsFor(network: LabNetwork, forwarding: boolean): Record<string, number> {
  const ipv6: Record<string, number> = network.ipv6
    ? {
        "net.ipv6.conf.all.disable_ipv6": 0,
        "net.ipv6.conf.default.disable_ipv6": 0,
        "net.ipv6.conf.default.accept_dad": 0,
        "net.ipv6.conf.all.accept_ra": 0,
        "net.ipv6.conf.default.accept_ra": 0,
        "net.ipv6.conf.all.forwarding": forwarding ? 1 : 0,
      }
    : {};
  return { "net.ipv4.ip_forward": forwarding ? 1 : 0, ...ipv6 };
}

/** The LAN: a bridge with the routers' addresses; it also routes between its members and to pods. */
export function addLan(script: NetworkScript, network: LabNetwork): void {
  const namespace = lanNamespace(network);
  script
    .ip("", [`netns add ${namespace}`])
    .sysctl(namespace, {
      ...sysctlsFor(network, true),
      "net.ipv4.conf.all.send_redirects": 0,
      "net.ipv4.conf.default.send_redirects": 0,
      "net.ipv4.conf.all.rp_filter": 0,
      "net.ipv4.conf.default.rp_filter": 0,
      "net.bridge.bridge-nf-call-iptables": 0,
      "net.bridge.bridge-nf-call-ip6tables": 0,
      "net.bridge.bridge-nf-call-arptables": 0,
    })
    .ip(namespace, [
      "link set lo up",
      "link add lan0 type bridge mcast_snooping 0",
      ...lanGateways(network.ipv6).map((address) => memberAdd(address, "lan0")),
      "link set lan0 up",
    ]);
}

function addMember(
  script: NetworkScript,
  network: LabNetwork,
  kind: "node" | "client" | "host",
  number: number,
  port: string,
): void {
  const namespace = namespaceName(network.lab, port);
  script
    .ip("", [`netns add ${namespace}`])
    .sysctl(namespace, { ...sysctlsFor(network, kind === "node"), ...(kind === "node" ? nodeSysctls(network) : {}) })
    .ip(lanNamespace(network), [
      `link add ${port} type veth peer name eth0 address ${uplinkMac(kind, number)} netns ${namespace}`,
      `link set ${port} master lan0 up`,
    ])
    .ip(namespace, [
      "link set lo up",
      ...lanAddresses(kind, number, network.ipv6).map((address) => memberAdd(address, "eth0")),
      "link set eth0 up",
      ...lanGateways(network.ipv6).map(defaultRoute),
    ]);
}

function nodeSysctls(network: LabNetwork): Record<string, number> {
  const strict = network.netfilter ? 1 : 0;
  const bridged = network.bridgeNetfilter ? 1 : 0;
  return {
    "net.ipv4.conf.all.rp_filter": strict,
    "net.ipv4.conf.default.rp_filter": strict,
    "net.bridge.bridge-nf-call-iptables": bridged,
    "net.bridge.bridge-nf-call-ip6tables": bridged,
    "net.bridge.bridge-nf-call-arptables": 0,
  };
}

/** Node `node` with its uplink and its CNI, and the routes between it and `others`. */
export function addNode(script: NetworkScript, network: LabNetwork, node: number, others: readonly number[]): void {
  const namespace = nodeNamespace(network, node);
  addMember(script, network, "node", node, `node${node}`);
  if (network.cni !== "ptp") {
    const mtu = network.cni === "vxlan" ? ` mtu ${VXLAN_MTU}` : "";
    script.ip(namespace, [
      `link add cni0${mtu} address 02:4d:52:0c:00:${node.toString(16).padStart(2, "0")} type bridge`,
      ...podGateways(node, network.ipv6).map((gateway) => memberAdd(gateway, "cni0")),
      "link set cni0 up",
    ]);
  }
  if (network.cni === "vxlan") {
    const [local] = lanAddresses("node", node, false);
    script.ip(namespace, [
      `link add ${VXLAN_DEVICE} address ${overlayMac(node)} mtu ${VXLAN_MTU} type vxlan id 1 local ${local} dev eth0 dstport 8472 nolearning`,
      ...overlayAddresses(node, network.ipv6).map((address) => hostAdd(address, VXLAN_DEVICE)),
      `link set ${VXLAN_DEVICE} up`,
    ]);
  }
  if (network.netfilter) script.nft(namespace, netfilterRules(network));
  if (!network.txOffload)
    script.ethtool(
      namespace,
      uplinks(network).map((device) => `-K ${device} tx off`),
    );
  if (network.xdpPassObject !== "") {
    script.ip(lanNamespace(network), [`link set dev node${node} xdp obj ${network.xdpPassObject} sec xdp`]);
    // A wire carries whole checksums; a frame that XDP redirects no longer says that its own is not.
    script.ethtool(lanNamespace(network), [`-K node${node} tx off`]);
  }
  const lanSide = lanAddresses("node", node, network.ipv6);
  const routes = podPrefixes(node, network.ipv6).map((prefix, i) => route("replace", prefix, `via ${lanSide[i]}`));
  script.ip(lanNamespace(network), routes);
  for (const other of others) {
    addPeer(script, network, node, other);
    addPeer(script, network, other, node);
  }
}

/** What node `from` must know to reach the pods of node `to`. */
function addPeer(script: NetworkScript, network: LabNetwork, from: number, to: number): void {
  const namespace = nodeNamespace(network, from);
  if (network.cni === "vxlan") {
    script.bridge(namespace, [
      `fdb append ${overlayMac(to)} dev ${VXLAN_DEVICE} dst ${lanAddresses("node", to, false)[0]}`,
    ]);
    const end = `lladdr ${overlayMac(to)} dev ${VXLAN_DEVICE} nud permanent`;
    const lines = overlayAddresses(to, network.ipv6).map((address) => `neigh replace ${address} ${end}`);
    script.ip(namespace, lines);
  }
  const routes = podPrefixes(to, network.ipv6).map((prefix, i) => route("replace", prefix, nextHop(network, to, i)));
  script.ip(namespace, routes);
}

/** How another node's pods are reached, by family (0: IPv4, 1: IPv6). */
function nextHop(network: LabNetwork, to: number, family: number): string {
  return network.cni === "vxlan"
    ? `via ${overlayAddresses(to, true)[family]} dev ${VXLAN_DEVICE} onlink`
    : `via ${lanAddresses("node", to, true)[family]} dev eth0`;
}

function netfilterRules(network: LabNetwork): string[] {
  const masquerade = ["ip", ...(network.ipv6 ? ["ip6"] : [])].map((family) => {
    const pods = family === "ip" ? POD_NETWORK : POD_NETWORK6;
    return `    ${family} saddr ${pods} ${family} daddr != ${pods} counter masquerade fully-random`;
  });
  return [
    "table inet cni {",
    "  chain forward {",
    "    type filter hook forward priority filter; policy accept;",
    "    ct state invalid counter drop",
    "  }",
    "  chain postrouting {",
    "    type nat hook postrouting priority srcnat; policy accept;",
    ...masquerade,
    "  }",
    "}",
  ];
}

export function addClient(script: NetworkScript, network: LabNetwork, client: number): void {
  addMember(script, network, "client", client, `client${client}`);
}

/** A host outside the cluster that has `address` besides one of the LAN; the LAN routes to it. */
export function addHost(script: NetworkScript, network: LabNetwork, host: number, address: Address): void {
  addMember(script, network, "host", host, `h${host}`);
  const namespace = namespaceName(network.lab, `h${host}`);
  if (address.startsWith(`${LAN_PREFIX}.`)) {
    script.ip(namespace, [addressAdd(address, 32, "eth0")]);
    return;
  }
  const via = lanAddresses("host", host, true)[familyOf(address) === "IPv4" ? 0 : 1];
  script.ip(namespace, [hostAdd(address, "lo")]);
  script.ip(lanNamespace(network), [hostRoute("replace", address, `via ${via}`)]);
}

/** A pod's namespace, its link to its node, its addresses and routes; with a fixed address the host routes on `nodes` and on the LAN. */
export function addPod(script: NetworkScript, network: LabNetwork, pod: PodAttachment, nodes: readonly number[]): void {
  const namespace = namespaceName(network.lab, `p${pod.sequence}`);
  const node = nodeNamespace(network, pod.node);
  const device = `veth${pod.sequence}`;
  const mtu = network.cni === "vxlan" ? `mtu ${VXLAN_MTU} ` : "";
  const gateways = podGateways(pod.node, network.ipv6);
  script.ip("", [`netns add ${namespace}`]);
  // A fixed address is outside the bridge's prefix: bridged one way and routed the other, netfilter would see half of it.
  const onLink = network.cni !== "ptp" && !pod.fixed;
  const hostSide = [`link add ${device} ${mtu}type veth peer name eth0 ${mtu}netns ${namespace}`];
  if (onLink) hostSide.push(`link set ${device} master cni0 up`);
  else {
    hostSide.push(...gateways.map((gateway) => hostAdd(gateway, device)), `link set ${device} up`);
    hostSide.push(...pod.addresses.map((address) => hostRoute("replace", address, `dev ${device}`)));
  }
  script.ip(node, hostSide);
  if (network.ipv6) script.sysctl(namespace, sysctlsFor(network, false));
  const podSide = ["link set lo up", "link set eth0 up"];
  pod.addresses.forEach((address, i) => {
    const gateway = gateways[i]!;
    if (onLink) podSide.push(memberAdd(address, "eth0"));
    else podSide.push(hostAdd(address, "eth0"), hostRoute("add", gateway, "dev eth0"));
    podSide.push(defaultRoute(gateway));
  });
  script.ip(namespace, podSide);
  if (!network.txOffload) script.ethtool(node, [`-K ${device} tx off`]);
  if (pod.fixed) addFixedRoutes(script, network, pod, nodes);
}

/** Host routes to a pod with a fixed address, on `nodes` other than its own and on the LAN. */
export function addFixedRoutes(
  script: NetworkScript,
  network: LabNetwork,
  pod: PodAttachment,
  nodes: readonly number[],
): void {
  for (const other of nodes) {
    if (other === pod.node) continue;
    const lines = pod.addresses.map((address, i) => hostRoute("replace", address, nextHop(network, pod.node, i)));
    script.ip(nodeNamespace(network, other), lines);
  }
  const lanSide = lanAddresses("node", pod.node, network.ipv6);
  const lines = pod.addresses.map((address, i) => hostRoute("replace", address, `via ${lanSide[i]}`));
  script.ip(lanNamespace(network), lines);
}

/** Takes a pod's network away. What is gone already is passed over. */
export function removePod(
  script: NetworkScript,
  network: LabNetwork,
  pod: PodAttachment,
  nodes: readonly number[],
): void {
  const gone = { force: true };
  if (pod.fixed) {
    const lines = pod.addresses.map((address) => hostRoute("del", address, ""));
    for (const other of nodes) if (other !== pod.node) script.ip(nodeNamespace(network, other), lines, gone);
    script.ip(lanNamespace(network), lines, gone);
  }
  script.ip(nodeNamespace(network, pod.node), [`link del veth${pod.sequence}`], gone);
  script.ip("", [`netns del ${namespaceName(network.lab, `p${pod.sequence}`)}`], gone);
}

/** The carrier of a node's uplink. */
export function setLink(script: NetworkScript, network: LabNetwork, node: number, state: "up" | "down"): void {
  script.ip(lanNamespace(network), [`link set node${node} ${state}`]);
}

/** Drops everything that the LAN would carry between the two sides; ports named on neither side see both. Replaces an earlier split. */
export function splitLan(
  script: NetworkScript,
  network: LabNetwork,
  left: readonly string[],
  right: readonly string[],
): void {
  const set = (ports: readonly string[]) => `{ ${ports.map((port) => `"${port}"`).join(", ")} }`;
  script.nft(lanNamespace(network), [
    "table bridge split {}",
    "delete table bridge split",
    "table bridge split {",
    "  chain forward {",
    "    type filter hook forward priority filter; policy accept;",
    `    iifname ${set(left)} oifname ${set(right)} drop`,
    `    iifname ${set(right)} oifname ${set(left)} drop`,
    "  }",
    "}",
  ]);
}

export function healLan(script: NetworkScript, network: LabNetwork): void {
  script.nft(lanNamespace(network), ["table bridge split {}", "delete table bridge split"]);
}
