// Clearing the marks of backends while programs open flows: a mark that a flow needs survives every interleaving.
import { describe, expect, it } from "vitest";
import { createFlowMarks } from "../../src/datapath/flow-marks.ts";

const HZ = 250;
const BEGAN = 2n ** 32n + 100_000n;
const OLD = BEGAN - BigInt(2 * HZ) - 1n;

function clear(words: BigUint64Array, needed: readonly number[], meanwhile: (slice: number) => void = () => {}): void {
  const marks = createFlowMarks(words, BEGAN, HZ);
  for (const index of needed) marks.need(index);
  let slice = 0;
  for (const _ of marks.clear()) meanwhile(slice++);
}

describe("marks of backends", () => {
  it.each([
    ["that nobody needs go", OLD, [], 0n],
    ["that some entry needs stay", OLD, [7], OLD],
    ["that were set two seconds before the sweep began stay", OLD + 1n, [], OLD + 1n],
    ["that were set since it began stay", BEGAN + 5n, [], BEGAN + 5n],
    ["without a time, of no flow, go", 1n, [], 0n],
  ] as const)("%s", (_, word, needed, left) => {
    const words = new BigUint64Array(65_536);
    words[7] = word;
    clear(words, needed);
    expect(words[7]).toBe(left);
  });

  it("are looked up to the last one, and none but those asked for is kept", () => {
    const words = new BigUint64Array(65_536).fill(OLD);
    clear(words, [0, 31, 32, 65_535]);
    expect([...words.keys()].filter((index) => words[index] !== 0n)).toEqual([0, 31, 32, 65_535]);
  });

  it("of a flow that is opened while others are cleared stay", () => {
    const words = new BigUint64Array(65_536).fill(OLD);
    clear(words, [], (slice) => {
      // One that was cleared already, and one whose turn is still to come.
      words[slice * 16_384 + 5] = BEGAN + 1n;
      words[(slice + 1) * 16_384 + 20] = BEGAN + 2n;
    });
    expect([...words.keys()].filter((index) => words[index] !== 0n)).toEqual([
      5, 16_389, 16_404, 32_773, 32_788, 49_157, 49_172,
    ]);
  });

  it("of a flow that is opened between reading and clearing stay: the exchange finds another value", () => {
    const words = new BigUint64Array(65_536);
    words[3] = OLD;
    const compareExchange = Atomics.compareExchange;
    // A program on another CPU is the faster one.
    Atomics.compareExchange = ((array: BigUint64Array, index: number, expected: bigint, replacement: bigint) => {
      array[index] = BEGAN + 1n;
      return compareExchange(array, index, expected, replacement);
    }) as typeof Atomics.compareExchange;
    try {
      clear(words, []);
    } finally {
      Atomics.compareExchange = compareExchange;
    }
    expect(words[3]).toBe(BEGAN + 1n);
  });
});
