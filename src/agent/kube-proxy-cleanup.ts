// `millrace cleanup --kube-proxy`: removes what kube-proxy left in this network namespace, of any of its modes, without its program. The
// kernel goes on translating the connections that it had: see nat-hooks.ts.
import { lockPinDir } from "../datapath/load.ts";
import { Failure } from "../lib/errors.ts";
import { LARGE, type Ran, type RunOptions, run } from "../lib/exec.ts";
import { hasNftChain, hasNftTable, translatedConnections } from "../libbpf/mod.ts";
import type { CleanupResult } from "./cleanup.ts";
import { kubeProxyChains } from "./kube-proxy-chains.ts";
import { removeIpvs } from "./kube-proxy-ipvs.ts";
import { findKubeProxy } from "./kube-proxy-process.ts";
import { askPatiently, IPTABLES, legacyTables, NFT_TABLE, readKubeProxyRules } from "./kube-proxy-rules.ts";
import { keepNatHooks, NAT_TABLE, releaseNatHooks } from "./nat-hooks.ts";
import type { AgentOptions } from "./options.ts";

const TABLES = ["nat", "filter", "mangle"] as const;
/** iptables-nft keeps a chain of each table's first hook, whatever else is in it. */
const FIRST_CHAINS = { nat: "PREROUTING", filter: "INPUT", mangle: "PREROUTING" } as const;
const TRIES = 3;

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
  if ((await readKubeProxyRules(askPatiently)).length > 0) {
    const problem = await keepNatHooks(askPatiently);
    // Without them live connections would break: nothing was removed yet.
    if (problem !== "") throw new Failure("machine", NAT_TABLE, problem);
  }
  const results = [...(await removeIptables()), await removeNftables(), await removeIpvs()];
  const removed = results.flatMap((result) => result.removed);
  const left = results.flatMap((result) => result.left);
  if (hasNftTable("ip", NAT_TABLE)) {
    const { length } = await translatedConnections();
    const isAgents = agentRuns(pinDir);
    // Whose connections they are only an agent knows.
    if (length === 0 && !isAgents) removed.push(...(await releaseNatHooks(askPatiently)));
    else left.push(natHooksLeft(length, isAgents));
  }
  return { removed, left };
}

async function removeIptables(): Promise<CleanupResult[]> {
  const results: CleanupResult[] = [];
  for (const one of IPTABLES) {
    const { command, legacy, family } = one;
    const legacyNames = legacyTables(one);
    for (const table of TABLES) {
      // To ask for a table that is not there would make it.
      if (hasNftChain(family, table, FIRST_CHAINS[table]) || hasNftTable(family, table))
        results.push(await removeChains(`${command}-nft`, table));
      if (legacyNames.includes(table)) results.push(await removeChains(legacy, table));
    }
  }
  return results;
}

/** How programs are run that may be given something to read; see `run`. */
type RunProgram = (command: string, args: readonly string[], options: RunOptions) => Promise<Ran>;

/**
 * Takes kube-proxy's chains out of a table, `command` being "iptables-nft" or the like. Others may change the table between its reading
 * and the change: then once more. Rejects with Failure "machine".
 */
export async function removeChains(
  command: string,
  table: string,
  runProgram: RunProgram = run,
): Promise<CleanupResult> {
  const removed: string[] = [];
  let problem = "";
  for (let attempt = 0; attempt < TRIES; attempt++) {
    const saved = await runProgram(`${command}-save`, ["-t", table], LARGE);
    if (!saved.ok) throw new Failure("machine", command, `could not read the table ${table}: ${saved.text}`);
    const { script, chains, jumps, kept } = kubeProxyChains(saved.text, table);
    if (script !== "") {
      const args = ["--wait", "5", "--noflush"];
      const restored = await runProgram(`${command}-restore`, args, { ...LARGE, input: script });
      problem = restored.text;
      if (!restored.ok) continue;
      removed.push(`${chains} chains and ${jumps} rules that led to them, ${command} table ${table}`);
    }
    return {
      removed,
      left: kept.map(({ chain, by }) => `chain ${chain}, ${command} table ${table}: ${by} leads to it`),
    };
  }
  throw new Failure("machine", command, `could not remove kube-proxy's chains from the table ${table}: ${problem}`);
}

async function removeNftables(): Promise<CleanupResult> {
  const removed: string[] = [];
  for (const { family } of IPTABLES) {
    if (!hasNftTable(family, NFT_TABLE)) continue;
    const { ok, text } = await askPatiently("nft", ["delete", "table", family, NFT_TABLE]);
    if (!ok) throw new Failure("machine", NFT_TABLE, `could not remove the table ${family} ${NFT_TABLE}: ${text}`);
    removed.push(`nftables table ${family} ${NFT_TABLE}`);
  }
  return { removed, left: [] };
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
