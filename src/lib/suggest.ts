// "Did you mean": the known word that a wrong one was probably meant to be. Pure.

/** Of words longer than this nothing is compared: nobody mistypes them. */
const MAX_LENGTH = 64;

/** Case, dashes and underscores are no mistakes: stateDir means state-dir. */
const folded = (word: string): string => word.toLowerCase().replace(/[-_]/g, "");

/** The nearest of `known` within a third of the word's length, undefined when none is near. Of equals the first. */
export function closest(word: string, known: Iterable<string>): string | undefined {
  const wanted = folded(word);
  if (wanted.length > MAX_LENGTH) return undefined;
  let best: string | undefined;
  let least = Math.max(1, Math.floor(wanted.length / 3)) + 1;
  for (const candidate of known) {
    const distance = editDistance(wanted, folded(candidate), least);
    if (distance >= least) continue;
    [best, least] = [candidate, distance];
  }
  return best;
}

/** ` (did you mean x?)`, or "". */
export function didYouMean(word: string, known: Iterable<string>): string {
  const found = closest(word, known);
  return found === undefined ? "" : ` (did you mean ${found}?)`;
}

/** Letters added, dropped, replaced or swapped with their neighbour (Damerau, Levenshtein); `limit` when there are as many or more. */
function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit) return limit;
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let cost = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        cost = Math.min(cost, beforeLast[j - 2]! + 1);
      row.push(cost);
    }
    [beforeLast, last] = [last, row];
  }
  return Math.min(limit, last[b.length]!);
}
