// Packets as tests write and read them: a fluent builder with right lengths and checksums, and a parser that renders a frame
// as one line of text and names everything wrong with it. Knows nothing of Services.
import { type Address, addressBytes, familyOf, readAddress, writeAddress } from "../../../src/lib/address.ts";

export const ETHERTYPE = { ipv4: 0x0800, arp: 0x0806, ipv6: 0x86dd } as const;
export const PROTOCOL = { icmp: 1, tcp: 6, udp: 17, icmp6: 58, sctp: 132 } as const;

/** In the order of the bits; a packet's flags are written "SA", "F", ... */
const TCP_FLAGS = "FSRPAUEC";

export interface NetworkFields {
  /** Hop limit for IPv6. @default 64 */
  readonly ttl?: number;
  /** @default 0x1234 */
  readonly id?: number;
  readonly dontFragment?: boolean;
  readonly moreFragments?: boolean;
  /** In bytes. */
  readonly fragmentOffset?: number;
  /** IPv4 options, padded to four bytes by the caller. */
  readonly options?: Uint8Array;
  /** IPv6: a destination options header of eight bytes stands before the transport. */
  readonly extension?: boolean;
  /** IPv6: a segment routing header (RFC 8754) of one segment with so many left. */
  readonly segmentsLeft?: number;
}

export interface TcpFields {
  /** Letters of FSRPAUEC. @default "S" */
  readonly flags?: string;
  readonly seq?: number;
  readonly ack?: number;
  readonly window?: number;
  /** Padded to four bytes by the caller. */
  readonly options?: Uint8Array;
}

/** RFC 9260 section 3.2. */
export const SCTP_CHUNK = { data: 0, init: 1, initAck: 2, abort: 6, cookieEcho: 10, cookieAck: 11 } as const;

export interface SctpFields {
  /** Type of the first chunk. @default init */
  readonly chunk?: number;
  /** The verification tag. @default 0, as an INIT has it */
  readonly tag?: number;
  /** What INIT and INIT ACK ask the other side to use. @default 1001 */
  readonly initiateTag?: number;
  /** false: left to a device, so it is 0. */
  readonly checksum?: boolean;
}

export interface ArpFields {
  readonly operation: "request" | "reply";
  readonly senderMac: string;
  readonly sender: Address;
  readonly targetMac?: string;
  readonly target: Address;
}

/** Each step returns a new builder; the last network, transport and payload given count. */
export interface PacketBuilder {
  eth(source: string, destination: string): PacketBuilder;
  ip(source: Address, destination: Address, fields?: NetworkFields): PacketBuilder;
  tcp(sourcePort: number, destinationPort: number, fields?: TcpFields): PacketBuilder;
  /** `checksum` false leaves it out (zero). */
  udp(sourcePort: number, destinationPort: number, fields?: { readonly checksum?: boolean }): PacketBuilder;
  /** A chunk of 20 bytes, and the payload behind it. */
  sctp(sourcePort: number, destinationPort: number, fields?: SctpFields): PacketBuilder;
  /** ICMP or ICMPv6, by the family of the network header. `rest` is the header's second word. */
  icmp(type: number, code: number, rest?: number): PacketBuilder;
  /** A neighbour solicitation's or advertisement's target and, when `mac` is given, its link-layer option. */
  neighbour(type: 135 | 136, target: Address, mac?: string): PacketBuilder;
  arp(fields: ArpFields): PacketBuilder;
  /** The payload stands right behind the network header, as a fragment's. */
  raw(protocol: number): PacketBuilder;
  /** A number asks for so many bytes 1, 2, 3, ... */
  payload(data: number | Uint8Array | string): PacketBuilder;
  bytes(): Uint8Array;
}

interface Parts {
  readonly eth?: { readonly source: string; readonly destination: string };
  readonly ip?: { readonly source: Address; readonly destination: Address; readonly fields: NetworkFields };
  readonly transport?: (parts: Parts, payload: Uint8Array) => { readonly protocol: number; readonly bytes: Uint8Array };
  readonly arp?: ArpFields;
  readonly payload: Uint8Array;
}

export function macBytes(text: string): Uint8Array {
  return Uint8Array.from(text.split(":"), (part) => Number.parseInt(part, 16));
}

