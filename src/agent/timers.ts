// All timers of an agent: they end together, and nothing that one runs is thrown into the event loop.

export interface Timers {
  /** Runs at once, for what is called by the event loop: what it throws is told as of a timer. */
  guard(run: () => void): void;
  /** Milliseconds of a clock that is never set. */
  now(): number;
  /** Runs once. Returns how to call it off. */
  after(ms: number, run: () => void | Promise<void>): () => void;
  /** Likewise, when what has come meanwhile is read. */
  soon(run: () => void | Promise<void>): () => void;
  /** Runs again so long after the last run ended. */
  every(ms: number, run: () => void | Promise<void>): () => void;
  isStopped(): boolean;
  stop(): void;
}

/** What is thrown again and again is told once in so long. */
const REPEAT_MS = 60_000;

/** `failed` is told what a run threw or rejected with. */
export function createTimers(failed: (error: unknown) => void): Timers {
  const waiting = new Set<NodeJS.Timeout>();
  const immediate = new Set<NodeJS.Immediate>();
  let told = { text: "", atMs: 0 };
  let stopped = false;

  function tell(error: unknown): void {
    const text = String(error);
    const atMs = performance.now();
    if (stopped || (text === told.text && atMs - told.atMs < REPEAT_MS)) return;
    told = { text, atMs };
    failed(error);
  }

  async function guarded(run: () => void | Promise<void>): Promise<void> {
    try {
      await run();
    } catch (error) {
      tell(error);
    }
  }

  function after(ms: number, run: () => void | Promise<void>): () => void {
    if (stopped) return () => undefined;
    const timer = setTimeout(() => {
      waiting.delete(timer);
      void guarded(run);
    }, ms);
    waiting.add(timer);
    return () => {
      clearTimeout(timer);
      waiting.delete(timer);
    };
  }

  function soon(run: () => void | Promise<void>): () => void {
    if (stopped) return () => undefined;
    const turn = setImmediate(() => {
      immediate.delete(turn);
      void guarded(run);
    });
    immediate.add(turn);
    return () => {
      clearImmediate(turn);
      immediate.delete(turn);
    };
  }

  return {
    guard: (run) => void guarded(run),
    now: () => performance.now(),
    after,
    soon,
    every(ms, run) {
      let cancelled = false;
      let cancel = (): void => undefined;
      const next = (): void => {
        if (cancelled) return;
        cancel = after(ms, async () => {
          try {
            await run();
          } finally {
            next();
          }
        });
      };
      next();
      return () => {
        cancelled = true;
        cancel();
      };
    },
    isStopped: () => stopped,
    stop() {
      stopped = true;
      for (const timer of waiting) clearTimeout(timer);
      for (const turn of immediate) clearImmediate(turn);
      waiting.clear();
      immediate.clear();
    },
  };
}
