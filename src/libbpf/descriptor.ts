// What every descriptor of bpf(2) has in common: who closes it, what kind it is, pins. Never knows maps or programs.
import fs from "node:fs";
import { Failure } from "../lib/errors.ts";
import { Command } from "./constants.ts";
import { ENOENT, kernelError } from "./errno.ts";
import { addressOf, bpfCall, lastErrno, native } from "./native.ts";

export type DescriptorKind = "map" | "program" | "link";

const F_DUPFD_CLOEXEC = 1030;

/** A second descriptor of the same kernel object, closed on exec. */
export function duplicateDescriptor(fd: number, subject: string): number {
  const copy = native().fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) throw kernelError("duplicate the descriptor of", subject, lastErrno());
  return copy;
}

export function closeDescriptor(fd: number): void {
  native().close(fd);
}

function kindOf(fd: number): DescriptorKind | undefined {
  switch (fs.readlinkSync(`/proc/self/fd/${fd}`)) {
    case "anon_inode:bpf-map":
      return "map";
    case "anon_inode:bpf-prog":
      return "program";
    case "anon_inode:bpf_link":
    case "anon_inode:bpf-link":
      return "link";
    default:
      return undefined;
  }
}

/** Opens what is pinned at `path`. Throws KernelError (ENOENT: nothing there), or Failure "conflict" when it is of another kind. */
export function openPinned(path: string, kind: DescriptorKind): number {
  const fd = native().objGet(path);
  if (fd < 0) throw kernelError(`open the pinned ${kind}`, path, -fd);
  const found = kindOf(fd);
  if (found !== kind) {
    closeDescriptor(fd);
    throw new Failure("conflict", path, `could not open ${path}: it holds a ${found ?? "thing"}, not a ${kind}`);
  }
  return fd;
}

/** Pins a descriptor. Throws KernelError: EEXIST when something is there, ENOENT when the directory is missing, EINVAL or EPERM when it is on no bpffs. */
export function pinDescriptor(fd: number, subject: string, path: string): void {
  const result = native().objPin(fd, path);
  if (result < 0) throw kernelError("pin", `${subject} at ${path}`, -result);
}

/** Removes the pin at `path`. Returns false when there was none. The kernel object lives on while something else holds it. */
export function unpin(path: string): boolean {
  try {
    fs.unlinkSync(path);
    return true;
  } catch (error) {
    const errno = -((error as NodeJS.ErrnoException).errno ?? -1);
    if (errno === ENOENT) return false;
    throw kernelError("unpin", path, errno);
  }
}

/**
 * Fills the kernel's struct `info` by BPF_OBJ_GET_INFO_BY_FD; pointers and lengths in it say what else to fill. Bytes that this
 * kernel does not know stay zero. Throws KernelError.
 */
export function fillInfo(fd: number, info: Uint8Array, subject: string): DataView {
  const attributes = new Uint8Array(16);
  const view = new DataView(attributes.buffer);
  view.setUint32(0, fd, true);
  view.setUint32(4, info.length, true);
  view.setBigUint64(8, addressOf(info), true);
  const result = bpfCall(Command.objGetInfoByFd, attributes);
  if (result < 0) throw kernelError("ask about", subject, -result);
  return new DataView(info.buffer, info.byteOffset, info.length);
}

/** The first `size` bytes of it, nothing asked for besides. */
export function infoOf(fd: number, size: number, subject: string): DataView {
  return fillInfo(fd, new Uint8Array(size), subject);
}

/** Text up to the first zero byte of a fixed field. */
export function fixedText(view: DataView, offset: number, length: number): string {
  let end = offset;
  while (end < offset + length && view.getUint8(end) !== 0) end++;
  return Buffer.from(view.buffer, view.byteOffset + offset, end - offset).toString("latin1");
}
