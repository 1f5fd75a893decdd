// The independent judge of what programs make of packets: it shares no code with the builder that tests write packets with, nor with
// the programs. It reads RFC 791 and 8200 headers, and reckons every checksum by its definition: RFC 1071 (of IPv4, TCP by RFC 9293,
// UDP by RFC 768, ICMP by RFC 792 and 4443) and CRC32c (RFC 9260 appendix A).
//
// A program that changes addresses and ports corrects a checksum by what they differ. So a right one stays right, and a wrong one as
// wrong as it was: the *residue* of each sum, 0 when it is right, is the same before and after. What a program writes itself
// is right whatever it answers.

const IPV4 = 0x0800;
const IPV6 = 0x86dd;
const ICMP = 1;
const TCP = 6;
const UDP = 17;
const ICMPV6 = 58;
const SCTP = 132;
const HOP_BY_HOP = 0;
const ROUTING = 43;
const FRAGMENT = 44;
const DESTINATION = 60;

const MOST_EXTENSIONS = 16;

/** Where the checksum stands in the transport header. */
const SUM_AT: Readonly<Record<number, number>> = { [TCP]: 16, [UDP]: 6, [ICMP]: 2, [ICMPV6]: 2, [SCTP]: 8 };

/** An IP packet taken apart; offsets are into the bytes that it was read from. */
export interface Layers {
  family: 4 | 6;
  l3: number;
  /** Of the transport header, or of what follows the network header. */
  l4: number;
  protocol: number;
  /** Where the network header says that the packet ends. */
  end: number;
  /** In bytes. */
  fragmentOffset: number;
  moreFragments: boolean;
  hopLimit: number;
  /** Of TCP, UDP and SCTP; -1 when they are not there. */
  sourcePort: number;
  destinationPort: number;
}

/** undefined: no IP packet, or one whose header is cut or a lie. */
export function dissect(bytes: Uint8Array, l3: number): Layers | undefined {
  const version = (bytes[l3] ?? 0) >> 4;
  const layers = version === 4 ? dissectV4(bytes, l3) : version === 6 ? dissectV6(bytes, l3) : undefined;
  if (layers === undefined || layers.fragmentOffset > 0 || layers.l4 + 4 > bytes.length) return layers;
  if (layers.protocol === TCP || layers.protocol === UDP || layers.protocol === SCTP) {
    layers.sourcePort = word(bytes, layers.l4);
    layers.destinationPort = word(bytes, layers.l4 + 2);
  }
  return layers;
}

function dissectV4(bytes: Uint8Array, l3: number): Layers | undefined {
  const header = (bytes[l3]! & 15) * 4;
  if (header < 20 || l3 + 20 > bytes.length) return undefined;
  const fragment = word(bytes, l3 + 6);
  return {
    family: 4,
    l3,
    l4: l3 + header,
    protocol: bytes[l3 + 9]!,
    end: l3 + word(bytes, l3 + 2),
    fragmentOffset: (fragment & 0x1fff) * 8,
    moreFragments: (fragment & 0x2000) !== 0,
    hopLimit: bytes[l3 + 8]!,
    sourcePort: -1,
    destinationPort: -1,
  };
}

function dissectV6(bytes: Uint8Array, l3: number): Layers | undefined {
  if (l3 + 40 > bytes.length) return undefined;
  let at = l3 + 40;
  let protocol = bytes[l3 + 6]!;
  let fragmentOffset = 0;
  let moreFragments = false;
  for (let i = 0; i < MOST_EXTENSIONS; i++) {
    if (protocol !== HOP_BY_HOP && protocol !== ROUTING && protocol !== FRAGMENT && protocol !== DESTINATION) break;
    if (at + 8 > bytes.length) return undefined;
    const next = bytes[at]!;
    if (protocol === FRAGMENT) {
      fragmentOffset = word(bytes, at + 2) & 0xfff8;
      moreFragments = (bytes[at + 3]! & 1) !== 0;
      at += 8;
    } else at += (bytes[at + 1]! + 1) * 8;
    protocol = next;
    // Behind a later fragment's header stands the middle of something.
    if (fragmentOffset > 0) break;
  }
  return {
    family: 6,
    l3,
    l4: at,
    protocol,
    end: l3 + 40 + word(bytes, l3 + 4),
    fragmentOffset,
    moreFragments,
    hopLimit: bytes[l3 + 7]!,
    sourcePort: -1,
    destinationPort: -1,
  };
}

