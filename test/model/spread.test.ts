// How flows are balanced: evenly, by weight, and by tables that barely change and are the same on every node.
import { describe, expect, test } from "vitest";
import { createModel } from "../../src/model/model.ts";
import {
  BY_HASH,
  MOST_BACKENDS,
  maglevTable,
  TABLE_SIZES,
  tableSizeFor,
  weightedSlots,
} from "../../src/model/spread.ts";
import { parseWeights } from "../../src/model/weights.ts";
import { createFakeMaps } from "../fakes/fake-maps.ts";
import { endpoint, eventsOf, node, service, slice } from "../flows/builders.ts";
import { createRandom } from "./random.ts";
import { bench, CAPACITY } from "./setup.ts";

interface Member {
  readonly address: string;
  readonly port: number;
  readonly weight?: number;
}

const members = (count: number, net = 244): Member[] =>
  Array.from({ length: count }, (_, i) => ({ address: `10.${net}.${i >> 8}.${i & 255}`, port: 8080 }));

const textOf = ({ address, port }: Member): string => `${address}:${port}`;

function countsOf(positions: Uint32Array, count: number): number[] {
  const counts = new Array<number>(count).fill(0);
  for (const position of positions) counts[position]!++;
  return counts;
}

/** Which part of the slots of those that stay is another's without member `gone`. */
function movedWithout(all: readonly Member[], gone: number, size: number): number {
  const before = maglevTable(all, size);
  const rest = all.filter((_, i) => i !== gone);
  const after = maglevTable(rest, size);
  let moved = 0;
  let others = 0;
  for (let at = 0; at < size; at++) {
    if (before[at] === gone) continue;
    others++;
    if (textOf(rest[after[at]!]!) !== textOf(all[before[at]!]!)) moved++;
  }
  return moved / others;
}

