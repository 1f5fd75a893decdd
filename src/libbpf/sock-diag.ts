// Sockets of the calling thread's network namespace, by netlink (linux/inet_diag.h): connected ones are listed, and ended as if an
// error had come.
import { type Address, readAddress, writeAddress } from "../lib/address.ts";
import { ENOENT, EOPNOTSUPP, kernelError } from "./errno.ts";
import { askNetlink, NETLINK_SOCK_DIAG, NetlinkDump } from "./netlink.ts";
import { requireNotOverridden } from "./without.ts";

export interface ConnectedSocket {
  readonly protocol: "TCP" | "UDP";
  /** As bpf_get_socket_cookie tells it. */
  readonly cookie: bigint;
  /** To whom it is connected. */
  readonly address: Address;
  readonly port: number;
  readonly family: number;
  /** struct inet_diag_sockid. */
  readonly id: Uint8Array;
}

const SOCK_DIAG_BY_FAMILY = 20;
const SOCK_DESTROY = 21;
const ESTALE = 116;
const AF_INET = 2;
const AF_INET6 = 10;
const PROTOCOLS = { TCP: 6, UDP: 17 } as const;
/** Masks of TCP's states, of which a connected UDP socket has the first: ESTABLISHED; SYN_SENT, CLOSE_WAIT. */
const STATES = { TCP: (1 << 1) | (1 << 2) | (1 << 8), UDP: 1 << 1 } as const;
const STATE_LISTEN = 1 << 10;
/** struct inet_diag_req_v2, struct inet_diag_msg, and struct inet_diag_sockid in them. */
const REQUEST = { size: 56, protocol: 1, states: 4, id: 8 };
const MESSAGE = { size: 72, id: 4, inode: 68 };
const ID = { size: 48, localPort: 0, remotePort: 2, remote: 20, cookie: 40 };

function request(
  family: number,
  protocol: keyof typeof PROTOCOLS,
  id?: Uint8Array,
  states: number = STATES[protocol],
): Uint8Array {
  const bytes = new Uint8Array(REQUEST.size);
  bytes[0] = family;
  bytes[REQUEST.protocol] = PROTOCOLS[protocol];
  new DataView(bytes.buffer).setUint32(REQUEST.states, states, true);
  if (id !== undefined) bytes.set(id, REQUEST.id);
  return bytes;
}

/** An IPv4 address in the first word, in the form that all addresses have here. */
function mapped(word: Uint8Array): Address {
  const bytes = new Uint8Array(16);
  writeAddress("0.0.0.0", bytes);
  bytes.set(word, 12);
  return readAddress(bytes);
}

function socketOf(protocol: keyof typeof PROTOCOLS, payload: DataView): ConnectedSocket | undefined {
  if (payload.byteLength < MESSAGE.size) return undefined;
  const family = payload.getUint8(0);
  const id = new Uint8Array(payload.buffer, payload.byteOffset + MESSAGE.id, ID.size).slice();
  const remote = id.subarray(ID.remote, ID.remote + 16);
  return {
    protocol,
    cookie: payload.getBigUint64(MESSAGE.id + ID.cookie, true),
    address: family === AF_INET ? mapped(remote.subarray(0, 4)) : readAddress(remote),
    port: payload.getUint16(MESSAGE.id + ID.remotePort, false),
    family,
    id,
  };
}

/** Rejects with KernelError; ENOENT where the kernel cannot list sockets of the protocol. */
export async function connectedSockets(protocol: "TCP" | "UDP"): Promise<ConnectedSocket[]> {
  const subject = `${protocol} sockets`;
  using dump = new NetlinkDump(NETLINK_SOCK_DIAG, subject);
  const found: ConnectedSocket[] = [];
  for (const family of [AF_INET, AF_INET6]) {
    const asked = { type: SOCK_DIAG_BY_FAMILY, payload: request(family, protocol), subject };
    found.push(...(await dump.ask(asked, (payload) => socketOf(protocol, payload))));
  }
  return found;
}

/** Inodes of the sockets that listen on a TCP port, on whatever address. Rejects with KernelError. */
export async function listeningInodes(port: number): Promise<number[]> {
  const subject = "listening sockets";
  using dump = new NetlinkDump(NETLINK_SOCK_DIAG, subject);
  const found: number[] = [];
  for (const family of [AF_INET, AF_INET6]) {
    const payload = request(family, "TCP", undefined, STATE_LISTEN);
    const inodes = await dump.ask({ type: SOCK_DIAG_BY_FAMILY, payload, subject }, (answer) =>
      answer.byteLength >= MESSAGE.size && answer.getUint16(MESSAGE.id + ID.localPort, false) === port
        ? answer.getUint32(MESSAGE.inode, true)
        : undefined,
    );
    found.push(...inodes);
  }
  return found;
}

/** Ends a socket: what its process does next fails, with ECONNABORTED at first. False when it was gone. Throws KernelError. */
export function destroySocket({ family, protocol, id }: Pick<ConnectedSocket, "family" | "protocol" | "id">): boolean {
  requireNotOverridden("sock_destroy");
  const errno = askDestroy(request(family, protocol, id));
  if (errno !== 0 && errno !== ENOENT && errno !== ESTALE) throw kernelError("end", "a socket", errno);
  return errno === 0;
}

function askDestroy(payload: Uint8Array): number {
  return askNetlink(NETLINK_SOCK_DIAG, SOCK_DESTROY, payload, "the end of a socket").errno;
}

/** Whether the kernel would end sockets: it is asked to end one that cannot be. */
export function canDestroySockets(): boolean {
  const nobody = new Uint8Array(ID.size);
  nobody.fill(0xfe, ID.cookie);
  return askDestroy(request(AF_INET, "UDP", nobody)) !== EOPNOTSUPP;
}
