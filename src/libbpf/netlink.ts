// Questions to the kernel by netlink: a request, its answers, the attributes in them, and a socket that hears of changes. Sockets are
// of the calling thread's network namespace. Headers are in host order. Knows nothing of what is asked.
import { EAGAIN, EINTR, ENOBUFS, kernelError } from "./errno.ts";
import { lastErrno, native, waited } from "./native.ts";

export const NETLINK_ROUTE = 0;
export const NETLINK_SOCK_DIAG = 4;
export const NETLINK_XFRM = 6;
export const NETLINK_NETFILTER = 12;
export const NETLINK_GENERIC = 16;

export const NLM_F_ECHO = 0x8;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
const NLM_F_REQUEST = 0x1;
const NLM_F_ACK = 0x4;
const NLM_F_DUMP_INTR = 0x10;
export const NLM_F_DUMP = 0x300;

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const NETLINK_GET_STRICT_CHK = 12;
const MSG_PEEK = 0x2;
const MSG_TRUNC = 0x20;
const MSG_DONTWAIT = 0x40;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const HEADER = 16;
const NOTHING = new Uint8Array(0);
/** A dump that changed under each of so many readings is given up. */
const MOST_READINGS = 20;

interface Message {
  readonly type: number;
  readonly flags: number;
  /** What follows struct nlmsghdr. */
  readonly payload: DataView;
}

export interface NetlinkAnswer {
  /** Positive; 0 when the kernel did what it was asked. */
  readonly errno: number;
  /** The messages before the acknowledgement. */
  readonly messages: readonly Message[];
}

const aligned = (length: number): number => (length + 3) & ~3;

function open(protocol: number, subject: string): number {
  const socket = native().socket(AF_NETLINK, SOCK_RAW_CLOEXEC, protocol);
  if (socket < 0) throw kernelError("ask for", subject, lastErrno());
  return socket;
}

/** Returns the kernel's errno, 0 when it took the option. */
function setOption(socket: number, name: number, value: number): number {
  return native().setsockopt(socket, SOL_NETLINK, name, new Uint32Array([value]), 4) < 0 ? lastErrno() : 0;
}

function requestOf(type: number, flags: number, payload: Uint8Array): Uint8Array {
  const request = new Uint8Array(HEADER + payload.length);
  const view = new DataView(request.buffer);
  view.setUint32(0, request.length, true);
  view.setUint16(4, type, true);
  view.setUint16(6, NLM_F_REQUEST | flags, true);
  view.setUint32(8, 1, true);
  request.set(payload, HEADER);
  return request;
}

/** What a call returns, which is made again after a signal. */
function repeat(subject: string, call: () => number): number {
  for (;;) {
    const result = call();
    if (result >= 0) return result;
    const errno = lastErrno();
    if (errno !== EINTR) throw kernelError("ask for", subject, errno);
  }
}

function send(socket: number, request: Uint8Array, subject: string): void {
  repeat(subject, () => native().send(socket, request, request.length, 0));
}

/** Waits for the next datagram, and returns `buffer` when it fits into that, else as many bytes as it needs. */
function roomFor(socket: number, buffer: Uint8Array, subject: string): Uint8Array {
  return roomOf(
    repeat(subject, () => native().recv(socket, buffer, 0, MSG_PEEK | MSG_TRUNC)),
    buffer,
  );
}

const roomOf = (length: number, buffer: Uint8Array): Uint8Array =>
  length > buffer.length ? new Uint8Array(length) : buffer;

function receive(socket: number, room: Uint8Array, subject: string): Uint8Array {
  return room.subarray(
    0,
    repeat(subject, () => native().recv(socket, room, room.length, 0)),
  );
}

function* messagesIn(datagram: Uint8Array): Generator<Message> {
  const all = new DataView(datagram.buffer, datagram.byteOffset, datagram.length);
  for (let at = 0; at + HEADER <= all.byteLength; ) {
    const size = Math.max(HEADER, Math.min(all.getUint32(at, true), all.byteLength - at));
    const payload = new DataView(all.buffer, all.byteOffset + at + HEADER, size - HEADER);
    yield { type: all.getUint16(at + 4, true), flags: all.getUint16(at + 6, true), payload };
    at += aligned(size);
  }
}

/** Asks one question and waits for its acknowledgement, or for the end of a short list (NLM_F_DUMP). Throws KernelError when there is no talking to the kernel. */
export function askNetlink(
  protocol: number,
  type: number,
  payload: Uint8Array,
  subject: string,
  flags = 0,
): NetlinkAnswer {
  const socket = open(protocol, subject);
  try {
    send(socket, requestOf(type, NLM_F_ACK | flags, payload), subject);
    const messages: Message[] = [];
    for (;;) {
      const answer = receive(socket, roomFor(socket, NOTHING, subject), subject);
      for (const message of messagesIn(answer)) {
        if (message.type === NLMSG_ERROR || message.type === NLMSG_DONE)
          return { errno: -message.payload.getInt32(0, true), messages };
        messages.push(message);
      }
    }
  } finally {
    native().close(socket);
  }
}

