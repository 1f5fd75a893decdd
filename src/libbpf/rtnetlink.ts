// What rtnetlink tells of the devices, addresses, routes, rules and next hops of the calling thread's network namespace, and who tells
// that they changed. Numbers are of linux/rtnetlink.h, if_link.h, if_addr.h, fib_rules.h and nexthop.h. Changes nothing.
import { type Address, readAddress } from "../lib/address.ts";
import { EAFNOSUPPORT, ENOENT, EOPNOTSUPP } from "./errno.ts";
import {
  attributeU32,
  type DumpQuestion,
  findAttribute,
  findU32,
  NETLINK_ROUTE,
  NetlinkDump,
  NetlinkListener,
  textOf,
} from "./netlink.ts";

export interface LinkRecord {
  readonly ifindex: number;
  readonly name: string;
  /** ARPHRD_… of linux/if_arp.h. */
  readonly type: number;
  /** IFF_… of linux/if.h. */
  readonly flags: number;
  readonly mtu: number;
  /** As long as the link type's addresses are; empty where there is none. */
  readonly address: Uint8Array;
  /** ifindex of the device that this one lies on, of a veth's other end; 0 when none. */
  readonly lower: number;
  /** The number of the namespace that `lower` is in, undefined: it is in this one. */
  readonly lowerNetns: number | undefined;
  /** ifindex of what it is enslaved to, 0 when none. */
  readonly master: number;
  /** "veth", "bridge" …; "" for a physical device. */
  readonly kind: string;
}

export interface AddressRecord {
  readonly ifindex: number;
  readonly address: Address;
  readonly length: number;
  /** IFA_F_… of linux/if_addr.h. */
  readonly flags: number;
  /** RT_SCOPE_…: 0 is global. */
  readonly scope: number;
}

export interface NextHop {
  readonly ifindex: number;
  readonly viaGateway: boolean;
  /** LWTUNNEL_ENCAP_… of linux/lwtunnel.h, 0 when none. */
  readonly encapsulation: number;
}

export interface RouteRecord {
  readonly address: Address;
  readonly length: number;
  /** RTN_…: 1 is unicast. */
  readonly type: number;
  readonly source: Address | undefined;
  readonly metric: number;
  readonly hops: readonly NextHop[];
}

export interface NetworkRecords {
  readonly links: readonly LinkRecord[];
  /** IPv4 before IPv6. */
  readonly addresses: readonly AddressRecord[];
  /** Of the main table, IPv4 before IPv6. */
  readonly routes: readonly RouteRecord[];
  /** Bits of the source that the rules of both families ask for; 0: they ask for none. */
  readonly ruleSourceLengths: readonly number[];
}

const RTM = { getLink: 18, getAddress: 22, getRoute: 26, getRule: 34, getNextHop: 106 };
const AF_INET = 2;
const AF_INET6 = 10;
const RT_TABLE_MAIN = 254;
const RTEXT_FILTER_SKIP_STATS = 1 << 3;
/** Bytes of struct rtnexthop, of struct nexthop_grp. */
const WAY = 8;
const MEMBER = 8;

// Of each message: the length of its header, behind which the attributes begin, and their numbers (IFLA_, IFA_, RTA_, NHA_).
const LINK = { header: 16, address: 1, name: 3, mtu: 4, link: 5, master: 10, info: 18, mask: 29, netns: 37 };
const LINK_INFO_KIND = 1;
const ADDRESS = { header: 8, address: 1, local: 2, flags: 8 };
// biome-ignore format: one line for each message
const ROUTE = { header: 12, to: 1, device: 4, gateway: 5, metric: 6, source: 7, ways: 9, table: 15, via: 18, encapsulation: 21, nextHop: 30 };
const RULE_HEADER = 12;
const NEXT_HOP = { header: 8, id: 1, group: 2, device: 5, gateway: 6, encapsulation: 7 };

const bytesOf = (value: DataView): Uint8Array => new Uint8Array(value.buffer, value.byteOffset, value.byteLength);