function word(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

/** One's complement sum of [from, to) modulo 0xffff, so that 0 and 0xffff, which stand for the same, are one. */
function sum(bytes: Uint8Array, from: number, to: number): number {
  let total = 0;
  let at = from;
  for (; at + 1 < to; at += 2) total += (bytes[at]! << 8) | bytes[at + 1]!;
  if (at < to) total += bytes[at]! << 8;
  return total % 0xffff;
}

function pseudoHeader(bytes: Uint8Array, { family, l3, protocol }: Layers, length: number): number {
  const addresses = family === 4 ? sum(bytes, l3 + 12, l3 + 20) : sum(bytes, l3 + 8, l3 + 40);
  return (addresses + protocol + (length >>> 16) + (length & 0xffff)) % 0xffff;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  return crc;
});

/** CRC32c of [from, to) with the four bytes at `hole` taken for 0; unsigned. */
export function crc32c(bytes: Uint8Array, from: number, to: number, hole = -4): number {
  let crc = 0xffffffff;
  for (let at = from; at < to; at++) {
    const byte = at >= hole && at < hole + 4 ? 0 : bytes[at]!;
    crc = (crc >>> 8) ^ CRC_TABLE[(crc ^ byte) & 0xff]!;
  }
  return ~crc >>> 0;
}

