// Which indexes and slot ranges are free, and which generation comes next. It never decides who gets what, and nothing
// is handed out twice: misuse is a defect and throws.
import { Failure } from "../lib/errors.ts";
import { type Range, subtractRange } from "../lib/range.ts";

/** Hands out the indexes of an array map. `first` is the lowest index that may be used. */
export interface IndexAllocator {
  /** How many can still be taken. */
  readonly available: number;
  readonly used: number;
  /** A free index. Throws when none is available: ask `available` first. */
  take(): number;
  release(index: number): void;
  /** Marks a set of indexes as used and everything else as free. Indexes outside the map are ignored. */
  reset(used: Iterable<number>): void;
}

/**
 * `order` says which free index is taken: "compact" prefers what was used before (rows, backends: a generation tells old
 * from new), "fresh" what was never used, then what has been free for longest (service ids: nothing else tells them apart).
 */
export function createIndexAllocator(first: number, end: number, order: "compact" | "fresh"): IndexAllocator {
  const taken = new Uint8Array(end);
  let freed: number[] = [];
  let head = 0;
  let next = first;
  let used = 0;
  const fromFreed = (): number => {
    const index = freed[head++]!;
    if (head > 1024 && head * 2 > freed.length) {
      freed = freed.slice(head);
      head = 0;
    }
    return index;
  };
  return {
    get available() {
      return end - first - used;
    },
    get used() {
      return used;
    },
    take() {
      const preferFreed = order === "compact" || next >= end;
      if (!(preferFreed && head < freed.length) && next >= end) {
        throw new Failure("internal", "allocation", "could not take an index: none is free");
      }
      const index = preferFreed && head < freed.length ? fromFreed() : next++;
      taken[index] = 1;
      used++;
      return index;
    },
    release(index) {
      if (taken[index] !== 1)
        throw new Failure("internal", `index ${index}`, `could not release index ${index}: it is free`);
      taken[index] = 0;
      freed.push(index);
      used--;
    },
    reset(indexes) {
      taken.fill(0);
      freed = [];
      head = 0;
      used = 0;
      next = first;
      for (const index of indexes) {
        if (index < first || index >= end || taken[index] === 1) continue;
        taken[index] = 1;
        used++;
        if (index >= next) next = index + 1;
      }
      for (let index = first; index < next; index++) if (taken[index] === 0) freed.push(index);
    },
  };
}

/** The generation after `generation`: 32 bits, never 0. */
export function nextGeneration(generation: number): number {
  return (generation + 1) >>> 0 || 1;
}

/** Positions [first, first + count), as windows have them; none when `count` is 0. */
export interface SlotRange {
  readonly first: number;
  readonly count: number;
}

/** Contiguous ranges out of one array: best fit, neighbours coalesce when they are released. */
export interface RangeAllocator {
  readonly used: number;
  /** Length of the longest free range. */
  readonly longest: number;
  /** A range that is taken, with the free ones beside it. */
  around(range: SlotRange): SlotRange;
  /** The first position of a free range of `count` >= 1, or undefined when no free range is long enough. */
  take(count: number): number | undefined;
  release(range: SlotRange): void;
  /** Everything is free but `used`, which is disjoint, inside the array and in any order. */
  reset(used: readonly SlotRange[]): void;
}

export function createRangeAllocator(capacity: number): RangeAllocator {
  let used = 0;
  let sizeAt = new Map<number, number>();
  let startBefore = new Map<number, number>();
  let startsOf = new Map<number, Set<number>>();
  let sizes: number[] = [];

  /** Position of the smallest size that is at least `size`. */
  const lowerBound = (size: number): number => {
    let low = 0;
    let high = sizes.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sizes[middle]! < size) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  const add = (first: number, count: number): void => {
    sizeAt.set(first, count);
    startBefore.set(first + count, first);
    const starts = startsOf.get(count);
    if (starts !== undefined) starts.add(first);
    else {
      startsOf.set(count, new Set([first]));
      sizes.splice(lowerBound(count), 0, count);
    }
  };
  const remove = (first: number, count: number): void => {
    sizeAt.delete(first);
    startBefore.delete(first + count);
    const starts = startsOf.get(count)!;
    starts.delete(first);
    if (starts.size === 0) {
      startsOf.delete(count);
      sizes.splice(lowerBound(count), 1);
    }
  };
  const clear = (): void => {
    used = 0;
    sizeAt = new Map();
    startBefore = new Map();
    startsOf = new Map();
    sizes = [];
  };
  if (capacity > 0) add(0, capacity);

  return {
    get used() {
      return used;
    },
    get longest() {
      return sizes.at(-1) ?? 0;
    },
    around(range) {
      const first = startBefore.get(range.first) ?? range.first;
      const end = range.first + range.count;
      return { first, count: end + (sizeAt.get(end) ?? 0) - first };
    },
    take(count) {
      const size = sizes[lowerBound(count)];
      if (size === undefined) return undefined;
      const first = startsOf.get(size)!.values().next().value!;
      remove(first, size);
      if (size > count) add(first + count, size - count);
      used += count;
      return first;
    },
    release(range) {
      let { first, count } = range;
      used -= count;
      const before = startBefore.get(first);
      if (before !== undefined) {
        remove(before, first - before);
        count += first - before;
        first = before;
      }
      const after = sizeAt.get(first + count);
      if (after !== undefined) {
        remove(first + count, after);
        count += after;
      }
      add(first, count);
    },
    reset(ranges) {
      clear();
      let position = 0;
      for (const range of [...ranges].sort((a, b) => a.first - b.first)) {
        if (range.first > position) add(position, range.first - position);
        position = range.first + range.count;
        used += range.count;
      }
      if (position < capacity) add(position, capacity - position);
    },
  };
}

/** The ranges as few disjoint ones, in order. Ranges without positions vanish. */
export function unionOf(ranges: readonly SlotRange[]): SlotRange[] {
  const union: { first: number; count: number }[] = [];
  for (const range of [...ranges].filter((r) => r.count > 0).sort((a, b) => a.first - b.first)) {
    const last = union.at(-1);
    if (last !== undefined && range.first <= last.first + last.count) {
      last.count = Math.max(last.count, range.first + range.count - last.first);
    } else union.push({ first: range.first, count: range.count });
  }
  return union;
}

/** What is left of disjoint `ranges` without the positions of `without`. */
export function subtract(ranges: readonly SlotRange[], without: SlotRange): SlotRange[] {
  if (without.count === 0) return [...ranges];
  const ends = ({ first, count }: SlotRange): Range => ({ first, last: first + count - 1 });
  const left = subtractRange(ranges.map(ends), ends(without));
  return left.map(({ first, last }) => ({ first, count: last - first + 1 }));
}
