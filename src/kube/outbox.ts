// Gathers changes into messages for the main loop, each small enough for it to take in at once, and sends no more than a few
// ahead of what it has taken in.
import type { Clock } from "./clock.ts";
import type { Change } from "./row.ts";

/** Endpoints in a message; a single slice may have more. */
const MESSAGE_WEIGHT = 1_000;
/** A Service or Node, in endpoints. */
const OBJECT_WEIGHT = 8;
const UNACKNOWLEDGED = 2;
/** How long changes gather: those of one moment belong together. */
const GATHER_MS = 2;
/** In the first lists there is no hurry. */
const GATHER_FIRST_MS = 50;

export interface OutboxOptions {
  readonly clock: Clock;
  readonly send: (changes: readonly Change[], synced: boolean) => void;
}

export interface Outbox {
  add(change: Change): void;
  /** Resolves when there is room again; undefined when there is now. Whoever reads more meanwhile fills the memory. */
  room(): Promise<void> | undefined;
  /** Everything was listed: a last message says so, and those after it. */
  synced(): void;
  /** The main loop took one message in. */
  acknowledged(): void;
}

function weightOf(change: Change): number {
  return change.kind === "EndpointSlice" ? 1 + (change.content?.addresses.length ?? 0) : OBJECT_WEIGHT;
}

export function createOutbox({ clock, send }: OutboxOptions): Outbox {
  let gathering: Change[] = [];
  let weight = 0;
  let isSynced = false;
  let unacknowledged = 0;
  const waiting: { readonly changes: readonly Change[]; readonly synced: boolean }[] = [];
  let resume: (() => void)[] = [];
  let timer: ReturnType<Clock["after"]> | undefined;

  function sendWaiting(): void {
    while (unacknowledged < UNACKNOWLEDGED) {
      const next = waiting.shift();
      if (next === undefined) break;
      unacknowledged++;
      send(next.changes, next.synced);
    }
    if (waiting.length > 0) return;
    const resumed = resume;
    resume = [];
    for (const run of resumed) run();
  }

  function close(): void {
    timer?.stop();
    timer = undefined;
    waiting.push({ changes: gathering, synced: isSynced });
    gathering = [];
    weight = 0;
    sendWaiting();
  }

  return {
    add(change) {
      const added = weightOf(change);
      if (weight > 0 && weight + added > MESSAGE_WEIGHT) close();
      gathering.push(change);
      weight += added;
      timer ??= clock.after(isSynced ? GATHER_MS : GATHER_FIRST_MS, close);
    },
    room: () => (waiting.length === 0 ? undefined : new Promise((resolve) => resume.push(resolve))),
    synced() {
      isSynced = true;
      close();
    },
    acknowledged() {
      unacknowledged--;
      sendWaiting();
    },
  };
}