export interface DumpQuestion {
  readonly type: number;
  readonly payload: Uint8Array;
  readonly subject: string;
}

/**
 * A socket for questions that are answered by many messages. The kernel makes the answers, and waits for its locks, while it takes the
 * question and gives the datagrams: that happens in a thread of libuv's.
 */
export class NetlinkDump implements Disposable {
  readonly #socket: number;
  readonly #buffer = new Uint8Array(64 << 10);

  /** The kernel is told to heed what a question says (NETLINK_GET_STRICT_CHK, Linux 4.20). Throws KernelError. */
  constructor(protocol: number, subject: string) {
    this.#socket = open(protocol, subject);
    setOption(this.#socket, NETLINK_GET_STRICT_CHK, 1);
  }

  /**
   * What `read` makes of each answer's payload, which is its only while it runs; undefined ones are left out. Asks anew when the kernel
   * says that things changed meanwhile. Rejects with KernelError; an errno of `none` means that there are no answers.
   */
  async ask<T>(
    { type, payload, subject }: DumpQuestion,
    read: (payload: DataView) => T | undefined,
    none: readonly number[] = [],
  ): Promise<T[]> {
    const request = requestOf(type, NLM_F_DUMP, payload);
    for (let reading = 0; reading < MOST_READINGS; reading++) {
      const sent = await waited((done) => native().send.async(this.#socket, request, request.length, 0, done));
      // Whatever the error is, asking at once tells it.
      if (sent < 0) send(this.#socket, request, subject);
      const found: T[] = [];
      const { errno, whole } = await this.#answers(subject, (answer) => {
        const one = read(answer);
        if (one !== undefined) found.push(one);
      });
      if (none.includes(errno)) return [];
      if (errno !== 0) throw kernelError("ask for", subject, errno);
      if (whole) return found;
    }
    throw kernelError("ask for", subject, EAGAIN, `it changed during each of ${MOST_READINGS} readings`);
  }

  async #answers(subject: string, each: (payload: DataView) => void): Promise<{ errno: number; whole: boolean }> {
    let whole = true;
    for (;;) {
      // To look at a datagram makes the kernel prepare the next one, as taking it does: neither is the main loop's.
      const size = await waited((done) =>
        native().recv.async(this.#socket, this.#buffer, 0, MSG_PEEK | MSG_TRUNC, done),
      );
      const room = size < 0 ? roomFor(this.#socket, this.#buffer, subject) : roomOf(size, this.#buffer);
      const length = await waited((done) => native().recv.async(this.#socket, room, room.length, 0, done));
      const datagram = length < 0 ? receive(this.#socket, room, subject) : room.subarray(0, length);
      for (const { type, flags, payload } of messagesIn(datagram)) {
        if ((flags & NLM_F_DUMP_INTR) !== 0) whole = false;
        if (type === NLMSG_ERROR || type === NLMSG_DONE) {
          return { errno: payload.byteLength < 4 ? 0 : -payload.getInt32(0, true), whole };
        }
        each(payload);
      }
    }
  }

  [Symbol.dispose](): void {
    native().close(this.#socket);
  }
}

/** A socket that is readable when something was said to one of its multicast groups. What was said is not told. */
export class NetlinkListener implements Disposable {
  readonly fd: number;
  readonly #subject: string;

  /** Throws KernelError. */
  constructor(protocol: number, groups: readonly number[], subject: string) {
    this.#subject = subject;
    this.fd = open(protocol, subject);
    // Nothing is said to a socket without a port, which the kernel chooses for a struct sockaddr_nl that names none.
    const address = Uint8Array.from([AF_NETLINK, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    if (native().bind(this.fd, address, address.length) < 0) throw kernelError("listen to", subject, lastErrno());
    for (const group of groups) {
      const errno = setOption(this.fd, NETLINK_ADD_MEMBERSHIP, group);
      if (errno !== 0) throw kernelError("listen to", subject, errno);
    }
  }

  /** Takes all that was said. What was lost because it was too much (ENOBUFS) was said, too. Throws KernelError. */
  drain(): void {
    const start = new Uint8Array(HEADER);
    for (;;) {
      if (native().recv(this.fd, start, start.length, MSG_DONTWAIT) >= 0) continue;
      const errno = lastErrno();
      if (errno === EAGAIN) return;
      if (errno !== EINTR && errno !== ENOBUFS) throw kernelError("listen to", this.#subject, errno);
    }
  }

  [Symbol.dispose](): void {
    native().close(this.fd);
  }
}

/** The type of a message to a subsystem of netfilter's. */
export const nfnetlinkType = (subsystem: number, message: number): number => (subsystem << 8) | message;

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

/** The number in an attribute of four bytes; undefined when there is none. */
export function findU32(payload: DataView, at: number, type: number): number | undefined {
  const found = findAttribute(payload, at, type);
  return found === undefined || found.byteLength < 4 ? undefined : found.getUint32(0, true);
}

export const bytesOf = (view: DataView): Uint8Array => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

export function textOf(value: DataView): string {
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("utf8").replace(/\0.*$/s, "");
}
