// Indexes and slot ranges: nothing twice, nothing lost, neighbours join.
import { describe, expect, test } from "vitest";
import {
  createIndexAllocator,
  createRangeAllocator,
  nextGeneration,
  type SlotRange,
  subtract,
  unionOf,
} from "../../src/model/allocation.ts";
import { seedOfRun, withSeed } from "./random.ts";

describe("indexes", () => {
  test("compact order uses again what was released, in order of release", () => {
    const indexes = createIndexAllocator(0, 4, "compact");
    expect([indexes.take(), indexes.take(), indexes.take()]).toEqual([0, 1, 2]);
    indexes.release(1);
    indexes.release(0);
    expect([indexes.take(), indexes.take(), indexes.take()]).toEqual([1, 0, 3]);
    expect(indexes.available).toBe(0);
    expect(() => indexes.take()).toThrow("none is free");
  });

  test("fresh order uses again only when everything was used once", () => {
    const indexes = createIndexAllocator(1, 4, "fresh");
    expect(indexes.take()).toBe(1);
    indexes.release(1);
    expect([indexes.take(), indexes.take(), indexes.take()]).toEqual([2, 3, 1]);
  });

  test("releasing what is free is a defect", () => {
    const indexes = createIndexAllocator(0, 4, "compact");
    expect(() => indexes.release(2)).toThrow("it is free");
  });

  test("after a reset exactly the others are free", () => {
    const indexes = createIndexAllocator(0, 6, "compact");
    indexes.take();
    indexes.reset([1, 3, 3, 99]);
    expect(indexes.used).toBe(2);
    expect([indexes.take(), indexes.take(), indexes.take(), indexes.take()].sort()).toEqual([0, 2, 4, 5]);
  });

  test("a generation is never 0", () => {
    expect(nextGeneration(0)).toBe(1);
    expect(nextGeneration(0xffffffff)).toBe(1);
  });
});

describe("ranges", () => {
  test("the smallest range that is long enough is taken", () => {
    const ranges = createRangeAllocator(20);
    const taken = [5, 1, 2, 1, 11].map((count) => ({ first: ranges.take(count)!, count }));
    ranges.release(taken[0]!);
    ranges.release(taken[2]!);
    expect(ranges.take(2)).toBe(6);
    expect(ranges.take(6)).toBeUndefined();
    expect(ranges.take(5)).toBe(0);
  });

  test("neighbours join whatever the order of their release", () => {
    for (const order of [
      [0, 1, 2],
      [2, 1, 0],
      [0, 2, 1],
      [1, 0, 2],
    ]) {
      const ranges = createRangeAllocator(9);
      const taken = [3, 3, 3].map((count) => ({ first: ranges.take(count)!, count }));
      for (const i of order) ranges.release(taken[i]!);
      expect(ranges.take(9)).toBe(0);
    }
  });

  test("whatever is taken and released, no position is given twice and none is lost", () => {
    withSeed(seedOfRun(), (random) => {
      const capacity = 200;
      const ranges = createRangeAllocator(capacity);
      const owner = new Uint8Array(capacity);
      let held: SlotRange[] = [];
      for (let step = 0; step < 5000; step++) {
        if (random.chance(0.5)) {
          const count = 1 + random.below(12);
          const first = ranges.take(count);
          if (first === undefined) continue;
          expect(owner.subarray(first, first + count).includes(1)).toBe(false);
          owner.fill(1, first, first + count);
          held.push({ first, count });
        } else if (held.length > 0) {
          const [range] = held.splice(random.below(held.length), 1);
          owner.fill(0, range!.first, range!.first + range!.count);
          ranges.release(range!);
        }
        if (random.chance(0.01)) ranges.reset(held);
        expect(ranges.used).toBe(held.reduce((sum, { count }) => sum + count, 0));
      }
      for (const range of held) ranges.release(range);
      held = [];
      expect(ranges.take(capacity)).toBe(0);
    });
  });

  test("union and subtraction", () => {
    const given = [
      { first: 10, count: 5 },
      { first: 0, count: 0 },
      { first: 12, count: 8 },
      { first: 30, count: 2 },
    ];
    const union = unionOf(given);
    expect(union).toEqual([
      { first: 10, count: 10 },
      { first: 30, count: 2 },
    ]);
    expect(subtract(union, { first: 12, count: 3 })).toEqual([
      { first: 10, count: 2 },
      { first: 15, count: 5 },
      { first: 30, count: 2 },
    ]);
    expect(subtract(union, { first: 0, count: 0 })).toEqual(union);
    expect(subtract(union, { first: 5, count: 50 })).toEqual([]);
  });
});