export function macText(bytes: Uint8Array, at = 0): string {
  return Array.from(bytes.subarray(at, at + 6), (byte) => byte.toString(16).padStart(2, "0")).join(":");
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** One's complement sum of 16-bit words (RFC 1071), not inverted. */
export function sumWords(bytes: Uint8Array, start = 0): number {
  let sum = start;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

const checksum = (bytes: Uint8Array, start = 0): number => ~sumWords(bytes, start) & 0xffff;

/** An address as its family's header holds it. */
function wireAddress(address: Address): Uint8Array {
  const bytes = addressBytes(address);
  return familyOf(address) === "IPv4" ? bytes.slice(12) : bytes;
}

function addressOfWire(bytes: Uint8Array, at: number, size: 4 | 16): Address {
  const whole = new Uint8Array(16);
  if (size === 16) whole.set(bytes.subarray(at, at + 16));
  else {
    writeAddress("0.0.0.0", whole);
    whole.set(bytes.subarray(at, at + 4), 12);
  }
  return readAddress(whole);
}

function pseudoSum(source: Address, destination: Address, protocol: number, length: number): number {
  return sumWords(concat(wireAddress(source), wireAddress(destination)), protocol + length);
}

function transportSum(parts: Parts, protocol: number, bytes: Uint8Array): number {
  const { ip } = parts;
  if (ip === undefined) throw new Error("a transport header needs a network header");
  if (protocol === PROTOCOL.icmp) return checksum(bytes);
  return checksum(bytes, pseudoSum(ip.source, ip.destination, protocol, bytes.length));
}

function build(parts: Parts): Uint8Array {
  const link = (type: number): Uint8Array =>
    parts.eth === undefined
      ? new Uint8Array(0)
      : concat(macBytes(parts.eth.destination), macBytes(parts.eth.source), Uint8Array.of(type >> 8, type & 0xff));
  if (parts.arp !== undefined) return concat(link(ETHERTYPE.arp), arpBytes(parts.arp));
  if (parts.ip === undefined) throw new Error("a packet needs a network header");
  const { source, destination, fields } = parts.ip;
  const { protocol, bytes } = parts.transport?.(parts, parts.payload) ?? { protocol: 253, bytes: parts.payload };
  return familyOf(source) === "IPv4"
    ? concat(link(ETHERTYPE.ipv4), ipv4Header(source, destination, fields, protocol, bytes.length), bytes)
    : concat(link(ETHERTYPE.ipv6), ipv6Header(source, destination, fields, protocol, bytes.length), bytes);
}

function fragmentWord(fields: NetworkFields): number {
  return ((fields.fragmentOffset ?? 0) >> 3) & 0x1fff;
}

function ipv4Header(
  source: Address,
  destination: Address,
  fields: NetworkFields,
  protocol: number,
  length: number,
): Uint8Array {
  const options = fields.options ?? new Uint8Array(0);
  const header = new Uint8Array(20 + options.length);
  const view = new DataView(header.buffer);
  header[0] = 0x40 | (header.length / 4);
  view.setUint16(2, header.length + length);
  view.setUint16(4, fields.id ?? 0x1234);
  view.setUint16(6, fragmentWord(fields) | (fields.dontFragment ? 0x4000 : 0) | (fields.moreFragments ? 0x2000 : 0));
  header[8] = fields.ttl ?? 64;
  header[9] = protocol;
  header.set(wireAddress(source), 12);
  header.set(wireAddress(destination), 16);
  header.set(options, 20);
  view.setUint16(10, checksum(header));
  return header;
}

function ipv6Header(
  source: Address,
  destination: Address,
  fields: NetworkFields,
  protocol: number,
  length: number,
): Uint8Array {
  const extensions: Uint8Array[] = [];
  let next = protocol;
  if (fields.fragmentOffset !== undefined || fields.moreFragments) {
    const word = (fragmentWord(fields) << 3) | (fields.moreFragments ? 1 : 0);
    const header = new Uint8Array(8);
    const view = new DataView(header.buffer);
    header[0] = next;
    view.setUint16(2, word);
    view.setUint32(4, fields.id ?? 1);
    extensions.unshift(header);
    next = 44;
  }
  if (fields.segmentsLeft !== undefined) {
    extensions.unshift(concat(Uint8Array.of(next, 2, 4, fields.segmentsLeft, 0, 0, 0, 0), wireAddress(destination)));
    next = 43;
  }
  if (fields.extension) {
    extensions.unshift(Uint8Array.of(next, 0, 1, 4, 0, 0, 0, 0));
    next = 60;
  }
  const more = concat(...extensions);
  const header = new Uint8Array(40);
  const view = new DataView(header.buffer);
  view.setUint32(0, 0x60000000);
  view.setUint16(4, more.length + length);
  header[6] = next;
  header[7] = fields.ttl ?? 64;
  header.set(wireAddress(source), 8);
  header.set(wireAddress(destination), 24);
  return concat(header, more);
}

function arpBytes(fields: ArpFields): Uint8Array {
  return concat(
    Uint8Array.of(0, 1, 8, 0, 6, 4, 0, fields.operation === "request" ? 1 : 2),
    macBytes(fields.senderMac),
    wireAddress(fields.sender),
    macBytes(fields.targetMac ?? "00:00:00:00:00:00"),
    wireAddress(fields.target),
  );
}

function tcpBytes(parts: Parts, ports: readonly [number, number], fields: TcpFields, payload: Uint8Array): Uint8Array {
  const options = fields.options ?? new Uint8Array(0);
  const bytes = concat(new Uint8Array(20), options, payload);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, ports[0]);
  view.setUint16(2, ports[1]);
  view.setUint32(4, fields.seq ?? 1000);
  view.setUint32(8, fields.ack ?? 0);
  bytes[12] = ((20 + options.length) / 4) << 4;
  for (const letter of fields.flags ?? "S") bytes[13]! |= 1 << TCP_FLAGS.indexOf(letter);
  view.setUint16(14, fields.window ?? 65000);
  view.setUint16(16, transportSum(parts, PROTOCOL.tcp, bytes));
  return bytes;
}

function udpBytes(parts: Parts, ports: readonly [number, number], withSum: boolean, payload: Uint8Array): Uint8Array {
  const bytes = concat(new Uint8Array(8), payload);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, ports[0]);
  view.setUint16(2, ports[1]);
  view.setUint16(4, bytes.length);
  if (withSum) view.setUint16(6, transportSum(parts, PROTOCOL.udp, bytes) || 0xffff);
  return bytes;
}