/** The checksum of SCTP as it stands, by the byte order that it is sent in. */
function storedCrc(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

/** What becomes of the packet's sums: each a residue, or NONE when the packet has no such sum or not enough of it. */
export interface Residues {
  header: number;
  transport: number;
}

const NONE = -1;

/**
 * Residues over all that is there, from the transport header on: bytes behind the packet's end count in both, before and after.
 * A checksum of 0 in UDP, and in SCTP that a device completes, is none.
 */
export function residues(bytes: Uint8Array, layers: Layers, to = bytes.length): Residues {
  const header = layers.family === 4 && layers.l4 <= to ? sum(bytes, layers.l3, layers.l4) : NONE;
  return { header, transport: transportResidue(bytes, layers, to) };
}

function transportResidue(bytes: Uint8Array, layers: Layers, to: number): number {
  const { l4, protocol, family, fragmentOffset, end } = layers;
  const offset = SUM_AT[protocol];
  if (offset === undefined || fragmentOffset > 0) return NONE;
  if ((protocol === ICMP) !== (family === 4) && (protocol === ICMP || protocol === ICMPV6)) return NONE;
  const field = l4 + offset;
  if (field + (protocol === SCTP ? 4 : 2) > to) return NONE;
  if (protocol === SCTP) {
    const stored = storedCrc(bytes, field);
    // Over a piece, or less than the header says, it cannot be told.
    if (stored === 0 || layers.moreFragments || end > bytes.length || end < l4 + 12) return NONE;
    return (stored ^ crc32c(bytes, l4, end, field)) >>> 0;
  }
  if (protocol === UDP && word(bytes, field) === 0) return NONE;
  const covered = sum(bytes, l4, to);
  return protocol === ICMP ? covered : (covered + pseudoHeader(bytes, layers, end - l4)) % 0xffff;
}

/** Does the transport's checksum hold just the sum of the pseudo header (or, in SCTP, nothing), for a device to complete? */
export function isPartial(bytes: Uint8Array, layers: Layers): boolean {
  const { l4, protocol, fragmentOffset, end } = layers;
  if (fragmentOffset > 0 || (protocol !== TCP && protocol !== UDP && protocol !== SCTP)) return false;
  const field = l4 + SUM_AT[protocol]!;
  if (field + (protocol === SCTP ? 4 : 2) > bytes.length) return false;
  if (protocol === SCTP) return storedCrc(bytes, field) === 0;
  return word(bytes, field) % 0xffff === pseudoHeader(bytes, layers, end - l4) && word(bytes, field) !== 0;
}

/** The packet with its checksum as the device will write it, over what is there. */
function completed(bytes: Uint8Array, layers: Layers): Uint8Array {
  const whole = bytes.slice();
  const { l4, protocol } = layers;
  const field = l4 + SUM_AT[protocol]!;
  const end = bytes.length;
  // A quote may end before it.
  if (field + (protocol === SCTP ? 4 : 2) > end) return whole;
  if (protocol === SCTP) {
    new DataView(whole.buffer).setUint32(field, crc32c(bytes, l4, end, field), true);
    return whole;
  }
  // The device adds up from the transport header on, the pseudo header's sum among it.
  const fresh = 0xffff - (sum(bytes, l4, end) || 0xffff);
  new DataView(whole.buffer).setUint16(field, fresh === 0 ? 0xffff : fresh);
  return whole;
}

/** Writes the checksums that the packet's headers ask for, as far as what is there allows. */
export function repair(bytes: Uint8Array, l3: number): void {
  const layers = dissect(bytes, l3);
  if (layers === undefined || layers.l4 > bytes.length) return;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (layers.family === 4) {
    view.setUint16(l3 + 10, 0);
    view.setUint16(l3 + 10, 0xffff - sum(bytes, l3, layers.l4));
  }
  const { l4, protocol, fragmentOffset } = layers;
  const offset = SUM_AT[protocol];
  const end = Math.min(layers.end, bytes.length);
  if (offset === undefined || fragmentOffset > 0 || l4 + offset + (protocol === SCTP ? 4 : 2) > end) return;
  if (protocol === SCTP) {
    view.setUint32(l4 + offset, crc32c(bytes, l4, end, l4 + offset), true);
    return;
  }
  view.setUint16(l4 + offset, 0);
  const covered = sum(bytes, l4, end) + (protocol === ICMP ? 0 : pseudoHeader(bytes, layers, layers.end - l4));
  const fresh = 0xffff - (covered % 0xffff);
  view.setUint16(l4 + offset, fresh === 0 && protocol === UDP ? 0xffff : fresh);
}

function isError({ family, protocol }: Layers, type: number): boolean {
  if (family === 4) return protocol === ICMP && (type === 3 || type === 5 || type === 11 || type === 12);
  return protocol === ICMPV6 && type >= 1 && type <= 4;
}

/** What an ICMP error quotes; undefined when it is none, or quotes too little. */
export function quotedBy(bytes: Uint8Array, layers: Layers): Layers | undefined {
  if (layers.fragmentOffset > 0 || layers.l4 + 8 > bytes.length || !isError(layers, bytes[layers.l4]!))
    return undefined;
  const quoted = dissect(bytes, layers.l4 + 8);
  return quoted?.family === layers.family ? quoted : undefined;
}

const LINK = 14;

/** Offset of the network header: 14 when the frame has an Ethernet header with an IP type, -1 when it has another. */
export function networkAt(bytes: Uint8Array, link: boolean): number {
  if (!link) return 0;
  const type = bytes.length >= LINK ? word(bytes, 12) : 0;
  return type === IPV4 || type === IPV6 ? LINK : -1;
}

const swaps = (sent: Uint8Array, a: Layers, got: Uint8Array, b: Layers): boolean =>
  a.family === b.family &&
  addressText(sent, a, "destination") === addressText(got, b, "source") &&
  goesBack(sent, a, got, b);

const goesBack = (sent: Uint8Array, a: Layers, got: Uint8Array, b: Layers): boolean =>
  a.family === b.family && addressText(sent, a, "source") === addressText(got, b, "destination");

/** An address as text that is the same for the same address, and for no other. */
export function addressText(bytes: Uint8Array, { family, l3 }: Layers, which: "source" | "destination"): string {
  const size = family === 4 ? 4 : 16;
  const at = l3 + (family === 4 ? 12 : 8) + (which === "source" ? 0 : size);
  let text = "";
  for (let i = 0; i < size; i++) text += String.fromCharCode(bytes[at + i]!);
  return text;
}

/** Is `got` an answer that was made of `sent`, and not `sent` sent on? */
export function isReply(sent: Uint8Array, a: Layers, got: Uint8Array, b: Layers): boolean {
  if (swaps(sent, a, got, b) || (isNeighbour(sent, a) && isNeighbour(got, b))) return true;
  const quoted = quotedBy(got, b);
  return quoted !== undefined && quotedBy(sent, a) === undefined && goesBack(sent, a, got, b);
}

/**
 * What is wrong with `got`, which a program made of `sent`. `sentLink`, `gotLink`: they have an Ethernet header. Of frames
 * that are no IP (ARP) nothing is said.
 */
export function audit(sent: Uint8Array, got: Uint8Array, sentLink = true, gotLink = sentLink): string[] {
  const a = dissectAt(sent, networkAt(sent, sentLink));
  const b = dissectAt(got, networkAt(got, gotLink));
  if (a === undefined) return [];
  if (b === undefined) return ["an IP packet became none"];
  if (!isReply(sent, a, got, b)) return auditTranslated(sent, a, got, b);
  const problems = auditReply(sent, a, got, b);
  // A backend that is its own client is sent what looks like an answer.
  return problems.length === 0 || auditTranslated(sent, a, got, b).length === 0 ? [] : problems;
}

const dissectAt = (bytes: Uint8Array, l3: number): Layers | undefined => (l3 < 0 ? undefined : dissect(bytes, l3));

function auditTranslated(sent: Uint8Array, a: Layers, got: Uint8Array, b: Layers): string[] {
  const problems: string[] = [];
  const same = (what: string, before: number, after: number): void => {
    if (before !== after) problems.push(`${what}: off by ${hex(before)} before, ${hex(after)} after`);
  };
  if (a.family !== b.family || a.protocol !== b.protocol || a.end - a.l3 !== b.end - b.l3)
    problems.push("another kind of packet");
  if (sent.length - a.l3 !== got.length - b.l3) problems.push("another length");
  if (problems.length > 0) return problems;
  const before = residues(sent, a);
  const after = residues(got, b);
  same("header checksum", before.header, after.header);
  same(`checksum of protocol ${a.protocol}`, before.transport, after.transport);
  const inner = quotedBy(sent, a);
  const innerAfter = quotedBy(got, b);
  if (inner === undefined || innerAfter === undefined) return problems;
  // What is behind the error's own end is no part of it.
  const quoted = residues(sent, inner, Math.min(a.end, sent.length));
  const quotedAfter = residues(got, innerAfter, Math.min(b.end, got.length));
  same("quoted header checksum", quoted.header, quotedAfter.header);
  // SCTP's covers what was cut off.
  if (inner.protocol === TCP || inner.protocol === UDP)
    same("quoted checksum", quoted.transport, quotedAfter.transport);
  return problems;
}

function auditReply(sent: Uint8Array, a: Layers, got: Uint8Array, b: Layers): string[] {
  const problems: string[] = [];
  const right = (what: string, residue: number): void => {
    if (residue !== 0) problems.push(`${what} of a reply: off by ${hex(residue)}`);
  };
  if (b.end > got.length && a.end <= sent.length)
    problems.push(`a reply of ${got.length - b.l3} bytes says ${b.end - b.l3}`);
  if (b.family === 4) right("header checksum", residues(got, b).header);
  const partial = isPartial(sent, a);
  const inner = quotedBy(got, b);
  if (inner !== undefined && partial) {
    right("checksum", residues(completed(got, inner), b).transport);
    return problems;
  }
  // An echo reply is a packet of theirs with another type: as wrong as it was.
  const echo = (b.protocol === ICMP || b.protocol === ICMPV6) && inner === undefined;
  const residue = residues(got, b).transport;
  if (echo && !isNeighbour(got, b)) {
    const before = transportResidue(sent, a, Math.min(a.end, sent.length));
    const after = transportResidue(got, b, Math.min(b.end, got.length));
    if (before !== after) problems.push(`checksum of an echo: off by ${hex(before)} before, ${hex(after)} after`);
  } else if (!(partial && isPartial(got, b))) right("checksum", residue);
  return problems;
}

/** An ICMPv6 message of neighbour discovery, which is made anew. */
const isNeighbour = (bytes: Uint8Array, { protocol, l4 }: Layers): boolean => protocol === ICMPV6 && bytes[l4]! > 132;

const hex = (residue: number): string => (residue === NONE ? "nothing (there is none)" : `0x${residue.toString(16)}`);
