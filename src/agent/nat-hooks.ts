// The kernel translates packets of connections that it knows only while some chain of type nat is there, and knows connections only while
// some rule asks for them. When kube-proxy's go, a chain of ours keeps it at that, in a table of each family, until the last of its
// connections ended.
import { existsSync } from "node:fs";
import { type Ran, run } from "../lib/exec.ts";
import { hasNftTable } from "../libbpf/mod.ts";

/** How programs are run; see `run`. */
type Ask = (command: string, args: readonly string[]) => Promise<Ran>;

export const NAT_TABLE = "millrace-nat";
const FAMILIES = ["ip", "ip6"] as const;

/**
 * The hook that sees the fewest packets: one of a family's is enough for all of them. The rule changes nothing, but it asks for connection
 * tracking, which otherwise ends with the last rule of anybody's that does.
 */
const ADD = (family: string): string =>
  [
    `add table ${family} ${NAT_TABLE}`,
    `add chain ${family} ${NAT_TABLE} keep { type nat hook input priority 100; policy accept; }`,
    `add rule ${family} ${NAT_TABLE} keep ct state established accept`,
  ].join("; ");

/** Makes the tables that are missing. Returns what failed, "": nothing did. Rejects with KernelError when there is no talking to the kernel. */
export async function keepNatHooks(ask: Ask = run): Promise<string> {
  const problems: string[] = [];
  for (const family of FAMILIES) {
    if (hasNftTable(family, NAT_TABLE) || (family === "ip6" && !existsSync("/proc/thread-self/net/if_inet6"))) continue;
    const { ok, text } = await ask("nft", [ADD(family)]);
    if (!ok) problems.push(`could not make the nftables table ${family} ${NAT_TABLE}: ${text}`);
  }
  return problems.join("; ");
}

/** Takes the tables out. Returns which there were. Rejects with KernelError when there is no talking to the kernel. */
export async function releaseNatHooks(ask: Ask = run): Promise<string[]> {
  const removed: string[] = [];
  for (const family of FAMILIES) {
    if (!hasNftTable(family, NAT_TABLE)) continue;
    const { ok } = await ask("nft", [`delete table ${family} ${NAT_TABLE}`]);
    if (ok) removed.push(`nftables table ${family} ${NAT_TABLE}`);
  }
  return removed;
}