/** CRC32c bit by bit (RFC 9260 appendix A), as SCTP sends it. */
function sctpChecksum(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

function sctpBytes(ports: readonly [number, number], fields: SctpFields, payload: Uint8Array): Uint8Array {
  const bytes = concat(new Uint8Array(12 + 20), payload);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, ports[0]);
  view.setUint16(2, ports[1]);
  view.setUint32(4, fields.tag ?? 0);
  bytes[12] = fields.chunk ?? SCTP_CHUNK.init;
  view.setUint16(14, 20);
  view.setUint32(16, fields.initiateTag ?? 1001);
  view.setUint32(20, 65536);
  if (fields.checksum ?? true) view.setUint32(8, sctpChecksum(bytes), true);
  return bytes;
}

function icmpBytes(parts: Parts, type: number, code: number, rest: number, payload: Uint8Array): Uint8Array {
  const bytes = concat(new Uint8Array(8), payload);
  const view = new DataView(bytes.buffer);
  bytes[0] = type;
  bytes[1] = code;
  view.setUint32(4, rest);
  view.setUint16(2, transportSum(parts, icmpProtocol(parts), bytes));
  return bytes;
}

function icmpProtocol(parts: Parts): number {
  return parts.ip !== undefined && familyOf(parts.ip.source) === "IPv4" ? PROTOCOL.icmp : PROTOCOL.icmp6;
}

function over(parts: Parts): PacketBuilder {
  return {
    eth: (source, destination) => over({ ...parts, eth: { source, destination } }),
    ip: (source, destination, fields = {}) => over({ ...parts, ip: { source, destination, fields } }),
    tcp: (source, destination, fields = {}) =>
      over({
        ...parts,
        transport: (all, payload) => ({
          protocol: PROTOCOL.tcp,
          bytes: tcpBytes(all, [source, destination], fields, payload),
        }),
      }),
    udp: (source, destination, fields = {}) =>
      over({
        ...parts,
        transport: (all, payload) => ({
          protocol: PROTOCOL.udp,
          bytes: udpBytes(all, [source, destination], fields.checksum ?? true, payload),
        }),
      }),
    sctp: (source, destination, fields = {}) =>
      over({
        ...parts,
        transport: (_all, payload) => ({
          protocol: PROTOCOL.sctp,
          bytes: sctpBytes([source, destination], fields, payload),
        }),
      }),
    icmp: (type, code, rest = 0) =>
      over({
        ...parts,
        transport: (all, payload) => ({
          protocol: icmpProtocol(all),
          bytes: icmpBytes(all, type, code, rest, payload),
        }),
      }),
    neighbour: (type, target, mac) =>
      over({
        ...parts,
        transport: (all) => ({
          protocol: PROTOCOL.icmp6,
          bytes: icmpBytes(
            all,
            type,
            0,
            type === 136 ? 0x60000000 : 0,
            concat(
              wireAddress(target),
              mac === undefined ? new Uint8Array(0) : concat(Uint8Array.of(type === 135 ? 1 : 2, 1), macBytes(mac)),
            ),
          ),
        }),
      }),
    arp: (fields) => over({ ...parts, arp: fields }),
    raw: (protocol) => over({ ...parts, transport: (_all, payload) => ({ protocol, bytes: payload }) }),
    payload: (data) =>
      over({
        ...parts,
        payload:
          typeof data === "number"
            ? Uint8Array.from({ length: data }, (_, i) => (i + 1) & 0xff)
            : typeof data === "string"
              ? new TextEncoder().encode(data)
              : data,
      }),
    bytes: () => build(parts),
  };
}

