// Questions to the kernel by netlink: a request, its answers, and the attributes in them. The socket is of the calling thread's
// network namespace. Knows nothing of what is asked.
import { kernelError } from "./errno.ts";
import { lastErrno, native } from "./native.ts";

export const NETLINK_ROUTE = 0;
export const NETLINK_GENERIC = 16;

export const NLM_F_ECHO = 8;

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const NLM_F_REQUEST_ACK = 1 | 4;
const NLMSG_ERROR = 2;
const HEADER = 16;

export interface NetlinkAnswer {
  /** Positive; 0 when the kernel did what it was asked. */
  readonly errno: number;
  /** Type and payload (behind struct nlmsghdr) of each message before the acknowledgement. */
  readonly messages: readonly { readonly type: number; readonly payload: DataView }[];
}

const aligned = (length: number): number => (length + 3) & ~3;

/** Asks one question and waits for its acknowledgement. Throws KernelError when there is no talking to the kernel. */
export function askNetlink(
  protocol: number,
  type: number,
  payload: Uint8Array,
  subject: string,
  flags = 0,
): NetlinkAnswer {
  const calls = native();
  const socket = calls.socket(AF_NETLINK, SOCK_RAW_CLOEXEC, protocol);
  if (socket < 0) throw kernelError("ask for", subject, lastErrno());
  try {
    const request = new Uint8Array(HEADER + payload.length);
    const view = new DataView(request.buffer);
    view.setUint32(0, request.length, true);
    view.setUint16(4, type, true);
    view.setUint16(6, NLM_F_REQUEST_ACK | flags, true);
    view.setUint32(8, 1, true);
    request.set(payload, HEADER);
    if (calls.send(socket, request, request.length, 0) < 0) throw kernelError("ask for", subject, lastErrno());
    const messages: { type: number; payload: DataView }[] = [];
    for (;;) {
      const answer = new Uint8Array(8192);
      const length = calls.recv(socket, answer, answer.length, 0);
      if (length < 0) throw kernelError("ask for", subject, lastErrno());
      const all = new DataView(answer.buffer);
      for (let at = 0; at + HEADER <= length; ) {
        const size = Math.max(HEADER, Math.min(all.getUint32(at, true), length - at));
        const found = all.getUint16(at + 4, true);
        if (found === NLMSG_ERROR) return { errno: -all.getInt32(at + HEADER, true), messages };
        messages.push({ type: found, payload: new DataView(answer.buffer, at + HEADER, size - HEADER) });
        at += aligned(size);
      }
    }
  } finally {
    calls.close(socket);
  }
}

/** One attribute, padded. */
export function attribute(type: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(aligned(4 + value.length));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 4 + value.length, true);
  view.setUint16(2, type, true);
  bytes.set(value, 4);
  return bytes;
}

export function attributeU32(type: number, value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return attribute(type, bytes);
}

/** The value of the first attribute of this type, from `at` on; undefined when there is none. */
export function findAttribute(payload: DataView, at: number, type: number): DataView | undefined {
  for (let next = at; next + 4 <= payload.byteLength; ) {
    const length = payload.getUint16(next, true);
    if (length < 4 || next + length > payload.byteLength) return undefined;
    // The two highest bits are flags (nested, network byte order).
    if ((payload.getUint16(next + 2, true) & 0x3fff) === type) {
      return new DataView(payload.buffer, payload.byteOffset + next + 4, length - 4);
    }
    next += aligned(length);
  }
  return undefined;
}

export function textOf(value: DataView): string {
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("latin1").replace(/\0.*$/s, "");
}
