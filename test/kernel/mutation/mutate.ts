// Packets that no sender means: bits turned, ends cut off, lengths that lie, headers in headers. Everything follows from a seed.
import { networkAt } from "../../packets/audit.ts";

/** Numbers that follow from a seed (xorshift32), each a whole one below `below`. */
export type Dice = (below: number) => number;

export function diceOf(seed: number): Dice {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** No test run takes less: an Ethernet header and something behind it. */
const LEAST = 15;
const MOST = 1600;
const ODD_BYTES = [
  0, 1, 4, 6, 17, 20, 40, 43, 44, 58, 60, 0x45, 0x46, 0x4f, 0x60, 0x7f, 0x80, 0xfe, 0xff, 132,
] as const;

type Mutation = (bytes: Uint8Array, l3: number, dice: Dice, other: Uint8Array) => Uint8Array;

const join = (...parts: readonly Uint8Array[]): Uint8Array => Buffer.concat(parts);

/** Most of what is decided is decided by the first bytes. */
const place = (bytes: Uint8Array, dice: Dice): number =>
  dice(dice(3) === 0 ? bytes.length : Math.min(bytes.length, 100));

function flipBits(bytes: Uint8Array, _l3: number, dice: Dice): Uint8Array {
  for (let n = 1 + dice(4); n > 0; n--) bytes[place(bytes, dice)]! ^= 1 << dice(8);
  return bytes;
}

function setOddBytes(bytes: Uint8Array, _l3: number, dice: Dice): Uint8Array {
  for (let n = 1 + dice(3); n > 0; n--) bytes[place(bytes, dice)] = ODD_BYTES[dice(ODD_BYTES.length)]!;
  return bytes;
}

function truncate(bytes: Uint8Array, _l3: number, dice: Dice): Uint8Array {
  return bytes.subarray(0, LEAST + dice(Math.max(1, bytes.length - LEAST)));
}

function append(bytes: Uint8Array, _l3: number, dice: Dice): Uint8Array {
  return join(bytes, new Uint8Array(dice(64)).fill(dice(256)));
}

/** Lengths of headers and packets, and offsets of fragments: nearly right, or anything. */
function lie(bytes: Uint8Array, l3: number, dice: Dice): Uint8Array {
  const v6 = bytes[l3]! >> 4 === 6;
  const fields = v6 ? [l3 + 4, l3 + 41, l3 + 42, l3 + 44, l3 + 49] : [l3 + 2, l3 + 6, l3 + 24, l3 + 32];
  const at = fields[dice(fields.length)]!;
  if (!v6 && dice(4) === 0) bytes[l3] = (bytes[l3]! & 0xf0) | dice(16);
  else if (at + 2 <= bytes.length) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    view.setUint16(at, dice(2) === 0 ? view.getUint16(at) + dice(33) - 16 : dice(0x10000));
  }
  return bytes;
}

const header4 = (inner: Uint8Array, protocol: number, addresses: Uint8Array): Uint8Array => {
  const header = new Uint8Array(20);
  const view = new DataView(header.buffer);
  header[0] = 0x45;
  view.setUint16(2, 20 + inner.length);
  header[8] = 64;
  header[9] = protocol;
  header.set(addresses.subarray(0, 8), 12);
  return header;
};

const header6 = (inner: Uint8Array, next: number, addresses: Uint8Array): Uint8Array => {
  const header = new Uint8Array(40);
  header[0] = 0x60;
  new DataView(header.buffer).setUint16(4, inner.length);
  header[6] = next;
  header[7] = 64;
  header.set(addresses.subarray(0, 32), 8);
  return header;
};

/** The packet as the inside of a tunnel (RFC 2003, RFC 2473) or, twice, of ICMP errors. */
function nest(bytes: Uint8Array, l3: number, dice: Dice): Uint8Array {
  const v6 = bytes[l3]! >> 4 === 6;
  let inner: Uint8Array = bytes.slice(l3);
  const addresses = v6 ? bytes.slice(l3 + 8, l3 + 40) : bytes.slice(l3 + 12, l3 + 20);
  if (addresses.length < (v6 ? 32 : 8)) return bytes;
  if (dice(2) === 0) {
    // An error goes to whoever sent what it quotes.
    const half = addresses.length / 2;
    const back = join(addresses.subarray(half), addresses.subarray(0, half));
    for (let n = 1 + dice(2); n > 0; n--) {
      const type = v6 ? 1 + dice(4) : [3, 5, 11, 12][dice(4)]!;
      inner = join(Uint8Array.of(type, dice(6), 0, 0, 0, 0, 5, dice(256)), inner);
      inner = join(v6 ? header6(inner, 58, back) : header4(inner, 1, back), inner);
    }
  } else inner = join(v6 ? header6(inner, 41, addresses) : header4(inner, 4, addresses), inner);
  return join(bytes.subarray(0, l3), inner);
}

