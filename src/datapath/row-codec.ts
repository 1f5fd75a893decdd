// The model's words for rows, as the maps hold them: protocols, kinds, windows, frontend keys.
import type { FrontendKey, FrontendKind, Row, RowProtocol, Window } from "../model/operations.ts";
import {
  EMPTY_WINDOW_VALUES,
  FRONTEND_KEY,
  FRONTEND_KIND_VALUES,
  ROW_FLAG_VALUES,
  readFrontendKey,
  writeFrontendKey,
} from "./layout.gen.ts";

export const PROTOCOLS: Readonly<Record<RowProtocol, number>> = { TCP: 6, UDP: 17, SCTP: 132 };

const PROTOCOL_NAMES = new Map(Object.entries(PROTOCOLS).map(([name, number]) => [number, name as RowProtocol]));

export const KINDS: Readonly<Record<FrontendKind, number>> = {
  "cluster-ip": FRONTEND_KIND_VALUES.KIND_CLUSTER_IP,
  "node-port": FRONTEND_KIND_VALUES.KIND_NODE_PORT,
  "load-balancer": FRONTEND_KIND_VALUES.KIND_LOAD_BALANCER,
  "host-port": FRONTEND_KIND_VALUES.KIND_HOST_PORT,
  "external-ip": FRONTEND_KIND_VALUES.KIND_EXTERNAL_IP,
};
export const KIND_NAMES: ReadonlyMap<number, FrontendKind> = new Map(
  Object.entries(KINDS).map(([name, value]) => [value, name as FrontendKind]),
);

export function protocolName(number: number): RowProtocol | undefined {
  return PROTOCOL_NAMES.get(number);
}

export function windowWord(window: Window): bigint {
  if (window.count > 0) return (BigInt(window.count) << 32n) | BigInt(window.first);
  return BigInt(window.whenEmpty === "drop" ? EMPTY_WINDOW_VALUES.EMPTY_DROP : EMPTY_WINDOW_VALUES.EMPTY_REFUSE);
}

const FLAGS_SHIFT = 8n;
const AFFINITY_SHIFT = 32n;

/** The word that `kind` begins. */
export function rowWord({ kind, affinity, restricted }: Pick<Row, "kind" | "affinity" | "restricted">): bigint {
  const flags = restricted ? ROW_FLAG_VALUES.ROW_SOURCE_RANGES : 0;
  return BigInt(KINDS[kind]) | (BigInt(flags) << FLAGS_SHIFT) | (BigInt(affinity) << AFFINITY_SHIFT);
}

export function windowOf(word: bigint): Window {
  const count = Number(word >> 32n);
  const first = Number(word & 0xffffffffn);
  if (count > 0) return { first, count, whenEmpty: "refuse" };
  return { first: 0, count: 0, whenEmpty: first === EMPTY_WINDOW_VALUES.EMPTY_DROP ? "drop" : "refuse" };
}

/** `::` stands for the node's addresses of IPv6, `0.0.0.0` for those of IPv4; the mapped form keeps them apart. */
export function frontendKeyBytes(key: FrontendKey, bytes = new Uint8Array(FRONTEND_KEY.size), at = 0): Uint8Array {
  writeFrontendKey(bytes, at, { address: key.address, port: key.port, proto: PROTOCOLS[key.protocol] });
  return bytes;
}

/** undefined: of a protocol that is not served. */
export function keyOf(bytes: Uint8Array, at: number): FrontendKey | undefined {
  const { address, port, proto } = readFrontendKey(bytes, at);
  const protocol = protocolName(proto);
  return protocol === undefined ? undefined : { address, port, protocol };
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
