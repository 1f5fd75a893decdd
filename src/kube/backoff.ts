// How long to wait before the next attempt: full jitter below a limit that doubles with each failure.

const FIRST_MS = 200;
const MOST_MS = 30_000;

export interface Backoff {
  /** Milliseconds to wait now; each call doubles the limit of the next, up to 30 s. */
  next(): number;
  /** Things went well: the next wait is a short one again. */
  reset(): void;
}

export function createBackoff(random: () => number): Backoff {
  let limit = FIRST_MS;
  return {
    next() {
      const wait = random() * limit;
      limit = Math.min(limit * 2, MOST_MS);
      return wait;
    },
    reset() {
      limit = FIRST_MS;
    },
  };
}
