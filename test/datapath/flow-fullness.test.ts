// When a flow table is full, and when to look again, from numbers alone.
import { describe, expect, it } from "vitest";
import {
  type EarlierUse,
  isFull,
  nextSweepMs,
  roomOf,
  shareOf,
  type TableUse,
} from "../../src/datapath/flow-fullness.ts";

const use = (left: number, found = left, room = 1000): TableUse => ({ room, found, left });

describe("roomOf", () => {
  it.each([
    ["two CPUs park next to nothing of a large table", 262_144, 2, 261_888],
    ["128 CPUs park 16,384, and the LRU evicts from 93.75 % on", 262_144, 128, 245_760],
    ["a small table of a large machine holds half of what it says", 16_384, 128, 8_192],
    ["the smallest one too", 1024, 128, 512],
  ])("%s", (_, maxEntries, cpus, room) => {
    expect(roomOf(maxEntries, cpus)).toBe(room);
  });

  it("keeps every limit below what 128 CPUs leave for certain", () => {
    expect(isFull(use(0.9375 * 262_144, undefined, roomOf(262_144, 128)), undefined)).toBe(true);
  });
});

describe("shareOf", () => {
  it.each([
    ["an eighth of the entries, two for each flow", 262_144, 16_384],
    ["never so few that one host with many connections is stopped", 4_096, 1024],
  ])("%s", (_, room, flows) => {
    expect(shareOf(room)).toBe(flows);
  });
});

describe("a table", () => {
  it.each([
    ["at 95 %", use(950), undefined, false],
    ["above", use(951), undefined, true],
    ["above, that does not grow", use(951), { left: 951, ms: 1000 }, true],
    ["that grows to just 95 % within a second", use(800), { left: 650, ms: 1000 }, false],
    ["that grows past it", use(800), { left: 649, ms: 1000 }, true],
    ["that grows fast, but has room until it is looked at again", use(800), { left: 0, ms: 15_000 }, false],
    ["that shrinks, and is still above", use(951), { left: 1000, ms: 1000 }, true],
    ["that gave flows up as fast as they come", use(850, 900), { left: 850, ms: 1000 }, false],
    ["that comes faster than it gave up", use(850, 951), { left: 850, ms: 1000 }, true],
  ] as const)("%s: full is %s", (_, given, earlier, full) => {
    expect(isFull(given, earlier)).toBe(full);
  });

  it.each([
    ["at 70 %", use(700), undefined, 15_000],
    ["above", use(701), undefined, 1000],
    ["at 50 %, growing to 90 %", use(500), { left: 100, ms: 15_000 }, 15_000],
    ["at 50 %, growing past it", use(500), { left: 99, ms: 15_000 }, 1000],
    ["that was swept a second ago and grew a little", use(500), { left: 450, ms: 1000 }, 1000],
  ] as const)("%s is swept again in time", (_, given, earlier: EarlierUse | undefined, ms) => {
    expect(nextSweepMs([[given, earlier]])).toBe(ms);
    expect(
      nextSweepMs([
        [use(0), undefined],
        [given, earlier],
      ]),
    ).toBe(ms);
  });
});
