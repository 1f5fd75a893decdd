// netfilter's connections of the calling thread's network namespace, by netlink (linux/netfilter/nfnetlink_conntrack.h): those whose
// destination is translated are listed, and taken out.
import { type Address, readAddress, writeAddress } from "../lib/address.ts";
import { EINVAL, ENOENT, kernelError } from "./errno.ts";
import { isConntrackLoaded } from "./features.ts";
import {
  askNetlink,
  attribute,
  bytesOf,
  findAttribute,
  NETLINK_NETFILTER,
  NetlinkDump,
  nfnetlinkType,
} from "./netlink.ts";

export interface ConnectionEnd {
  readonly address: Address;
  readonly port: number;
}

/** A connection whose destination is another one in the eyes of its backend. */
export interface TranslatedConnection {
  /** IP's number: 6 TCP, 17 UDP, 132 SCTP. */
  readonly proto: number;
  readonly client: ConnectionEnd;
  /** What the client asks for. */
  readonly destination: ConnectionEnd;
  /** Who answers. */
  readonly backend: ConnectionEnd;
  /** What the kernel knows it by: the attributes CTA_TUPLE_ORIG and CTA_ID, and their family. */
  readonly handle: Uint8Array;
}

const SUBSYSTEM = 1;
const GET = 1;
const DELETE = 2;
const AF_INET = 2;
const AF_INET6 = 10;
/** struct nfgenmsg. */
const HEADER = 4;
const CTA = { tupleOrig: 1, tupleReply: 2, status: 3, id: 12, statusMask: 26 } as const;
const CTA_TUPLE = { ip: 1, proto: 2 } as const;
const CTA_PROTO = { number: 1, sourcePort: 2, destinationPort: 3 } as const;
const IPS_DST_NAT = 1 << 5;
const NESTED = 0x8000;

/** A number of 32 bits in network order. */
function attributeBe32(type: number, value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, false);
  return attribute(type, bytes);
}

/** Asks for connections with a translated destination alone: kernels before 5.18 tell all. */
function question(family: number): Uint8Array {
  return Buffer.concat([
    Uint8Array.of(family, 0, 0, 0),
    attributeBe32(CTA.status, IPS_DST_NAT),
    attributeBe32(CTA.statusMask, IPS_DST_NAT),
  ]);
}

function addressOf(ip: DataView, type: number): Address | undefined {
  const found = findAttribute(ip, 0, type);
  if (found === undefined) return undefined;
  const bytes = new Uint8Array(16);
  if (found.byteLength === 4) writeAddress("0.0.0.0", bytes);
  else if (found.byteLength !== 16) return undefined;
  bytes.set(new Uint8Array(found.buffer, found.byteOffset, found.byteLength), 16 - found.byteLength);
  return readAddress(bytes);
}

interface Tuple {
  readonly proto: number;
  readonly source: ConnectionEnd;
  readonly destination: ConnectionEnd;
}

/** undefined: of a protocol without ports. */
function tupleOf(payload: DataView, type: number, family: number): Tuple | undefined {
  const tuple = findAttribute(payload, HEADER, type);
  const ip = tuple && findAttribute(tuple, 0, CTA_TUPLE.ip);
  const proto = tuple && findAttribute(tuple, 0, CTA_TUPLE.proto);
  if (ip === undefined || proto === undefined) return undefined;
  const first = family === AF_INET ? 1 : 3;
  const source = addressOf(ip, first);
  const destination = addressOf(ip, first + 1);
  const port = (type: number): number | undefined => {
    const found = findAttribute(proto, 0, type);
    return found === undefined || found.byteLength < 2 ? undefined : found.getUint16(0, false);
  };
  const sourcePort = port(CTA_PROTO.sourcePort);
  const destinationPort = port(CTA_PROTO.destinationPort);
  const number = findAttribute(proto, 0, CTA_PROTO.number)?.getUint8(0);
  if (source === undefined || destination === undefined || number === undefined) return undefined;
  if (sourcePort === undefined || destinationPort === undefined) return undefined;
  return {
    proto: number,
    source: { address: source, port: sourcePort },
    destination: { address: destination, port: destinationPort },
  };
}

/** undefined: its destination is not translated. */
function connectionOf(payload: DataView, family: number): TranslatedConnection | undefined {
  const status = findAttribute(payload, HEADER, CTA.status);
  if (status === undefined || (status.getUint32(0, false) & IPS_DST_NAT) === 0) return undefined;
  const asked = tupleOf(payload, CTA.tupleOrig, family);
  const answered = tupleOf(payload, CTA.tupleReply, family);
  const original = findAttribute(payload, HEADER, CTA.tupleOrig);
  const id = findAttribute(payload, HEADER, CTA.id);
  if (asked === undefined || answered === undefined || original === undefined) return undefined;
  const handle = Buffer.concat([
    Uint8Array.of(family, 0, 0, 0),
    attribute(CTA.tupleOrig | NESTED, bytesOf(original)),
    ...(id === undefined ? [] : [attribute(CTA.id, bytesOf(id))]),
  ]);
  const { proto, source, destination } = asked;
  return { proto, client: source, destination, backend: answered.source, handle };
}

/** Connections with a translated destination, of both families; none where nothing tracks connections. Rejects with KernelError. */
export async function translatedConnections(): Promise<TranslatedConnection[]> {
  if (!isConntrackLoaded()) return [];
  const subject = "connections of conntrack";
  using dump = new NetlinkDump(NETLINK_NETFILTER, subject);
  const found: TranslatedConnection[] = [];
  for (const family of [AF_INET, AF_INET6]) {
    const asked = { type: nfnetlinkType(SUBSYSTEM, GET), payload: question(family), subject };
    // EINVAL: the kernel has no such subsystem.
    for (const one of await dump.ask(asked, (payload) => connectionOf(payload, family), [EINVAL])) found.push(one);
  }
  return found;
}

/** Takes a connection out: its next packet is one of a new connection. False when it was gone. Throws KernelError. */
export function forgetConnection({ handle }: Pick<TranslatedConnection, "handle">): boolean {
  const subject = "a connection of conntrack";
  const { errno } = askNetlink(NETLINK_NETFILTER, nfnetlinkType(SUBSYSTEM, DELETE), handle, subject);
  if (errno !== 0 && errno !== ENOENT) throw kernelError("forget", subject, errno);
  return errno === 0;
}
