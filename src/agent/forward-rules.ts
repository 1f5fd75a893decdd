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

function rules(mark: number): readonly (readonly string[])[] {
  const hex = `0x${mark.toString(16)}`;
  return [
    ["-m", "comment", "--comment", COMMENT, "-m", "mark", "--mark", `${hex}/${hex}`, "-j", "ACCEPT"],
    [
      "-m",
      "comment",
      "--comment",
      COMMENT_ANSWERS,
      "-m",
      "conntrack",
      "--ctstate",
      "RELATED,ESTABLISHED",
      "-j",
      "ACCEPT",
    ],
  ];
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
    for (const rule of rules(mark)) {
      if ((await run(command, "-C", "FORWARD", ...rule)).ok) continue;
      const added = await run(command, "-I", "FORWARD", ...rule);
      if (!added.ok)
        problem = `could not let translated packets through ${command}'s FORWARD chain, whose policy is DROP: ${added.text}`;
    }
  }
  return { needed, problem };
}

/** Takes every rule with our comment out, whatever its mark. Returns what was removed. */
export async function removeForwardRules(): Promise<string[]> {
  const removed: string[] = [];
  for (const command of ["iptables", "ip6tables"]) {
    for (const mark of await marksInUse(command)) {
      for (const rule of rules(mark)) {
        while ((await run(command, "-D", "FORWARD", ...rule)).ok) removed.push(`${command} rule in FORWARD`);
      }
    }
  }
  return removed;
}

/** Marks of the rules that are ours, from the chain's listing. */
async function marksInUse(command: string): Promise<number[]> {
  const chain = await run(command, "-S", "FORWARD");
  if (!chain.ok) return [];
  const marks = new Set<number>();
  for (const line of chain.text.split("\n")) {
    const mark = line.includes(COMMENT) ? /--mark (0x[0-9a-f]+)/.exec(line)?.[1] : undefined;
    if (mark !== undefined) marks.add(Number(mark));
  }
  return [...marks];
}
