// Memory of the kernel's, mapped into this process: of arrays and ring buffers.
import { kernelError } from "./errno.ts";
import { detach, lastErrno, memoryAt, native, PAGE_SIZE, type Pointer } from "./native.ts";

export interface Mapping {
  readonly pointer: Pointer;
  /** Bytes, whole pages. */
  readonly length: number;
  readonly buffer: ArrayBuffer;
}

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;

/** Maps `bytes` of a descriptor from `offset` on. The caller ends it by unmapMemory. Throws KernelError. */
export function mapMemory(fd: number, bytes: number, offset: number, writable: boolean, subject: string): Mapping {
  const length = Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE;
  const pointer = native().mmap(null, length, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, offset);
  const errno = lastErrno();
  if (BigInt.asIntN(64, BigInt(pointer)) === -1n) throw kernelError("map the memory of", subject, errno);
  return { pointer, length, buffer: memoryAt(pointer, bytes) };
}

/** Detaches the buffer: views of it that are left read undefined. */
export function unmapMemory({ buffer, pointer, length }: Mapping): void {
  detach(buffer);
  native().munmap(pointer, length);
}