describe("a Maglev table", () => {
  test("has a prime number of slots, more than a hundred for each backend", () => {
    const isPrime = (n: number): boolean => {
      for (let i = 2; i * i <= n; i++) if (n % i === 0) return false;
      return true;
    };
    expect(TABLE_SIZES.filter((size) => !isPrime(size))).toEqual([]);
    expect(tableSizeFor(3, 16_381)).toBe(16_381);
    expect(tableSizeFor(163, 251)).toBe(16_381);
    expect(tableSizeFor(164, 251)).toBe(32_749);
    expect(tableSizeFor(2621, 251)).toBe(262_139);
  });

  test("grows in few steps, as each moves most flows: the one that is asked for, and others far from it", () => {
    const stepsOf = (least: number): number[] => {
      const counts = Array.from({ length: 2700 }, (_, i) => i + 1);
      return counts.filter((count) => tableSizeFor(count, least) !== tableSizeFor(count + 1, least));
    };
    expect(stepsOf(BY_HASH.tableSize)).toEqual([20, 163, 327, 655, 1310]);
    expect(stepsOf(4093)).toEqual([40, 163, 327, 655, 1310]);
    expect(stepsOf(16_381)).toEqual([163, 327, 655, 1310]);
  });

  test("of the default size moves at most 3 % of the others' slots when one backend goes, however few there are", () => {
    const size = BY_HASH.tableSize;
    for (let count = 2; tableSizeFor(count, size) === size; count++) {
      const all = members(count);
      expect(Math.max(...all.map((_, gone) => movedWithout(all, gone, size)))).toBeLessThanOrEqual(0.032);
    }
  });

  test.each([1, 2, 3, 10, 100])("gives %i backends the same number of slots, one more or less", (count) => {
    const counts = countsOf(maglevTable(members(count), 16_381), count);
    expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
  });

  test("moves at most 2 % of the others' slots when one backend of 100 goes, whichever", () => {
    for (const net of [1, 2]) {
      const all = members(100, net);
      const size = tableSizeFor(100, 251)!;
      expect(Math.max(...all.map((_, gone) => movedWithout(all, gone, size)))).toBeLessThanOrEqual(0.02);
    }
  });

  test("of just a hundred slots for each backend moves under 2 % of the others' in the mean", () => {
    const all = members(100);
    const moved = all.map((_, gone) => movedWithout(all, gone, 10_007));
    expect(moved.reduce((a, b) => a + b) / moved.length).toBeLessThan(0.018);
  });

  test("of more backends than the largest has a hundred slots for is the largest, as even as a slot and as steady as another", () => {
    const size = tableSizeFor(3000, 251)!;
    expect([size, tableSizeFor(MOST_BACKENDS, 251)]).toEqual([262_139, 262_139]);
    expect(tableSizeFor(MOST_BACKENDS + 1, 251)).toBeUndefined();
    const all = members(3000);
    const counts = countsOf(maglevTable(all, size), 3000);
    expect([Math.min(...counts), Math.max(...counts)]).toEqual([87, 88]);
    expect(movedWithout(all, 1234, size)).toBeLessThan(0.005);
  });

  test("does not depend on the order of its backends", () => {
    const random = createRandom(3);
    const all = members(50).map((one, i) => ({ ...one, weight: 1 + (i % 3) }));
    const shuffled = [...all];
    for (let i = shuffled.length - 1; i > 0; i--) {
      const j = random.below(i + 1);
      [shuffled[i], shuffled[j]] = [shuffled[j]!, shuffled[i]!];
    }
    const texts = (list: readonly Member[]): string[] => Array.from(maglevTable(list, 8191), (i) => textOf(list[i]!));
    expect(texts(shuffled)).toEqual(texts(all));
  });

  test("gives each backend slots in proportion to its weight, within 1 %", () => {
    const weights = [1, 2, 3, 10, 100, 1000];
    const counts = countsOf(
      maglevTable(
        members(6).map((one, i) => ({ ...one, weight: weights[i]! })),
        65_521,
      ),
      6,
    );
    const sum = weights.reduce((a, b) => a + b);
    for (const [i, weight] of weights.entries()) {
      expect(Math.abs(counts[i]! - (65_521 * weight) / sum)).toBeLessThanOrEqual(Math.max(2, 0.01 * counts[i]!));
    }
  });

  test("leaves no backend without a slot, however little it weighs", () => {
    const all = members(100).map((one, i) => ({ ...one, weight: i === 0 ? 1 : 1000 }));
    expect(countsOf(maglevTable(all, 16_381), 100)[0]).toBe(1);
  });

  test("of the largest size takes little for as many backends as it is for", () => {
    const all = members(1024);
    maglevTable(all, 131_071);
    const times = Array.from({ length: 3 }, () => {
      const start = process.threadCpuUsage();
      maglevTable(all, 131_071);
      return process.threadCpuUsage(start).user / 1000;
    });
    expect(Math.min(...times)).toBeLessThan(200);
  });
});

describe("slots by weight", () => {
  const by = (...weights: number[]): number[] =>
    countsOf(weightedSlots(members(weights.length).map((one, i) => ({ ...one, weight: weights[i]! }))), weights.length);

  test("are exact where that takes few, by the least numbers", () => {
    expect(by(1, 3)).toEqual([1, 3]);
    expect(by(20, 60, 20)).toEqual([1, 3, 1]);
    expect(by(1, 99, 100)).toEqual([1, 99, 100]);
  });

  test("are bounded, and each has one at least", () => {
    const [least, most] = by(1, 1000);
    expect([least, most]).toEqual([1, 256]);
    expect(by(7, 1000, 999, 3).reduce((a, b) => a + b)).toBeLessThan(260);
  });

  test("are taken in turns", () => {
    const slots = weightedSlots([
      { address: "a", port: 1, weight: 2 },
      { address: "b", port: 1, weight: 2 },
      { address: "c", port: 1, weight: 1 },
    ]);
    expect([...slots]).toEqual([0, 1, 0, 1, 2]);
  });
});

