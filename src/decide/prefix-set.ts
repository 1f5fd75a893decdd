// Whether a prefix shares an address with any of many. Asked in logarithmic time, as a cluster has thousands of nodes and a node
// hundreds of routes.
import { addressBytes, canonicalAddress, familyOf, type Prefix } from "../lib/address.ts";

export interface PrefixSet {
  /** Prefixes that overlap lie in one another. */
  overlaps(prefix: Prefix): boolean;
}

interface Span {
  readonly first: string;
  readonly last: string;
}

/** First and last address as texts that compare as the addresses of a family do. Host bits of the prefix do not count. */
function spanOf({ address, length }: Prefix): Span {
  const bytes = addressBytes(address);
  const bits = length + (familyOf(address) === "IPv4" ? 96 : 0);
  const first = bytes.map((byte, i) => byte & maskOf(bits, i));
  const last = bytes.map((byte, i) => byte | (0xff & ~maskOf(bits, i)));
  const family = familyOf(address);
  return { first: family + String.fromCharCode(...first), last: family + String.fromCharCode(...last) };
}

/** Of the byte at `index`, what belongs to the first `bits` bits. */
function maskOf(bits: number, index: number): number {
  const here = Math.min(8, Math.max(0, bits - 8 * index));
  return (0xff << (8 - here)) & 0xff;
}

/** A prefix in CIDR notation; undefined when the text is none. */
export function prefixOf(text: string): Prefix | undefined {
  const [base = "", lengthText = ""] = text.split("/", 2);
  const address = canonicalAddress(base);
  const length = /^\d{1,3}$/.test(lengthText) ? Number(lengthText) : Number.NaN;
  if (address === undefined || !(length <= (familyOf(address) === "IPv4" ? 32 : 128))) return undefined;
  return { address, length };
}

export function prefixSet(prefixes: readonly Prefix[]): PrefixSet {
  const spans = prefixes.map(spanOf).sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0));
  /** The last address of any span up to here. */
  const reach: string[] = [];
  for (const { last } of spans) {
    const before = reach.at(-1);
    reach.push(before !== undefined && before > last ? before : last);
  }
  return {
    overlaps(prefix) {
      const { first, last } = spanOf(prefix);
      let from = 0;
      let to = spans.length;
      while (from < to) {
        const middle = (from + to) >> 1;
        if (spans[middle]!.first <= last) from = middle + 1;
        else to = middle;
      }
      return from > 0 && reach[from - 1]! >= first;
    },
  };
}
