// Attaching a program to a cgroup, a device's tcx hooks or its XDP hook, each held by a BPF link: it can be pinned,
// reopened, given another program without a gap, and detached. Devices are those of the calling thread's network namespace.
import fs from "node:fs";
import { KernelError } from "../lib/errors.ts";
import { ATTACH_TYPES, type AttachType, Command, TcxFlag, XdpFlag } from "./constants.ts";
import { closeDescriptor, infoOf, openPinned, pinDescriptor } from "./descriptor.ts";
import { ENOENT, ENOLINK, ENOSPC, kernelError } from "./errno.ts";
import { addressOf, bpfCall, typeName } from "./native.ts";
import type { BpfProgram } from "./program.ts";
import { requireNotOverridden } from "./without.ts";

export type Direction = "ingress" | "egress";
export type XdpMode = "driver" | "generic" | "auto";

export interface LinkInfo {
  readonly id: number;
  readonly type: string;
  readonly programId: number;
  /** 0 when it is no device's link, or its device is gone. */
  readonly ifindex: number;
  /** 0n when it is no cgroup's link, or its cgroup is gone. */
  readonly cgroupId: bigint;
  /** "" for kinds that have none. */
  readonly attachType: string;
}

/** A link whose descriptor is open. Closing the last descriptor of a link that isn't pinned detaches its program. */
export class BpfLink implements Disposable {
  /** What it was attached to, for messages. */
  readonly subject: string;
  readonly id: number;
  readonly type: string;
  #fd: number;

  /** Takes `fd` over. */
  constructor(fd: number, subject: string) {
    this.#fd = fd;
    this.subject = subject;
    const info = linkInfo(fd, subject);
    this.id = info.id;
    this.type = info.type;
  }