/** undefined for what is no address of this family, an IPv4-mapped one included. */
function addressOf(family: number, value: DataView | undefined): Address | undefined {
  if (value === undefined || value.byteLength < (family === AF_INET ? 4 : 16)) return undefined;
  const bytes = bytesOf(value);
  if (family === AF_INET) return bytes.subarray(0, 4).join(".");
  const address = readAddress(bytes);
  return family === AF_INET6 && address.includes(":") ? address : undefined;
}

function linkOf(payload: DataView): LinkRecord | undefined {
  const name = findAttribute(payload, LINK.header, LINK.name);
  if (name === undefined) return undefined;
  const address = findAttribute(payload, LINK.header, LINK.address);
  const info = findAttribute(payload, LINK.header, LINK.info);
  const kind = info && findAttribute(info, 0, LINK_INFO_KIND);
  return {
    ifindex: payload.getInt32(4, true),
    name: textOf(name),
    type: payload.getUint16(2, true),
    flags: payload.getUint32(8, true),
    mtu: findU32(payload, LINK.header, LINK.mtu) ?? 0,
    address: address === undefined ? new Uint8Array(0) : bytesOf(address).slice(),
    lower: findU32(payload, LINK.header, LINK.link) ?? 0,
    lowerNetns: findAttribute(payload, LINK.header, LINK.netns)?.getInt32(0, true),
    master: findU32(payload, LINK.header, LINK.master) ?? 0,
    kind: kind === undefined ? "" : textOf(kind),
  };
}

function interfaceAddressOf(payload: DataView): AddressRecord | undefined {
  const local =
    findAttribute(payload, ADDRESS.header, ADDRESS.local) ?? findAttribute(payload, ADDRESS.header, ADDRESS.address);
  const address = addressOf(payload.getUint8(0), local);
  if (address === undefined) return undefined;
  return {
    ifindex: payload.getUint32(4, true),
    address,
    length: payload.getUint8(1),
    flags: findU32(payload, ADDRESS.header, ADDRESS.flags) ?? payload.getUint8(2),
    scope: payload.getUint8(3),
  };
}

/** A next hop's attributes, of a route or of one of its ways. */
function hopOf(attributes: DataView, at: number, ifindex: number): NextHop {
  const has = (type: number): boolean => findAttribute(attributes, at, type) !== undefined;
  return {
    ifindex,
    viaGateway: has(ROUTE.gateway) || has(ROUTE.via),
    encapsulation: findAttribute(attributes, at, ROUTE.encapsulation)?.getUint16(0, true) ?? 0,
  };
}

function hopsOf(payload: DataView): NextHop[] {
  const ways = findAttribute(payload, ROUTE.header, ROUTE.ways);
  const ifindex = findU32(payload, ROUTE.header, ROUTE.device);
  if (ways === undefined) return ifindex === undefined ? [] : [hopOf(payload, ROUTE.header, ifindex)];
  const hops: NextHop[] = [];
  for (let at = 0; at + WAY <= ways.byteLength; ) {
    const length = ways.getUint16(at, true);
    if (length < WAY || at + length > ways.byteLength) break;
    const way = new DataView(ways.buffer, ways.byteOffset + at, length);
    hops.push(hopOf(way, WAY, way.getInt32(4, true)));
    at += (length + 3) & ~3;
  }
  return hops;
}

interface UnresolvedRoute extends RouteRecord {
  /** Of a next hop object, 0 when none. */
  readonly nextHop: number;
}

function routeOf(family: number, payload: DataView): UnresolvedRoute | undefined {
  // A kernel without this family answers with all others'; one that heeds no question, with all tables.
  if (payload.getUint8(0) !== family) return undefined;
  if ((findU32(payload, ROUTE.header, ROUTE.table) ?? payload.getUint8(4)) !== RT_TABLE_MAIN) return undefined;
  const to = findAttribute(payload, ROUTE.header, ROUTE.to);
  const address = to === undefined ? (family === AF_INET ? "0.0.0.0" : "::") : addressOf(family, to);
  if (address === undefined) return undefined;
  return {
    address,
    length: payload.getUint8(1),
    type: payload.getUint8(7),
    source: addressOf(family, findAttribute(payload, ROUTE.header, ROUTE.source)),
    metric: findU32(payload, ROUTE.header, ROUTE.metric) ?? 0,
    hops: hopsOf(payload),
    nextHop: findU32(payload, ROUTE.header, ROUTE.nextHop) ?? 0,
  };
}

