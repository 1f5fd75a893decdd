// The datagram by which a node asks another whether it lives, and the answer, which the other's kernel program makes (bpf/liveness.h):
// struct liveness_message of bpf/types.h. Bytes in, records out; no socket, and no clock.
import { type Mac, macBytes, macText } from "../lib/mac.ts";
import { sipHash, sipHashKeyId } from "../lib/siphash.ts";

/** Bytes of a message, the whole of a datagram. */
export const MESSAGE_BYTES = 72;
/** That the tag covers, which stands behind them. */
const COVERED = 64;
const MAGIC = 0x4d4c4c56;
const VERSION = 1;
const KINDS = { question: 1, answer: 2 } as const;
const SOUND = 1;
const LEAVING = 2;
const NEVER = 0xffffffff;
const MACS = 4;
const AT = { version: 4, kind: 5, key: 6, flags: 7, nonce: 8, node: 16, incarnation: 24, age: 32, macs: 36 } as const;

export interface LivenessMessage {
  readonly kind: keyof typeof KINDS;
  /** 16 hex digits: of the question, echoed by its answer. */
  readonly nonce: string;
  /** nodeIdOf() of who sends it. */
  readonly nodeId: string;
  /** Of the agent that wrote the node's row of `liveness` last: another number, another start. 0 in questions. */
  readonly incarnation: number;
  /** Since that agent renewed what the node announces; Infinity: never. 0 in questions. */
  readonly ageMs: number;
  /** The self-check of that renewal passed. */
  readonly isSound: boolean;
  /** The node gives its addresses up by itself. */
  readonly isLeaving: boolean;
  /** Of up to four of its uplinks. */
  readonly macs: readonly Mac[];
}

/** What a question says of who asks, and nothing else. */
export function question(nonce: string, nodeId: string): LivenessMessage {
  return { kind: "question", nonce, nodeId, incarnation: 0, ageMs: 0, isSound: false, isLeaving: false, macs: [] };
}

/** 16 hex digits that stand for the name of a Node. */
export function nodeIdOf(name: string): string {
  return Buffer.from(sipHash(new Uint8Array(16), new TextEncoder().encode(name))).toString("hex");
}

/** `key`: 16 bytes. */
export function encodeMessage(message: LivenessMessage, key: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(MESSAGE_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC);
  bytes[AT.version] = VERSION;
  bytes[AT.kind] = KINDS[message.kind];
  bytes[AT.key] = sipHashKeyId(key);
  bytes[AT.flags] = (message.isSound ? SOUND : 0) | (message.isLeaving ? LEAVING : 0);
  bytes.set(Buffer.from(message.nonce, "hex").subarray(0, 8), AT.nonce);
  bytes.set(Buffer.from(message.nodeId, "hex").subarray(0, 8), AT.node);
  view.setUint32(AT.incarnation, Math.floor(message.incarnation / 2 ** 32));
  view.setUint32(AT.incarnation + 4, message.incarnation % 2 ** 32);
  view.setUint32(AT.age, Math.min(message.ageMs, NEVER));
  for (const [i, mac] of message.macs.slice(0, MACS).entries()) bytes.set(macBytes(mac), AT.macs + i * 6);
  bytes.set(sipHash(key, bytes.subarray(0, COVERED)), COVERED);
  return bytes;
}

/** undefined: no message of this version, or by none of these keys. */
export function decodeMessage(bytes: Uint8Array, keys: readonly Uint8Array[]): LivenessMessage | undefined {
  if (bytes.length !== MESSAGE_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const kind = bytes[AT.kind];
  if (view.getUint32(0) !== MAGIC || bytes[AT.version] !== VERSION) return undefined;
  if (kind !== KINDS.question && kind !== KINDS.answer) return undefined;
  const tag = bytes.subarray(COVERED);
  const covered = bytes.subarray(0, COVERED);
  const isOurs = keys.some(
    (key) => bytes[AT.key] === sipHashKeyId(key) && Buffer.compare(sipHash(key, covered), tag) === 0,
  );
  if (!isOurs) return undefined;
  const hex = (at: number): string => Buffer.from(bytes.subarray(at, at + 8)).toString("hex");
  const age = view.getUint32(AT.age);
  const macs = Array.from({ length: MACS }, (_, i) => macText(bytes, AT.macs + i * 6));
  return {
    kind: kind === KINDS.question ? "question" : "answer",
    nonce: hex(AT.nonce),
    nodeId: hex(AT.node),
    incarnation: view.getUint32(AT.incarnation) * 2 ** 32 + view.getUint32(AT.incarnation + 4),
    ageMs: age === NEVER ? Number.POSITIVE_INFINITY : age,
    isSound: (bytes[AT.flags]! & SOUND) !== 0,
    isLeaving: (bytes[AT.flags]! & LEAVING) !== 0,
    macs: macs.filter((mac) => mac !== "00:00:00:00:00:00"),
  };
}
