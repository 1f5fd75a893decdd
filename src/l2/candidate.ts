// What this node is about one address that it may announce: the record, and how it passes from one phase to another.
//
//   standby ──► checking ──► holding ──► released
//               │    ▲        │            │
//               ▼    │        ▼            ▼
//          waiting / in-use  standby, waiting or checking

import type { Mac } from "../lib/mac.ts";
import type { Candidacy } from "./announcement.ts";
import { beginCheck, type Check } from "./conflict-check.ts";
import { createDamping, type Damping } from "./damping.ts";
import { beginGratuitous, type Gratuitous } from "./gratuitous.ts";

/**
 * standby: a node that comes before this one is there; no row
 * checking: asks whether the address is free; the row listens
 * waiting: a node that comes after this one has it, or it may not change hands yet; the row listens
 * in-use: a machine that is no node has it; the row listens
 * holding: the row answers
 * released: given back to a better node that is to take it; the row listens
 */
export type Phase = "standby" | "checking" | "waiting" | "in-use" | "holding" | "released";

/** Times are milliseconds of the boot clock, 0 never or at once. */
export interface Candidate {
  candidacy: Candidacy;
  phase: Phase;
  sinceMs: number;
  /** The self-check of its device passed when it was asked last. */
  isSound: boolean;
  /** What it holds is renewed: it is sound, or its device is impaired and nobody else is there. */
  goesOn: boolean;

  check: Check;
  /** The next check that is not due to an event. */
  nextCheckMs: number;
  /** While it is asked whose the MAC is that answered. */
  inquiryEndMs: number;
  /** Claims it though a better node is there: it was given back, and nobody took it. */
  reclaims: boolean;
  /** Waiting: the node that has it, "" when none. */
  holder: string;
  /** Claims and probes that were heard until then have been acted on. */
  heardMs: number;
  /** The MAC of another machine that has it or wanted it, and the checks that found it in a row. */
  stranger: { readonly mac: Mac; readonly sinceMs: number; readonly kept: boolean; readonly tries: number } | undefined;

  /** Its row answers, or, in other phases, listens. */
  inForce: boolean;
  renewedMs: number;
  /** A pause was too long to go on without a look: renewed from then on, or not. */
  resumeMs: number;
  gratuitous: Gratuitous;
  /** To be sent while holding, to hear who else does. */
  probesOwed: number;
  /** When the address was told again, or defended, because of what was heard. */
  toldAgainMs: number;
  /** Since when another node claims it again and again. */
  duelMs: number;
  /** It is given back from then on. */
  handBackMs: number;
  damping: Damping;
  /** Since it is a candidate. */
  hasClaimed: boolean;

  refusal: string;
  refusals: number;
  retryMs: number;
}

export function createCandidate(candidacy: Candidacy, nowMs: number): Candidate {
  return {
    ...{ candidacy, phase: "standby", sinceMs: nowMs, isSound: false, goesOn: false },
    ...{ check: beginCheck(), nextCheckMs: 0, inquiryEndMs: 0, reclaims: false, holder: "", heardMs: nowMs },
    ...{ stranger: undefined, inForce: false, renewedMs: 0, resumeMs: 0, gratuitous: beginGratuitous(nowMs) },
    ...{ probesOwed: 0, toldAgainMs: 0, duelMs: 0, handBackMs: 0, damping: createDamping() },
    ...{ hasClaimed: false, refusal: "", refusals: 0, retryMs: 0 },
  };
}

/** Into another phase: what was in force in the one before is to be brought about anew. */
export function enter(one: Candidate, phase: Phase, nowMs: number): void {
  one.phase = phase;
  one.sinceMs = nowMs;
  one.inForce = false;
  one.refusal = "";
  one.probesOwed = 0;
  one.resumeMs = 0;
  if (phase !== "checking") one.reclaims = false;
  if (phase === "checking") one.check = beginCheck();
}
