// Who has an address after whom: the rules by which one candidate passes from phase to phase, from what is known of the nodes and what
// was heard of the address. Two speakers are possible only while they cannot hear each other. Pure.
import type { Mac } from "../lib/mac.ts";
import type { Heard, KernelRow } from "./announcement.ts";
import { type Candidate, enter, type Phase } from "./candidate.ts";
import { checkEndMs, isOutdated } from "./conflict-check.ts";
import { changeAllowedMs, isSettled, noteChange, takeBackChange } from "./damping.ts";
import { beginGratuitous } from "./gratuitous.ts";
import { createJudgement, type JudgementParts } from "./judgement.ts";
import { SILENT_MS } from "./peers.ts";

/** Since the start. */
export interface Counts {
  /** Claims. */
  readonly claims: number;
  /** Claims of addresses after nodes that had been heard. */
  readonly takeovers: number;
  /** Milliseconds from the last answer of the node before to the claim, of takeovers together. */
  readonly takeoverMs: number;
  /** Addresses given back to better nodes. */
  readonly handBacks: number;
  /** Addresses left to another node that was heard to have them. */
  readonly yields: number;
  /** Checks that found another machine's MAC. */
  readonly conflicts: number;
}

export interface SuccessionParts extends JudgementParts {
  readonly capacity: number;
  readonly nodes: () => Iterable<string>;
  /** Rows that are spoken for, at the beginning of a look. */
  readonly used: () => number;
  /** The candidate holds the address from now on. */
  readonly claimed: (one: Candidate) => void;
  /** It does not any more: who waits for it is to be told. */
  readonly letGo: (one: Candidate) => void;
}

export interface Succession {
  /** A look begins. */
  begin(all: Iterable<Candidate>, nowMs: number): void;
  /** Returns the phase after it. */
  step(one: Candidate, row: KernelRow | undefined, nowMs: number): Phase;
  /** The node that has the address, as far as is known; "" when none is. */
  holderOf(one: Candidate, nowMs: number): string;
  /** Those that the last look had no room for. */
  left(): readonly Candidate[];
  counts(): Counts;
}

/** Who waits, or doubts, asks the wire so often; with many addresses so many in a second. */
const PACE_MS = 1_000;
const PACED_PER_SECOND = 50;
const RECENT_MS = 5_000;
const SPREAD = 16;
/** A better node is given its addresses back after so much health, one in each second, and has so long to take one. */
const HEALTHY_MS = 60_000;
const HAND_BACK_MS = 1_000;
const TAKE_MS = 3_000;
const AGAIN_MS = 600_000;
/** An address that is defended is told again so often at most (RFC 5227 section 2.4). */
const DEFEND_MS = 10_000;
/** An answer to one that goes on claiming it. */
const RETELL_MS = 200;
/** Two nodes that both go on claiming an address see different orders: then their names alone decide. */
const DUEL_MS = 2_000;
const DUEL_OVER_MS = 5_000;
/** Who gives an address up to a living node so soon after it claimed it never had it alone. */
const RACE_MS = 1_000;
const INQUIRY_MS = 450;
const IN_USE_MS = 1_000;
const IN_USE_MOST_MS = 300_000;

