// `millrace cleanup --kube-proxy`: removes what kube-proxy left in this network namespace, of any of its modes, without its program. The
// kernel goes on translating the connections that it had: see nat-hooks.ts.
import { lockPinDir } from "../datapath/load.ts";
import { Failure } from "../lib/errors.ts";
import { run } from "../lib/exec.ts";
import {
  deleteDevice,
  destroySet,
  errnoName,
  flushVirtualServers,
  hasNftChain,
  hasNftTable,
  translatedConnections,
} from "../libbpf/mod.ts";
import type { CleanupResult } from "./cleanup.ts";
import { kubeProxyChains } from "./kube-proxy-chains.ts";
import { findKubeProxy } from "./kube-proxy-process.ts";
import { hasDevice, IPTABLES, IPVS_DEVICE, legacyTables, NFT_TABLE, readKubeProxyRules } from "./kube-proxy-rules.ts";
import { keepNatHooks, NAT_TABLE, releaseNatHooks } from "./nat-hooks.ts";
import type { AgentOptions } from "./options.ts";

const TABLES = ["nat", "filter", "mangle"] as const;
/** iptables-nft keeps a chain of each table's first hook, whatever else is in it. */
const FIRST_CHAINS = { nat: "PREROUTING", filter: "INPUT", mangle: "PREROUTING" } as const;
const TRIES = 3;

/** Sets of its IPVS mode. */
const SETS = [
  "KUBE-LOOP-BACK",
  "KUBE-CLUSTER-IP",
  "KUBE-EXTERNAL-IP",
  "KUBE-EXTERNAL-IP-LOCAL",
  "KUBE-LOAD-BALANCER",
  "KUBE-LOAD-BALANCER-LOCAL",
  "KUBE-LOAD-BALANCER-FW",
  "KUBE-LOAD-BALANCER-SOURCE-IP",
  "KUBE-LOAD-BALANCER-SOURCE-CIDR",
  "KUBE-NODE-PORT-TCP",
  "KUBE-NODE-PORT-LOCAL-TCP",
  "KUBE-NODE-PORT-UDP",
  "KUBE-NODE-PORT-LOCAL-UDP",
  "KUBE-NODE-PORT-SCTP-HASH",
  "KUBE-NODE-PORT-LOCAL-SCTP-HASH",
  "KUBE-HEALTH-CHECK-NODE-PORT",
  "KUBE-IPVS-IPS",
];
/** The longest name that a set can have. */
const SET_NAME = 31;
const MISSING: ReadonlySet<string> = new Set(["ENOENT", "EINVAL", "EOPNOTSUPP"]);

export interface KubeProxyCleanupOptions {
  readonly pinDir: AgentOptions["pinDir"];
  /** Also while kube-proxy runs here, which makes it all again. */
  readonly force: boolean;
}

/** Works beside an agent, and without one. Rejects with Failure "conflict" while kube-proxy runs here, "machine" when something cannot be removed. */
export async function cleanupKubeProxy({ pinDir, force }: KubeProxyCleanupOptions): Promise<CleanupResult> {
  const running = force ? undefined : await findKubeProxy();
  if (running !== undefined) {
    const which = running.pid === 0 ? "it answers at 127.0.0.1:10249" : `process ${running.pid}`;
    throw new Failure(
      "conflict",
      "kube-proxy",
      `could not remove what kube-proxy has here: it runs (${which}) and would make it again; stop it first, or use --force`,
    );
  }
  const removed: string[] = [];
  const left: string[] = [];
  if ((await readKubeProxyRules()).length > 0) {
    const problem = await keepNatHooks();
    // Without them live connections would break: nothing was removed yet.
    if (problem !== "") throw new Failure("machine", NAT_TABLE, problem);
  }
  await removeIptables(removed, left);
  await removeNftables(removed);
  removeIpvs(removed, left);
  if (hasNftTable("ip", NAT_TABLE)) {
    const { length } = await translatedConnections();
    const isAgents = agentRuns(pinDir);
    // Whose connections they are only an agent knows.
    if (length === 0 && !isAgents) removed.push(...(await releaseNatHooks()));
    else left.push(natHooksLeft(length, isAgents));
  }
  return { removed, left };
}

async function removeIptables(removed: string[], left: string[]): Promise<void> {
  for (const one of IPTABLES) {
    const { command, legacy, family } = one;
    const legacyNames = legacyTables(one);
    for (const table of TABLES) {
      // To ask for a table that is not there would make it.
      if (hasNftChain(family, table, FIRST_CHAINS[table]) || hasNftTable(family, table))
        await removeChains(`${command}-nft`, table, removed, left);
      if (legacyNames.includes(table)) await removeChains(legacy, table, removed, left);
    }
  }
}

/** Others may change the table between its reading and the change: then once more. */
async function removeChains(command: string, table: string, removed: string[], left: string[]): Promise<void> {
  let problem = "";
  for (let attempt = 0; attempt < TRIES; attempt++) {
    const saved = await run(`${command}-save`, ["-t", table]);
    if (!saved.ok) throw new Failure("machine", command, `could not read the table ${table}: ${saved.text}`);
    const { script, chains, jumps, kept } = kubeProxyChains(saved.text, table);
    if (script !== "") {
      const args = ["--wait", "5", "--noflush"];
      const restored = await run(`${command}-restore`, args, { input: script, timeoutMs: 60_000 });
      problem = restored.text;
      if (!restored.ok) continue;
      removed.push(`${chains} chains and ${jumps} rules that led to them, ${command} table ${table}`);
    }
    for (const { chain, by } of kept) left.push(`chain ${chain}, ${command} table ${table}: ${by} leads to it`);
    return;
  }
  throw new Failure("machine", command, `could not remove kube-proxy's chains from the table ${table}: ${problem}`);
}

async function removeNftables(removed: string[]): Promise<void> {
  for (const { family } of IPTABLES) {
    if (!hasNftTable(family, NFT_TABLE)) continue;
    const { ok, text } = await run("nft", ["delete", "table", family, NFT_TABLE], { timeoutMs: 60_000 });
    if (!ok) throw new Failure("machine", NFT_TABLE, `could not remove the table ${family} ${NFT_TABLE}: ${text}`);
    removed.push(`nftables table ${family} ${NFT_TABLE}`);
  }
}

function removeIpvs(removed: string[], left: string[]): void {
  // Somebody else may have virtual servers of his own; kube-proxy's mode always has the device.
  if (hasDevice(IPVS_DEVICE)) {
    if (flushVirtualServers()) removed.push("IPVS virtual servers");
    if (deleteDevice(IPVS_DEVICE)) removed.push(`device ${IPVS_DEVICE}`);
  }
  for (const set of SETS.flatMap((name) => [name, name.replace("KUBE-", "KUBE-6-").slice(0, SET_NAME)])) {
    const errno = destroySet(set);
    if (errno === 0) removed.push(`set ${set}`);
    else if (!MISSING.has(errnoName(errno))) left.push(`set ${set}: ${errnoName(errno)}`);
  }
}

function agentRuns(pinDir: string): boolean {
  try {
    lockPinDir(pinDir)[Symbol.dispose]();
    return false;
  } catch (error) {
    if (error instanceof Failure && error.code === "conflict") return true;
    throw error;
  }
}

function natHooksLeft(connections: number, isAgents: boolean): string {
  const who = isAgents
    ? "the agent removes them when the last one of kube-proxy's has ended"
    : "an agent, or this command once more, removes them when the last one has ended";
  return `nftables tables ${NAT_TABLE}: they keep the kernel translating ${connections} connections; ${who}`;
}