interface NextHopObject {
  readonly id: number;
  readonly hop: NextHop | undefined;
  readonly members: readonly number[];
}

function nextHopOf(payload: DataView): NextHopObject | undefined {
  const id = findU32(payload, NEXT_HOP.header, NEXT_HOP.id);
  if (id === undefined) return undefined;
  const group = findAttribute(payload, NEXT_HOP.header, NEXT_HOP.group);
  const members: number[] = [];
  for (let at = 0; group !== undefined && at + MEMBER <= group.byteLength; at += MEMBER) {
    members.push(group.getUint32(at, true));
  }
  const ifindex = findU32(payload, NEXT_HOP.header, NEXT_HOP.device);
  const hop =
    ifindex === undefined
      ? undefined
      : {
          ifindex,
          viaGateway: findAttribute(payload, NEXT_HOP.header, NEXT_HOP.gateway) !== undefined,
          encapsulation: findAttribute(payload, NEXT_HOP.header, NEXT_HOP.encapsulation)?.getUint16(0, true) ?? 0,
        };
  return { id, hop, members };
}

function question(type: number, header: number, subject: string, ...rest: Uint8Array[]): DumpQuestion {
  return { type, payload: new Uint8Array(Buffer.concat([new Uint8Array(header), ...rest])), subject };
}

async function readRoutes(dump: NetlinkDump): Promise<RouteRecord[]> {
  const read = (family: number): Promise<UnresolvedRoute[]> => {
    const asked = question(RTM.getRoute, ROUTE.header, "routes");
    asked.payload[0] = family;
    asked.payload[4] = RT_TABLE_MAIN;
    // ENOENT: no route was ever in that table.
    return dump.ask(asked, (payload) => routeOf(family, payload), [ENOENT, EOPNOTSUPP, EAFNOSUPPORT]);
  };
  const routes = [...(await read(AF_INET)), ...(await read(AF_INET6))];
  // Kernels tell the ways of a next hop object with the route, unless net.ipv4.nexthop_compat_mode is off.
  if (!routes.some(({ nextHop, hops }) => nextHop !== 0 && hops.length === 0)) return routes;
  const objects = await dump.ask(question(RTM.getNextHop, NEXT_HOP.header, "next hops"), nextHopOf, [EOPNOTSUPP]);
  const byId = new Map(objects.map((object) => [object.id, object]));
  const resolved = (id: number): NextHop[] => {
    const object = byId.get(id);
    const ids = object === undefined || object.members.length === 0 ? [id] : object.members;
    return ids.flatMap((one) => byId.get(one)?.hop ?? []);
  };
  return routes.map((route) => (route.hops.length > 0 ? route : { ...route, hops: resolved(route.nextHop) }));
}

/** Reads everything once. Rejects with KernelError. */
export async function readNetworkRecords(): Promise<NetworkRecords> {
  using dump = new NetlinkDump(NETLINK_ROUTE, "the network");
  const mask = attributeU32(LINK.mask, RTEXT_FILTER_SKIP_STATS);
  const links = await dump.ask(question(RTM.getLink, LINK.header, "devices", mask), linkOf);
  const addresses = await dump.ask(question(RTM.getAddress, ADDRESS.header, "addresses"), interfaceAddressOf);
  const routes = await readRoutes(dump);
  const ruleSourceLengths = await dump.ask(
    question(RTM.getRule, RULE_HEADER, "rules"),
    (payload) => ([AF_INET, AF_INET6].includes(payload.getUint8(0)) ? payload.getUint8(2) : undefined),
    [EOPNOTSUPP, EAFNOSUPPORT],
  );
  return { links, addresses, routes, ruleSourceLengths };
}

/** RTNLGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_RULE, _IPV6_IFADDR, _IPV6_ROUTE, _IPV6_RULE, _NEXTHOP. */
const GROUPS = [1, 5, 7, 8, 9, 11, 19, 32];

/** Readable when something of what readNetworkRecords reads changed. The caller disposes of it. Throws KernelError. */
export function listenToNetwork(): NetlinkListener {
  return new NetlinkListener(NETLINK_ROUTE, GROUPS, "changes of the network");
}
