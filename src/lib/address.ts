// IPv4 and IPv6 addresses and prefixes as canonical text and as the 16 bytes that the maps hold
// (network order, IPv4 as ::ffff:a.b.c.d). Never resolves names, never reads a device.
import ipaddr from "ipaddr.js";
import type { Range } from "./range.ts";

/** Canonical text of an address: dotted decimal, or RFC 5952. Two equal addresses have equal text. */
export type Address = string;

export type Family = "IPv4" | "IPv6";

const IPV4_TEXT = /^(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})$/;

/** The canonical text of `text`, or undefined when it is no address. Leading zeros, zones and IPv4-mapped IPv6 are refused, as Kubernetes refuses them. */
export function canonicalAddress(text: string): Address | undefined {
  if (IPV4_TEXT.test(text)) return ipaddr.IPv4.isValidFourPartDecimal(text) ? text : undefined;
  if (!text.includes(":") || text.includes("%") || !ipaddr.IPv6.isValid(text)) return undefined;
  const parsed = ipaddr.IPv6.parse(text);
  return parsed.isIPv4MappedAddress() ? undefined : parsed.toRFC5952String();
}

/**
 * The address that `text` means in an object that an API server let in long ago: parts with leading zeros are decimal, and
 * IPv4-mapped IPv6 is IPv4. Undefined when it is no address.
 */
export function storedAddress(text: string): Address | undefined {
  const canonical = canonicalAddress(text);
  if (canonical !== undefined) return canonical;
  if (/^\d+(\.\d+){3}$/.test(text)) return canonicalAddress(text.split(".").map(Number).join("."));
  if (!text.includes(":") || text.includes("%") || !ipaddr.IPv6.isValid(text)) return undefined;
  return ipaddr.IPv6.parse(text).toIPv4Address().toString();
}

export function familyOf(address: Address): Family {
  return address.includes(":") ? "IPv6" : "IPv4";
}

/** The address that a socket has: one of both families has IPv4 addresses in IPv6's notation. */
export function socketAddress(text: string): string {
  return text.replace(/^::ffff:/, "");
}

/** Writes the 16 bytes of a canonical address to `target` at `offset`: network order, IPv4 as IPv4-mapped. */
export function writeAddress(address: Address, target: Uint8Array, offset = 0): void {
  if (!address.includes(":")) {
    target.fill(0, offset, offset + 10);
    target[offset + 10] = 0xff;
    target[offset + 11] = 0xff;
    let at = offset + 12;
    let value = 0;
    for (let i = 0; i < address.length; i++) {
      const code = address.charCodeAt(i);
      if (code === 46) {
        target[at++] = value;
        value = 0;
      } else value = value * 10 + code - 48;
    }
    target[at] = value;
    return;
  }
  writeIPv6(address, target, offset);
}

/** Canonical text only: nothing is checked, and no dotted tail occurs. */
function writeIPv6(address: Address, target: Uint8Array, offset: number): void {
  target.fill(0, offset, offset + 16);
  let at = offset;
  let gap = -1;
  let value = 0;
  let digits = 0;
  const flush = (): void => {
    target[at] = value >> 8;
    target[at + 1] = value & 0xff;
    at += 2;
    value = 0;
    digits = 0;
  };
  for (let i = 0; i < address.length; i++) {
    const code = address.charCodeAt(i);
    if (code !== 58) {
      value = (value << 4) | (code <= 57 ? code - 48 : code - 87);
      digits++;
    } else if (digits > 0) flush();
    else gap = at;
    if (code === 58 && address.charCodeAt(i + 1) === 58) gap = at;
  }
  if (digits > 0) flush();
  if (gap >= 0 && at < offset + 16) {
    const end = offset + 16;
    target.copyWithin(end - (at - gap), gap, at);
    target.fill(0, gap, end - (at - gap));
  }
}

/** RFC 5952: the longest run of two or more zero groups, the first of equal ones, is "::". */
function readIPv6(source: Uint8Array, offset: number): Address {
  let best = -1;
  let bestLength = 1;
  for (let i = 0; i < 8; ) {
    let end = i;
    while (end < 8 && source[offset + end * 2] === 0 && source[offset + end * 2 + 1] === 0) end++;
    if (end - i > bestLength) {
      best = i;
      bestLength = end - i;
    }
    i = end + 1;
  }
  let text = "";
  for (let i = 0; i < 8; i++) {
    if (i === best) {
      text += "::";
      i += bestLength - 1;
      continue;
    }
    if (text !== "" && !text.endsWith(":")) text += ":";
    text += ((source[offset + i * 2]! << 8) | source[offset + i * 2 + 1]!).toString(16);
  }
  return text;
}

/** The 16 bytes of a canonical address: network order, IPv4 as IPv4-mapped. */
export function addressBytes(address: Address): Uint8Array {
  const bytes = new Uint8Array(16);
  writeAddress(address, bytes);
  return bytes;
}

