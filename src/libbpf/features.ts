// What this kernel can do, found by trying: small programs, maps and calls that are thrown away. Never looks at a version.
import { existsSync } from "node:fs";
import { ATTACH_TYPES, Command, MAP_TYPES, MapFlag, XdpFlag } from "./constants.ts";
import { EBADF, EINVAL, ENODEV, ENOENT, EOPNOTSUPP, EPERM, kernelError } from "./errno.ts";
import { findKernelFunctions } from "./kernel-btf.ts";
import { createLink } from "./link.ts";
import { addressOf, bpfCall, lastErrno, native, PAGE_SIZE } from "./native.ts";
import { netdevFamily } from "./network.ts";
import { canDestroySockets } from "./sock-diag.ts";
import { queryMembarrier } from "./system.ts";
import {
  addImmediate,
  call,
  callKernel,
  exit,
  HELPER,
  type Instruction,
  loadTiny,
  moveImmediate,
  moveRegister,
  skipIf,
  storeByte,
  storeDouble,
  storeWord,
  type Tiny,
} from "./tiny-program.ts";
import { FEATURES, type FeatureName, isWithout } from "./without.ts";

export interface Feature {
  readonly name: FeatureName;
  readonly available: boolean;
  /** First Linux version that has it. */
  readonly since: string;
  /** The kernel has it, and MILLRACE_WITHOUT takes it away. */
  readonly overridden: boolean;
}

const probed = new Map<FeatureName, boolean>();

/** One feature; tried once per thread. Throws KernelError EPERM when this process may not try. */
export function feature(name: FeatureName): Feature {
  let found = probed.get(name);
  if (found === undefined) {
    found = PROBES[name]();
    probed.set(name, found);
  }
  // Asked in any case: it notices names that are no feature.
  const without = isWithout(name);
  const overridden = found && without;
  return { name, available: found && !overridden, since: FEATURES[name], overridden };
}

export function hasFeature(name: FeatureName): boolean {
  return feature(name).available;
}

/** All features, by name. */
export function features(): Readonly<Record<FeatureName, Feature>> {
  const all: Partial<Record<FeatureName, Feature>> = {};
  for (const name of Object.keys(FEATURES) as FeatureName[]) all[name] = feature(name);
  return all as Record<FeatureName, Feature>;
}

/** Netfilter's connection tracking is built in, or its module is there. */
export function isConntrackLoaded(): boolean {
  return existsSync("/proc/sys/net/netfilter/nf_conntrack_max");
}

/** Forgets what was found: of one feature, which may have come since, or of all. */
export function resetFeatures(name?: FeatureName): void {
  if (name === undefined) probed.clear();
  else probed.delete(name);
}

function closed(fd: number): void {
  native().close(fd);
}

function refuseUnprivileged(name: string, errno: number): void {
  if (errno === EPERM) throw kernelError("probe the kernel for", name, errno);
}

function loads(name: string, tiny: Tiny): boolean {
  const fd = loadTiny(tiny);
  if (fd >= 0) closed(fd);
  else refuseUnprivileged(name, -fd);
  return fd >= 0;
}

/** Runs `body` with a loaded program that must load on every kernel we support. */
function withProgram<T>(name: string, tiny: Tiny, body: (fd: number) => T): T {
  const fd = loadTiny(tiny);
  if (fd < 0) throw kernelError("probe the kernel for", name, -fd);
  try {
    return body(fd);
  } finally {
    closed(fd);
  }
}

/** Return value of a classifier run on 64 zero bytes. */
function runClassifier(name: string, instructions: readonly Instruction[]): number {
  return withProgram(name, { type: "sched_cls", instructions }, (fd) => {
    const packet = new Uint8Array(64);
    const attributes = new Uint8Array(80);
    const view = new DataView(attributes.buffer);
    view.setUint32(0, fd, true);
    view.setUint32(8, packet.length, true);
    view.setBigUint64(16, addressOf(packet), true);
    view.setUint32(32, 1, true);
    const result = bpfCall(Command.progTestRun, attributes);
    if (result < 0) throw kernelError("probe the kernel for", name, -result);
    return view.getInt32(4, true);
  });
}

