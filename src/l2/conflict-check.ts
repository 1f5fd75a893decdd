// Whether an address is free, asked on the wire before it is claimed: three probes within 200 ms (RFC 5227 section 2.1, RFC 4862
// section 5.4, both of which take seconds) while a row listens. What was heard is judged by whoever asks. Pure.

const PROBE_MS = 70;
const PROBES = 3;
export const CHECK_MS = 200;
/** Probes that lie back so long tell nothing about now. */
const STALE_CHECK_MS = 1_000;

export interface Check {
  /** Not before. */
  readonly fromMs: number;
  /** The first probe was sent, and what is heard since counts; Infinity: none was yet. */
  beganMs: number;
  probes: number;
  lastMs: number;
}

export const beginCheck = (fromMs = 0): Check => ({ fromMs, beganMs: Number.POSITIVE_INFINITY, probes: 0, lastMs: 0 });

/** When the next probe is due; Infinity after the last. */
export function probeDueMs(check: Check): number {
  if (check.probes === 0) return check.fromMs;
  return check.probes < PROBES ? check.lastMs + PROBE_MS : Number.POSITIVE_INFINITY;
}

export function noteProbe(check: Check, nowMs: number): void {
  if (check.probes === 0) check.beganMs = nowMs;
  check.probes++;
  check.lastMs = nowMs;
}

/** When it will be over, if nothing is heard. */
export function checkEndMs(check: Check): number {
  return check.probes < PROBES
    ? Number.POSITIVE_INFINITY
    : Math.max(check.beganMs + CHECK_MS, check.lastMs + CHECK_MS - 2 * PROBE_MS);
}

/** This process, or a decision, took so long that it has to be asked again. */
export const isOutdated = (check: Check, nowMs: number): boolean =>
  check.probes > 0 && nowMs - check.lastMs >= STALE_CHECK_MS;
