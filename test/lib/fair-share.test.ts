// How something scarce is divided.
import { describe, expect, test } from "vitest";
import { divide, fairLevel } from "../../src/lib/fair-share.ts";
import { seedOfRun, withSeed } from "../model/random.ts";

describe("the level", () => {
  test.each([
    { name: "there is enough", demands: [1, 2, 3], most: 6, level: Number.POSITIVE_INFINITY, left: 0 },
    { name: "nobody asks", demands: [], most: 0, level: Number.POSITIVE_INFINITY, left: 0 },
    { name: "one asks for all", demands: [100], most: 9, level: 9, left: 0 },
    { name: "who asks for little has it", demands: [1, 100, 2], most: 30, level: 27, left: 0 },
    { name: "the rest is shared", demands: [1, 100, 90], most: 30, level: 14, left: 1 },
    { name: "there is less than one for each", demands: [1, 1, 1, 1], most: 3, level: 0, left: 3 },
  ])("$name", ({ demands, most, level, left }) => {
    expect(fairLevel(demands, most)).toEqual({ level, left });
  });

  test("when it is coarse it stays the same while others change a little", () => {
    const levels = new Set(Array.from({ length: 50 }, (_, i) => fairLevel([10_000, 100 + i], 5_100, true).level));
    expect(levels).toEqual(new Set([4_864, 4_992]));
    expect(fairLevel([63, 100], 100, true)).toEqual({ level: 50, left: 0 });
  });
});

test("whatever is asked, no more than there is goes out, nobody has more than he asked for, and only who has the most has less", () => {
  withSeed(seedOfRun(), (random) => {
    for (let i = 0; i < 200; i++) {
      const most = random.below(500);
      const members = Array.from({ length: random.below(8) }, (_, k) => [`m${k}`, random.below(200)] as const);
      const limits = divide(members, most);
      const given = members.map(([member, demand]) => Math.min(demand, limits.get(member) ?? demand));
      const sum = given.reduce((all, one) => all + one, 0);
      const asked = members.reduce((all, [, demand]) => all + demand, 0);
      expect(sum).toBe(Math.min(most, asked));
      const cut = given.filter((one, k) => one < members[k]![1]);
      if (cut.length > 0) expect(Math.max(...given) - Math.min(...cut)).toBeLessThanOrEqual(1);
    }
  });
});