function creates(
  name: string,
  type: keyof typeof MAP_TYPES,
  key: number,
  value: number,
  entries: number,
  flags = 0,
): boolean {
  const fd = createProbeMap(type, key, value, entries, flags);
  if (fd >= 0) closed(fd);
  else refuseUnprivileged(name, -fd);
  return fd >= 0;
}

function createProbeMap(type: keyof typeof MAP_TYPES, key: number, value: number, entries: number, flags = 0): number {
  const options = new Uint8Array(48);
  const view = new DataView(options.buffer);
  view.setBigUint64(0, 48n, true);
  view.setUint32(28, flags, true);
  return native().mapCreate(MAP_TYPES[type], "probe", key, value, entries, options);
}

/** Whether creating a link with a target that cannot be fails for the target's sake, not because the kernel knows no such link. */
function linkRefusal(
  name: string,
  tiny: Tiny,
  target: number,
  attachType: number,
  flags: number,
  expected: readonly number[],
): boolean {
  return withProgram(name, tiny, (program) => {
    const fd = createLink(program, target, attachType, flags);
    if (fd >= 0) {
      closed(fd);
      return true;
    }
    refuseUnprivileged(name, -fd);
    return expected.includes(-fd);
  });
}

const NEXT: readonly Instruction[] = [moveImmediate(0, -1), exit];
const XDP_PASS: readonly Instruction[] = [moveImmediate(0, 2), exit];
const ALLOW: readonly Instruction[] = [moveImmediate(0, 1), exit];
const NO_DEVICE = 0x7fffffff;
const LOOPBACK = 1;
const BPF_F_PSEUDO_HDR = 0x10;
const BPF_F_IPV6 = 0x80;
const BPF_FIB_LOOKUP_SRC = 0x10;
const XDP_HAS_FRAGS = 1 << 5;
const NETNS_COOKIE_OPTION = 71;

