import { describe, expect, it } from "vitest";
import { REFUSAL_KEY, writeRefusalKey } from "../../src/datapath/layout.gen.ts";
import { createServiceCounts } from "../../src/datapath/service-counts.ts";

/** Maps of 100 service ids, with refusals of these. `reads`: how often the refusals were read. */
function maps(services: readonly number[], areNew: boolean) {
  const rows = services.map((service) => {
    const key = new Uint8Array(REFUSAL_KEY.size);
    writeRefusalKey(key, 0, { service, hook: 1, verdict: 4 });
    return key;
  });
  const left = new Set<Uint8Array>(rows);
  const cleared: number[] = [];
  let reads = 0;
  const stats = {
    maxEntries: 100,
    valueBytes: 64,
    update: (key: Uint8Array) => void cleared.push(new DataView(key.buffer).getUint32(0, true)),
  };
  const refusals = {
    *entries(): Generator<[Uint8Array, Uint8Array]> {
      reads++;
      for (const key of left) yield [key, new Uint8Array(8)];
    },
    delete: (key: Uint8Array) => left.delete(key),
  };
  const counts = createServiceCounts(stats, refusals, areNew);
  const services_ = () => [...left].map((key) => new DataView(key.buffer).getUint32(0, true));
  return { counts, cleared, left: services_, reads: () => reads };
}

describe("what was counted under a service id", () => {
  it("goes when its last row did, and not before the change is applied", () => {
    const { counts, left } = maps([1, 2, 2], true);
    counts.ends(2);
    expect(left()).toEqual([1, 2, 2]);
    counts.sweep();
    expect(left()).toEqual([1]);
  });

  it("begins at nothing for another Service: always in maps that were there before, later in new ones", () => {
    const kept = maps([5], false);
    kept.counts.begins(5);
    kept.counts.sweep();
    expect([kept.cleared, kept.left()]).toEqual([[5], []]);
    const fresh = maps([], true);
    for (const id of [1, 2, 3, 2]) fresh.counts.begins(id);
    expect(fresh.cleared).toEqual([2]);
  });

  it("is not read while nothing is void", () => {
    const { counts, reads } = maps([1], true);
    counts.begins(1);
    counts.sweep();
    counts.ends(1);
    counts.sweep();
    counts.sweep();
    expect(reads()).toBe(1);
  });
});
