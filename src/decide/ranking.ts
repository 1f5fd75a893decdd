// In which order nodes ought to announce an address: rendezvous hashing, so that a node that leaves moves only its own
// addresses and every node computes the same without asking. It never asks who is eligible or alive. Pure.

/** 64 bits of a name or an address. */
export interface Hash {
  readonly high: number;
  readonly low: number;
}

/** Spreads each bit over all (the finalizer of MurmurHash3). */
function mix(word: number): number {
  let h = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/** Fixed for good, as `score` is: every version and node must compute the same. */
export function hashOf(text: string): Hash {
  let high = 0x811c9dc5;
  let low = 0x9747b28c;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    high = Math.imul(high ^ unit, 0x01000193);
    low = Math.imul(low ^ unit, 0x5bd1e995);
  }
  return { high: mix(high), low: mix(low) };
}

/** Score of a node for an address, 0 to 2^52 - 1: the higher one ought to announce it. */
export function score(node: Hash, address: Hash): number {
  const low = mix(node.low ^ address.low);
  const high = mix((node.high + address.high) ^ low);
  return (high >>> 0) * 0x100000 + (low >>> 12);
}
