// System calls beside bpf(2) that an agent needs: waiting for readers of maps, namespaces, file systems, locks, clocks.
// Each one is a plain question or deed; nothing here is remembered.
import fs from "node:fs";
import nodePath from "node:path";
import { EAGAIN, EINTR, kernelError } from "./errno.ts";
import { createMap } from "./map.ts";
import { lastErrno, native, waited } from "./native.ts";
import { isWithout } from "./without.ts";

const SYS_MEMBARRIER = process.arch === "arm64" ? 283 : 324;
const MEMBARRIER_GLOBAL = 1;

/**
 * Returns when no BPF program that ran before the call can still hold what it read from a map (an RCU grace period; some
 * milliseconds), for which it waits in another thread. "map-update" tells that the kernel refuses membarrier (nohz_full) and an
 * update of a map of maps, which waits likewise, stood in.
 */
export async function membarrierGlobalAsync(): Promise<"membarrier" | "map-update"> {
  if (isWithout("membarrier")) return graceByMapUpdate();
  const result = await waited((done) => native().sysMembarrier.async(SYS_MEMBARRIER, MEMBARRIER_GLOBAL, 0, 0, done));
  return result === 0 ? "membarrier" : graceByMapUpdate();
}

/** Mask of the membarrier commands that this kernel has, 0 when it has none. */
export function queryMembarrier(): number {
  return Math.max(native().sysMembarrier(SYS_MEMBARRIER, 0, 0, 0), 0);
}

function graceByMapUpdate(): "map-update" {
  const spec = { type: "array", keySize: 4, valueSize: 4, maxEntries: 1 } as const;
  using inner = createMap({ ...spec, name: "grace_inner" });
  using outer = createMap({ ...spec, type: "array_of_maps", name: "grace", innerMap: inner });
  const value = new Uint8Array(4);
  new DataView(value.buffer).setUint32(0, inner.fd, true);
  outer.update(new Uint8Array(4), value);
  return "map-update";
}

/** Version of the library that is loaded, "1.1". Throws Failure "machine" when there is none. */
export function libbpfVersion(): string {
  return native().versionString().replace(/^v/, "");
}

/** Gives memory that C libraries have freed back to the kernel (malloc_trim(3)): loading objects leaves megabytes of it. */
export function releaseFreeMemory(): void {
  native().mallocTrim(0);
}

const MADV_DONTNEED = 4;

/**
 * Gives back the pages of program files that this process has mapped and never written: most were touched at its start only,
 * and what is needed again comes from the page cache (madvise(2)). Returns how many bytes were resident.
 */
export function releaseProgramPages(): number {
  let released = 0;
  for (const region of fs.readFileSync("/proc/self/smaps", "utf8").split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)) {
    const head = /^([0-9a-f]+)-([0-9a-f]+) r-[x-]p \S+ \S+ [1-9]\d* +\//.exec(region);
    const kilobytes = (field: string): number =>
      Number(new RegExp(`^${field}: +(\\d+) kB`, "m").exec(region)?.[1] ?? -1);
    // A page of its own is one that was written before the region became read-only: relocated data.
    if (head === null || kilobytes("Anonymous") !== 0 || kilobytes("Rss") <= 0) continue;
    const [start, end] = [BigInt(`0x${head[1]}`), BigInt(`0x${head[2]}`)];
    if (native().madvise(start, Number(end - start), MADV_DONTNEED) === 0) released += kilobytes("Rss") * 1024;
  }
  return released;
}

const BPF_FS_MAGIC = 0xcafe4a11;
const CGROUP2_SUPER_MAGIC = 0x63677270;

function fileSystemType(path: string): number | undefined {
  try {
    return fs.statfsSync(path).type >>> 0;
  } catch {
    return undefined;
  }
}

/** False when `path` does not exist, too. */
export function isBpffs(path: string): boolean {
  return fileSystemType(path) === BPF_FS_MAGIC;
}

/** False when `path` does not exist, too. */
export function isCgroup2(path: string): boolean {
  return fileSystemType(path) === CGROUP2_SUPER_MAGIC;
}

