// Single questions about devices and namespaces: which XDP actions a device has, by which number this namespace calls another one, what
// a device there is called; and the multicast groups that a device listens to for us.
import { closeSync, openSync } from "node:fs";
import { type Address, addressBytes, familyOf } from "../lib/address.ts";
import { EADDRNOTAVAIL, EEXIST, ENODEV, kernelError } from "./errno.ts";
import {
  askNetlink,
  attribute,
  attributeU32,
  findAttribute,
  NETLINK_GENERIC,
  NETLINK_ROUTE,
  NLM_F_CREATE,
  NLM_F_EXCL,
  textOf,
} from "./netlink.ts";
import { isWithout } from "./without.ts";

/** enum netdev_xdp_act: frames redirected to the device by XDP are sent (the driver's ndo_xdp_xmit works now). */
export const XDP_TRANSMIT = 4;

// Of linux/genetlink.h and linux/netdev.h.
const GENL_ID_CTRL = 16;
const CTRL_CMD_GETFAMILY = 3;
const CTRL_ATTR_FAMILY_ID = 1;
const CTRL_ATTR_FAMILY_NAME = 2;
const NETDEV_CMD_DEV_GET = 1;
const NETDEV_A_DEV_IFINDEX = 1;
const NETDEV_A_DEV_XDP_FEATURES = 3;
/** struct genlmsghdr: command, version, two reserved bytes. */
export const GENL_HEADER = 4;

/** The payload of a message to a generic netlink family. */
export const genericCommand = (number: number, argument: Uint8Array = new Uint8Array(0)): Uint8Array =>
  Uint8Array.from([number, 1, 0, 0, ...argument]);

/** Number of a generic netlink family, undefined where the kernel has none of that name. */
export function genericFamily(name: string): number | undefined {
  const asked = attribute(CTRL_ATTR_FAMILY_NAME, Buffer.from(`${name}\0`));
  const payload = genericCommand(CTRL_CMD_GETFAMILY, asked);
  const { errno, messages } = askNetlink(NETLINK_GENERIC, GENL_ID_CTRL, payload, `the netlink family ${name}`);
  const id = messages[0] && findAttribute(messages[0].payload, GENL_HEADER, CTRL_ATTR_FAMILY_ID);
  return errno === 0 ? id?.getUint16(0, true) : undefined;
}

let family: number | undefined;

/** Number of the generic netlink family `netdev`, undefined below Linux 6.3. */
export function netdevFamily(): number | undefined {
  family ??= genericFamily("netdev");
  return family;
}

/**
 * Mask of the XDP actions that a device's driver has now (enum netdev_xdp_act); undefined where the kernel does not tell (below
 * 6.3, or MILLRACE_WITHOUT) and for a device that is not there.
 */
export function xdpFeatures(ifindex: number): number | undefined {
  if (isWithout("xdp_features")) return undefined;
  const id = netdevFamily();
  if (id === undefined) return undefined;
  const question = genericCommand(NETDEV_CMD_DEV_GET, attributeU32(NETDEV_A_DEV_IFINDEX, ifindex));
  const { errno, messages } = askNetlink(NETLINK_GENERIC, id, question, `the XDP features of device ${ifindex}`);
  const mask = messages[0] && findAttribute(messages[0].payload, GENL_HEADER, NETDEV_A_DEV_XDP_FEATURES);
  // The actions are the lowest bits of 64.
  return errno === 0 && mask !== undefined ? mask.getUint32(0, true) : undefined;
}

const RTM_GETNSID = 90;
const NETNSA_NSID = 1;
const NETNSA_FD = 3;
const RTGENMSG = 4;

/** The number by which this network namespace calls the one at `path` (as in `link-netnsid`); undefined when it has none for it. */
export function netnsId(path: string): number | undefined {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch {
    return undefined;
  }
  try {
    const question = Uint8Array.from([0, 0, 0, 0, ...attributeU32(NETNSA_FD, fd)]);
    const { errno, messages } = askNetlink(NETLINK_ROUTE, RTM_GETNSID, question, `the number of ${path}`);
    if (errno !== 0) throw kernelError("ask for", `the number of ${path}`, errno);
    const id = messages[0] && findAttribute(messages[0].payload, RTGENMSG, NETNSA_NSID);
    const number = id?.getInt32(0, true) ?? -1;
    return number < 0 ? undefined : number;
  } finally {
    closeSync(fd);
  }
}

const RTM_GETLINK = 18;
const IFINFOMSG = 16;
const IFLA_IFNAME = 3;
const IFLA_TARGET_NETNSID = 46;

/** Name of a device in the namespace that this one calls by this number (`link-netnsid`); undefined when there is none such. */
export function deviceNameIn(netns: number, ifindex: number): string | undefined {
  const question = new Uint8Array([...new Uint8Array(IFINFOMSG), ...attributeU32(IFLA_TARGET_NETNSID, netns)]);
  new DataView(question.buffer).setInt32(4, ifindex, true);
  const subject = `device ${ifindex} of namespace ${netns}`;
  const { errno, messages } = askNetlink(NETLINK_ROUTE, RTM_GETLINK, question, subject);
  const name = errno === 0 && messages[0] ? findAttribute(messages[0].payload, IFINFOMSG, IFLA_IFNAME) : undefined;
  return name && textOf(name);
}

const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const AF_INET6 = 10;
const IFADDRMSG = 8;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_FLAGS = 8;
const IFA_F_MCAUTOJOIN = 0x400;

function changeGroup(type: number, ifindex: number, group: Address, flags: number, fine: readonly number[]): boolean {
  const bytes = addressBytes(group);
  if (familyOf(group) !== "IPv6" || bytes[0] !== 0xff) {
    throw new RangeError(`Cannot change a group as 'group' must be an IPv6 multicast address: it is ${group}`);
  }
  const question = new Uint8Array([
    ...[AF_INET6, 128, 0, 0, 0, 0, 0, 0],
    ...attribute(IFA_LOCAL, bytes),
    ...attribute(IFA_ADDRESS, bytes),
    ...attributeU32(IFA_FLAGS, IFA_F_MCAUTOJOIN),
  ]);
  new DataView(question.buffer).setUint32(IFADDRMSG - 4, ifindex, true);
  const subject = `the group ${group} on device ${ifindex}`;
  const { errno } = askNetlink(NETLINK_ROUTE, type, question, subject, flags);
  if (errno !== 0 && !fine.includes(errno)) throw kernelError("change", subject, errno);
  return errno === 0;
}

/**
 * Has a device listen to an IPv6 multicast group until leaveGroup, whatever becomes of this process: an address that joins it
 * (`autojoin`). False when it did already. Throws KernelError.
 */
export function joinGroup(ifindex: number, group: Address): boolean {
  return changeGroup(RTM_NEWADDR, ifindex, group, NLM_F_CREATE | NLM_F_EXCL, [EEXIST]);
}

/** False when there is nothing to leave, or no such device. Throws KernelError. */
export function leaveGroup(ifindex: number, group: Address): boolean {
  return changeGroup(RTM_DELADDR, ifindex, group, 0, [EADDRNOTAVAIL, ENODEV]);
}
