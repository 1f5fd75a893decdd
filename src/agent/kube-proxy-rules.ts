// What kube-proxy has, or left, in this network namespace, by kind of rules. Asked for a few names alone, so that it costs the same with
// ten Services and with ten thousand.
import { readFileSync } from "node:fs";
import { Failure } from "../lib/errors.ts";
import { LARGE, type Ran, run } from "../lib/exec.ts";
import { hasNftChain, hasNftTable, type NftFamily } from "../libbpf/mod.ts";

/** How programs are run; see `run`. */
export type Ask = (command: string, args: readonly string[]) => Promise<Ran>;

/** For commands of an operator, which may wait for large tables. */
export const askPatiently: Ask = (command, args) => run(command, args, LARGE);

/** "iptables" and "ip6tables" are their nftables variants. */
export type KubeProxyRules = "nftables" | "iptables" | "ip6tables" | "iptables-legacy" | "ip6tables-legacy" | "ipvs";

/** What kube-proxy's table is called. */
export const NFT_TABLE = "kube-proxy";
/** The device that holds the addresses of Services in its IPVS mode. */
export const IPVS_DEVICE = "kube-ipvs0";
const SERVICES_CHAIN = "KUBE-SERVICES";
/** There in each of its iptables tables, with nothing in it. */
const CANARY_CHAIN = "KUBE-PROXY-CANARY";
const NAT = "nat";

/** The commands of each family, their tables in nftables, and where the kernel names the legacy tables that it has. */
export const IPTABLES = [
  { command: "iptables", legacy: "iptables-legacy", family: "ip", names: "/proc/thread-self/net/ip_tables_names" },
  { command: "ip6tables", legacy: "ip6tables-legacy", family: "ip6", names: "/proc/thread-self/net/ip6_tables_names" },
] as const satisfies readonly { command: string; legacy: string; family: NftFamily; names: string }[];

/** "" when the file is not there. */
const textOf = (path: string): string => {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
};

/** The legacy tables that the kernel has. To ask iptables itself would make them. */
export function legacyTables({ names }: Pick<(typeof IPTABLES)[number], "names">): readonly string[] {
  return textOf(names)
    .split("\n")
    .filter((name) => name !== "");
}

export function hasDevice(name: string): boolean {
  return textOf("/proc/thread-self/net/dev")
    .split("\n")
    .some((line) => line.trim().startsWith(`${name}:`));
}

/** Rejects with KernelError when there is no talking to the kernel, with Failure "machine" when a table cannot be read in time. */
export async function readKubeProxyRules(
  ask: Ask = run,
  tables: typeof legacyTables = legacyTables,
): Promise<KubeProxyRules[]> {
  const found: KubeProxyRules[] = [];
  if (IPTABLES.some(({ family }) => hasNftTable(family, NFT_TABLE))) found.push("nftables");
  for (const one of IPTABLES) {
    if (hasNftChain(one.family, NAT, SERVICES_CHAIN)) found.push(one.command);
    if (!tables(one).includes(NAT)) continue;
    const canary = await ask(one.legacy, ["--wait", "5", "-t", NAT, "-S", CANARY_CHAIN]);
    // Taken for none, its connections would lose their translation.
    if (canary.timedOut) throw new Failure("machine", one.legacy, `could not read the table ${NAT}: ${canary.text}`);
    if (canary.ok) found.push(one.legacy);
  }
  if (hasDevice(IPVS_DEVICE)) found.push("ipvs");
  return found;
}
