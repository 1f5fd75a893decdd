// How often an address may change hands: at once the first time, then not within ten seconds, twenty, forty and so on of the change
// before. It is forgotten when twice that time was quiet. Pure.

const FIRST_MS = 10_000;
/** After so many changes in a row it stays as it is. */
const MOST = 5;
const FORGIVEN_MS = 60_000;

/** Of one address, as this node changed it. */
export interface Damping {
  changes: number;
  lastMs: number;
  forgivenMs: number;
}

export const createDamping = (): Damping => ({
  changes: 0,
  lastMs: Number.NEGATIVE_INFINITY,
  forgivenMs: Number.NEGATIVE_INFINITY,
});

/** Between the last change and the next. */
const restMs = ({ changes }: Damping): number => (changes === 0 ? 0 : FIRST_MS * 2 ** (Math.min(changes, MOST) - 1));

const isForgotten = (damping: Damping, nowMs: number): boolean => nowMs - damping.lastMs >= 2 * restMs(damping);

/** From when on a change is allowed. */
export function changeAllowedMs(damping: Damping): number {
  return damping.lastMs + restMs(damping);
}

export function noteChange(damping: Damping, nowMs: number): void {
  damping.changes = isForgotten(damping, nowMs) ? 1 : damping.changes + 1;
  damping.lastMs = nowMs;
}

/** The last change was none after all. So much is forgiven once in a while: where it happens again and again, it is one. */
export function takeBackChange(damping: Damping, nowMs: number): void {
  if (damping.changes === 0 || nowMs - damping.forgivenMs < FORGIVEN_MS) return;
  damping.forgivenMs = nowMs;
  damping.changes = Math.max(0, damping.changes - 1);
}

/** It changed so often that it stays where it is until that is forgotten. */
export function isSettled(damping: Damping, nowMs: number): boolean {
  return damping.changes >= MOST && !isForgotten(damping, nowMs);
}
