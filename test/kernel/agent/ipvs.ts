// What kube-proxy's IPVS mode, or somebody else, makes in the calling thread's network namespace: virtual servers, their destinations,
// and sets. By netlink, as there may be no ipvsadm and no ipset here. And what the kernel has of them, by its own words.
import { readFileSync } from "node:fs";
import { type Address, addressBytes, familyOf } from "../../../src/lib/address.ts";
import { kernelError } from "../../../src/libbpf/errno.ts";
import {
  askNetlink,
  attribute,
  attributeU32,
  NETLINK_GENERIC,
  NETLINK_NETFILTER,
  NLM_F_EXCL,
  nfnetlinkType,
} from "../../../src/libbpf/netlink.ts";
import { genericCommand, genericFamily } from "../../../src/libbpf/network.ts";

// Of linux/ip_vs.h.
const IPVS_CMD = { newService: 1, newDestination: 5 } as const;
const IPVS_CMD_ATTR = { service: 1, destination: 2 } as const;
const SVC = {
  family: 1,
  proto: 2,
  address: 3,
  port: 4,
  mark: 5,
  scheduler: 6,
  flags: 7,
  timeout: 8,
  netmask: 9,
} as const;
const DEST = { address: 1, port: 2, forward: 3, weight: 4, upper: 5, lower: 6, family: 11 } as const;
const FAMILIES = { IPv4: 2, IPv6: 10 } as const;
const PROTOCOLS = { TCP: 6, UDP: 17 } as const;
/** Of every address: one server, not one of a network's. */
const NETMASKS = { IPv4: 0xffffffff, IPv6: 128 } as const;

// Of linux/netfilter/ipset/ip_set.h.
const IPSET = { subsystem: 6, create: 2, header: 12, protocol: 6 } as const;
const IPSET_ATTR = { protocol: 1, name: 2, type: 3, revision: 4, family: 5, data: 7 } as const;
const IPSET_DATA = { port: 4, portTo: 5 } as const;
const NLA_F_NESTED = 0x8000;
const NLA_F_NET_BYTEORDER = 0x4000;

/** In the kernel's own order. */
const u16 = (value: number): Uint8Array => Uint8Array.of(value & 255, value >> 8);
const be16 = (value: number): Uint8Array => Uint8Array.of(value >> 8, value & 255);
const zeroEnded = (text: string): Uint8Array => Buffer.from(`${text}\0`);

/** union nf_inet_addr: an IPv4 address is in its first four bytes. */
function addressUnion(address: Address): Uint8Array {
  const union = new Uint8Array(16);
  union.set(addressBytes(address).subarray(familyOf(address) === "IPv4" ? 12 : 0));
  return union;
}

export interface ServerAt {
  readonly proto: keyof typeof PROTOCOLS;
  readonly address: Address;
  readonly port: number;
}

/** What the kernel knows a virtual server by; a number is a firewall mark. */
function keyOf(at: ServerAt | number): Uint8Array[] {
  if (typeof at === "number") return [attribute(SVC.family, u16(FAMILIES.IPv4)), attributeU32(SVC.mark, at)];
  return [
    attribute(SVC.family, u16(FAMILIES[familyOf(at.address)])),
    attribute(SVC.proto, u16(PROTOCOLS[at.proto])),
    attribute(SVC.address, addressUnion(at.address)),
    attribute(SVC.port, be16(at.port)),
  ];
}

function askIpvs(command: number, subject: string, ...attributes: readonly Uint8Array[]): void {
  const family = genericFamily("IPVS");
  if (family === undefined) throw new Error("the kernel has no IPVS");
  const { errno } = askNetlink(NETLINK_GENERIC, family, genericCommand(command, Buffer.concat(attributes)), subject);
  if (errno !== 0) throw kernelError("make", subject, errno);
}

