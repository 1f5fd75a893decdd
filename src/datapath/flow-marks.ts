// The words of `met_backends`: a program that opens a flow first stores jiffies in the word of its backend, so that answers of
// backends without a flow are told by one load. A sweep clears the words that no entry of the flow tables needs.
//
// Why no word of a flow is lost, whatever programs do meanwhile: a word is cleared only when it was stored two seconds or more before
// the sweep began to read the tables. A flow whose program stored that value was in the tables long before they were read, and as it
// moves from `openings` to its established table, which is read later, it was found: the word is needed. A flow that was opened since
// stored a newer value: either it is there when the word is read, and too young; or it comes between reading and clearing, and the
// exchange finds another value than was read; or after the exchange, and stays.

/** A program stores the word and opens its flow within one run, which takes microseconds. */
const YOUNG_SECONDS = 2;
/** So many words are looked at between two turns for others. */
const STEP = 16_384;

export interface FlowMarks {
  /** Some entry needs the word at this index. */
  need(index: number): void;
  /** Clears what nobody needs. Yields where others may have their turn. */
  clear(): Generator<void>;
}

/** `began`: all 64 bits of jiffies, read before the first table is. */
export function createFlowMarks(words: BigUint64Array, began: bigint, hz: number): FlowMarks {
  const needed = new Uint32Array((words.length + 31) >>> 5);
  const halves = new Uint32Array(words.buffer, words.byteOffset, words.length * 2);
  const youngest = began - BigInt(YOUNG_SECONDS * hz);
  return {
    need(index) {
      needed[index >>> 5]! |= 1 << (index & 31);
    },
    *clear() {
      for (let index = 0; index < words.length; index++) {
        if (index % STEP === STEP - 1) yield;
        if ((halves[2 * index]! | halves[2 * index + 1]!) === 0) continue;
        if ((needed[index >>> 5]! >>> (index & 31)) & 1) continue;
        const met = Atomics.load(words, index);
        if (met < youngest) Atomics.compareExchange(words, index, met, 0n);
      }
    },
  };
}
