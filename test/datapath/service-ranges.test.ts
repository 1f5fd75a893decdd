// The list of Service ranges in its map: what is in it, and what a program may read of it while it is written.
import { describe, expect, it } from "vitest";
import { RANGE_KIND_VALUES, readServiceRange, SERVICE_RANGE } from "../../src/datapath/layout.gen.ts";
import { MappedArray } from "../../src/datapath/mapped-array.ts";
import { writeServiceRanges } from "../../src/datapath/service-ranges.ts";
import { parsePrefix } from "../../src/lib/address.ts";
import type { BpfMap } from "../../src/libbpf/mod.ts";
import type { PrefixRange } from "../../src/model/operations.ts";

const MOST = 16;

function arrayOf(): MappedArray {
  const buffer = new ArrayBuffer(MOST * SERVICE_RANGE.size);
  return new MappedArray({ mmap: () => buffer, stride: SERVICE_RANGE.size, maxEntries: MOST } as unknown as BpfMap);
}

const range = (text: string, exempt = false): PrefixRange => ({ ...parsePrefix(text)!, ...(exempt ? { exempt } : {}) });
const KIND_TEXT = new Map<bigint, string>([
  [BigInt(RANGE_KIND_VALUES.RANGE_SERVICES), "services"],
  [BigInt(RANGE_KIND_VALUES.RANGE_EXEMPT), "exempt"],
]);

/** As a program reads it: to the first element of no kind. */
function listOf(array: MappedArray): string[] {
  const list: string[] = [];
  for (let i = 0; i < array.length; i++) {
    const { address, mask, kind } = readServiceRange(array.bytes, array.at(i));
    const text = KIND_TEXT.get(kind);
    if (text === undefined) break;
    list.push(`${text} ${address} ${mask}`);
  }
  return list;
}

describe("the list of Service ranges", () => {
  it("has exempt ranges first, and masks of either family", () => {
    const array = arrayOf();
    writeServiceRanges(array, [range("10.96.0.0/12"), range("fd00:10:96::/112"), range("10.100.7.0/25", true)]);
    expect(listOf(array)).toEqual([
      "exempt 10.100.7.0 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff80",
      "services 10.96.0.0 ffff:ffff:ffff:ffff:ffff:ffff:fff0:0",
      "services fd00:10:96:: ffff:ffff:ffff:ffff:ffff:ffff:ffff:0",
    ]);
    writeServiceRanges(array, [range("10.96.0.0/12")]);
    expect(listOf(array)).toEqual(["services 10.96.0.0 ffff:ffff:ffff:ffff:ffff:ffff:fff0:0"]);
    writeServiceRanges(array, []);
    expect(listOf(array)).toEqual([]);
  });

  it("leaves out what does not fit, from the end", () => {
    const array = arrayOf();
    const many = Array.from({ length: MOST }, (_, i) => range(`10.${i}.0.0/16`));
    writeServiceRanges(array, [...many, range("192.0.2.0/24", true)]);
    expect(listOf(array)).toHaveLength(MOST);
    expect(listOf(array)[0]).toMatch(/^exempt 192\.0\.2\.0/);
    expect(listOf(array).at(-1)).toMatch(/^services 10\.14\.0\.0/);
  });

  it("is never read as anything but a beginning of the old list or of the new one", () => {
    const lists = [
      [range("10.96.0.0/12"), range("10.100.0.0/24", true)],
      [range("10.96.0.0/12"), range("10.100.1.0/24", true), range("10.100.0.0/24", true)],
      [range("10.96.0.0/12"), range("10.112.0.0/12")],
      [range("10.112.0.0/12"), range("10.100.1.0/24", true), range("10.96.0.0/12")],
      [],
    ];
    const array = arrayOf();
    const store = Atomics.store;
    for (const before of lists) {
      for (const after of lists) {
        writeServiceRanges(array, before);
        const old = listOf(array);
        const seen: string[][] = [];
        Atomics.store = ((words: BigUint64Array, index: number, word: bigint) => {
          store(words, index, word);
          seen.push(listOf(array));
          return word;
        }) as typeof Atomics.store;
        try {
          writeServiceRanges(array, after);
        } finally {
          Atomics.store = store;
        }
        const fresh = listOf(array);
        for (const list of seen) {
          const isOld = list.every((line, i) => old[i] === line);
          const isNew = list.every((line, i) => fresh[i] === line);
          expect(isOld || isNew, list.join(", ")).toBe(true);
        }
      }
    }
  });
});
