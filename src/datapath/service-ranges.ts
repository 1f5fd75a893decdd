// The list of ranges in `service_ranges`, which a program reads from its start to the first element of no kind.
import { familyOf, writeAddress } from "../lib/address.ts";
import type { PrefixRange } from "../model/operations.ts";
import { RANGE_KIND_VALUES, SERVICE_RANGE } from "./layout.gen.ts";
import { type MappedArray, WORD } from "./mapped-array.ts";

const { RANGE_SERVICES, RANGE_EXEMPT } = RANGE_KIND_VALUES;
const WORDS = SERVICE_RANGE.size / WORD;
const KIND = SERVICE_RANGE.kind / WORD;
const END = BigInt(RANGE_KIND_VALUES.RANGE_END);

function elementsOf(list: readonly PrefixRange[], most: number): BigUint64Array {
  const words = new BigUint64Array(most * WORDS);
  const bytes = new Uint8Array(words.buffer);
  for (const [i, range] of list.slice(0, most).entries()) {
    const at = i * SERVICE_RANGE.size;
    writeAddress(range.address, bytes, at + SERVICE_RANGE.address);
    const length = familyOf(range.address) === "IPv4" ? 96 + range.length : range.length;
    for (let byte = 0; byte < 16; byte++) {
      const bits = Math.max(0, Math.min(8, length - byte * 8));
      bytes[at + SERVICE_RANGE.mask + byte] = (0xff00 >> bits) & 0xff;
    }
    words[i * WORDS + KIND] = BigInt(range.exempt ? RANGE_EXEMPT : RANGE_SERVICES);
  }
  return words;
}

/**
 * Writes the list, exempt ranges first. What does not fit is left out from the end. While it is written a reader finds the list
 * shorter, never another one: what is exempt is not dropped in between, as the ranges behind it are not there either.
 */
export function writeServiceRanges(array: MappedArray, ranges: readonly PrefixRange[]): void {
  const list = [...ranges.filter(({ exempt }) => exempt), ...ranges.filter(({ exempt }) => !exempt)];
  const fresh = elementsOf(list, array.length);
  const wordOf = (index: number): number => array.word(index, 0);
  const differs = (index: number): boolean =>
    fresh.subarray(index * WORDS, (index + 1) * WORDS).some((word, i) => array.words[wordOf(index) + i] !== word);
  let first = 0;
  while (first < array.length && !differs(first)) first++;
  for (let i = first; i < array.length; i++) Atomics.store(array.words, wordOf(i) + KIND, END);
  for (let i = array.length - 1; i >= first; i--) {
    for (let word = 0; word < WORDS; word++) {
      if (word !== KIND) Atomics.store(array.words, wordOf(i) + word, fresh[i * WORDS + word]!);
    }
    Atomics.store(array.words, wordOf(i) + KIND, fresh[i * WORDS + KIND]!);
  }
}
