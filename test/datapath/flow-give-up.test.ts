// Which flows go when a table has to give some up, and which clients have more than their share, from numbers alone.
import { describe, expect, it } from "vitest";
import { createIdleness, type FlowClass, idleBucket, SPARED_SECONDS } from "../../src/datapath/flow-give-up.ts";
import { createShares } from "../../src/datapath/flow-shares.ts";
import { nearSum } from "../../src/datapath/near.ts";
import { addressBytes } from "../../src/lib/address.ts";

const HZ = 250;
type Flow = readonly [flowClass: FlowClass, seconds: number];

/** The flows that go, in the order given. */
function givenUp(flows: readonly Flow[], count: number): Flow[] {
  const idleness = createIdleness(HZ);
  for (const [flowClass, seconds] of flows) idleness.add(flowClass, seconds * HZ);
  const goes = idleness.cut(count);
  return flows.filter(([flowClass, seconds]) => goes(flowClass, seconds * HZ));
}

describe("idleBucket", () => {
  it("grows with the time, by an eighth of it at most", () => {
    let before = -1;
    let start = 0;
    for (let jiffies = 0; jiffies < 2 ** 31; jiffies = jiffies < 1000 ? jiffies + 1 : Math.floor(jiffies * 1.01)) {
      const bucket = idleBucket(jiffies);
      expect(bucket === before || bucket > before).toBe(true);
      if (bucket !== before) start = jiffies;
      if (jiffies >= 8) expect(jiffies - start).toBeLessThanOrEqual(start / 8);
      before = bucket;
    }
    expect(idleBucket(0x7fffffff)).toBeLessThan(256);
  });
});

describe("what is given up", () => {
  const flows: readonly Flow[] = [
    [1, 3600],
    [0, 20],
    [1, 60],
    [0, 300],
    [1, 11],
    [0, SPARED_SECONDS - 1],
    [1, 0],
  ];
  it.each([
    [0, []],
    [1, [[0, 300]]],
    [
      2,
      [
        [0, 20],
        [0, 300],
      ],
    ],
    [
      3,
      [
        [1, 3600],
        [0, 20],
        [0, 300],
      ],
    ],
    [
      4,
      [
        [1, 3600],
        [0, 20],
        [1, 60],
        [0, 300],
      ],
    ],
    [
      5,
      [
        [1, 3600],
        [0, 20],
        [1, 60],
        [0, 300],
        [1, 11],
      ],
    ],
    [
      7,
      [
        [1, 3600],
        [0, 20],
        [1, 60],
        [0, 300],
        [1, 11],
      ],
    ],
  ] as const)("%d: those that are over or half over first, then the idlest, never one in use", (count, expected) => {
    expect(givenUp(flows, count)).toEqual(expected);
  });

  it("is no more than asked for, of flows that are equally idle", () => {
    const alike = Array.from({ length: 100 }, (): Flow => [1, 100]);
    expect(givenUp(alike, 30)).toHaveLength(30);
  });

  it("knows how many could go", () => {
    const idleness = createIdleness(HZ);
    for (const [flowClass, seconds] of flows) idleness.add(flowClass, seconds * HZ);
    expect(idleness.idle()).toBe(5);
  });
});

describe("shares", () => {
  it("finds the addresses above, among a hundred thousand others", () => {
    const shares = createShares();
    const flows = new Map<string, number>();
    for (let i = 0; i < 100_000; i++) flows.set(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`, 1);
    flows.set("203.0.113.7", 1025);
    flows.set("fd00:cc::7", 4000);
    flows.set("203.0.113.8", 1024);
    const each = (use: (sum: number, address: Uint8Array) => void): void => {
      for (const [address, count] of flows) {
        const bytes = addressBytes(address);
        const sum = nearSum(new DataView(bytes.buffer), 0);
        for (let i = 0; i < count; i++) use(sum, bytes);
      }
    };
    each((sum) => shares.add(sum));
    expect(shares.areExceeded(1024)).toBe(true);
    expect(shares.areExceeded(5000)).toBe(false);
    each((sum, address) => shares.weigh(sum, 1024, () => address));
    expect(shares.above(1024).map((bytes) => Buffer.from(bytes).toString("hex"))).toEqual(
      ["203.0.113.7", "fd00:cc::7"].map((address) => Buffer.from(addressBytes(address)).toString("hex")),
    );
  });
});