/** Extension headers, a fragment's among them, in any order and number. */
function extend(bytes: Uint8Array, l3: number, dice: Dice): Uint8Array {
  if (bytes[l3]! >> 4 !== 6 || bytes.length < l3 + 40) {
    if (bytes.length < l3 + 20) return bytes;
    // Of IPv4 options, and what makes a fragment.
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (dice(2) === 0) {
      view.setUint16(l3 + 6, dice(2) === 0 ? 0x2000 : dice(0x2000));
      return bytes;
    }
    const options = new Uint8Array(4 * (1 + dice(10)));
    for (let i = 0; i < options.length; i++) options[i] = [0, 1, 7, 68, 131, 137, 148, dice(256)][dice(8)]!;
    const grown = join(bytes.subarray(0, l3 + 20), options, bytes.subarray(l3 + 20));
    grown[l3] = 0x45 + options.length / 4;
    new DataView(grown.buffer, grown.byteOffset).setUint16(l3 + 2, (view.getUint16(l3 + 2) + options.length) & 0xffff);
    return grown;
  }
  let next = bytes[l3 + 6]!;
  let chain: Uint8Array = new Uint8Array(0);
  for (let n = 1 + dice(6); n > 0; n--) {
    const kind = [0, 43, 44, 60, 60, 51][dice(6)]!;
    const one = new Uint8Array(kind === 44 ? 8 : 8 * (1 + dice(3)));
    one[0] = next;
    if (kind === 44) one.set([0, dice(2) === 0 ? 0 : dice(256), dice(2) === 0 ? 1 : dice(256), 0, 0, 0, dice(4)], 1);
    else one.set([one.length / 8 - 1, dice(5), dice(3)], 1);
    chain = join(one, chain);
    next = kind;
  }
  const grown = join(bytes.subarray(0, l3 + 40), chain, bytes.subarray(l3 + 40));
  grown[l3 + 6] = next;
  const view = new DataView(grown.buffer, grown.byteOffset);
  view.setUint16(l3 + 4, (view.getUint16(l3 + 4) + chain.length) & 0xffff);
  return grown;
}

/** The head of one packet and the tail of another. */
function splice(bytes: Uint8Array, l3: number, dice: Dice, other: Uint8Array): Uint8Array {
  const at = l3 + dice(60);
  return join(bytes.subarray(0, at), other.subarray(at));
}

/** A tag in the frame itself (IEEE 802.1Q). */
function tag(bytes: Uint8Array, l3: number, dice: Dice): Uint8Array {
  if (l3 === 0) return bytes;
  return join(bytes.subarray(0, 12), Uint8Array.of(0x81, 0, dice(16), dice(256)), bytes.subarray(12));
}

const MUTATIONS: readonly Mutation[] = [
  flipBits,
  flipBits,
  setOddBytes,
  truncate,
  append,
  lie,
  lie,
  nest,
  extend,
  extend,
  splice,
  tag,
];

/** A packet made of `original`, which stays as it is. */
export function mutate(original: Uint8Array, link: boolean, dice: Dice, other: Uint8Array): Uint8Array {
  let bytes: Uint8Array = original.slice();
  for (let n = 1 + dice(3); n > 0; n--) {
    const l3 = networkAt(bytes, link);
    if (l3 < 0 || bytes.length < l3 + 8) break;
    bytes = MUTATIONS[dice(MUTATIONS.length)]!(bytes, l3, dice, other);
  }
  if (bytes.length < LEAST) return join(bytes, new Uint8Array(LEAST - bytes.length));
  return bytes.length > MOST ? bytes.subarray(0, MOST) : bytes;
}
