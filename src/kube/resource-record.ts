// How it goes with one resource: what is counted, what is wrong now.
import type { ProblemReason } from "./api-problem.ts";

export type RelistReason =
  | "gone"
  | "version-too-large"
  | "other-history"
  | "server-error"
  | "garbage"
  | "refused"
  | "silent"
  | "out-of-order"
  | "held";

export interface Problem {
  /** The last two are none of the API's: a list waits for a second one, and there is too much to say. */
  readonly reason: ProblemReason | "list-held" | "events-dropped";
  readonly message: string;
}

export interface ResourceStats {
  /** A watch stands. */
  readonly connected: boolean;
  /** A full list was applied; stays true when the server is gone. */
  readonly synced: boolean;
  /** The server does not have it: as good as an empty list. */
  readonly absent: boolean;
  /** Milliseconds since the epoch of the last list, event or bookmark, 0 before the first. */
  readonly lastEventMs: number;
  /** "" before the first list and while one is read. */
  readonly resourceVersion: string;
  readonly lists: number;
  readonly watches: number;
  readonly heldLists: number;
  readonly relists: Readonly<Partial<Record<RelistReason, number>>>;
  readonly errors: Readonly<Partial<Record<ProblemReason, number>>>;
}

export interface ResourceRecord {
  setProblem(now: Problem | undefined): void;
  problem(): Problem | undefined;
  setConnected(now: boolean): void;
  isConnected(): boolean;
  setSynced(): void;
  /** Until a watch of it stands. */
  setAbsent(): void;
  isSynced(): boolean;
  heard(wallMs: number): void;
  count(what: "lists" | "watches" | "heldLists"): void;
  countRelist(reason: RelistReason): void;
  countError(reason: ProblemReason): void;
  stats(resourceVersion: string): ResourceStats;
}

/** `onChange`: something that somebody may wait for is another now. */
export function createResourceRecord(onChange: () => void): ResourceRecord {
  let problem: Problem | undefined;
  let connected = false;
  let synced = false;
  let absent = false;
  let lastEventMs = 0;
  const counts = { lists: 0, watches: 0, heldLists: 0 };
  const relists: Partial<Record<RelistReason, number>> = {};
  const errors: Partial<Record<ProblemReason, number>> = {};
  return {
    setProblem(now) {
      if (problem?.reason === now?.reason && problem?.message === now?.message) return;
      problem = now;
      onChange();
    },
    problem: () => problem,
    setConnected(now) {
      if (connected === now) return;
      connected = now;
      absent = false;
      onChange();
    },
    isConnected: () => connected,
    setSynced() {
      if (synced) return;
      synced = true;
      onChange();
    },
    setAbsent() {
      if (absent) return;
      absent = true;
      onChange();
    },
    isSynced: () => synced,
    heard(wallMs) {
      lastEventMs = wallMs;
    },
    count(what) {
      counts[what]++;
    },
    countRelist(reason) {
      relists[reason] = (relists[reason] ?? 0) + 1;
    },
    countError(reason) {
      errors[reason] = (errors[reason] ?? 0) + 1;
    },
    stats: (resourceVersion) => ({
      connected,
      synced,
      absent,
      lastEventMs,
      resourceVersion,
      ...counts,
      relists: { ...relists },
      errors: { ...errors },
    }),
  };
}
