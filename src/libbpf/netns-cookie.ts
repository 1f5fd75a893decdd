// The cookie of this thread's network namespace: from a socket's option, and where the kernel has none (before 5.14) from a
// program that a socket of ours runs into.
import { randomInt } from "node:crypto";
import fs from "node:fs";
import nodePath from "node:path";
import { UnsupportedError } from "../lib/errors.ts";
import { ATTACH_TYPES } from "./constants.ts";
import { kernelError } from "./errno.ts";
import { createLink } from "./link.ts";
import { createMap } from "./map.ts";
import { lastErrno, native } from "./native.ts";
import {
  addImmediate,
  call,
  exit,
  HELPER,
  loadMap,
  loadTiny,
  loadWord,
  moveImmediate,
  moveRegister,
  skipUnless32,
  storeDouble,
  storeRegister,
} from "./tiny-program.ts";
import { FEATURES, isWithout } from "./without.ts";

const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const SOL_SOCKET = 1;
const SO_NETNS_COOKIE = 71;
const ENOPROTOOPT = 92;

/**
 * The cookie of the calling thread's network namespace, as bpf_get_netns_cookie has it. Throws UnsupportedError where neither a
 * socket nor a program tells it, or KernelError.
 */
export function netnsCookie(): bigint {
  const socket = native().socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0);
  if (socket < 0) throw kernelError("open", "a socket", lastErrno());
  try {
    return (isWithout("netns_cookie_option") ? undefined : fromOption(socket)) ?? fromProgram(socket);
  } finally {
    native().close(socket);
  }
}

/** undefined when the kernel has no such option. */
function fromOption(socket: number): bigint | undefined {
  const cookie = new BigUint64Array(1);
  if (native().getsockopt(socket, SOL_SOCKET, SO_NETNS_COOKIE, cookie, new Uint32Array([8])) === 0) return cookie[0];
  const errno = lastErrno();
  if (errno === ENOPROTOOPT) return undefined;
  throw kernelError("read", "the network namespace's cookie", errno);
}

/** Bytes of `struct sockaddr_in`. */
const ADDRESS_SIZE = 16;
/** Fields of bpf_sock_addr. */
const USER_IP4 = 4;
const USER_PORT = 24;
/** Of the program's stack. */
const KEY = -8;
const VALUE = -16;

/**
 * Connects a UDP socket, which sends nothing, to an address of loopback that nobody else thinks of; a program at this process's
 * cgroup writes down the cookie of whoever does that.
 */
function fromProgram(socket: number): bigint {
  if (isWithout("netns_cookie")) throw new UnsupportedError("netns_cookie", FEATURES.netns_cookie);
  const address = new Uint8Array(ADDRESS_SIZE);
  const view = new DataView(address.buffer);
  view.setUint16(0, AF_INET, true);
  view.setUint16(2, randomInt(1, 65536));
  view.setUint32(4, 0x7f000000 | randomInt(1, 0x1000000));
  using map = createMap({ type: "array", name: "cookie", keySize: 4, valueSize: 8, maxEntries: 1 });
  const program = loadTiny({
    type: "cgroup_sock_addr",
    attachType: ATTACH_TYPES.cgroup_inet4_connect,
    instructions: remember(map.fd, view.getInt32(4, true), view.getUint16(2, true)),
  });
  if (program < 0) throw new UnsupportedError("netns_cookie", FEATURES.netns_cookie);
  const cgroup = fs.openSync(ownCgroup(), fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
  let link = -1;
  try {
    link = createLink(program, cgroup, ATTACH_TYPES.cgroup_inet4_connect, 0);
    if (link < 0) throw kernelError("attach to", "this process's cgroup", -link);
    // The program runs before the kernel looks for a route, which a namespace without loopback has not.
    native().connect(socket, address, address.length);
  } finally {
    if (link >= 0) native().close(link);
    fs.closeSync(cgroup);
    native().close(program);
  }
  const value = map.lookup(new Uint8Array(4)) as Uint8Array;
  const cookie = new DataView(value.buffer, value.byteOffset).getBigUint64(0, true);
  if (cookie === 0n) throw new UnsupportedError("netns_cookie", FEATURES.netns_cookie);
  return cookie;
}

/** For a connect() to just this address: map[0] = bpf_get_netns_cookie(ctx). It is allowed like any other. */
function remember(map: number, ip4: number, port: number) {
  const record = [
    call(HELPER.getNetnsCookie),
    storeRegister(10, VALUE, 0),
    storeDouble(10, KEY, 0),
    ...loadMap(1, map),
    moveRegister(2, 10),
    addImmediate(2, KEY),
    moveRegister(3, 10),
    addImmediate(3, VALUE),
    moveImmediate(4, 0),
    call(HELPER.mapUpdate),
  ];
  return [
    loadWord(2, 1, USER_IP4),
    skipUnless32(2, ip4, record.length + 2),
    loadWord(2, 1, USER_PORT),
    skipUnless32(2, port, record.length),
    ...record,
    moveImmediate(0, 1),
    exit,
  ];
}

/** The cgroup2 directory that this process is in. Throws UnsupportedError when none that it sees is. */
function ownCgroup(): string {
  const path = /^0::(\/.*)$/m.exec(fs.readFileSync("/proc/self/cgroup", "utf8"))?.[1];
  for (const line of fs.readFileSync("/proc/self/mountinfo", "utf8").split("\n")) {
    const [, root, point] = /^\d+ \d+ \S+ (\S+) (\S+) .* - cgroup2 /.exec(line) ?? [];
    if (path === undefined || root === undefined || point === undefined) continue;
    const below = nodePath.relative(root, path);
    if (!below.startsWith("..") && fs.existsSync(nodePath.join(point, below))) return nodePath.join(point, below);
  }
  throw new UnsupportedError("netns_cookie_option", FEATURES.netns_cookie_option);
}