const PROBES: Readonly<Record<FeatureName, () => boolean>> = {
  tcx: () =>
    linkRefusal("tcx", { type: "sched_cls", instructions: NEXT }, NO_DEVICE, ATTACH_TYPES.tcx_ingress, 0, [ENODEV]),

  set_retval: () =>
    loads("set_retval", {
      type: "cgroup_sock_addr",
      attachType: ATTACH_TYPES.cgroup_inet4_connect,
      instructions: [moveImmediate(1, -1), call(HELPER.setRetval), ...ALLOW],
    }),

  netns_cookie: () =>
    loads("netns_cookie", {
      type: "cgroup_sock_addr",
      attachType: ATTACH_TYPES.cgroup_inet4_connect,
      instructions: [call(HELPER.getNetnsCookie), ...ALLOW],
    }),

  netns_cookie_option() {
    const socket = native().socket(2, 2 | 0o2000000, 0);
    if (socket < 0) throw kernelError("probe the kernel for", "netns_cookie_option", lastErrno());
    try {
      return native().getsockopt(socket, 1, NETNS_COOKIE_OPTION, new BigUint64Array(1), new Uint32Array([8])) === 0;
    } finally {
      closed(socket);
    }
  },

  xdp_frags: () => loads("xdp_frags", { type: "xdp", flags: XDP_HAS_FRAGS, instructions: XDP_PASS }),

  batch() {
    const map = createProbeMap("hash", 4, 4, 1);
    if (map < 0) throw kernelError("probe the kernel for", "batch", -map);
    try {
      const count = new Uint32Array([1]);
      const bytes = (): Uint8Array => new Uint8Array(8);
      const result = native().mapLookupBatch(map, null, bytes(), bytes(), bytes(), count, null);
      return result === 0 || result === -ENOENT;
    } finally {
      closed(map);
    }
  },

  // An unknown flag is refused with EINVAL when the program runs.
  csum_ipv6: () =>
    runClassifier("csum_ipv6", [
      moveImmediate(2, 40),
      moveImmediate(3, 0),
      moveImmediate(4, 0),
      moveImmediate(5, BPF_F_PSEUDO_HDR | BPF_F_IPV6),
      call(HELPER.l4CsumReplace),
      exit,
    ]) !== -EINVAL,

  fib_mtu: () =>
    loads("fib_mtu", {
      type: "sched_cls",
      instructions: [
        storeDouble(10, -8, 0),
        moveImmediate(2, 0),
        moveRegister(3, 10),
        addImmediate(3, -8),
        moveImmediate(4, 0),
        moveImmediate(5, 0),
        call(HELPER.checkMtu),
        ...NEXT,
      ],
    }),

  // With all parameters zero a known flag gets as far as the family, which is refused with EAFNOSUPPORT.
  fib_src: () =>
    runClassifier("fib_src", [
      ...Array.from({ length: 8 }, (_, i) => storeDouble(10, -64 + i * 8, 0)),
      moveRegister(2, 10),
      addImmediate(2, -64),
      moveImmediate(3, 64),
      moveImmediate(4, BPF_FIB_LOOKUP_SRC),
      call(HELPER.fibLookup),
      exit,
    ]) !== -EINVAL,

  ringbuf: () => creates("ringbuf", "ringbuf", 0, 0, PAGE_SIZE),

  // Loopback has no driver mode: a kernel that knows XDP links says so, an older one calls the whole request invalid.
  xdp_link: () =>
    linkRefusal("xdp_link", { type: "xdp", instructions: XDP_PASS }, LOOPBACK, ATTACH_TYPES.xdp, XdpFlag.driver, [
      EOPNOTSUPP,
    ]),

  cgroup_link: () =>
    linkRefusal(
      "cgroup_link",
      { type: "cgroup_sock_addr", attachType: ATTACH_TYPES.cgroup_inet4_connect, instructions: ALLOW },
      -1,
      ATTACH_TYPES.cgroup_inet4_connect,
      0,
      [EBADF],
    ),

  mmap_array: () => creates("mmap_array", "array", 4, 8, 1, MapFlag.mmapable),

  ktime_boot: () => loads("ktime_boot", { type: "sched_cls", instructions: [call(HELPER.ktimeGetBootNs), ...NEXT] }),

  // The query (command 0) answers with a mask of commands; GLOBAL is absent from it with nohz_full.
  membarrier: () => (queryMembarrier() & 1) !== 0,

  xdp_features: () => netdevFamily() !== undefined,

  sock_destroy: canDestroySockets,
  ct_lookup() {
    if (!isConntrackLoaded()) return false;
    using functions = findKernelFunctions(["bpf_skb_ct_lookup", "bpf_ct_release"], "nf_conntrack");
    const [lookup, release] = functions?.ids ?? [];
    if (functions === undefined || lookup === undefined || release === undefined) return false;
    const place = functions.module === undefined ? 0 : 1;
    const [ends, options] = [-16, -32];
    return loads("ct_lookup", {
      type: "sched_cls",
      module: functions.module,
      instructions: [
        ...[-8, -16, -24, -32].map((offset) => storeDouble(10, offset, 0)),
        storeWord(10, options, -1),
        storeByte(10, options + 8, 6),
        moveRegister(2, 10),
        addImmediate(2, ends),
        moveImmediate(3, 12),
        moveRegister(4, 10),
        addImmediate(4, options),
        moveImmediate(5, 12),
        callKernel(lookup, place),
        skipIf(0, 0, 2),
        moveRegister(1, 0),
        callKernel(release, place),
        ...NEXT,
      ],
    });
  },
};
