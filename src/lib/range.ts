// Ranges of whole numbers, both ends included.

export interface Range<N extends number | bigint = number> {
  readonly first: N;
  readonly last: N;
}

/** What is left of `ranges` without the numbers of `taken`. */
export function subtractRange(ranges: readonly Range[], taken: Range): Range[] {
  return ranges.flatMap((range) => {
    if (range.last < taken.first || range.first > taken.last) return [range];
    return [
      ...(range.first < taken.first ? [{ first: range.first, last: taken.first - 1 }] : []),
      ...(range.last > taken.last ? [{ first: taken.last + 1, last: range.last }] : []),
    ];
  });
}
