// IP Virtual Server, sets of addresses and devices of the calling thread's network namespace: taken out by netlink, without a program of
// theirs (linux/ip_vs.h, linux/netfilter/ipset/ip_set.h).
import { type Address, hostAndPort, readAddress, writeAddress } from "../lib/address.ts";
import { EBUSY, ENODEV, ENOENT, ESRCH, kernelError } from "./errno.ts";
import {
  askNetlink,
  attribute,
  bytesOf,
  findAttribute,
  NETLINK_GENERIC,
  NETLINK_NETFILTER,
  NETLINK_ROUTE,
  NetlinkDump,
  NLM_F_EXCL,
  nfnetlinkType,
} from "./netlink.ts";
import { GENL_HEADER, genericCommand, genericFamily } from "./network.ts";

const AF_INET = 2;
const IPVS_CMD = { deleteService: 3, getService: 4 } as const;
const IPVS_CMD_ATTR_SERVICE = 1;
/** IPVS_SVC_ATTR_…: family and protocol in host order, two bytes each; address of 16 bytes and port in network order. */
const SVC = { family: 1, proto: 2, address: 3, port: 4 } as const;
const IPSET_SUBSYSTEM = 6;
const IPSET_CMD_DESTROY = 3;
const IPSET_ATTR = { protocol: 1, name: 2 } as const;
/** What Linux 5.10 and later ones take. */
const IPSET_PROTOCOL = 6;
/** Sets have errors of their own, above every errno. */
const IPSET_ERR_BUSY = 4100;
const RTM_DELLINK = 17;
/** struct ifinfomsg. */
const IFINFO = { size: 16, ifindex: 4 } as const;
const IFLA_IFNAME = 3;

const zeroEnded = (text: string): Uint8Array => Buffer.from(`${text}\0`, "utf8");

export interface VirtualServer {
  /** IP's number: 6 TCP, 17 UDP, 132 SCTP. */
  readonly proto: number;
  readonly address: Address;
  readonly port: number;
  /** What the kernel knows it by: the attribute IPVS_CMD_ATTR_SERVICE. */
  readonly handle: Uint8Array;
}

/** undefined: it is one of a firewall mark, without an address. */
function serverOf(payload: DataView): VirtualServer | undefined {
  const server = findAttribute(payload, GENL_HEADER, IPVS_CMD_ATTR_SERVICE);
  const [family, proto, address, port] = [SVC.family, SVC.proto, SVC.address, SVC.port].map(
    (type) => server && findAttribute(server, 0, type),
  );
  if (family === undefined || proto === undefined || address === undefined || port === undefined) return undefined;
  if (family.byteLength < 2 || proto.byteLength < 2 || address.byteLength < 16 || port.byteLength < 2) return undefined;
  // union nf_inet_addr: an IPv4 address is in its first four bytes.
  const bytes = bytesOf(address);
  const isIPv4 = family.getUint16(0, true) === AF_INET;
  const canonical = new Uint8Array(16);
  if (isIPv4) writeAddress("0.0.0.0", canonical);
  canonical.set(isIPv4 ? bytes.subarray(0, 4) : bytes.subarray(0, 16), isIPv4 ? 12 : 0);
  const key = [
    attribute(SVC.family, bytesOf(family)),
    attribute(SVC.proto, bytesOf(proto)),
    attribute(SVC.address, bytes),
    attribute(SVC.port, bytesOf(port)),
  ];
  return {
    proto: proto.getUint16(0, true),
    address: readAddress(canonical),
    port: port.getUint16(0, false),
    handle: attribute(IPVS_CMD_ATTR_SERVICE, Buffer.concat(key)),
  };
}

/** Virtual servers that have an address; none where the kernel has no IPVS. Rejects with KernelError. */
export async function virtualServers(): Promise<VirtualServer[]> {
  const type = genericFamily("IPVS");
  if (type === undefined) return [];
  const subject = "virtual servers";
  using dump = new NetlinkDump(NETLINK_GENERIC, subject);
  return await dump.ask({ type, payload: genericCommand(IPVS_CMD.getService), subject }, serverOf);
}

/** False when it was gone. Throws KernelError. */
export function removeVirtualServer({ address, port, handle }: VirtualServer): boolean {
  const id = genericFamily("IPVS");
  if (id === undefined) return false;
  const subject = `the virtual server ${hostAndPort(address, port)}`;
  const { errno } = askNetlink(NETLINK_GENERIC, id, genericCommand(IPVS_CMD.deleteService, handle), subject);
  if (errno !== 0 && errno !== ESRCH) throw kernelError("remove", subject, errno);
  return errno === 0;
}

/**
 * Returns an errno: 0 when the set was there and is gone, ENOENT when there was none, EBUSY while a rule or another set names it, EINVAL
 * where the kernel has no sets.
 */
export function destroySet(name: string): number {
  const payload = Buffer.concat([
    Uint8Array.of(0, 0, 0, 0),
    attribute(IPSET_ATTR.protocol, Uint8Array.of(IPSET_PROTOCOL)),
    attribute(IPSET_ATTR.name, zeroEnded(name)),
  ]);
  const type = nfnetlinkType(IPSET_SUBSYSTEM, IPSET_CMD_DESTROY);
  // Without the flag one that is not there is no error.
  const { errno } = askNetlink(NETLINK_NETFILTER, type, payload, `the set ${name}`, NLM_F_EXCL);
  return errno === IPSET_ERR_BUSY ? EBUSY : errno;
}

/** False when there was no such device. Throws KernelError. */
export function deleteDevice(name: string): boolean {
  const payload = Buffer.concat([new Uint8Array(IFINFO.size), attribute(IFLA_IFNAME, zeroEnded(name))]);
  const { errno } = askNetlink(NETLINK_ROUTE, RTM_DELLINK, payload, `the device ${name}`);
  if (errno !== 0 && errno !== ENODEV && errno !== ENOENT) throw kernelError("remove", `the device ${name}`, errno);
  return errno === 0;
}
