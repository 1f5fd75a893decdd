// SipHash-2-4 (Aumasson and Bernstein, 2012), as bpf/siphash.h has it: a short tag that nobody makes without the key. In 32-bit
// halves, as it is reckoned for every datagram.

/** Bytes of a key. */
export const SIPHASH_KEY = 16;
/** Bytes of a tag. */
export const SIPHASH_TAG = 8;

/** Words v0 to v3, each its low half and then its high one. */
type State = Uint32Array;

function add(v: State, to: number, from: number): void {
  const low = v[to]! + v[from]!;
  v[to + 1]! += v[from + 1]! + (low > 0xffffffff ? 1 : 0);
  v[to] = low;
}

/** v[at] = v[at] rotated left by `bits`, which are under 32, ^ v[other]. */
function rotateXor(v: State, at: number, bits: number, other: number): void {
  const low = v[at]!;
  const high = v[at + 1]!;
  v[at] = ((low << bits) | (high >>> (32 - bits))) ^ v[other]!;
  v[at + 1] = ((high << bits) | (low >>> (32 - bits))) ^ v[other + 1]!;
}

function swapHalves(v: State, at: number): void {
  const low = v[at]!;
  v[at] = v[at + 1]!;
  v[at + 1] = low;
}

function round(v: State): void {
  add(v, 0, 2);
  rotateXor(v, 2, 13, 0);
  swapHalves(v, 0);
  add(v, 4, 6);
  rotateXor(v, 6, 16, 4);
  add(v, 0, 6);
  rotateXor(v, 6, 21, 0);
  add(v, 4, 2);
  rotateXor(v, 2, 17, 4);
  swapHalves(v, 4);
}

/** The tag of `data` by a key of 16 bytes: 8 bytes, in the order of the reference implementation. */
export function sipHash(key: Uint8Array, data: Uint8Array): Uint8Array {
  const k = new DataView(key.buffer, key.byteOffset, SIPHASH_KEY);
  const [k0, k1, k2, k3] = [k.getUint32(0, true), k.getUint32(4, true), k.getUint32(8, true), k.getUint32(12, true)];
  const v = Uint32Array.of(
    ...[k0 ^ 0x70736575, k1 ^ 0x736f6d65, k2 ^ 0x6e646f6d, k3 ^ 0x646f7261],
    ...[k0 ^ 0x6e657261, k1 ^ 0x6c796765, k2 ^ 0x79746573, k3 ^ 0x74656462],
  );
  // The last word has what is left of the data, and its length in the highest byte.
  const padded = new Uint8Array((data.length & ~7) + 8);
  padded.set(data);
  padded[padded.length - 1] = data.length;
  const words = new DataView(padded.buffer);
  for (let at = 0; at < padded.length; at += 8) {
    const low = words.getUint32(at, true);
    const high = words.getUint32(at + 4, true);
    v[6]! ^= low;
    v[7]! ^= high;
    round(v);
    round(v);
    v[0]! ^= low;
    v[1]! ^= high;
  }
  v[4]! ^= 0xff;
  for (let i = 0; i < 4; i++) round(v);
  const tag = new DataView(new ArrayBuffer(SIPHASH_TAG));
  tag.setUint32(0, v[0]! ^ v[2]! ^ v[4]! ^ v[6]!, true);
  tag.setUint32(4, v[1]! ^ v[3]! ^ v[5]! ^ v[7]!, true);
  return new Uint8Array(tag.buffer);
}

const ids = new WeakMap<Uint8Array, number>();

/** By which of several keys a message was made, in one byte that tells nothing else: the first of the tag of nothing. Keys are not changed. */
export function sipHashKeyId(key: Uint8Array): number {
  const known = ids.get(key);
  if (known !== undefined) return known;
  const id = sipHash(key, new Uint8Array(0))[0]!;
  ids.set(key, id);
  return id;
}
