// IP Virtual Server, sets of addresses and devices of the calling thread's network namespace: taken out by netlink, without a program of
// theirs (linux/ip_vs.h, linux/netfilter/ipset/ip_set.h).
import { ENODEV, ENOENT, kernelError } from "./errno.ts";
import {
  askNetlink,
  attribute,
  NETLINK_GENERIC,
  NETLINK_NETFILTER,
  NETLINK_ROUTE,
  NLM_F_EXCL,
  nfnetlinkType,
} from "./netlink.ts";
import { genericCommand, genericFamily } from "./network.ts";

const IPVS_CMD_FLUSH = 17;
const IPSET_SUBSYSTEM = 6;
const IPSET_CMD_DESTROY = 3;
const IPSET_ATTR = { protocol: 1, name: 2 } as const;
/** What Linux 5.10 and later ones take. */
const IPSET_PROTOCOL = 6;
const RTM_DELLINK = 17;
/** struct ifinfomsg. */
const IFINFO = { size: 16, ifindex: 4 } as const;
const IFLA_IFNAME = 3;

const zeroEnded = (text: string): Uint8Array => Buffer.from(`${text}\0`, "utf8");

/** Takes every virtual server out. False where the kernel has no IPVS. Throws KernelError. */
export function flushVirtualServers(): boolean {
  const id = genericFamily("IPVS");
  if (id === undefined) return false;
  const subject = "virtual servers";
  const { errno } = askNetlink(NETLINK_GENERIC, id, genericCommand(IPVS_CMD_FLUSH), subject);
  if (errno !== 0) throw kernelError("remove", subject, errno);
  return true;
}

/** Returns the kernel's errno: 0 when the set was there and is gone, ENOENT when there was none, EINVAL where the kernel has no sets. */
export function destroySet(name: string): number {
  const payload = Buffer.concat([
    Uint8Array.of(0, 0, 0, 0),
    attribute(IPSET_ATTR.protocol, Uint8Array.of(IPSET_PROTOCOL)),
    attribute(IPSET_ATTR.name, zeroEnded(name)),
  ]);
  const type = nfnetlinkType(IPSET_SUBSYSTEM, IPSET_CMD_DESTROY);
  // Without the flag one that is not there is no error.
  return askNetlink(NETLINK_NETFILTER, type, payload, `the set ${name}`, NLM_F_EXCL).errno;
}

/** False when there was no such device. Throws KernelError. */
export function deleteDevice(name: string): boolean {
  const payload = Buffer.concat([new Uint8Array(IFINFO.size), attribute(IFLA_IFNAME, zeroEnded(name))]);
  const { errno } = askNetlink(NETLINK_ROUTE, RTM_DELLINK, payload, `the device ${name}`);
  if (errno !== 0 && errno !== ENODEV && errno !== ENOENT) throw kernelError("remove", `the device ${name}`, errno);
  return errno === 0;
}