/** An empty packet to build on. */
export function packet(): PacketBuilder {
  return over({ payload: new Uint8Array(0) });
}

export interface Parsed {
  readonly eth: { readonly source: string; readonly destination: string; readonly type: number } | undefined;
  readonly source: Address;
  readonly destination: Address;
  readonly ttl: number;
  readonly protocol: number;
  /** Of TCP and UDP. */
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** Letters of FSRPAUEC. */
  readonly flags: string;
  readonly seq: number;
  readonly ack: number;
  /** The transport checksum as it stands. */
  readonly checksum: number;
  /** Of SCTP. */
  readonly sctp: { readonly tag: number; readonly chunk: number } | undefined;
  readonly icmp: { readonly type: number; readonly code: number; readonly rest: number } | undefined;
  readonly payload: Uint8Array;
  /** What an ICMP error quotes. */
  readonly quoted: Parsed | undefined;
  /** Wrong checksums and lengths. */
  readonly problems: readonly string[];
}

/** A quoted packet is cut: only what is there is checked. */
export interface ParseOptions {
  /** @default true */
  readonly link?: boolean;
  readonly cut?: boolean;
}

const ICMP_ERRORS = new Set([3, 5, 11, 12]);
const ICMP6_ERRORS = new Set([1, 2, 3, 4, 137]);

