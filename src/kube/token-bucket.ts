// How fast something may be done: so many at once, then so many a second.

export interface TokenBucket {
  /** Takes one when there is one, and gives 0; else milliseconds until there is. */
  take(): number;
}

/** `now` in milliseconds of a clock that is never set. */
export function createTokenBucket(perSecond: number, burst: number, now: () => number): TokenBucket {
  let tokens = burst;
  let countedAt = now();
  return {
    take() {
      const at = now();
      tokens = Math.min(burst, tokens + ((at - countedAt) * perSecond) / 1000);
      countedAt = at;
      if (tokens < 1) return Math.ceil(((1 - tokens) * 1000) / perSecond);
      tokens -= 1;
      return 0;
    },
  };
}
