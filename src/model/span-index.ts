// Ranges of addresses, and whose each is: found in the time of a binary search, however many there are. Pure.
import type { AddressRange } from "../lib/address.ts";

export interface Owned {
  readonly range: AddressRange;
  readonly owner: string;
}

/** Disjoint, in order; numbers as in AddressRange. */
interface Span {
  readonly first: bigint;
  readonly last: bigint;
  readonly owner: string;
}

export interface SpanIndex {
  /** The owner of an address of a family as a number; where ranges overlap, of the one that begins first. */
  ownerOf(value: bigint, family: AddressRange["family"]): string | undefined;
  /** An owner of some address of the range. */
  ownerWithin(range: AddressRange): string | undefined;
}

const compare = (a: bigint, b: bigint): number => (a < b ? -1 : a > b ? 1 : 0);

function spansOf(ranges: readonly Owned[]): readonly Span[] {
  const sorted = ranges.toSorted(
    (a, b) => compare(a.range.first, b.range.first) || (a.owner < b.owner ? -1 : a.owner > b.owner ? 1 : 0),
  );
  const spans: Span[] = [];
  let end = -1n;
  for (const { range, owner } of sorted) {
    if (range.last <= end) continue;
    spans.push({ first: range.first > end ? range.first : end + 1n, last: range.last, owner });
    end = range.last;
  }
  return spans;
}

export function createSpanIndex(ranges: readonly Owned[]): SpanIndex {
  const byFamily = {
    IPv4: spansOf(ranges.filter(({ range }) => range.family === "IPv4")),
    IPv6: spansOf(ranges.filter(({ range }) => range.family === "IPv6")),
  };

  /** The first span that ends at `value` or behind it. */
  function spanAt(value: bigint, family: AddressRange["family"]): Span | undefined {
    const spans = byFamily[family];
    let low = 0;
    for (let high = spans.length; low < high; ) {
      const middle = (low + high) >>> 1;
      if (spans[middle]!.last < value) low = middle + 1;
      else high = middle;
    }
    return spans[low];
  }

  return {
    ownerOf(value, family) {
      const span = spanAt(value, family);
      return span !== undefined && span.first <= value ? span.owner : undefined;
    },
    ownerWithin({ first, last, family }) {
      const span = spanAt(first, family);
      return span !== undefined && span.first <= last ? span.owner : undefined;
    },
  };
}
