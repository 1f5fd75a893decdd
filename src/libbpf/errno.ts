// Turns errno into names and KernelErrors, in one place. Never decides what a failure means for the caller.
import os from "node:os";
import { KernelError } from "../lib/errors.ts";
import { native } from "./native.ts";

const names = new Map<number, string>();
for (const [name, value] of Object.entries(os.constants.errno)) if (!names.has(value)) names.set(value, name);
/** The kernel's own "not supported" that is no POSIX errno; bpf(2) returns it for an operation that a map type lacks. */
export const ENOTSUPP = 524;
names.set(ENOTSUPP, "ENOTSUPP");

// libbpf's own numbers, for objects that it cannot read.
const LIBBPF_ERRORS: Readonly<Record<number, readonly [name: string, text: string]>> = {
  4000: ["LIBBPF_ERRNO__LIBELF", "something wrong in libelf"],
  4001: ["LIBBPF_ERRNO__FORMAT", "not a BPF object"],
  4002: ["LIBBPF_ERRNO__KVERSION", "wrong kernel version"],
  4003: ["LIBBPF_ERRNO__ENDIAN", "wrong byte order"],
  4004: ["LIBBPF_ERRNO__INTERNAL", "internal error of libbpf"],
  4005: ["LIBBPF_ERRNO__RELOC", "relocation failed"],
};
for (const [value, [name]] of Object.entries(LIBBPF_ERRORS)) names.set(Number(value), name);

export const EPERM = os.constants.errno.EPERM;
export const ENOENT = os.constants.errno.ENOENT;
export const ESRCH = os.constants.errno.ESRCH;
export const EINTR = os.constants.errno.EINTR;
export const EBADF = os.constants.errno.EBADF;
export const EAGAIN = os.constants.errno.EAGAIN;
export const EBUSY = os.constants.errno.EBUSY;
export const EEXIST = os.constants.errno.EEXIST;
export const ENODEV = os.constants.errno.ENODEV;
export const EINVAL = os.constants.errno.EINVAL;
export const ENOSPC = os.constants.errno.ENOSPC;
export const ENOLINK = os.constants.errno.ENOLINK;
export const ENOBUFS = os.constants.errno.ENOBUFS;
export const EADDRNOTAVAIL = os.constants.errno.EADDRNOTAVAIL;
export const EAFNOSUPPORT = os.constants.errno.EAFNOSUPPORT;
export const EPROTONOSUPPORT = os.constants.errno.EPROTONOSUPPORT;
export const EOPNOTSUPP = os.constants.errno.EOPNOTSUPP;

/** "ENOENT" for 2; "errno 4711" when it has no name. */
export function errnoName(errno: number): string {
  return names.get(errno) ?? `errno ${errno}`;
}

/** A KernelError with the errno's name and text as its detail, then `hint` when there is one. */
export function kernelError(operation: string, subject: string, errno: number, hint = ""): KernelError {
  const own = LIBBPF_ERRORS[errno]?.[1] ?? (errno === ENOTSUPP ? "operation not supported" : undefined);
  const text = own ?? native().strerror(errno);
  const detail = `${errnoName(errno)} (${text})${hint === "" ? "" : `: ${hint}`}`;
  return new KernelError(operation, subject, errno, detail);
}

/** The errno of a KernelError, undefined for every other error. */
export function errnoOf(error: unknown): number | undefined {
  return error instanceof KernelError ? error.errno : undefined;
}
