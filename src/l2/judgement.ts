// What follows for a candidate from what is known of the nodes before it, and from what was heard of its address. Pure; changes nothing.
import type { Mac } from "../lib/mac.ts";
import type { KernelRow } from "./announcement.ts";
import type { Candidate } from "./candidate.ts";
import type { Peers } from "./peers.ts";

/** held: somebody before this node is there. doubtful: perhaps. suspect: not, as it looks. clear: nobody is. */
export type Level = "held" | "suspect" | "doubtful" | "clear";

export interface Judgement {
  levelOf(one: Candidate, nowMs: number): Level;
  /** Does `node` come before this one? By the order, else by what every node reckons alike. */
  isBetter(node: string, one: Candidate): boolean;
  isBetterByName(node: string, address: string): boolean;
  /** A better node whose MACs are not known: an unknown MAC is taken for its. */
  unheardAbove(one: Candidate, nowMs: number): string | undefined;
  /** Of those who were heard since: a node that answers for its addresses and when, and a MAC that is nobody's; each "" when there is none. */
  heardSince(row: KernelRow | undefined, sinceMs: number, nowMs: number): { node: string; mac: Mac; atMs: number };
  /** Whose MAC answers for it, but not for long: a switch does for a node that is gone, and rows that nobody renews give way. */
  isSilenced(node: string, nowMs: number): boolean;
}

export interface JudgementParts {
  readonly node: string;
  readonly liveness: () => boolean;
  readonly score: (node: string, address: string) => number;
  readonly peers: Peers;
}

export function createJudgement({ node: self, liveness, score, peers }: JudgementParts): Judgement {
  function levelOf({ candidacy, holder, phase, reclaims }: Candidate, nowMs: number): Level {
    if (!liveness()) return candidacy.above.length > 0 ? "held" : "clear";
    let level: Level = "clear";
    for (const node of candidacy.above) {
      const state = peers.stateOf(node, nowMs);
      const isMute = state === "unheard" && peers.isMute(node, nowMs);
      if (!reclaims && (state === "alive" || (state === "unheard" && !isMute))) return "held";
      if (state === "suspect") level = "suspect";
      else if ((state === "doubtful" || isMute) && level === "clear") level = "doubtful";
    }
    if (phase === "checking" && holder !== "" && peers.stateOf(holder, nowMs) === "suspect") return "suspect";
    return level;
  }

  function isBetter(node: string, { candidacy }: Candidate): boolean {
    if (candidacy.above.includes(node)) return true;
    if (candidacy.below.includes(node)) return false;
    return isBetterByName(node, candidacy.address);
  }

  function isBetterByName(node: string, address: string): boolean {
    const [its, own] = [score(node, address), score(self, address)];
    return its === own ? node < self : its > own;
  }

  function unheardAbove({ candidacy }: Candidate, nowMs: number): string | undefined {
    return liveness() ? candidacy.above.find((node) => peers.stateOf(node, nowMs) === "unheard") : undefined;
  }

  function heardSince(
    row: KernelRow | undefined,
    sinceMs: number,
    nowMs: number,
  ): { node: string; mac: Mac; atMs: number } {
    const found = { node: "", mac: "", atMs: 0 };
    for (const { mac, atMs } of row?.claims ?? []) {
      if (atMs < sinceMs) continue;
      const owner = peers.ownerOf(mac);
      if (owner === undefined) found.mac ||= mac;
      else if (!isSilenced(owner, nowMs) && found.node === "") Object.assign(found, { node: owner, atMs });
    }
    return found;
  }

  function isSilenced(node: string, nowMs: number): boolean {
    const state = peers.stateOf(node, nowMs);
    return state === "gone" || state === "suspect" || peers.yields(node, nowMs);
  }

  return { levelOf, isBetter, isBetterByName, unheardAbove, heardSince, isSilenced };
}
