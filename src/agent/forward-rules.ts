// Where iptables forwards nothing by default (Docker sets that policy), translated packets are accepted by their mark and their
// answers by conntrack's state, as kube-proxy's own rules did. Rules carry a comment and are taken out by `cleanup`. A drop in
// another nftables chain is not undone by an accept here: that is its owner's to open, and named.
import { type Ran, run } from "../lib/exec.ts";
import { IPTABLES, legacyTables } from "./kube-proxy-rules.ts";

const COMMENT = "millrace: translated packets";
const COMMENT_ANSWERS = "millrace: their answers";

/** How programs are run; see `run`. */
export type Ask = (command: string, args: readonly string[]) => Promise<Ran>;

const iptables = (ask: Ask, command: string, ...args: string[]): Promise<Ran> => ask(command, ["--wait", "5", ...args]);

type Rule = readonly string[];

const commented = (comment: string, ...matches: Rule): Rule => [
  "-m",
  "comment",
  "--comment",
  comment,
  ...matches,
  "-j",
  "ACCEPT",
];

const ANSWERS = commented(COMMENT_ANSWERS, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED");

function markedRule(mark: number): Rule {
  const hex = `0x${mark.toString(16)}`;
  return commented(COMMENT, "-m", "mark", "--mark", `${hex}/${hex}`);
}

export interface ForwardRules {
  /** Translated packets must carry the mark. */
  readonly needed: boolean;
  /** Why translated packets may not be forwarded, "" when nothing is in their way. */
  readonly problem: string;
  /** Everybody answered: what is not told is not there. */
  readonly complete: boolean;
}

/** iptables and the family and table that its nftables variant has the chain in. */
const FORWARD_CHAINS = [
  ["iptables", "ip filter FORWARD"],
  ["ip6tables", "ip6 filter FORWARD"],
] as const;

/** Those, and their legacy variants where the kernel has a legacy filter table: `iptables` alone shows one of the two kinds. */
export function forwardChains(tables: typeof legacyTables = legacyTables): readonly (readonly [string, string])[] {
  const legacy = IPTABLES.filter((one) => tables(one).includes("filter"));
  return [...FORWARD_CHAINS, ...legacy.map(({ legacy: command }) => [command, ""] as const)];
}

/** Adds the rules where a FORWARD policy is DROP and they are missing. Without iptables and nftables there is nothing to do. */
export async function ensureForwardRules(
  mark: number,
  ask: Ask = run,
  chains = forwardChains(),
): Promise<ForwardRules> {
  if (mark === 0) return { needed: false, problem: "", complete: true };
  const problems: string[] = [];
  const handled = new Set<string>();
  let complete = true;
  const heard = ({ timedOut, text }: Ran): void => {
    if (timedOut) problems.push(`could not learn what is forwarded: ${text}`);
    if (timedOut) complete = false;
  };
  for (const [command, itsChain] of chains) {
    const chain = await iptables(ask, command, "-S", "FORWARD");
    heard(chain);
    if (!chain.ok || !chain.text.startsWith("-P FORWARD DROP")) continue;
    handled.add(itsChain);
    for (const rule of [markedRule(mark), ANSWERS]) {
      if ((await iptables(ask, command, "-C", "FORWARD", ...rule)).ok) continue;
      const added = await iptables(ask, command, "-I", "FORWARD", ...rule);
      if (!added.ok)
        problems.push(
          `could not let translated packets through ${command}'s FORWARD chain, whose policy is DROP: ${added.text}`,
        );
    }
  }
  const listed = await ask("nft", ["-j", "list", "chains"]);
  heard(listed);
  const others = listed.ok ? droppingChains(listed.text).filter((chain) => !handled.has(chain)) : [];
  const hex = `0x${mark.toString(16)}`;
  for (const chain of others)
    problems.push(
      `the nftables chain ${chain} drops what it does not accept: let it accept translated packets (meta mark & ${hex} == ${hex}) and their answers (ct state established,related), if it does not`,
    );
  return { needed: handled.size + others.length > 0, problem: problems.join("; "), complete };
}

interface NftChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly hook?: string;
  readonly policy?: string;
}

/**
 * "inet firewall forward": base chains of the forward hook that drop by default, from the text of `nft -j list chains`. None where nft
 * answers anything else: an agent must not fail for what it only reports.
 */
export function droppingChains(text: string): string[] {
  let chains: readonly NftChain[];
  try {
    const { nftables } = JSON.parse(text) as { readonly nftables: readonly { readonly chain?: NftChain }[] };
    chains = nftables.flatMap(({ chain }) => chain ?? []);
  } catch {
    return [];
  }
  return chains
    .filter(({ family, hook, policy }) => /^(ip6?|inet)$/.test(family) && hook === "forward" && policy === "drop")
    .map(({ family, table, name }) => `${family} ${table} ${name}`);
}

/** Takes every rule with our comments out: the marked ones whatever their mark, those for answers also where they stand alone. */
export async function removeForwardRules(ask: Ask = run): Promise<string[]> {
  const removed: string[] = [];
  for (const [command] of forwardChains()) {
    const chain = await iptables(ask, command, "-S", "FORWARD");
    if (!chain.ok) continue;
    for (const rule of oursIn(chain.text)) {
      while ((await iptables(ask, command, "-D", "FORWARD", ...rule)).ok) removed.push(`${command} rule in FORWARD`);
    }
  }
  return removed;
}

/** Whether the listing of a FORWARD chain (`iptables -S FORWARD`) has the rule that lets translated packets through. */
export function hasForwardRules(listing: string): boolean {
  return listing.includes(COMMENT);
}

/** The rules that are ours, each once, from the chain's listing. */
function oursIn(listing: string): readonly Rule[] {
  const marks = new Set<number>();
  for (const line of listing.split("\n")) {
    const mark = line.includes(COMMENT) ? /--mark (0x[0-9a-f]+)/.exec(line)?.[1] : undefined;
    if (mark !== undefined) marks.add(Number(mark));
  }
  return [...[...marks].map(markedRule), ...(listing.includes(COMMENT_ANSWERS) ? [ANSWERS] : [])];
}