/** Like a recursive mkdir of Node, which never returns below /proc, where a directory's parent exists and it still cannot be made. */
function makeDirectory(directory: string): void {
  if (fs.existsSync(directory)) return;
  makeDirectory(nodePath.dirname(nodePath.resolve(directory)));
  try {
    fs.mkdirSync(directory, { mode: 0o700 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return;
    throw kernelError("make the directory", directory, -((error as NodeJS.ErrnoException).errno ?? -1));
  }
}

/** Mounts a bpffs at `path`, which is made when absent; does nothing when one is mounted there. */
export function mountBpffs(path: string): void {
  if (isBpffs(path)) return;
  makeDirectory(path);
  if (native().mount("bpf", path, "bpf", 0, "mode=0700") < 0) throw kernelError("mount a bpffs at", path, lastErrno());
}

export interface FileLock extends Disposable {
  readonly path: string;
  /** Gives the lock back; the file stays. */
  close(): void;
}

const LOCK_EX_NB = 2 | 4;

/** Takes an exclusive lock on a file, made when absent; held until close() or the end of the process, however it ends. undefined when somebody has it. */
export function lockFile(path: string): FileLock | undefined {
  let fd: number;
  try {
    fd = fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600);
  } catch (error) {
    throw kernelError("open the lock", path, -((error as NodeJS.ErrnoException).errno ?? -1));
  }
  if (native().flock(fd, LOCK_EX_NB) < 0) {
    const errno = lastErrno();
    fs.closeSync(fd);
    if (errno === EAGAIN) return undefined;
    throw kernelError("lock", path, errno);
  }
  let open = true;
  const close = (): void => {
    if (open) fs.closeSync(fd);
    open = false;
  };
  return { path, close, [Symbol.dispose]: close };
}

const CLOCK_BOOTTIME = 7;
const time = new BigUint64Array(2);

/** Nanoseconds since boot, suspended time included: the clock of bpf_ktime_get_boot_ns. */
export function clockBoottimeNs(): bigint {
  native().clockGettime(CLOCK_BOOTTIME, time);
  return (time[0] as bigint) * 1_000_000_000n + (time[1] as bigint);
}

const POLLIN = 1;

/** Array of struct pollfd. */
function pollRecords(fds: readonly number[]): Int32Array {
  return Int32Array.from(fds.flatMap((fd) => [fd, POLLIN]));
}

const readable = (fds: readonly number[], records: Int32Array): number[] =>
  fds.filter((_, i) => (records[i * 2 + 1] as number) >>> 16 !== 0);

/**
 * Blocks this thread until one of the descriptors is readable (or closed by the other side, or broken), or `timeoutMs`
 * passed (-1: for ever). Returns those that are; empty on timeout or when a signal came.
 */
export function pollReadable(fds: readonly number[], timeoutMs: number): number[] {
  const records = pollRecords(fds);
  const result = native().poll(records, fds.length, timeoutMs);
  if (result < 0) {
    const errno = lastErrno();
    if (errno === EINTR) return [];
    throw kernelError("wait for", "descriptors", errno);
  }
  return readable(fds, records);
}

/** Like pollReadable, waiting in a thread of libuv's, which others want too, and without which the process does not end. */
export async function pollReadableAsync(fds: readonly number[], timeoutMs: number): Promise<number[]> {
  const records = pollRecords(fds);
  const result = await waited((done) => native().poll.async(records, fds.length, timeoutMs, done));
  // Whatever the error is, asking at once tells it.
  return result < 0 ? pollReadable(fds, 0) : readable(fds, records);
}

/** A descriptor by which one thread ends another's pollReadable: readable from wake() on. */
export interface Wakeup extends Disposable {
  readonly fd: number;
  wake(): void;
  close(): void;
}

const EFD_CLOEXEC_NONBLOCK = 0o2000000 | 0o4000;

/** Made by the thread that wakes; the one that waits gets the `fd`. */
export function createWakeup(): Wakeup {
  const fd = native().eventfd(0, EFD_CLOEXEC_NONBLOCK);
  if (fd < 0) throw kernelError("make", "an event descriptor", lastErrno());
  let open = true;
  const close = (): void => {
    if (open) native().close(fd);
    open = false;
  };
  const one = new BigUint64Array([1n]);
  return {
    fd,
    wake() {
      if (open) native().write(fd, one, 8);
    },
    close,
    [Symbol.dispose]: close,
  };
}
