// Runs a program for which there are no sockets of IPv6, as on a kernel booted with ipv6.disable=1: socket(AF_INET6, …) fails with EAFNOSUPPORT.
//   node without-inet6.ts PROGRAM ARGUMENT...
// A seccomp filter does it, which the program and all that it starts inherit (seccomp(2)).
import { constants } from "node:os";
import koffi from "koffi";

const PR_SET_NO_NEW_PRIVS = 38;
const PR_SET_SECCOMP = 22;
const SECCOMP_MODE_FILTER = 2;
const SECCOMP_RET_ERRNO = 0x0005_0000;
const SECCOMP_RET_ALLOW = 0x7fff_0000;
const F_SETFD = 2;
const AF_INET6 = 10;
/** Of socket(2). */
const SYSCALLS: Readonly<Record<string, number>> = { x64: 41, arm64: 198 };
/** BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K. */
const [LOAD, EQUAL, RETURN] = [0x20, 0x15, 0x06];
/** Of struct seccomp_data. */
const [NUMBER, FIRST_ARGUMENT] = [0, 16];

const filter: readonly (readonly [code: number, ifTrue: number, ifFalse: number, value: number])[] = [
  [LOAD, 0, 0, NUMBER],
  [EQUAL, 0, 3, SYSCALLS[process.arch] ?? -1],
  [LOAD, 0, 0, FIRST_ARGUMENT],
  [EQUAL, 0, 1, AF_INET6],
  [RETURN, 0, 0, SECCOMP_RET_ERRNO | constants.errno.EAFNOSUPPORT],
  [RETURN, 0, 0, SECCOMP_RET_ALLOW],
];

/** struct sock_filter each, and struct sock_fprog over them. */
const instructions = Buffer.alloc(8 * filter.length);
for (const [i, [code, ifTrue, ifFalse, value]] of filter.entries()) {
  instructions.writeUInt16LE(code, 8 * i);
  instructions.writeUInt8(ifTrue, 8 * i + 2);
  instructions.writeUInt8(ifFalse, 8 * i + 3);
  instructions.writeUInt32LE(value >>> 0, 8 * i + 4);
}
const program = Buffer.alloc(16);
program.writeUInt16LE(filter.length, 0);
program.writeBigUInt64LE(koffi.address(instructions), 8);

const libc = koffi.load("libc.so.6");
const prctl = libc.func("int prctl(int, uint64_t, uint64_t, uint64_t, uint64_t)");
const fcntl = libc.func("int fcntl(int, int, int)");
const execvp = libc.func("int execvp(const char *, const char **)");
const [file = "", ...args] = process.argv.slice(2);
const failed = (what: string): never => {
  throw new Error(`could not ${what}: errno ${koffi.errno()}`);
};
if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) !== 0) failed("set no_new_privs");
if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, koffi.address(program), 0, 0) !== 0) failed("set the filter");
// Node closes its own to whoever it becomes.
for (const descriptor of [0, 1, 2]) fcntl(descriptor, F_SETFD, 0);
execvp(file, [file, ...args, null]);
failed(`run ${file}`);
