// An array map whose memory is changed in place. What is live in it changes by one aligned 64-bit store.
import { Failure } from "../lib/errors.ts";
import type { BpfMap } from "../libbpf/mod.ts";

export const WORD = 8;

export class MappedArray {
  readonly bytes: Uint8Array;
  readonly words: BigUint64Array;
  readonly view: DataView;
  readonly length: number;
  readonly #stride: number;

  constructor(map: BpfMap) {
    const buffer = map.mmap(true);
    this.bytes = new Uint8Array(buffer);
    this.words = new BigUint64Array(buffer);
    this.view = new DataView(buffer);
    this.#stride = map.stride;
    this.length = map.maxEntries;
  }

  /** Where element `index` begins, in bytes. Throws Failure "internal" when there is none. */
  at(index: number): number {
    if (!(index >= 0 && index < this.length))
      throw new Failure("internal", "map", `index ${index} is outside of ${this.length}`);
    return index * this.#stride;
  }

  /** Index in `words` of the word at `offset` of an element. */
  word(index: number, offset: number): number {
    return (this.at(index) + offset) / WORD;
  }
}
