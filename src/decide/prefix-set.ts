// Whether a prefix shares an address with any of many. Asked in logarithmic time, as a cluster has thousands of nodes and a node
// hundreds of routes.
import { canonicalAddress, familyOf, type Prefix, writeAddress } from "../lib/address.ts";

export interface PrefixSet {
  /** Prefixes that overlap lie in one another. */
  overlaps(prefix: Prefix): boolean;
}

interface Span {
  readonly first: string;
  readonly last: string;
}

const bytes = new Uint8Array(16);
const view = new DataView(bytes.buffer);

/** First and last address as texts of 16 bits a character, which compare as the addresses of a family do. Host bits do not count. */
function spanOf({ address, length }: Prefix): Span {
  writeAddress(address, bytes);
  const isIPv4 = familyOf(address) === "IPv4";
  let first = isIPv4 ? "4" : "6";
  let last = first;
  let left = length;
  for (let offset = isIPv4 ? 12 : 0; offset < 16; offset += 2) {
    const host = 0xffff >> Math.min(16, Math.max(0, left));
    const word = view.getUint16(offset);
    first += String.fromCharCode(word & ~host);
    last += String.fromCharCode(word | host);
    left -= 16;
  }
  return { first, last };
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
