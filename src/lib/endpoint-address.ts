// Addresses of endpoints as they stand in objects, checked at a hundred thousand a fraction of a second: the common case by hand.
import { type Address, readAddress, storedAddress, unusableReason, writeAddress } from "./address.ts";

const DOT = 46;
const ZERO = 48;

/**
 * Whether the text is a canonical IPv4 address that any endpoint may have. False says nothing: then address.ts decides.
 * First octets 0, 127, 169 and from 224 on, which hold the special ranges, are never plain.
 */
function isPlainIPv4(text: string): boolean {
  let octets = 0;
  let value = -1;
  let digits = 0;
  for (let i = 0; i <= text.length; i++) {
    const code = i === text.length ? DOT : text.charCodeAt(i);
    if (code === DOT) {
      if (value < 0 || value > 255) return false;
      if (octets === 0 && (value === 0 || value === 127 || value === 169 || value >= 224)) return false;
      octets++;
      value = -1;
      digits = 0;
      continue;
    }
    const digit = code - ZERO;
    // A second digit after 0 is a leading zero.
    if (digit < 0 || digit > 9 || value === 0 || ++digits > 3) return false;
    value = value < 0 ? digit : value * 10 + digit;
  }
  return octets === 4;
}

const LONGEST_IPV6 = 39;
const scratch = new Uint8Array(16);

/** The same for IPv6. Text that comes out of 16 bytes as it went in is canonical, whatever writing it made of it before. */
function isPlainIPv6(text: string): boolean {
  if (text.length > LONGEST_IPV6 || !text.includes(":")) return false;
  writeAddress(text, scratch);
  const first = scratch[0]!;
  // ::1 and ::, fe80::/10, ff00::/8
  return first !== 0 && first !== 0xfe && first !== 0xff && readAddress(scratch) === text;
}

export interface UnusableAddress {
  /** Why no endpoint may have it. */
  readonly why: string;
}

/** What any text is as an endpoint's address: the canonical address, or why there is none to be used. */
export function endpointAddress(text: string): Address | UnusableAddress {
  if (isPlainIPv4(text) || isPlainIPv6(text)) return text;
  const address = storedAddress(text);
  if (address === undefined) return { why: "must be a valid IP address" };
  const why = unusableReason(address);
  if (why === undefined) return address;
  return { why: `may not be ${why === "unspecified" ? "unspecified" : `a ${why} address`}` };
}
