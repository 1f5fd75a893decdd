// Packets in pieces (RFC 791, RFC 8200 section 4.5): cut as a sender or a router cuts them, and put together again as the
// receiver does, with everything wrong on the way named.
import { concat, ETHERTYPE, type Parsed, packet, parsePacket, sumWords } from "./packet.ts";

export interface CutOptions {
  /** Bytes of the transport's in each piece but the last; eights. @default 1400 */
  readonly size?: number;
  readonly id?: number;
}

/** A whole frame in pieces, the first one first. */
export function cut(frame: Uint8Array, { size = 1400, id = 0x4242 }: CutOptions = {}): Uint8Array[] {
  const { eth, source, destination, protocol, ttl } = parsePacket(frame);
  const header = eth!.type === ETHERTYPE.ipv4 ? 20 : 40;
  const body = frame.subarray(14 + header);
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < body.length; at += size) {
    const fields = { id, ttl, fragmentOffset: at, moreFragments: at + size < body.length };
    pieces.push(
      packet()
        .eth(eth!.source, eth!.destination)
        .ip(source, destination, fields)
        .raw(protocol)
        .payload(body.slice(at, at + size))
        .bytes(),
    );
  }
  return pieces;
}

interface Piece {
  readonly id: number;
  readonly offset: number;
  readonly more: boolean;
  readonly protocol: number;
  readonly body: Uint8Array;
}

function pieceOf(frame: Uint8Array): Piece {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  if (frame[14]! >> 4 === 4) {
    if (sumWords(frame.subarray(14, 34)) !== 0xffff) throw new Error("a fragment's IP checksum is wrong");
    const word = view.getUint16(20);
    return {
      id: view.getUint16(18),
      offset: (word & 0x1fff) * 8,
      more: (word & 0x2000) !== 0,
      protocol: frame[23]!,
      body: frame.slice(34, 14 + view.getUint16(16)),
    };
  }
  if (frame[20] !== 44) throw new Error("an IPv6 packet without a fragment header");
  const word = view.getUint16(56);
  return {
    id: view.getUint32(58),
    offset: word & 0xfff8,
    more: (word & 1) !== 0,
    protocol: frame[54]!,
    body: frame.slice(62, 54 + view.getUint16(18)),
  };
}

export interface Reassembled extends Parsed {
  readonly id: number;
}

/** What the receiver of these pieces makes of them. Throws when they are none of one packet. */
export function reassemble(frames: readonly Uint8Array[]): Reassembled {
  const pieces = frames.map(pieceOf);
  const [first] = pieces;
  const ends = frames.map((frame) => {
    const { source, destination, ttl } = parsePacket(frame, { cut: true });
    return { source, destination, ttl };
  });
  if (first === undefined || new Set(ends.map((one) => JSON.stringify(one))).size !== 1)
    throw new Error(`pieces between different ends: ${JSON.stringify(ends)}`);
  let at = 0;
  for (const [i, { id, offset, more, protocol, body }] of pieces.entries()) {
    if (id !== first.id || protocol !== first.protocol) throw new Error(`piece ${i} is another packet's`);
    if (offset !== at || more !== i < pieces.length - 1) throw new Error(`piece ${i} stands at ${offset}, not ${at}`);
    at += body.length;
  }
  const { source, destination, ttl } = ends[0]!;
  const { eth } = parsePacket(frames[0]!, { cut: true });
  const whole = packet()
    .eth(eth!.source, eth!.destination)
    .ip(source, destination, { ttl })
    .raw(first.protocol)
    .payload(concat(...pieces.map(({ body }) => body)))
    .bytes();
  return { ...parsePacket(whole), id: first.id };
}
