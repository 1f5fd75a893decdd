// What this node's part in announcing addresses is: candidacies, the kernel's rows, other nodes' answers and the clock go in; rows of
// `announced`, frames and questions to other nodes come out. Pure: no map, socket or timer. Who is alive is asked of nodes (peers.ts),
// whether an address is free on the wire (conflict-check.ts), and who has one keeps it (decision 38).
//
//   renewed  every second, while the self-check passes
//   stale    3 s later: still answered, but given up by the kernel when another MAC claims the address
//   silent   60 s later, or given up: no answer
import { macText } from "../lib/mac.ts";
import type { Notice } from "../model/objects.ts";
import { type Announcement, type Candidacy, type KernelRow, type Place, placeText } from "./announcement.ts";
import { announcerNotices } from "./announcer-notices.ts";
import { type Candidate, createCandidate, enter } from "./candidate.ts";
import { beginCheck, checkEndMs, noteProbe, probeDueMs } from "./conflict-check.ts";
import { beginGratuitous, noteTold } from "./gratuitous.ts";
import { createPeers, type PeerAnswer, type PeerView, STALE_MS } from "./peers.ts";
import { type Counts, createSuccession } from "./succession.ts";

/**
 * What may be said of a device: its programs run but with rows that could not be brought up to date; its link has no carrier, so that
 * nobody hears it; nothing: it is not sound.
 */
export type Soundness = "sound" | "impaired" | "no-carrier";

export interface RowWrite {
  readonly announcement: Announcement;
  /** Answered for, renewed now; or heard only. */
  readonly how: "answer" | "listen";
}

export interface RowChanges {
  readonly remove: readonly Place[];
  /** `wrote` is told of each how that went. */
  readonly write: readonly RowWrite[];
  /** Whose self-check passes again: their device may have forgotten its groups. */
  readonly regained: readonly Announcement[];
}

/** A question whether anybody has the address, or that it is this node's. */
export interface DueFrames {
  readonly announcement: Announcement;
  readonly kind: "probe" | "announce";
}

/** What an address is to this node. */
export interface Standing {
  readonly announcement: Announcement;
  readonly phase: Candidate["phase"];
  /** The node that has it as far as is known; "" when none is. */
  readonly holder: string;
}

export interface MachineOptions {
  /** Rows of `announced`: what is held stays, and of the others the first by address come. */
  readonly capacity: number;
  /** Name of this node. */
  readonly node: string;
  /** Nodes answer questions; else their objects say who is alive. */
  readonly liveness: () => boolean;
  /** Names of all nodes that can be asked. */
  readonly nodes: () => Iterable<string>;
  /** Of a node for an address, the same on every node: the higher one ought to announce it. */
  readonly score: (node: string, address: string) => number;
  /** Between two announcements of an address that nothing happens to; 0: none. */
  readonly gratuitousMs: number;
}

/** Times are milliseconds of the boot clock. */
export interface AnnouncerMachine {
  /** What may be announced from now on. `rows`: all of the kernel's. */
  set(candidacies: readonly Candidacy[], rows: readonly KernelRow[], nowMs: number): RowChanges;
  /** A second has passed. `sound`: by index the devices of which something may be said. */
  renew(rows: readonly KernelRow[], sound: ReadonlyMap<number, Soundness>, nowMs: number): RowChanges;
  /** Looks at what was heard. */
  look(rows: readonly KernelRow[], nowMs: number): RowChanges;
  isLookDue(nowMs: number): boolean;
  /** A row was written, or refused with this reason. */
  wrote(write: RowWrite, refusal: string, nowMs: number): void;
  /** The nodes to be asked now. */
  questions(nowMs: number): readonly string[];
  /** Those that were not asked since the last round have to be told of before this one. */
  isRoundDue(nowMs: number): boolean;
  answered(node: string, answer: PeerAnswer, nowMs: number): void;
  /** It could not be asked: no answer says nothing. */
  unasked(node: string, nowMs: number): void;
  /** Frames that are due, of so many addresses at a time that sending them takes no long task. They count as sent. */
  dueFrames(nowMs: number): DueFrames[];
  /** Some of these could not be sent, for this reason: what was not asked is no answer. */
  unsent(frames: DueFrames, reason: string, nowMs: number): void;
  /** When something is due next. */
  nextMs(nowMs: number): number;
  /** Those that are answered for. */
  announced(): readonly Announcement[];
  /** Those that have a row or are to get one. */
  wanted(): readonly Announcement[];
  standings(nowMs: number): readonly Standing[];
  /** Of the address on the first of its devices; "" when this node may not announce it. */
  holderOf(address: string, nowMs: number): string;
  peers(nowMs: number): readonly PeerView[];
  /** `sound`: every device that this node may announce on passes its self-check. `renews`: some row could be renewed. */
  soundness(): { readonly sound: boolean; readonly renews: boolean };
  counts(): Counts;
  notices(nowMs: number): readonly Notice[];
}

