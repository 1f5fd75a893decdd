// How something scarce is divided: everybody gets what he asks for up to one level, so that who asks for more than others do
// without it first (max-min fairness). Pure numbers.

export interface FairLevel {
  /** Everybody may have so much; Infinity: there is enough for all. */
  readonly level: number;
  /** So many of those who ask for more may have one more. */
  readonly left: number;
}

/** A coarse level from here on is rounded down to six binary digits. */
const COARSE = 64;

/**
 * The highest level at which `demands` (each 0 or more) together take no more than `most`; `coarse`: or a little less, so that a
 * small change of some demands leaves everybody else's part as it is.
 */
export function fairLevel(demands: readonly number[], most: number, coarse = false): FairLevel {
  const sorted = Float64Array.from(demands).sort();
  let left = most;
  for (const [i, demand] of sorted.entries()) {
    const others = sorted.length - i;
    if (demand * others <= left) {
      left -= demand;
      continue;
    }
    const level = Math.floor(left / others);
    if (!coarse || level < COARSE) return { level, left: left % others };
    return { level: level - (level % 2 ** (Math.floor(Math.log2(level)) - 5)), left: 0 };
  }
  return { level: Number.POSITIVE_INFINITY, left: 0 };
}

/**
 * Divides `most` among `members`, which come in the order of their precedence. Returns what those may have who ask for more
 * than they get; the others have what they ask for.
 */
export function divide<K>(members: readonly (readonly [K, number])[], most: number, coarse = false): Map<K, number> {
  const limits = new Map<K, number>();
  const { level, left } = fairLevel(
    members.map(([, demand]) => demand),
    most,
    coarse,
  );
  let more = left;
  for (const [member, demand] of members) {
    if (demand <= level) continue;
    if (more-- <= 0) limits.set(member, level);
    else if (demand > level + 1) limits.set(member, level + 1);
  }
  return limits;
}