describe("the annotation of weights", () => {
  test.each([
    [
      "10.0.0.1=5,10.0.0.2=0",
      [
        ["10.0.0.1", 5],
        ["10.0.0.2", 0],
      ],
    ],
    [' { "fd00::0:1": 3 } ', [["fd00::1", 3]]],
    ["", []],
  ])("%j is read", (text, weights) => {
    expect(parseWeights(text)).toEqual(new Map(weights as [string, number][]));
  });

  test.each([
    ["10.0.0.1", "the weight of 10.0.0.1 must be a whole number from 0 to 1000"],
    ["10.0.0.1=1001", "must be a whole number"],
    ["10.0.0.1=-1", "must be a whole number"],
    ["web-1=3", '"web-1" is no IP address'],
    ["10.0.0.1=1,10.0.0.1=2", "10.0.0.1 has two weights"],
    ['{"10.0.0.1": "3"}', "must be a whole number"],
    ["{10.0.0.1: 3}", "it is no JSON object"],
  ])("%j is refused", (text, why) => {
    expect(parseWeights(text)).toContain(why);
  });
});

describe("a model that balances", () => {
  const ROOM = { ...CAPACITY, slots: 32_768 };
  const endpoints = [endpoint("10.244.1.2"), endpoint("10.244.2.2", "node2")];
  const maglev = service({ loadBalancing: "maglev" });

  test("keeps a drained backend, and lets it go with its endpoint", () => {
    const { feed, maps } = bench({ capacity: ROOM });
    feed({ services: [service()], slices: [slice({ endpoints })] });
    const live = (): string[] =>
      [...maps.backends.values()].filter(({ state }) => state === "live").map(({ address }) => address);
    const drain = feed({ slices: [slice({ endpoints, weights: "10.244.1.2=0" })] });
    expect(drain.map(({ op }) => op)).toEqual(["put-slots", "set-windows", "set-backend", "grace", "free-slots"]);
    expect(live()).toEqual(["10.244.1.2", "10.244.2.2"]);
    feed({ slices: [slice({ endpoints })] });
    expect(live()).toEqual(["10.244.1.2", "10.244.2.2"]);
    feed({ slices: [slice({ endpoints, weights: "10.244.1.2=0" })] });
    const gone = feed({ slices: [slice({ endpoints: endpoints.slice(1) })] });
    expect(gone.map(({ op }) => op)).toEqual(["retire-backend", "grace", "free-backend"]);
    expect(live()).toEqual(["10.244.2.2"]);
  });

  test("says which object's annotation is malformed, and does as if there was none", () => {
    const { feed, model } = bench({ capacity: ROOM });
    feed({
      services: [service({ loadBalancing: "rr" })],
      slices: [slice({ endpoints, weights: "10.244.1.2=x" })],
    });
    expect(model.notices()).toMatchObject([
      {
        object: "Service default/web",
        field: "metadata.annotations[millrace.io/load-balancing]",
        reason: "annotation-invalid",
        message: 'must be "hash" or "maglev", not "rr": it is hash',
      },
      {
        object: "EndpointSlice default/web-1",
        field: "metadata.annotations[millrace.io/weights]",
        reason: "annotation-invalid",
      },
    ]);
    expect(model.usage().slots).toBe(2);
  });

  test("makes no tables that there is no room for", () => {
    const { feed, model } = bench({ capacity: { ...ROOM, slots: 2 * CAPACITY.backends + 100 } });
    const services = Array.from({ length: 50 }, (_, i) =>
      service({ name: `s${i}`, clusterIPs: [`10.96.1.${i}`], loadBalancing: "maglev" }),
    );
    const slices = services.map(({ name }) => slice({ service: name, endpoints: endpoints.slice(0, 1) }));
    const start = process.threadCpuUsage();
    feed({ services, slices });
    expect(process.threadCpuUsage(start).user / 1000).toBeLessThan(50);
    expect(model.notices()).toHaveLength(50);
  });

  test("has the same table on every node, whatever way it came by it", () => {
    const all = Array.from({ length: 9 }, (_, i) => endpoint(`10.244.${1 + (i % 3)}.${2 + i}`, `node${1 + (i % 3)}`));
    const weights = "10.244.1.2=3,10.244.2.3=0";
    const tableOf = (nodeName: string, steps: readonly (typeof all)[]): string[] => {
      const maps = createFakeMaps(ROOM);
      const model = createModel({ nodeName, capacity: ROOM, serviceRanges: [] });
      model.update(eventsOf({ services: [maglev], nodes: [node(1), node(2), node(3)] }));
      for (const endpoints of steps) {
        model.update(eventsOf({ slices: [slice({ endpoints, weights })] }));
        maps.apply(model.plan());
      }
      const { first, count } = [...maps.rows.values()][0]!.windows.cluster;
      return Array.from({ length: count }, (_, i) => maps.backends.get(maps.slot(first + i).backend)!.address);
    };
    const [table, ...others] = [
      tableOf("node1", [all]),
      tableOf("node2", [all.slice(4), [...all].reverse()]),
      tableOf("node3", [all.slice(0, 2), all.slice(2), all]),
    ];
    expect(table).toHaveLength(2039);
    expect(new Set(table).size).toBe(8);
    for (const other of others) expect(other).toEqual(table);
  });

  const many = (count: number) => {
    const backends = 2 * count;
    const { feed, maps, model } = bench({ capacity: { ...CAPACITY, backends, slots: 2 * backends + 262_144 } });
    const all = Array.from({ length: count }, (_, i) => endpoint(`10.${244 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`));
    const slices = Array.from({ length: Math.ceil(count / 1000) }, (_, i) =>
      slice({ name: `web-${i}`, endpoints: all.slice(i * 1000, (i + 1) * 1000) }),
    );
    feed({ services: [maglev], slices });
    return { notices: model.notices(), count: [...maps.rows.values()][0]!.windows.cluster.count };
  };

  test("makes the largest table for more backends than it has a hundred slots for, and says nothing", () => {
    expect(many(2500)).toEqual({ notices: [], count: 262_139 });
  });

  test("balances by hash more backends than any table is for, and advises nothing that would not help", () => {
    const { notices, count } = many(MOST_BACKENDS + 1);
    expect(count).toBe(MOST_BACKENDS + 1);
    expect(notices).toMatchObject([
      { object: "Service default/web", reason: "too-many-for-maglev", severity: "warning" },
    ]);
    expect(notices[0]?.message).toContain(`no table is for more than ${MOST_BACKENDS} endpoints, and it has 16384`);
    expect(notices[0]?.message).not.toContain("--max-slots");
  });

  test("advises a smaller least size only where that makes the tables smaller", () => {
    const { feed, model } = bench({ capacity: { ...CAPACITY, backends: 200, slots: 600 } });
    const all = Array.from({ length: 120 }, (_, i) => endpoint(`10.244.1.${i + 1}`));
    feed({ services: [maglev], slices: [slice({ endpoints: all })] });
    expect(model.notices()[0]?.message).toMatch(/no room for 16381 slots; raise --max-slots$/);
  });

  test("balances by hash what has no room for a table, says so, and makes the table when there is room", () => {
    const capacity = { ...CAPACITY, slots: 2 * CAPACITY.backends + 2039 };
    const { feed, feedEvents, model, maps } = bench({ capacity });
    feed({ services: [maglev], slices: [slice({ endpoints })] });
    expect(model.notices()).toEqual([]);
    const other = service({ name: "other", age: 2, clusterIPs: ["10.96.0.11"], loadBalancing: "maglev" });
    feed({ services: [other], slices: [slice({ service: "other", endpoints: [endpoint("10.244.1.3")] })] });
    const countOf = (address: string): number | undefined =>
      [...maps.rows.values()].find(({ key }) => key.address === address)?.windows.cluster.count;
    expect([countOf("10.96.0.10"), countOf("10.96.0.11")]).toEqual([2039, 1]);
    expect(model.notices()).toMatchObject([
      { object: "Service default/other", reason: "table-full", severity: "warning" },
    ]);
    expect(model.notices()[0]?.message).toContain("raise --max-slots, or lower --maglev-table-size");
    feedEvents([{ kind: "Service", key: "default/web", object: undefined }]);
    expect([countOf("10.96.0.10"), countOf("10.96.0.11")]).toEqual([undefined, 2039]);
    expect(model.notices()).toEqual([]);
  });
});
