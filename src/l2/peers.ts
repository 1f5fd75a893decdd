// Which other nodes are alive. Nodes are asked, not addresses: five times a second who stands before this one in line for an address, once a
// second all others of those orders, whose MACs it has to know, and once in five who is asked only lest a whole line be gone. A node answers by its kernel, so that an agent that is away is no dead node.
// Pure: questions out, answers and the clock in.

import type { Mac } from "../lib/mac.ts";

/** What a node says of itself. */
export interface PeerAnswer {
  /** Of its uplinks. */
  readonly macs: readonly Mac[];
  /** Another with each start of its agent. */
  readonly incarnation: number;
  /** Since its agent renewed what it announces; Infinity when it never did. */
  readonly ageMs: number;
  /** The self-check of its last renewal passed. */
  readonly sound: boolean;
  /** It gives its addresses up by itself. */
  readonly leaving: boolean;
}

/**
 * unheard: it never answered, as without a secret or with an older version: nothing is known but its Node object
 * alive: it answers for its addresses
 * doubtful: its agent is away, its self-check fails, or it cannot be asked: whether it answers for an address is asked on the wire
 * suspect: two questions in a row are unanswered, or its rows are about to go silent
 * gone: three are, its rows are silent, or it is leaving
 */
export const PEER_STATES = ["unheard", "alive", "doubtful", "suspect", "gone"] as const;
export type PeerState = (typeof PEER_STATES)[number];

export interface PeerView {
  readonly node: string;
  readonly state: PeerState;
  /** Unanswered in a row. */
  readonly missed: number;
  /** Since its agent renewed what it announces, as of its last answer; undefined before the first. */
  readonly ageMs: number | undefined;
}

/** Times are milliseconds of the boot clock. */
export interface Peers {
  /** Who is to be asked from now on. */
  watch(urgent: ReadonlySet<string>, casual: ReadonlySet<string>, far: ReadonlySet<string>): void;
  /** Asks these once: whose a MAC is. */
  inquire(nodes: Iterable<string>): void;
  /** The nodes to be asked now. To be called every ROUND_MS while `isUrgent`; a round that comes late counts nothing as missed. */
  round(nowMs: number): readonly string[];
  isRoundDue(nowMs: number): boolean;
  answered(node: string, answer: PeerAnswer, nowMs: number): void;
  /** It could not be asked after all: of this round nothing follows. When that goes on, the wire is to say whether it lives. */
  unasked(node: string, nowMs: number): void;
  /** Whose Node object has been gone for minutes is forgotten, and so are its MACs, which may be another machine's by then. */
  forget(isNode: (node: string) => boolean, nowMs: number): void;
  stateOf(node: string, nowMs: number): PeerState;
  /** It has been asked in vain for so long, ever. */
  isMute(node: string, nowMs: number): boolean;
  /** Its kernel gives its addresses up on hearing them claimed: nobody renews its rows, as they are not sound. */
  yields(node: string, nowMs: number): boolean;
  /** Since when it has been alive without a break; Infinity while it is not. */
  healthySinceMs(node: string, nowMs: number): number;
  /** When the last of these answered; 0 when none ever did. */
  lastAnsweredMs(nodes: readonly string[]): number;
  ownerOf(mac: Mac): string | undefined;
  /** Who answered since this was asked last, for the first time or after it had been gone or unheard for a while. */
  returned(): ReadonlySet<string>;
  isUrgent(): boolean;
  /** Some question of an inquiry is yet to be asked. */
  isInquiring(): boolean;
  /** When the next round is due; Infinity when nobody is asked. */
  nextMs(): number;
  views(nowMs: number): readonly PeerView[];
}

export const ROUND_MS = 200;
const CASUAL_MS = 1_000;
const FAR_MS = 5_000;
/** So many who are not urgent are asked in any round; of more, as many as their time takes. */
const SPREAD_OVER = 64;
/** Who did not answer for so long, or was not heard by this node, may have changed hands with it unheard. */
const AWAY_MS = 2_500;
/** An agent that never renewed anything so far is given so long to begin. */
const STARTING_MS = 5_000;
/** A round that comes later than this after the one before says nothing about who did not answer. */
const LATE_MS = 400;
/** After so long without a round what was missed before is no news either. */
const FORGET_MS = 1_000;
const SUSPECT_MISSES = 2;
const GONE_MISSES = 3;
const MUTE_MS = 5_000;
const FORGOTTEN_MS = 120_000;
const NEVER_MS = Number.POSITIVE_INFINITY;
/** Of rows of `announced`: src/agent/announcer.ts. */
export const STALE_MS = 3_000;
export const SILENT_MS = 60_000;
/** The check of an address runs before its row goes silent, so that the claim follows at once. */
const BEFORE_SILENT_MS = 400;
const INQUIRED_PER_ROUND = 256;

