// Which client addresses hold more than their share of a table: first by counters that several addresses fall into, which costs one
// increment a flow and 64 KiB whatever comes; then, for the few that are above, by the addresses themselves.
import { nearMix } from "./near.ts";

const COUNTER_BITS = 14;
/** Addresses that share a counter with a large one: a handful. */
const MOST_ADDRESSES = 8192;

export interface Shares {
  /** A flow of the client whose address has this nearSum. */
  add(sum: number): void;
  /** Some counter is above. */
  areExceeded(share: number): boolean;
  /** In the second pass, of every flow: `address` gives the client's 16 bytes. */
  weigh(sum: number, share: number, address: () => Uint8Array): void;
  /** The addresses of those that are above. */
  above(share: number): readonly Uint8Array[];
}

export function createShares(): Shares {
  const counters = new Uint32Array(1 << COUNTER_BITS);
  const counterOf = (sum: number): number => nearMix(sum) >>> (32 - COUNTER_BITS);
  const weighed = new Map<string, { readonly address: Uint8Array; flows: number }>();
  return {
    add(sum) {
      counters[counterOf(sum)]!++;
    },
    areExceeded: (share) => counters.some((count) => count > share),
    weigh(sum, share, address) {
      if (counters[counterOf(sum)]! <= share) return;
      const bytes = address();
      const text = Buffer.from(bytes).toString("latin1");
      const known = weighed.get(text);
      if (known !== undefined) known.flows++;
      else if (weighed.size < MOST_ADDRESSES) weighed.set(text, { address: bytes, flows: 1 });
    },
    above: (share) => [...weighed.values()].filter(({ flows }) => flows > share).map(({ address }) => address),
  };
}