  get fd(): number {
    if (this.#fd < 0) throw new Error(`Cannot use the link ${this.subject}: it is closed`);
    return this.#fd;
  }

  info(): LinkInfo {
    return linkInfo(this.fd, this.subject);
  }

  /** Replaces the program in place: every packet meets the old one or the new one. Throws KernelError, ENOLINK when severed. */
  update(program: BpfProgram): void {
    const attributes = new Uint8Array(16);
    const view = new DataView(attributes.buffer);
    view.setUint32(0, this.fd, true);
    view.setUint32(4, program.fd, true);
    const result = bpfCall(Command.linkUpdate, attributes);
    if (result < 0) throw kernelError("replace the program of the link", this.subject, -result);
  }

  /** Whether the device or cgroup is gone: the link is left over and can only be unpinned and closed. */
  isSevered(): boolean {
    const info = this.info();
    switch (info.type) {
      case "tcx":
      case "xdp":
      case "netkit":
        return info.ifindex === 0;
      case "cgroup":
        return info.cgroupId === 0n;
      default:
        return false;
    }
  }

  /** Takes the program off, though the link is pinned or open elsewhere. The link counts as severed from then on. */
  detach(): void {
    const attributes = new Uint8Array(4);
    new DataView(attributes.buffer).setUint32(0, this.fd, true);
    const result = bpfCall(Command.linkDetach, attributes);
    if (result < 0) throw kernelError("detach the link", this.subject, -result);
  }

  pin(path: string): void {
    pinDescriptor(this.fd, this.subject, path);
  }

  close(): void {
    if (this.#fd < 0) return;
    closeDescriptor(this.#fd);
    this.#fd = -1;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Whether an operation failed because the link's device or cgroup is gone. */
export function isSeveredError(error: unknown): boolean {
  return error instanceof KernelError && error.errno === ENOLINK;
}

function linkInfo(fd: number, subject: string): LinkInfo {
  const info = infoOf(fd, 64, `the link ${subject}`);
  const type = typeName("link", info.getUint32(0, true));
  const common = { id: info.getUint32(4, true), type, programId: info.getUint32(8, true) };
  switch (type) {
    case "cgroup":
      return {
        ...common,
        ifindex: 0,
        cgroupId: info.getBigUint64(16, true),
        attachType: typeName("attach", info.getUint32(24, true)),
      };
    case "tcx":
    case "netkit":
      return {
        ...common,
        ifindex: info.getUint32(16, true),
        cgroupId: 0n,
        attachType: typeName("attach", info.getUint32(20, true)),
      };
    case "xdp":
      return { ...common, ifindex: info.getUint32(16, true), cgroupId: 0n, attachType: "xdp" };
    default:
      return { ...common, ifindex: 0, cgroupId: 0n, attachType: "" };
  }
}

/** BPF_LINK_CREATE. Returns the descriptor or -errno. `target` is a cgroup's descriptor or an ifindex. */
export function createLink(programFd: number, target: number, attachType: number, flags: number): number {
  // As long as the kernel's struct up to tcx's expected_revision; older kernels want the bytes that they don't know to be zero.
  const attributes = new Uint8Array(32);
  const view = new DataView(attributes.buffer);
  view.setUint32(0, programFd, true);
  view.setUint32(4, target, true);
  view.setUint32(8, attachType, true);
  view.setUint32(12, flags, true);
  return bpfCall(Command.linkCreate, attributes);
}

function adoptLink(fd: number, subject: string): BpfLink {
  try {
    return new BpfLink(fd, subject);
  } catch (error) {
    closeDescriptor(fd);
    throw error;
  }
}

function checkIfindex(verb: string, ifindex: number): void {
  if (!Number.isInteger(ifindex) || ifindex < 1 || ifindex > 0x7fffffff) {
    throw new RangeError(`Cannot ${verb} as 'ifindex' must be a device's index: it is ${ifindex}`);
  }
}

/**
 * Attaches to a cgroup2 directory (path, or descriptor that stays the caller's), beside whatever else is attached there.
 * The hook is the one that the program was built for; for a program from a pin it must be named.
 */
export function attachCgroup(program: BpfProgram, cgroup: string | number, attachType?: AttachType): BpfLink {
  requireNotOverridden("cgroup_link");
  const hook = attachType === undefined ? program.expectedAttachType : ATTACH_TYPES[attachType];
  if (hook === undefined) {
    throw new TypeError(`Cannot attach ${program.name} as 'attachType' must be given: a pinned program does not tell`);
  }
  const subject = `${program.name} at ${typeof cgroup === "string" ? cgroup : "the cgroup"}`;
  let directory: number | undefined;
  try {
    if (typeof cgroup === "string") directory = fs.openSync(cgroup, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
    const fd = createLink(program.fd, typeof cgroup === "number" ? cgroup : (directory as number), hook, 0);
    if (fd < 0) throw kernelError("attach", subject, -fd);
    return adoptLink(fd, subject);
  } catch (error) {
    const errno = (error as NodeJS.ErrnoException).errno;
    if (error instanceof KernelError || errno === undefined) throw error;
    throw kernelError("open the cgroup", String(cgroup), -errno);
  } finally {
    if (directory !== undefined) fs.closeSync(directory);
  }
}

/**
 * Attaches to a device's ingress or egress as tcx (Linux 6.6): head runs before, tail after all that is there now.
 * Throws UnsupportedError when the environment takes tcx away.
 */
export function attachTcx(
  program: BpfProgram,
  ifindex: number,
  direction: Direction,
  options: { readonly position: "head" | "tail" } = { position: "tail" },
): BpfLink {
  requireNotOverridden("tcx");
  checkIfindex("attach to tcx", ifindex);
  const subject = `${program.name} at ${direction} of device ${ifindex}`;
  const fd = createLink(
    program.fd,
    ifindex,
    direction === "ingress" ? ATTACH_TYPES.tcx_ingress : ATTACH_TYPES.tcx_egress,
    options.position === "head" ? TcxFlag.before : TcxFlag.after,
  );
  if (fd < 0) throw kernelError("attach", subject, -fd);
  return adoptLink(fd, subject);
}

/** Attaches as a device's XDP program. "auto" lets the kernel choose: driver where the driver can, else generic. */
export function attachXdp(program: BpfProgram, ifindex: number, mode: XdpMode = "auto"): BpfLink {
  requireNotOverridden("xdp_link");
  checkIfindex("attach to XDP", ifindex);
  const subject = `${program.name} at XDP (${mode}) of device ${ifindex}`;
  const flags = mode === "driver" ? XdpFlag.driver : mode === "generic" ? XdpFlag.generic : 0;
  const fd = createLink(program.fd, ifindex, ATTACH_TYPES.xdp, flags);
  if (fd < 0) throw kernelError("attach", subject, -fd);
  return adoptLink(fd, subject);
}

/** The link that is pinned at `path`; the caller closes it. Severed links open too: see isSevered. */
export function openPinnedLink(path: string): BpfLink {
  return adoptLink(openPinned(path, "link"), path);
}

/** Ids of the programs at a device's tcx hook in the order in which they run; empty when there are none. */
export function queryTcx(ifindex: number, direction: Direction): number[] {
  requireNotOverridden("tcx");
  checkIfindex("query tcx", ifindex);
  return queryPrograms(
    ifindex,
    direction === "ingress" ? ATTACH_TYPES.tcx_ingress : ATTACH_TYPES.tcx_egress,
    `tcx ${direction} of device ${ifindex}`,
  );
}

/** Ids of the programs attached to this very cgroup for one hook, in the order in which they run. */
export function queryCgroup(cgroup: string, attachType: AttachType): number[] {
  const directory = fs.openSync(cgroup, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
  try {
    return queryPrograms(directory, ATTACH_TYPES[attachType], `${attachType} of ${cgroup}`);
  } finally {
    fs.closeSync(directory);
  }
}

function queryPrograms(target: number, attachType: number, subject: string): number[] {
  for (let room = 64; ; room *= 2) {
    const ids = new Uint32Array(room);
    const attributes = new Uint8Array(64);
    const view = new DataView(attributes.buffer);
    view.setUint32(0, target, true);
    view.setUint32(4, attachType, true);
    view.setBigUint64(16, addressOf(ids), true);
    view.setUint32(24, room, true);
    const result = bpfCall(Command.progQuery, attributes);
    if (result === -ENOENT) return [];
    if (result === -ENOSPC) continue;
    if (result < 0) throw kernelError("list the programs of", subject, -result);
    return [...ids.subarray(0, view.getUint32(24, true))];
  }
}
