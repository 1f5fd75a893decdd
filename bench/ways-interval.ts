// What pairs of measurements say of a ratio: its estimate and 95 % interval. Works on logarithms, so that a ratio and its
// inverse say the same; leaves a fifth of the pairs out at each end (Yuen's interval of a trimmed mean), because a
// neighbour's burst falls into one half of a pair. Arithmetic only.

export interface Ratio {
  readonly value: number;
  readonly low: number;
  readonly high: number;
  readonly pairs: number;
}

/** Fewer have no interval to speak of. */
export const LEAST_PAIRS = 5;
/** Of an interval that decides. */
export const WIDEST = 0.06;

const TRIM = 0.2;

export function isDecided({ low, high }: Ratio): boolean {
  return high - low <= WIDEST;
}

/** The ratio of `above[i]` to `below[i]`. @throws RangeError for fewer than LEAST_PAIRS, or for what has no logarithm */
export function ratioOf(above: readonly number[], below: readonly number[]): Ratio {
  const pairs = above.length;
  if (pairs < LEAST_PAIRS || pairs !== below.length) {
    throw new RangeError(`Cannot compare as there must be ${LEAST_PAIRS} pairs or more: ${pairs} and ${below.length}`);
  }
  const logs = above.map((value, i) => Math.log(value / below[i]!)).sort((a, b) => a - b);
  if (!logs.every(Number.isFinite)) throw new RangeError("Cannot compare as every measurement must be above 0");
  const cut = Math.floor(pairs * TRIM);
  const kept = pairs - 2 * cut;
  const mean = sum(logs.slice(cut, pairs - cut)) / kept;
  const winsorized = logs.map((value) => Math.min(Math.max(value, logs[cut]!), logs[pairs - 1 - cut]!));
  const centre = sum(winsorized) / pairs;
  const squares = sum(winsorized.map((value) => (value - centre) ** 2));
  const half = studentT975(kept - 1) * Math.sqrt(squares / (kept * (kept - 1)));
  return { value: Math.exp(mean), low: Math.exp(mean - half), high: Math.exp(mean + half), pairs };
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

const NORMAL_975 = 1.959964;

/** Student's t at 0.975 from two degrees of freedom on: exact for two, else by Fisher and Cornish, to half a percent. */
function studentT975(degrees: number): number {
  if (degrees === 2) return 4.302653;
  const z = NORMAL_975;
  const terms = [
    z,
    (z ** 3 + z) / 4,
    (5 * z ** 5 + 16 * z ** 3 + 3 * z) / 96,
    (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / 384,
    (79 * z ** 9 + 776 * z ** 7 + 1482 * z ** 5 - 1920 * z ** 3 - 945 * z) / 92_160,
  ];
  return sum(terms.map((term, power) => term / degrees ** power));
}