export function createSuccession(parts: SuccessionParts): Succession {
  const { peers, liveness } = parts;
  const { levelOf, isBetter, isBetterByName, unheardAbove, heardSince, isSilenced } = createJudgement(parts);
  const counts = { claims: 0, takeovers: 0, takeoverMs: 0, handBacks: 0, yields: 0, conflicts: 0 };
  let back: ReadonlySet<string> = new Set();
  let room = 0;
  let paced = 0;
  let spread = 0;
  let left: Candidate[] = [];
  let handBackMs = 0;

  /** Those that began to wait at once do not ask at once. */
  function paceMs(): number {
    spread = (spread + 1) % SPREAD;
    return Math.max(PACE_MS, ((paced * 1_000) / PACED_PER_SECOND) * (0.5 + spread / SPREAD));
  }

  function check(one: Candidate, nowMs: number): Phase {
    if (one.phase === "standby") {
      if (room === 0) {
        left.push(one);
        return one.phase;
      }
      room--;
    }
    enter(one, "checking", nowMs);
    return one.phase;
  }

  function stand(one: Candidate, nowMs: number): Phase {
    enter(one, "standby", nowMs);
    one.holder = "";
    one.stranger = undefined;
    return one.phase;
  }

  /** Until something is heard that is later than what was: then, or at `untilMs`, it is asked again. */
  function wait(one: Candidate, holder: string, heardMs: number, untilMs: number, nowMs: number): Phase {
    one.nextCheckMs = untilMs;
    one.stranger = undefined;
    if (one.candidacy.above.includes(holder)) return stand(one, nowMs);
    enter(one, "waiting", nowMs);
    one.holder = holder;
    one.heardMs = heardMs;
    return one.phase;
  }

  /** Another node was heard to have it. */
  function yieldTo(one: Candidate, holder: string, heardMs: number, nowMs: number): Phase {
    if (one.phase === "holding") {
      counts.yields++;
      // Two claimed it at once: a takeover when the other dies must not wait for that.
      const isRace = nowMs - one.sinceMs < RACE_MS && peers.stateOf(holder, nowMs) === "alive";
      if (isRace) takeBackChange(one.damping, nowMs);
    }
    return wait(one, holder, heardMs, nowMs + paceMs(), nowMs);
  }

  function claim(one: Candidate, nowMs: number): Phase {
    counts.claims++;
    const before = liveness() ? peers.lastAnsweredMs([...one.candidacy.above, one.holder]) : 0;
    if (before > 0 && !one.reclaims) {
      counts.takeovers++;
      counts.takeoverMs += nowMs - before;
    }
    if (one.reclaims) one.handBackMs = nowMs + AGAIN_MS;
    // Who is the first of all to have it changes nothing, however soon a better one turns up.
    if (one.hasClaimed) noteChange(one.damping, nowMs);
    one.hasClaimed = true;
    enter(one, "holding", nowMs);
    Object.assign(one, { holder: "", heardMs: nowMs, toldAgainMs: 0, duelMs: 0, stranger: undefined });
    one.gratuitous = beginGratuitous(nowMs);
    parts.claimed(one);
    return one.phase;
  }

  function foundStranger(one: Candidate, mac: Mac, nowMs: number): Phase {
    const tries = (one.stranger?.tries ?? 0) + 1;
    counts.conflicts++;
    one.stranger = { mac, sinceMs: one.stranger?.sinceMs ?? nowMs, kept: false, tries };
    one.nextCheckMs = nowMs + Math.min(IN_USE_MS * 2 ** (tries - 1), IN_USE_MOST_MS);
    enter(one, "in-use", nowMs);
    return one.phase;
  }

  function whileStandingBy(one: Candidate, nowMs: number): Phase {
    const level = one.isSound ? levelOf(one, nowMs) : "held";
    if (level === "held" || (level === "doubtful" && nowMs < one.nextCheckMs)) return one.phase;
    return check(one, nowMs);
  }

  function whileChecking(one: Candidate, row: KernelRow | undefined, nowMs: number): Phase {
    const level = levelOf(one, nowMs);
    if (level === "held") return stand(one, nowMs);
    if (isOutdated(one.check, nowMs) && !peers.isInquiring()) return enterAgain(one, nowMs);
    if (row === undefined || one.check.probes === 0) return one.phase;
    const { beganMs } = one.check;
    const { node, mac, atMs } = heardSince(row, beganMs, nowMs);
    if (node !== "") return yieldTo(one, node, atMs, nowMs);
    const rival = row.probe !== undefined && row.probe.atMs >= beganMs ? row.probe.mac : "";
    const asker = peers.ownerOf(rival);
    if (asker !== undefined && !isSilenced(asker, nowMs) && isBetter(asker, one))
      return wait(one, asker, row.probe!.atMs, nowMs + PACE_MS, nowMs);
    const stranger = mac !== "" ? mac : asker === undefined ? rival : "";
    if (stranger !== "") {
      const unheard = unheardAbove(one, nowMs);
      if (unheard !== undefined) return yieldTo(one, unheard, nowMs, nowMs);
      if (one.inquiryEndMs < beganMs && liveness()) {
        peers.inquire(parts.nodes());
        one.inquiryEndMs = nowMs + INQUIRY_MS;
      }
      if (nowMs >= one.inquiryEndMs && !peers.isInquiring()) foundStranger(one, stranger, nowMs);
      return one.phase;
    }
    if (nowMs < checkEndMs(one.check) || level === "suspect") return one.phase;
    const allowedMs = changeAllowedMs(one.damping);
    if (nowMs < allowedMs) wait(one, "", nowMs, allowedMs, nowMs);
    else claim(one, nowMs);
    return one.phase;
  }

  function enterAgain(one: Candidate, nowMs: number): Phase {
    const { reclaims } = one;
    enter(one, "checking", nowMs);
    one.reclaims = reclaims;
    return one.phase;
  }

  function whileWaiting(one: Candidate, row: KernelRow | undefined, nowMs: number): Phase {
    if (levelOf(one, nowMs) === "held") return stand(one, nowMs);
    if (!one.isSound) return one.phase;
    const isFree = one.holder !== "" && isSilenced(one.holder, nowMs);
    // Who lets an address go says so by a probe. That of another who waits says nothing.
    const prober = row?.probe !== undefined && row.probe.atMs > one.heardMs ? peers.ownerOf(row.probe.mac) : undefined;
    const isTold = prober !== undefined && prober === one.holder;
    if (isFree || nowMs >= one.nextCheckMs || isTold) check(one, nowMs);
    return one.phase;
  }

  function whileHolding(one: Candidate, row: KernelRow | undefined, nowMs: number): Phase {
    if (!liveness() && one.candidacy.above.length > 0) {
      parts.letGo(one);
      return stand(one, nowMs);
    }
    if (one.resumeMs > 0) return resume(one, row, nowMs);
    const { above, below } = one.candidacy;
    if (back.size > 0 && [...above, ...below].some((node) => back.has(node))) one.probesOwed = 2;
    if (row === undefined) return one.phase;
    if (row.conflict) return lose(one, row, nowMs);
    for (const { mac, atMs } of row.claims) if (atMs > one.heardMs) hear(one, peers.ownerOf(mac), { mac, atMs }, nowMs);
    if (one.phase !== "holding") return one.phase;
    const asker = row.probe !== undefined && row.probe.atMs > one.heardMs ? peers.ownerOf(row.probe.mac) : undefined;
    // It takes this node for gone, or comes back from where it could not be heard.
    if (asker !== undefined && !isBetter(asker, one)) tellAgain(one, DEFEND_MS, nowMs);
    one.heardMs = Math.max(one.heardMs, row.probe?.atMs ?? 0, ...row.claims.map(({ atMs }) => atMs));
    handBack(one, nowMs);
    return one.phase;
  }

  function tellAgain(one: Candidate, restMs: number, nowMs: number): Phase {
    if (one.toldAgainMs > 0 && nowMs - one.toldAgainMs < restMs) return one.phase;
    one.toldAgainMs = nowMs;
    one.gratuitous = beginGratuitous(nowMs);
    return one.phase;
  }

  /** Another MAC claims what this node holds. */
  function hear(one: Candidate, node: string | undefined, { mac, atMs }: Heard, nowMs: number): Phase {
    if (one.phase !== "holding") return one.phase;
    if (node === undefined) {
      const unheard = unheardAbove(one, nowMs);
      if (unheard !== undefined) return yieldTo(one, unheard, atMs, nowMs);
      one.stranger = { mac, sinceMs: nowMs, kept: true, tries: 0 };
      return tellAgain(one, DEFEND_MS, nowMs);
    }
    // Who is not sound itself had it for want of another.
    if (!one.isSound && peers.stateOf(node, nowMs) === "alive") return yieldTo(one, node, atMs, nowMs);
    // Its agent is away, or not sound: its kernel gives the address up on hearing it claimed.
    if (peers.stateOf(node, nowMs) === "doubtful") return tellAgain(one, RETELL_MS, nowMs);
    if (one.duelMs === 0 || nowMs - one.toldAgainMs > DUEL_OVER_MS) one.duelMs = nowMs;
    const isLong = nowMs - one.duelMs > DUEL_MS;
    if (isLong ? isBetterByName(node, one.candidacy.address) : isBetter(node, one))
      return yieldTo(one, node, atMs, nowMs);
    tellAgain(one, RETELL_MS, nowMs);
    return one.phase;
  }

  /** The kernel gave it up, or it went silent: somebody else may have it. */
  function lose(one: Candidate, row: KernelRow | undefined, nowMs: number): Phase {
    const { node, atMs } = heardSince(row, one.renewedMs, nowMs);
    if (node !== "") return yieldTo(one, node, atMs, nowMs);
    if (one.isSound) return check(one, nowMs);
    one.inForce = false;
    return one.phase;
  }

  /** After a pause: goes on only if nobody else was heard meanwhile, nor now. */
  function resume(one: Candidate, row: KernelRow | undefined, nowMs: number): Phase {
    if (nowMs < one.resumeMs || !one.goesOn) return one.phase;
    one.resumeMs = 0;
    if (row === undefined || row.conflict || row.silentMs <= nowMs || nowMs - one.renewedMs >= SILENT_MS)
      return lose(one, row, nowMs);
    const { node, atMs } = heardSince(row, Math.max(one.renewedMs, one.heardMs), nowMs);
    if (node !== "") return yieldTo(one, node, atMs, nowMs);
    one.renewedMs = nowMs;
    one.gratuitous = beginGratuitous(nowMs);
    parts.claimed(one);
    return one.phase;
  }

  function handBack(one: Candidate, nowMs: number): Phase {
    if (nowMs < handBackMs || nowMs < one.handBackMs || isSettled(one.damping, nowMs)) return one.phase;
    const isHealthy = (node: string): boolean => nowMs - peers.healthySinceMs(node, nowMs) >= HEALTHY_MS;
    if (!one.candidacy.above.some(isHealthy)) return one.phase;
    handBackMs = nowMs + HAND_BACK_MS;
    counts.handBacks++;
    parts.letGo(one);
    enter(one, "released", nowMs);
    return one.phase;
  }

  function whileReleased(one: Candidate, row: KernelRow | undefined, nowMs: number): Phase {
    const heard = heardSince(row, one.sinceMs, nowMs);
    if (heard.node !== "") return yieldTo(one, heard.node, heard.atMs, nowMs);
    const isTaken = nowMs - one.sinceMs < TAKE_MS && heard.mac === "" && levelOf(one, nowMs) === "held";
    if (isTaken) return one.phase;
    check(one, nowMs);
    one.reclaims = true;
    return one.phase;
  }

  return {
    begin(all, nowMs) {
      back = peers.returned();
      room = Math.max(0, parts.capacity - parts.used());
      left = [];
      paced = 0;
      for (const { phase, nextCheckMs } of all)
        if (phase === "waiting" || phase === "checking" || nowMs - nextCheckMs < RECENT_MS) paced++;
    },
    step(one, row, nowMs) {
      switch (one.phase) {
        case "standby":
          return whileStandingBy(one, nowMs);
        case "checking":
          return whileChecking(one, row, nowMs);
        case "waiting":
          return whileWaiting(one, row, nowMs);
        case "in-use":
          if (levelOf(one, nowMs) === "held") return stand(one, nowMs);
          return one.isSound && nowMs >= one.nextCheckMs ? check(one, nowMs) : one.phase;
        case "holding":
          return whileHolding(one, row, nowMs);
        case "released":
          return whileReleased(one, row, nowMs);
      }
    },
    holderOf({ phase, holder, candidacy }, nowMs) {
      if (phase === "holding") return parts.node;
      if (phase === "waiting" || phase === "in-use") return holder;
      if (!liveness()) return candidacy.above[0] ?? "";
      const isThere = (node: string): boolean => ["alive", "unheard"].includes(peers.stateOf(node, nowMs));
      return candidacy.above.find(isThere) ?? "";
    },
    left: () => left,
    counts: () => ({ ...counts }),
  };
}