/** A virtual server that chooses in turn, and a destination of it to which it translates. */
export function createVirtualServer(at: ServerAt | number, destination: { address: Address; port: number }): void {
  const subject = typeof at === "number" ? `the virtual server of mark ${at}` : `${at.proto} ${at.address} ${at.port}`;
  const family = typeof at === "number" ? "IPv4" : familyOf(at.address);
  const service = [
    attribute(SVC.scheduler, zeroEnded("rr")),
    // struct ip_vs_flags: flags, and the mask of those that are meant.
    attribute(SVC.flags, new Uint8Array(8).fill(0xff, 4)),
    attributeU32(SVC.timeout, 0),
    attributeU32(SVC.netmask, NETMASKS[family]),
  ];
  const key = keyOf(at);
  askIpvs(IPVS_CMD.newService, subject, attribute(IPVS_CMD_ATTR.service, Buffer.concat([...key, ...service])));
  const target = [
    attribute(DEST.address, addressUnion(destination.address)),
    attribute(DEST.port, be16(destination.port)),
    // Masquerading.
    attributeU32(DEST.forward, 0),
    attributeU32(DEST.weight, 1),
    attributeU32(DEST.upper, 0),
    attributeU32(DEST.lower, 0),
    attribute(DEST.family, u16(FAMILIES[familyOf(destination.address)])),
  ];
  askIpvs(
    IPVS_CMD.newDestination,
    `${subject}: a destination`,
    attribute(IPVS_CMD_ATTR.service, Buffer.concat(key)),
    attribute(IPVS_CMD_ATTR.destination, Buffer.concat(target)),
  );
}

const lineOf = (at: ServerAt): string => {
  const bytes = Buffer.from(addressUnion(at.address)).toString("hex");
  const address =
    familyOf(at.address) === "IPv4" ? bytes.slice(0, 8).toUpperCase() : `[${bytes.match(/..../g)!.join(":")}]`;
  return `${at.proto} ${address}:${at.port.toString(16).padStart(4, "0").toUpperCase()}`;
};

/** As `kernelServers` has it. */
export const serverText = (at: ServerAt | number): string =>
  typeof at === "number" ? `FWM ${at.toString(16).padStart(8, "0").toUpperCase()}` : lineOf(at);

/** Every virtual server, as the kernel's own list names it, sorted. */
export function kernelServers(): string[] {
  const found = readFileSync("/proc/thread-self/net/ip_vs", "utf8").matchAll(/^(TCP|UDP|FWM) +(\S+) /gm);
  return [...found].map(([, kind, at]) => `${kind} ${at}`).sort();
}

type SetType = "hash:ip" | "hash:ip,port" | "hash:ip,port,ip" | "hash:ip,port,net" | "bitmap:port";

/** As kube-proxy makes it. Throws KernelError. */
export function createSet(name: string, type: SetType, family: keyof typeof FAMILIES): void {
  const ports = [
    attribute(IPSET_DATA.port | NLA_F_NET_BYTEORDER, be16(0)),
    attribute(IPSET_DATA.portTo | NLA_F_NET_BYTEORDER, be16(65_535)),
  ];
  const payload = Buffer.concat([
    Uint8Array.of(FAMILIES[family], 0, 0, 0),
    attribute(IPSET_ATTR.protocol, Uint8Array.of(IPSET.protocol)),
    attribute(IPSET_ATTR.name, zeroEnded(name)),
    attribute(IPSET_ATTR.type, zeroEnded(type)),
    attribute(IPSET_ATTR.revision, Uint8Array.of(0)),
    attribute(IPSET_ATTR.family, Uint8Array.of(FAMILIES[family])),
    attribute(IPSET_ATTR.data | NLA_F_NESTED, type === "bitmap:port" ? Buffer.concat(ports) : new Uint8Array(0)),
  ]);
  const message = nfnetlinkType(IPSET.subsystem, IPSET.create);
  const { errno } = askNetlink(NETLINK_NETFILTER, message, payload, `the set ${name}`, NLM_F_EXCL);
  if (errno !== 0) throw kernelError("make", `the set ${name}`, errno);
}

export function hasSet(name: string): boolean {
  const payload = Buffer.concat([
    new Uint8Array(4),
    attribute(IPSET_ATTR.protocol, Uint8Array.of(IPSET.protocol)),
    attribute(IPSET_ATTR.name, zeroEnded(name)),
  ]);
  return askNetlink(NETLINK_NETFILTER, nfnetlinkType(IPSET.subsystem, IPSET.header), payload, name).errno === 0;
}
