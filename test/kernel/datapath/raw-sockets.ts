// Sockets by plain system calls of the calling thread, so that they belong to the namespace it stands in and every errno is
// seen. IPv4-mapped addresses are said by asking for an IPv6 socket and naming an IPv4 address.
import fs from "node:fs";
import koffi from "koffi";
import { type Address, addressBytes, readAddress } from "../../../src/lib/address.ts";
import { errnoName } from "../../../src/libbpf/mod.ts";

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_RCVTIMEO = 20;
const MSG_DONTWAIT = 0x40;
const IPPROTO_IP = 0;
const IPPROTO_IPV6 = 41;
const IP_MTU_DISCOVER = 10;
const IPV6_MTU_DISCOVER = 23;
const PMTUDISC_DONT = 0;
const AF_PACKET = 17;
const SOCK_RAW = 3;
const TYPES = { TCP: 1, UDP: 2 } as const;

const libc = koffi.load("libc.so.6");
const call = {
  socket: libc.func("int socket(int, int, int)"),
  connect: libc.func("int connect(int, void *, unsigned int)"),
  bind: libc.func("int bind(int, void *, unsigned int)"),
  getpeername: libc.func("int getpeername(int, _Out_ void *, void *)"),
  getsockname: libc.func("int getsockname(int, _Out_ void *, void *)"),
  setsockopt: libc.func("int setsockopt(int, int, int, void *, unsigned int)"),
  sendto: libc.func("long sendto(int, void *, size_t, int, void *, unsigned int)"),
  recvfrom: libc.func("long recvfrom(int, void *, size_t, int, void *, void *)"),
  close: libc.func("int close(int)"),
};

export interface End {
  readonly address: Address;
  readonly port: number;
}

export interface Socket extends Disposable {
  readonly fd: number;
  /** "" when it went well (or goes on), else the errno's name. */
  connect(to: End): string;
  bind(to: End): void;
  /** Without `to`: to whom it is connected. */
  send(data: string, to?: End): string;
  /** The errno's name of a receive that must fail, "" when something came; "EAGAIN" when nothing came in time. */
  receiveError(): string;
  /** undefined when nothing is there. */
  receiveNow(): ReturnType<Socket["receive"]>;
  /** undefined when nothing came in time. */
  receive(): { readonly data: string; readonly from: End } | undefined;
  peerName(): End | undefined;
  localEnd(): End;
  /** The peer as the kernel has it, not as our programs tell it. */
  realPeer(): End | undefined;
  /** Its datagrams may be cut on their way. */
  allowFragments(): void;
  close(): void;
}

const errno = (): string => errnoName(koffi.errno());

function encode({ address, port }: End, domain: number): Uint8Array {
  const bytes = new Uint8Array(domain === AF_INET ? 16 : 28);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, domain, true);
  view.setUint16(2, port);
  if (domain === AF_INET) bytes.set(addressBytes(address).subarray(12), 4);
  else bytes.set(addressBytes(address), 8);
  return bytes;
}

function decode(bytes: Uint8Array): End {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const port = view.getUint16(2);
  if (view.getUint16(0, true) === AF_INET6) return { address: readAddress(bytes, 8), port };
  const mapped = addressBytes("0.0.0.0");
  mapped.set(bytes.subarray(4, 8), 12);
  return { address: readAddress(mapped), port };
}

/** An address as /proc/net has it: 32-bit words of the machine's order. */
function procEnd(text: string): End {
  const [words = "", port = "0"] = text.split(":");
  const raw = Buffer.from(words, "hex");
  raw.swap32();
  const bytes = raw.length === 16 ? new Uint8Array(raw) : addressBytes("0.0.0.0");
  if (raw.length === 4) bytes.set(raw, 12);
  return { address: readAddress(bytes), port: Number.parseInt(port, 16) };
}

