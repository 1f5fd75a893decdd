// When an announced address is told to the network unasked: six times in 4.4 seconds after a claim, then every now and then. Pure.

const REPEAT_MS = [0, 200, 1_100, 2_200, 3_300, 4_400];

/** Of one address. */
export interface Gratuitous {
  /** The claim. */
  sinceMs: number;
  dueMs: number;
}

export const beginGratuitous = (nowMs: number): Gratuitous => ({ sinceMs: nowMs, dueMs: nowMs });

/** It was told just now. `intervalMs`: between two times later; 0: never again. */
export function noteTold(one: Gratuitous, nowMs: number, intervalMs: number): void {
  const next = REPEAT_MS.find((ms) => one.sinceMs + ms > nowMs);
  if (next !== undefined) one.dueMs = one.sinceMs + next;
  else one.dueMs = intervalMs === 0 ? Number.POSITIVE_INFINITY : nowMs + intervalMs;
}