/** The canonical address of 16 bytes at `offset`; IPv4-mapped becomes dotted decimal, `0.0.0.0` included. */
export function readAddress(source: Uint8Array, offset = 0): Address {
  let mapped = source[offset + 10] === 0xff && source[offset + 11] === 0xff;
  for (let i = 0; mapped && i < 10; i++) mapped = source[offset + i] === 0;
  if (mapped) return `${source[offset + 12]}.${source[offset + 13]}.${source[offset + 14]}.${source[offset + 15]}`;
  return readIPv6(source, offset);
}

/** An address as an unsigned number of its own family's width (32 or 128 bits). */
export function addressToBigInt(address: Address): bigint {
  let value = 0n;
  for (const byte of ipaddr.parse(address).toByteArray()) value = (value << 8n) | BigInt(byte);
  return value;
}

export function addressFromBigInt(value: bigint, family: Family): Address {
  const length = family === "IPv4" ? 4 : 16;
  const bytes: number[] = [];
  for (let i = length - 1; i >= 0; i--) bytes.push(Number((value >> BigInt(i * 8)) & 0xffn));
  const parsed = ipaddr.fromByteArray(bytes);
  return parsed.kind() === "ipv4" ? parsed.toString() : (parsed as ipaddr.IPv6).toRFC5952String();
}

/** First and last address of a prefix or of a range, both included. */
export interface AddressRange extends Range<bigint> {
  readonly family: Family;
}

/** A range from `a.b.c.d/len` (host bits are ignored) or `first-last`; undefined when the text is neither. */
export function parseRange(text: string): AddressRange | undefined {
  const dash = text.indexOf("-");
  if (dash > 0) {
    const from = canonicalAddress(text.slice(0, dash).trim());
    const to = canonicalAddress(text.slice(dash + 1).trim());
    if (from === undefined || to === undefined || familyOf(from) !== familyOf(to)) return undefined;
    const range = { family: familyOf(from), first: addressToBigInt(from), last: addressToBigInt(to) };
    return range.first <= range.last ? range : undefined;
  }
  const slash = text.indexOf("/");
  if (slash < 0) return undefined;
  const base = canonicalAddress(text.slice(0, slash).trim());
  const lengthText = text.slice(slash + 1).trim();
  if (base === undefined || !/^\d{1,3}$/.test(lengthText)) return undefined;
  const family = familyOf(base);
  const width = family === "IPv4" ? 32 : 128;
  const length = Number(lengthText);
  if (length > width) return undefined;
  const hostBits = BigInt(width - length);
  const first = (addressToBigInt(base) >> hostBits) << hostBits;
  return { family, first, last: first + (1n << hostBits) - 1n };
}

/** An address and how many of its bits are the network's. */
export interface Prefix {
  readonly address: Address;
  readonly length: number;
}

/** Network address and length of a prefix in CIDR notation (host bits are ignored); undefined when the text is none. */
export function parsePrefix(text: string): Prefix | undefined {
  const range = text.includes("-") ? undefined : parseRange(text);
  return range === undefined
    ? undefined
    : { address: addressFromBigInt(range.first, range.family), length: Number(text.split("/")[1]) };
}

export function rangeContains(range: AddressRange, address: Address): boolean {
  if (familyOf(address) !== range.family) return false;
  const value = addressToBigInt(address);
  return value >= range.first && value <= range.last;
}

/** `address` is in the network of `prefix`, whose own host bits do not count. */
export function prefixContains(prefix: Prefix, address: Address): boolean {
  if (familyOf(prefix.address) !== familyOf(address)) return false;
  const hostBits = BigInt((familyOf(address) === "IPv4" ? 32 : 128) - prefix.length);
  return addressToBigInt(prefix.address) >> hostBits === addressToBigInt(address) >> hostBits;
}

/** Why an address can never be an endpoint or a frontend (RFC 6890 special ranges), or undefined when it can. */
export function unusableReason(address: Address): "loopback" | "link-local" | "multicast" | "unspecified" | undefined {
  // Asked for every endpoint of a changed Service: what is plainly unicast is not parsed.
  const dot = address.indexOf(".");
  if (dot > 0) {
    const octet = Number(address.slice(0, dot));
    if (octet > 0 && octet < 224 && octet !== 127 && octet !== 169) return undefined;
  } else if (/^(?:[23]|f[cd])[0-9a-f]{2,3}:/.test(address)) return undefined;
  switch (ipaddr.parse(address).range()) {
    case "loopback":
      return "loopback";
    case "linkLocal":
      return "link-local";
    case "multicast":
    case "broadcast":
      return "multicast";
    case "unspecified":
      return "unspecified";
    default:
      return undefined;
  }
}

/** 10.0.0.1:80, [fd00::1]:80 */
export function hostAndPort(address: Address, port: number): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}
