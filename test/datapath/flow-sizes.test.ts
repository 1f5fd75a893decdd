// How large the flow tables are by default.
import { describe, expect, it } from "vitest";
import { FLOW_ENTRY_BYTES, flowEntriesFor, memoryForTables } from "../../src/datapath/flow-sizes.ts";

const GIB = 2 ** 30;

describe("the size of a flow table", () => {
  it.each([
    ["kube-proxy's least number of flows on an ordinary node", 8, 4, 262_144],
    ["the same where there is memory, but only two processors", 4, 2, 262_144],
    ["less on a small machine", 1, 4, 98_304],
    ["least on the smallest", 0.1, 1, 16_384],
    ["Cilium's share of memory on a large one", 256, 64, 1_048_576],
    ["at most kube-proxy's number for so many processors", 1024, 8, 524_288],
  ])("is %s", (_, gib, cpus, entries) => {
    expect(flowEntriesFor(gib * GIB, cpus)).toBe(entries);
  });

  it("never takes more than a sixteenth of memory, all tables together, from 128 MiB on", () => {
    for (let gib = 1 / 8; gib < 1024; gib *= 1.7) {
      const bytes = 2.5 * flowEntriesFor(gib * GIB, 64) * FLOW_ENTRY_BYTES;
      expect(bytes).toBeLessThanOrEqual(Math.max((gib * GIB) / 16, 2.5 * 16_384 * FLOW_ENTRY_BYTES));
    }
  });

  it("is the same for a little more or less memory", () => {
    for (const gib of [1, 2, 8, 200]) expect(flowEntriesFor(gib * GIB * 1.01, 64)).toBe(flowEntriesFor(gib * GIB, 64));
  });

  it.each([
    ["no limit", 8, 0, 8],
    ["a limit of which half is enough for those of the machine", 2, 0.5, 2],
    ["a limit that is for the tables and all else", 8, 0.25, 2],
    ["no limit, told as more than any machine has", 8, 2 ** 33, 8],
  ])("is for %s", (_, machine, limit, expected) => {
    expect(memoryForTables(machine * GIB, limit * GIB)).toBe(expected * GIB);
  });

  it("takes half of a limit at most", () => {
    for (const gib of [1 / 8, 1 / 4, 1 / 2, 1, 4]) {
      const bytes = 2.5 * flowEntriesFor(memoryForTables(64 * GIB, gib * GIB), 4) * FLOW_ENTRY_BYTES;
      expect(bytes).toBeLessThanOrEqual((gib * GIB) / 2);
    }
  });
});
