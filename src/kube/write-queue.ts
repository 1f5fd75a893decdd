// Things to be written, by key, one after another: what is due twice before its turn is written once, as it is then. What
// fails comes again behind the others, after a wait that grows as long as nothing succeeds. Nobody waits for it.
import { ApiError } from "./api-error.ts";
import { ApiProblem } from "./api-problem.ts";
import { createBackoff } from "./backoff.ts";
import { type Clock, sleep } from "./clock.ts";
import type { Problem } from "./resource-record.ts";

/** Rights and resources that are missing come by hand. */
const BY_HAND_MS = 30_000;

export interface WriteQueueOptions<K> {
  readonly clock: Clock;
  /** In [0, 1). */
  readonly random: () => number;
  readonly signal: AbortSignal;
  /** Makes what is written under the key as it ought to be. Rejects with ApiError or ApiProblem. */
  readonly write: (key: K) => Promise<void>;
  /** The problem came, changed or went. */
  readonly onChange: () => void;
}

export interface WriteQueue<K> {
  due(key: K): void;
  /** Why the last attempt failed; undefined when it did not. */
  problem(): Problem | undefined;
  /** Keys that wait, the one being written included. */
  size(): number;
}

export function createWriteQueue<K>({ clock, random, signal, write, onChange }: WriteQueueOptions<K>): WriteQueue<K> {
  const waiting = new Set<K>();
  const backoff = createBackoff(random);
  let current: K | undefined;
  let running = false;
  let problem: Problem | undefined;

  function setProblem(now: Problem | undefined): void {
    if (now?.message === problem?.message) return;
    problem = now;
    onChange();
  }

  /** Milliseconds until the next attempt. */
  function failed(error: unknown): number {
    if (!(error instanceof ApiError || error instanceof ApiProblem)) throw error;
    const reason = error instanceof ApiProblem ? error.reason : error.kind;
    setProblem({ reason, message: error.message });
    const wait = backoff.next();
    if (reason === "forbidden" || reason === "not-found") return BY_HAND_MS * (0.5 + random() / 2);
    return error instanceof ApiProblem ? Math.max(wait, error.retryAfterMs) : wait;
  }

  async function run(): Promise<void> {
    running = true;
    try {
      for (const key of waiting) {
        if (signal.aborted) return;
        waiting.delete(key);
        current = key;
        try {
          await write(key);
          backoff.reset();
          setProblem(undefined);
        } catch (error) {
          if (signal.aborted) return;
          waiting.add(key);
          await sleep(clock, failed(error), signal);
        }
      }
    } finally {
      current = undefined;
      running = false;
    }
  }

  return {
    due(key) {
      waiting.add(key);
      if (!running) void run();
    },
    problem: () => problem,
    size: () => waiting.size + (current === undefined || waiting.has(current) ? 0 : 1),
  };
}
