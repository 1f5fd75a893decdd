// Where iptables forwards nothing by default (Docker sets that policy), translated packets are accepted by their mark and their
// answers by conntrack's state, as kube-proxy's own rules did. Rules carry a comment and are taken out by `cleanup`. A drop in
// another nftables chain is not undone by an accept here: that is its owner's to open.
import { execFile } from "node:child_process";

const COMMENT = "millrace: translated packets";
const COMMENT_ANSWERS = "millrace: their answers";

const run = (command: string, ...args: string[]): Promise<{ readonly ok: boolean; readonly text: string }> =>
  new Promise((resolve) => {
    execFile(command, ["--wait", "5", ...args], (error, stdout, stderr) => {
      resolve({ ok: error === null, text: error === null ? stdout : stderr.trim() || error.message });
    });
  });

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
  /** Why a rule could not be added, "" when all went well. */
  readonly problem: string;
}

/** Adds the rules where a FORWARD policy is DROP and they are missing. Without iptables there is nothing to do. */
export async function ensureForwardRules(mark: number): Promise<ForwardRules> {
  let needed = false;
  let problem = "";
  if (mark === 0) return { needed, problem };
  for (const command of ["iptables", "ip6tables"]) {
    const chain = await run(command, "-S", "FORWARD");
    if (!chain.ok || !chain.text.startsWith("-P FORWARD DROP")) continue;
    needed = true;
    for (const rule of [markedRule(mark), ANSWERS]) {
      if ((await run(command, "-C", "FORWARD", ...rule)).ok) continue;
      const added = await run(command, "-I", "FORWARD", ...rule);
      if (!added.ok)
        problem = `could not let translated packets through ${command}'s FORWARD chain, whose policy is DROP: ${added.text}`;
    }
  }
  return { needed, problem };
}

/** Takes every rule with our comments out: the marked ones whatever their mark, those for answers also where they stand alone. */
export async function removeForwardRules(): Promise<string[]> {
  const removed: string[] = [];
  for (const command of ["iptables", "ip6tables"]) {
    const chain = await run(command, "-S", "FORWARD");
    if (!chain.ok) continue;
    for (const rule of oursIn(chain.text)) {
      while ((await run(command, "-D", "FORWARD", ...rule)).ok) removed.push(`${command} rule in FORWARD`);
    }
  }
  return removed;
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