/** A socket in the namespace that the caller stands in; TCP sockets do not block, receiving waits for `waitMs`. */
export function openSocket(protocol: "TCP" | "UDP", family: "IPv4" | "IPv6" = "IPv4", waitMs = 1000): Socket {
  const domain = family === "IPv4" ? AF_INET : AF_INET6;
  const type = TYPES[protocol] | SOCK_CLOEXEC | (protocol === "TCP" ? SOCK_NONBLOCK : 0);
  const fd = call.socket(domain, type, 0) as number;
  if (fd < 0) throw new Error(`socket: ${errno()}`);
  call.setsockopt(
    fd,
    SOL_SOCKET,
    SO_RCVTIMEO,
    BigInt64Array.of(BigInt(Math.trunc(waitMs / 1000)), BigInt((waitMs % 1000) * 1000)),
    16,
  );
  const name = (which: "getpeername" | "getsockname"): End | undefined => {
    const bytes = new Uint8Array(28);
    return call[which](fd, bytes, Uint32Array.of(28)) === 0 ? decode(bytes) : undefined;
  };
  const receive = (flags: number): ReturnType<Socket["receive"]> => {
    const body = new Uint8Array(65536);
    const from = new Uint8Array(28);
    const size = call.recvfrom(fd, body, body.length, flags, from, Uint32Array.of(28)) as number;
    return size < 0 ? undefined : { data: new TextDecoder().decode(body.subarray(0, size)), from: decode(from) };
  };
  let open = true;
  const close = (): void => {
    if (open) call.close(fd);
    open = false;
  };
  return {
    fd,
    connect(to) {
      const bytes = encode(to, domain);
      if (call.connect(fd, bytes, bytes.length) === 0) return "";
      const failed = errno();
      return failed === "EINPROGRESS" ? "" : failed;
    },
    bind(to) {
      // Here alone: of sockets that all ask for it, the kernel gives two the same port of its choice.
      call.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, Int32Array.of(1), 4);
      const bytes = encode(to, domain);
      if (call.bind(fd, bytes, bytes.length) !== 0) throw new Error(`bind ${to.address}:${to.port}: ${errno()}`);
    },
    send(data, to) {
      const bytes = to === undefined ? null : encode(to, domain);
      const body = new TextEncoder().encode(data);
      return (call.sendto(fd, body, body.length, 0, bytes, bytes?.length ?? 0) as number) < 0 ? errno() : "";
    },
    receiveError() {
      const body = new Uint8Array(2048);
      return (call.recvfrom(fd, body, body.length, 0, null, null) as number) < 0 ? errno() : "";
    },
    receiveNow: () => receive(MSG_DONTWAIT),
    receive: () => receive(0),
    peerName: () => name("getpeername"),
    localEnd: () => name("getsockname") ?? { address: "::", port: 0 },
    realPeer() {
      const { port } = name("getsockname") ?? { port: 0 };
      const file = `/proc/thread-self/net/${protocol.toLowerCase()}${family === "IPv6" ? "6" : ""}`;
      // The kernel walks its table of all sockets of the machine: while others come and go it may miss one.
      for (let tries = 0; tries < 10; tries++) {
        for (const line of fs.readFileSync(file, "utf8").trim().split("\n").slice(1)) {
          const words = line.trim().split(/\s+/);
          if (procEnd(words[1]!).port === port) return procEnd(words[2]!);
        }
      }
      return undefined;
    },
    allowFragments() {
      const [level, option] = family === "IPv4" ? [IPPROTO_IP, IP_MTU_DISCOVER] : [IPPROTO_IPV6, IPV6_MTU_DISCOVER];
      if (call.setsockopt(fd, level, option, Int32Array.of(PMTUDISC_DONT), 4) !== 0)
        throw new Error(`setsockopt: ${errno()}`);
    },
    close,
    [Symbol.dispose]: close,
  };
}

export interface FrameSocket extends Disposable {
  /** A whole frame, as it is. False when the device's queue is full. */
  send(frame: Uint8Array): boolean;
  /** The next frame that came in or went out; undefined when there is none now. */
  receive(): Uint8Array | undefined;
}

/** Whole frames of a device of the namespace that the caller stands in. `protocol`: the EtherType that is received; 0: none is. */
export function openFrameSocket(ifindex: number, protocol = 0): FrameSocket {
  const fd = call.socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0) as number;
  if (fd < 0) throw new Error(`socket: ${errno()}`);
  const to = new Uint8Array(20);
  const view = new DataView(to.buffer);
  view.setUint16(0, AF_PACKET, true);
  view.setInt32(4, ifindex, true);
  to[11] = 6;
  view.setUint16(2, protocol);
  if (protocol !== 0 && call.bind(fd, to, to.length) !== 0) throw new Error(`bind: ${errno()}`);
  const buffer = new Uint8Array(protocol === 0 ? 0 : 65536);
  return {
    send(frame) {
      view.setUint16(2, (frame[12]! << 8) | frame[13]!);
      to.set(frame.subarray(0, 6), 12);
      if ((call.sendto(fd, frame, frame.length, 0, to, to.length) as number) >= 0) return true;
      const failed = errno();
      if (failed !== "ENOBUFS") throw new Error(`sendto: ${failed}`);
      return false;
    },
    receive() {
      const size = call.recvfrom(fd, buffer, buffer.length, MSG_DONTWAIT, null, null) as number;
      return size < 0 ? undefined : buffer.slice(0, size);
    },
    [Symbol.dispose]: () => void call.close(fd),
  };
}

/** One frame by a socket of its own. */
export function sendFrame(ifindex: number, frame: Uint8Array): void {
  using socket = openFrameSocket(ifindex);
  if (!socket.send(frame)) throw new Error("the device's queue is full");
}