/** In line for an address: src/decide/election.ts. */
const PLACES = 4;
const RETRY_MS = [1_000, 5_000, 20_000, 60_000];
/** Addresses whose frames go in one part. */
const PART = 64;
/** Looks at what is heard, while a check runs and while there is somebody to watch. */
const CHECKING_LOOK_MS = 60;
const LOOK_MS = 200;
/** After a pause so much is listened before anything is renewed. */
const RESUME_MS = 300;
/** A link that came back may lead nowhere yet: a switch's port forwards some time after it has carrier. */
const LINK_MS = 3_000;
/** A renewal that comes later than this after the one before did not come from a sound loop. */
const LOOP_ALIVE_MS = 2_500;
const FORGET_EVERY_MS = 10_000;
const NOTHING: RowChanges = { remove: [], write: [], regained: [] };

export function createAnnouncerMachine(options: MachineOptions): AnnouncerMachine {
  const peers = createPeers();
  const candidates = new Map<string, Candidate>();
  let byAddress: ReadonlyMap<string, Candidate> = new Map();
  const succession = createSuccession({ ...options, peers, claimed, letGo, used: () => used });
  /** Who lost an address tells those that wait for it by a probe. */
  const goodbyes: Announcement[] = [];
  let sound: ReadonlyMap<number, Soundness> = new Map();
  /** By index the devices whose link is not believed in, and when it was last seen down. */
  const unlinkedMs = new Map<number, number>();
  let write: RowWrite[] = [];
  let used = 0;
  let begun = false;
  let renewedMs = Number.POSITIVE_INFINITY;
  /** Of the first renewal; and by place when an agent before renewed a row last. */
  let firstMs = Number.POSITIVE_INFINITY;
  const heardFrom = new Map<string, number>();
  let lookedMs = Number.NEGATIVE_INFINITY;
  let forgetMs = 0;
  let isSound = false;
  let renews = false;
  /** Since the last renewal: others are to know that rows are as fresh as that. */
  let hasClaimed = false;

  function claimed(one: Candidate): void {
    hasClaimed = true;
    write.push({ announcement: one.candidacy, how: "answer" });
  }

  function letGo(one: Candidate): void {
    goodbyes.push(one.candidacy);
  }

  /**
   * Who is asked: those before this node, where it is in line for an address or waits for it; now and then all others whose MACs it may
   * hear; and seldom those of lines that it is not in, as another is to follow them before this one.
   */
  function watch(): void {
    const urgent = new Set<string>();
    const casual = new Set<string>();
    const far = new Set<string>();
    if (options.liveness())
      for (const { candidacy, holder, phase } of candidates.values()) {
        const isInLine = candidacy.above.length < PLACES || phase === "checking";
        const asked = isInLine ? urgent : phase === "standby" ? far : casual;
        for (const node of candidacy.above) asked.add(node);
        if (holder !== "" && (phase === "waiting" || phase === "checking")) urgent.add(holder);
        for (const node of candidacy.below) casual.add(node);
      }
    peers.watch(urgent, casual, far);
  }

  /** Each candidate takes its step; the kernel's rows are to be what their phases say. */
  function turn(rows: readonly KernelRow[], nowMs: number): Pick<RowChanges, "remove" | "write"> {
    lookedMs = nowMs;
    const kernel = new Map(rows.map((row) => [placeText(row), row]));
    used = 0;
    for (const { phase } of candidates.values()) if (phase !== "standby") used++;
    succession.begin(candidates.values(), nowMs);
    for (const [text, one] of candidates) {
      const row = kernel.get(text);
      succession.step(one, row, nowMs);
      if (one.phase === "standby" || one.phase === "holding") continue;
      one.inForce = row !== undefined && row.silentMs <= nowMs;
      if (!one.inForce && nowMs >= one.retryMs) write.push({ announcement: one.candidacy, how: "listen" });
    }
    watch();
    const remove = rows.filter((row) => (candidates.get(placeText(row))?.phase ?? "standby") === "standby");
    const changes = { remove, write };
    write = [];
    return changes;
  }

  /** Nobody of its order is there and sound, as far as is known: then what it has is better with an impaired device than with nobody. */
  function isLastResort({ candidacy: { above, below } }: Candidate, nowMs: number): boolean {
    if (!options.liveness()) return true;
    return [...above, ...below].every((node) => {
      const state = peers.stateOf(node, nowMs);
      return state !== "alive" && (state !== "unheard" || peers.isMute(node, nowMs));
    });
  }

  /** A check through a link that does not carry yet finds every address free: it is believed in once a node answered, or after a while. */
  function believed(states: ReadonlyMap<number, Soundness>, nowMs: number): ReadonlyMap<number, Soundness> {
    const found = new Map(states);
    for (const [ifindex, state] of states) {
      if (state === "no-carrier") unlinkedMs.set(ifindex, nowMs);
      const downMs = unlinkedMs.get(ifindex);
      if (downMs === undefined) continue;
      const isProven = options.liveness() && peers.lastAnsweredMs([...options.nodes()]) > downMs;
      if (isProven || nowMs - downMs >= LINK_MS) unlinkedMs.delete(ifindex);
      else found.set(ifindex, "no-carrier");
    }
    return found;
  }

  /** Infinity: as often as it is renewed is enough. */
  function lookEveryMs(): number {
    let everyMs = peers.isUrgent() ? LOOK_MS : Number.POSITIVE_INFINITY;
    for (const { phase, resumeMs, inForce, check } of candidates.values()) {
      if (phase === "checking" && inForce && check.probes > 0) return CHECKING_LOOK_MS;
      if (phase === "waiting" || phase === "released" || resumeMs > 0) everyMs = LOOK_MS;
    }
    return everyMs;
  }

  /** Rows of an agent before, while it is not known what ought to be announced: they go on as they are. */
  function renewFound(rows: readonly KernelRow[], nowMs: number): RowChanges {
    // While the agent was away for long another may have claimed them: the kernel gives those up that it hears of.
    const hasListened = nowMs - firstMs >= RESUME_MS;
    const found = rows.filter(
      ({ conflict, silentMs, renewedMs: atMs, ifindex }) =>
        !conflict && silentMs > nowMs && sound.get(ifindex) === "sound" && (hasListened || nowMs - atMs < STALE_MS),
    );
    for (const row of found) if (!heardFrom.has(placeText(row))) heardFrom.set(placeText(row), row.renewedMs);
    const unknown = { service: "", device: "", mac: new Uint8Array(6) };
    return { ...NOTHING, write: found.map((row) => ({ announcement: { ...row, ...unknown }, how: "answer" })) };
  }

  return {
    set(candidacies, rows, nowMs) {
      const kernel = new Map(rows.map((row) => [placeText(row), row]));
      const next = new Map(
        candidacies.map((one) => [placeText(one), one] as const).sort(([a], [b]) => (a < b ? -1 : 1)),
      );
      for (const [text, one] of candidates) {
        if (next.has(text)) continue;
        if (one.phase === "holding" && one.goesOn) letGo(one);
        candidates.delete(text);
      }
      for (const [text, candidacy] of next) {
        const known = candidates.get(text);
        if (known === undefined) {
          const one = createCandidate(candidacy, nowMs);
          one.isSound = sound.get(candidacy.ifindex) === "sound";
          one.goesOn = one.isSound;
          candidates.set(text, one);
          // What an agent before announced goes on; what the kernel gave up meanwhile has to be asked for.
          const row = begun ? undefined : kernel.get(text);
          if (row === undefined || row.silentMs <= nowMs || row.conflict) continue;
          enter(one, "holding", nowMs);
          Object.assign(one, {
            inForce: true,
            renewedMs: row.renewedMs,
            heardMs: heardFrom.get(text) ?? row.renewedMs,
          });
          if (one.isSound && nowMs - row.renewedMs < STALE_MS) write.push({ announcement: candidacy, how: "answer" });
          continue;
        }
        const before = known.candidacy;
        known.candidacy = candidacy;
        if (before.device !== candidacy.device || macText(before.mac) !== macText(candidacy.mac))
          known.gratuitous = beginGratuitous(nowMs);
      }
      byAddress = new Map([...candidates.values()].reverse().map((one) => [one.candidacy.address, one]));
      begun = true;
      heardFrom.clear();
      return { ...NOTHING, ...turn(rows, nowMs) };
    },
    renew(rows, soundNow, nowMs) {
      const isLate = nowMs - renewedMs > LOOP_ALIVE_MS;
      renewedMs = nowMs;
      firstMs = Math.min(firstMs, nowMs);
      if (nowMs >= forgetMs) {
        forgetMs = nowMs + FORGET_EVERY_MS;
        const nodes = new Set(options.nodes());
        peers.forget((node) => nodes.has(node), nowMs);
      }
      sound = believed(soundNow, nowMs);
      if (!begun) {
        const changes = renewFound(rows, nowMs);
        renews = changes.write.length > 0;
        // It cannot take an address whose node dies: others are to ask the wire, not to rely on it. But not to take its own from it.
        isSound = !renews;
        return changes;
      }
      const regained: Announcement[] = [];
      isSound = true;
      renews = candidates.size === 0 && !isLate;
      for (const one of candidates.values()) {
        const state = sound.get(one.candidacy.ifindex);
        const [was, wentOn] = [one.isSound, one.goesOn];
        one.isSound = state === "sound";
        one.goesOn = one.isSound || (state === "impaired" && isLastResort(one, nowMs));
        isSound &&= one.isSound;
        renews ||= one.goesOn && !isLate;
        if (one.phase !== "holding") {
          if (!one.isSound && one.phase !== "waiting" && one.phase !== "in-use") enter(one, "standby", nowMs);
          if (one.isSound && !was) regained.push(one.candidacy);
          continue;
        }
        // Nobody hears it now, and when its link comes back somebody else may have the address.
        if (state === "no-carrier") enter(one, "standby", nowMs);
        if (!one.goesOn) continue;
        if (!wentOn) {
          regained.push(one.candidacy);
          one.gratuitous = beginGratuitous(nowMs);
        }
        if (!isLate && (nowMs - one.renewedMs < STALE_MS || one.renewedMs === 0)) {
          if (nowMs >= one.retryMs) write.push({ announcement: one.candidacy, how: "answer" });
        } else if (one.resumeMs === 0) {
          one.resumeMs = nowMs + RESUME_MS;
          one.probesOwed = 1;
        }
      }
      const changes = { ...turn(rows, nowMs), regained };
      renews ||= hasClaimed;
      hasClaimed = false;
      return changes;
    },
    look: (rows, nowMs) => (begun ? { ...NOTHING, ...turn(rows, nowMs) } : NOTHING),
    isLookDue: (nowMs) => begun && nowMs - lookedMs >= lookEveryMs(),
    wrote({ announcement, how }, refusal, nowMs) {
      const one = candidates.get(placeText(announcement));
      if (one === undefined) return;
      const isCurrent = (how === "answer") === (one.phase === "holding");
      if (isCurrent) one.inForce = refusal === "";
      one.refusal = refusal;
      one.refusals = refusal === "" ? 0 : one.refusals + 1;
      if (refusal === "") {
        one.retryMs = 0;
        if (how === "answer") one.renewedMs = nowMs;
        return;
      }
      one.retryMs = nowMs + RETRY_MS[Math.min(one.refusals, RETRY_MS.length) - 1]!;
      one.gratuitous = beginGratuitous(nowMs);
    },
    questions: (nowMs) => peers.round(nowMs),
    isRoundDue: peers.isRoundDue,
    answered: peers.answered,
    unasked: peers.unasked,
    unsent({ announcement, kind }, reason, nowMs) {
      const one = candidates.get(placeText(announcement));
      if (one?.phase !== "checking" || kind !== "probe") return;
      one.check = beginCheck(nowMs + RETRY_MS[0]!);
      one.refusal = reason;
    },
    dueFrames(nowMs) {
      const found: DueFrames[] = goodbyes.splice(0, PART).map((announcement) => ({ announcement, kind: "probe" }));
      for (const one of candidates.values()) {
        if (found.length >= PART) break;
        const { candidacy, phase, check } = one;
        if (!one.inForce || !one.goesOn) continue;
        if (phase === "checking" && probeDueMs(check) <= nowMs) {
          noteProbe(check, nowMs);
          found.push({ announcement: candidacy, kind: "probe" });
        } else if (phase === "holding" && one.probesOwed > 0) {
          one.probesOwed--;
          found.push({ announcement: candidacy, kind: "probe" });
        } else if (phase === "holding" && one.resumeMs === 0 && one.gratuitous.dueMs <= nowMs) {
          noteTold(one.gratuitous, nowMs, options.gratuitousMs);
          found.push({ announcement: candidacy, kind: "announce" });
        }
      }
      return found;
    },
    nextMs(nowMs) {
      let next = goodbyes.length > 0 ? nowMs : Number.POSITIVE_INFINITY;
      if (options.liveness()) next = Math.min(next, peers.nextMs());
      for (const { phase, check, inForce, goesOn: speaks, gratuitous, probesOwed, resumeMs } of candidates.values()) {
        if (!inForce || !speaks) continue;
        if (phase === "checking") next = Math.min(next, probeDueMs(check), checkEndMs(check));
        else if (phase === "holding" && resumeMs === 0) next = Math.min(next, gratuitous.dueMs);
        if (probesOwed > 0) next = nowMs;
      }
      const lookMs = begun ? lookedMs + lookEveryMs() : Number.POSITIVE_INFINITY;
      return Math.max(nowMs, Math.min(next, lookMs));
    },
    announced: () =>
      [...candidates.values()]
        .filter(({ phase, inForce }) => phase === "holding" && inForce)
        .map(({ candidacy }) => candidacy),
    wanted: () => [...candidates.values()].filter(({ phase }) => phase !== "standby").map(({ candidacy }) => candidacy),
    standings: (nowMs) =>
      [...candidates.values()].map((one) => ({
        announcement: one.candidacy,
        phase: one.phase,
        holder: succession.holderOf(one, nowMs),
      })),
    holderOf(address, nowMs) {
      const one = byAddress.get(address);
      return one === undefined ? "" : succession.holderOf(one, nowMs);
    },
    peers: peers.views,
    soundness: () => ({ sound: isSound, renews }),
    counts: succession.counts,
    notices: (nowMs) => announcerNotices(candidates.values(), succession.left(), options, peers, nowMs),
  };
}
