// Which families of IP this kernel speaks: a machine booted with ipv6.disable=1, or built so, has no IPv6 sockets at all.
import { existsSync } from "node:fs";
import type { Family } from "./address.ts";

/** IPv4 first. IPv6 counts also where net.ipv6.conf.all.disable_ipv6 is set: sockets are there, and so are rules. */
export function ipFamilies(root = "/"): readonly Family[] {
  return existsSync(`${root}proc/net/if_inet6`) ? ["IPv4", "IPv6"] : ["IPv4"];
}