interface Peer {
  firstAskedMs: number;
  /** The last question; unanswered while `open`. */
  askedMs: number;
  open: boolean;
  missed: number;
  answer: PeerAnswer | undefined;
  answeredMs: number;
  /** The first answer of this incarnation. */
  startedMs: number;
  healthySinceMs: number;
  /** Since when it could not be asked, and its Node object is gone; Infinity: it can, and is there. */
  blindMs: number;
  absentMs: number;
}

export function createPeers(): Peers {
  const peers = new Map<string, Peer>();
  const owners = new Map<Mac, string>();
  const back = new Set<string>();
  let urgent: ReadonlySet<string> = new Set();
  let casual: ReadonlySet<string> = new Set();
  let far: ReadonlySet<string> = new Set();
  let inquired: string[] = [];
  let roundMs = Number.NEGATIVE_INFINITY;

  /** Somebody is waited for: late rounds count nothing, so that there have to be some in time. */
  const isUrgent = (): boolean => urgent.size > 0 || far.size > 0 || inquired.length > 0;

  /** While its agent is away its age grows by itself; an agent that is there renews. */
  function ageOf({ answer, answeredMs }: Peer, nowMs: number): number {
    const ageMs = answer?.ageMs ?? Number.POSITIVE_INFINITY;
    return ageMs < STALE_MS ? ageMs : ageMs + nowMs - answeredMs;
  }

  function stateOf(peer: Peer | undefined, nowMs: number): PeerState {
    if (peer?.answer === undefined) return "unheard";
    // Without a fresh answer its agent may have come back.
    const { answer, startedMs } = peer;
    const isStarting = answer.ageMs === Number.POSITIVE_INFINITY && nowMs - startedMs < STARTING_MS;
    const ageMs = isStarting
      ? 0
      : nowMs - peer.answeredMs < FORGET_MS
        ? ageOf(peer, nowMs)
        : Math.min(answer.ageMs, STALE_MS);
    if (peer.missed >= GONE_MISSES || answer.leaving || ageMs >= SILENT_MS) return "gone";
    if (nowMs - peer.blindMs >= MUTE_MS) return "doubtful";
    if (peer.missed >= SUSPECT_MISSES || ageMs >= SILENT_MS - BEFORE_SILENT_MS) return "suspect";
    return ageMs >= STALE_MS || !(answer.sound || isStarting) ? "doubtful" : "alive";
  }

  /** Who of these is due, longest unasked first, spread over the rounds of an interval. */
  function dueOf(nodes: ReadonlySet<string>, everyMs: number, nowMs: number): readonly string[] {
    const askedMs = (node: string): number => peers.get(node)?.askedMs ?? Number.NEGATIVE_INFINITY;
    const due = [...nodes].filter((node) => nowMs - askedMs(node) >= everyMs);
    const most = Math.max(SPREAD_OVER, Math.ceil((nodes.size * ROUND_MS) / everyMs));
    return due.length <= most ? due : due.sort((a, b) => (askedMs(a) < askedMs(b) ? -1 : 1)).slice(0, most);
  }

  return {
    watch(nextUrgent, nextCasual, nextFar) {
      urgent = nextUrgent;
      casual = nextCasual;
      far = nextFar;
    },
    inquire(nodes) {
      if (inquired.length === 0) inquired = [...nodes];
    },
    round(nowMs) {
      const passedMs = nowMs - roundMs;
      if (passedMs < ROUND_MS) return [];
      roundMs = nowMs;
      // What was missed before a pause of this process is missed anew, or not; who was gone has to miss one more.
      if (passedMs > FORGET_MS)
        for (const peer of peers.values()) peer.missed = peer.missed >= GONE_MISSES ? GONE_MISSES - 1 : 0;
      const now = [...urgent, ...inquired.splice(0, INQUIRED_PER_ROUND)];
      const asked = new Set([...now, ...dueOf(casual, CASUAL_MS, nowMs), ...dueOf(far, FAR_MS, nowMs)]);
      for (const node of asked) {
        let peer = peers.get(node);
        if (peer === undefined) {
          const since = { healthySinceMs: NEVER_MS, blindMs: NEVER_MS, absentMs: NEVER_MS };
          const never = { answer: undefined, answeredMs: 0, startedMs: 0, ...since };
          peer = { firstAskedMs: nowMs, askedMs: nowMs, open: false, missed: 0, ...never };
          peers.set(node, peer);
        }
        if (peer.open && passedMs <= LATE_MS) {
          peer.missed++;
          if (peer.missed >= GONE_MISSES) peer.healthySinceMs = Number.POSITIVE_INFINITY;
        }
        if (peer.open) peer.blindMs = Number.POSITIVE_INFINITY;
        peer.open = true;
        peer.askedMs = nowMs;
      }
      return [...asked];
    },
    isRoundDue: (nowMs) => nowMs - roundMs >= ROUND_MS,
    answered(node, answer, nowMs) {
      const peer = peers.get(node);
      if (peer === undefined) return;
      const wasAway = stateOf(peer, nowMs) === "gone" || nowMs - peer.answeredMs >= AWAY_MS;
      const isSame = peer.answer?.incarnation === answer.incarnation;
      for (const mac of peer.answer?.macs ?? []) if (owners.get(mac) === node) owners.delete(mac);
      for (const mac of answer.macs) owners.set(mac, node);
      Object.assign(peer, { open: false, missed: 0, answer, answeredMs: nowMs, blindMs: Number.POSITIVE_INFINITY });
      if (!isSame) peer.startedMs = nowMs;
      if (wasAway && stateOf(peer, nowMs) !== "gone") back.add(node);
      if (stateOf(peer, nowMs) !== "alive" || answer.ageMs === Number.POSITIVE_INFINITY)
        peer.healthySinceMs = Number.POSITIVE_INFINITY;
      else if (!isSame || peer.healthySinceMs === Number.POSITIVE_INFINITY) peer.healthySinceMs = nowMs;
    },
    unasked(node, nowMs) {
      const peer = peers.get(node);
      if (peer === undefined || !peer.open) return;
      peer.open = false;
      peer.blindMs = Math.min(peer.blindMs, nowMs);
    },
    forget(isNode, nowMs) {
      for (const [node, peer] of peers) {
        const isThere = isNode(node) || urgent.has(node) || casual.has(node) || far.has(node);
        peer.absentMs = isThere ? Number.POSITIVE_INFINITY : Math.min(peer.absentMs, nowMs);
        if (nowMs - peer.absentMs < FORGOTTEN_MS) continue;
        for (const mac of peer.answer?.macs ?? []) if (owners.get(mac) === node) owners.delete(mac);
        peers.delete(node);
        back.delete(node);
      }
    },
    stateOf: (node, nowMs) => stateOf(peers.get(node), nowMs),
    isMute(node, nowMs) {
      const peer = peers.get(node);
      return peer !== undefined && peer.answer === undefined && nowMs - peer.firstAskedMs >= MUTE_MS;
    },
    yields(node, nowMs) {
      const peer = peers.get(node);
      return peer?.answer !== undefined && !peer.answer.sound && ageOf(peer, nowMs) >= STALE_MS;
    },
    healthySinceMs: (node, nowMs) =>
      stateOf(peers.get(node), nowMs) === "alive" ? peers.get(node)!.healthySinceMs : Number.POSITIVE_INFINITY,
    lastAnsweredMs: (nodes) => Math.max(0, ...nodes.map((node) => peers.get(node)?.answeredMs ?? 0)),
    ownerOf: (mac) => owners.get(mac),
    returned() {
      const found = new Set(back);
      back.clear();
      return found;
    },
    isUrgent,
    isInquiring: () => inquired.length > 0,
    nextMs() {
      if (isUrgent()) return roundMs + ROUND_MS;
      let next = Number.POSITIVE_INFINITY;
      for (const node of casual) next = Math.min(next, (peers.get(node)?.askedMs ?? 0) + CASUAL_MS);
      return Math.max(next, roundMs + ROUND_MS);
    },
    views: (nowMs) =>
      [...new Set([...urgent, ...casual, ...far])].sort().map((node) => {
        const peer = peers.get(node);
        const state = stateOf(peer, nowMs);
        return {
          node,
          state,
          missed: peer?.missed ?? 0,
          ageMs: peer?.answer === undefined ? undefined : ageOf(peer, nowMs),
        };
      }),
  };
}