/** Reads an IPv4 or IPv6 packet. Throws when it is neither. */
export function parsePacket(bytes: Uint8Array, { link = true, cut = false }: ParseOptions = {}): Parsed {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const at = link ? 14 : 0;
  const eth = link
    ? { destination: macText(bytes, 0), source: macText(bytes, 6), type: view.getUint16(12) }
    : undefined;
  const problems: string[] = [];
  const version = bytes[at]! >> 4;
  if (version !== 4 && version !== 6) throw new Error(`no IP packet: ${Buffer.from(bytes).toString("hex")}`);
  if (eth !== undefined && eth.type !== (version === 4 ? ETHERTYPE.ipv4 : ETHERTYPE.ipv6)) problems.push("ethertype");
  let l4: number;
  let end: number;
  let protocol: number;
  if (version === 4) {
    l4 = at + (bytes[at]! & 15) * 4;
    end = at + view.getUint16(at + 2);
    protocol = bytes[at + 9]!;
    if (sumWords(bytes.subarray(at, l4)) !== 0xffff) problems.push("IP checksum");
  } else {
    l4 = at + 40;
    end = l4 + view.getUint16(at + 4);
    protocol = bytes[at + 6]!;
    while (protocol === 60 || protocol === 44 || protocol === 43) {
      const size = protocol === 44 ? 8 : (bytes[l4 + 1]! + 1) * 8;
      protocol = bytes[l4]!;
      l4 += size;
    }
  }
  const size = version === 4 ? 4 : 16;
  const source = addressOfWire(bytes, at + (size === 4 ? 12 : 8), size);
  const destination = addressOfWire(bytes, at + (size === 4 ? 16 : 24), size);
  const whole = end <= bytes.length;
  if (!cut && end !== bytes.length) problems.push(`length: ${bytes.length - at}, header says ${end - at}`);
  const segment = bytes.subarray(l4, Math.min(end, bytes.length));
  const fields = { sourcePort: 0, destinationPort: 0, flags: "", seq: 0, ack: 0, checksum: 0 };
  let payload = segment;
  let sctp: Parsed["sctp"];
  let icmp: Parsed["icmp"];
  let quoted: Parsed | undefined;
  const seg = new DataView(segment.buffer, segment.byteOffset, segment.byteLength);
  const verify = (name: string): void => {
    if (whole && sumWords(segment, pseudoSum(source, destination, protocol, segment.length)) !== 0xffff) {
      problems.push(`${name} checksum`);
    }
  };
  if ((protocol === PROTOCOL.tcp || protocol === PROTOCOL.udp) && segment.length >= 8) {
    fields.sourcePort = seg.getUint16(0);
    fields.destinationPort = seg.getUint16(2);
    if (protocol === PROTOCOL.tcp) {
      fields.seq = seg.getUint32(4);
      if (segment.length >= 20) {
        fields.ack = seg.getUint32(8);
        fields.flags = [...TCP_FLAGS].filter((_, bit) => segment[13]! & (1 << bit)).join("");
        fields.checksum = seg.getUint16(16);
        payload = segment.subarray((segment[12]! >> 4) * 4);
      }
      verify("TCP");
    } else {
      fields.checksum = seg.getUint16(6);
      payload = segment.subarray(8);
      if (whole && seg.getUint16(4) !== segment.length) problems.push("UDP length");
      if (fields.checksum !== 0) verify("UDP");
      else if (version === 6) problems.push("no UDP checksum");
    }
  } else if (protocol === PROTOCOL.sctp && segment.length >= 12) {
    fields.sourcePort = seg.getUint16(0);
    fields.destinationPort = seg.getUint16(2);
    fields.checksum = seg.getUint32(8, true);
    sctp = { tag: seg.getUint32(4), chunk: segment[12] ?? 255 };
    payload = segment.subarray(32);
    const blank = segment.slice();
    blank.fill(0, 8, 12);
    if (whole && fields.checksum !== 0 && fields.checksum !== sctpChecksum(blank)) problems.push("SCTP checksum");
  } else if (protocol === PROTOCOL.icmp || protocol === PROTOCOL.icmp6) {
    icmp = { type: segment[0]!, code: segment[1]!, rest: seg.getUint32(4) };
    fields.checksum = seg.getUint16(2);
    payload = segment.subarray(8);
    if (protocol === PROTOCOL.icmp6) verify("ICMPv6");
    else if (whole && sumWords(segment) !== 0xffff) problems.push("ICMP checksum");
    if ((protocol === PROTOCOL.icmp ? ICMP_ERRORS : ICMP6_ERRORS).has(icmp.type) && icmp.type !== 137) {
      quoted = parsePacket(payload, { link: false, cut: true });
      for (const problem of quoted.problems) problems.push(`quoted ${problem}`);
    }
  }
  const ttl = version === 4 ? bytes[at + 8]! : bytes[at + 7]!;
  return { eth, source, destination, ttl, protocol, ...fields, sctp, icmp, payload, quoted, problems };
}

/**
 * The TCP or UDP packet as a sender with offload leaves it: the checksum field holds the pseudo header's sum only, for a device
 * to complete.
 */
export function withPartialChecksum(frame: Uint8Array): Uint8Array {
  const { source, destination, protocol, payload } = parsePacket(frame);
  const l4 = familyOf(source) === "IPv4" ? 34 : 54;
  const length = frame.length - l4;
  if (length < payload.length) throw new Error("extension headers are not for here");
  const bytes = frame.slice();
  new DataView(bytes.buffer).setUint16(
    l4 + (protocol === PROTOCOL.tcp ? 16 : 6),
    pseudoSum(source, destination, protocol, length),
  );
  return bytes;
}

const withPort = (address: Address, port: number): string =>
  address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;

/** Source, destination and what is between them: "192.0.2.1:40000 > 10.0.0.1:80 tcp S". Problems follow after "!". */
export function describe(parsed: Parsed): string {
  const { source, destination, protocol, icmp, problems } = parsed;
  const bad = problems.length > 0 ? ` ! ${problems.join(", ")}` : "";
  if (icmp !== undefined) {
    const inner = parsed.quoted === undefined ? "" : ` (${describe({ ...parsed.quoted, problems: [] })})`;
    return `${source} > ${destination} icmp ${icmp.type}/${icmp.code}${inner}${bad}`;
  }
  const ends = `${withPort(source, parsed.sourcePort)} > ${withPort(destination, parsed.destinationPort)}`;
  if (protocol === PROTOCOL.tcp) return `${ends} tcp ${parsed.flags}${bad}`;
  if (parsed.sctp !== undefined) return `${ends} sctp ${parsed.sctp.chunk}${bad}`;
  return `${ends} ${protocol === PROTOCOL.udp ? "udp" : protocol}${bad}`;
}

/** describe() of raw bytes. */
export function describePacket(bytes: Uint8Array, options: ParseOptions = {}): string {
  return describe(parsePacket(bytes, options));
}
