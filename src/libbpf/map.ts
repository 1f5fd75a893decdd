// One BPF map by its descriptor: single and batch operations, iteration, memory-mapped arrays. Keys and values are raw
// bytes as the kernel has them; whoever knows the struct encodes them.
import { Failure, KernelError } from "../lib/errors.ts";
import { MAP_TYPES, MapFlag, type MapType } from "./constants.ts";
import { closeDescriptor, duplicateDescriptor, openPinned, pinDescriptor } from "./descriptor.ts";
import { EINVAL, ENOENT, ENOSPC, ENOTSUPP, EOPNOTSUPP, errnoName, kernelError } from "./errno.ts";
import { type MapInfo, mapInfo, possibleCpus, roundUp8 } from "./map-info.ts";
import { type Mapping, mapMemory, unmapMemory } from "./map-memory.ts";
import { native } from "./native.ts";
import { isWithout, requireNotOverridden } from "./without.ts";

/** A batch that stopped early: the first `done` rows were handled, the one after them was refused. */
export class BatchError extends KernelError {
  override readonly name: string = "BatchError";
  readonly done: number;

  constructor(operation: string, subject: string, errno: number, done: number, count: number) {
    super(operation, subject, errno, `${errnoName(errno)} at row ${done} of ${count}`);
    this.done = done;
  }
}

/** Rows side by side: row i is keys[i * keySize, …) and values[i * valueBytes, …). */
export interface Rows {
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
  readonly count: number;
}

export interface MapSpec {
  readonly type: MapType;
  /** The kernel keeps the first 15 bytes. */
  readonly name: string;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  /** MapFlag values, or-ed. @default 0 */
  readonly flags?: number;
  /** For array_of_maps and hash_of_maps: a map like those that will be inside. */
  readonly innerMap?: BpfMap;
}

const DEFAULT_CHUNK = 4096;
/** A map whose descriptor is open. Made by openPinnedMap, createMap, or owned by a BpfObject. */
export class BpfMap implements Disposable {
  readonly name: string;
  readonly type: string;
  readonly keySize: number;
  /** As declared. What lookups return is `valueBytes` long. */
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  readonly isPerCpu: boolean;
  /** Length of a value as lookups and updates carry it: valueSize, or for per-CPU maps possibleCpus() * valueSize rounded up to 8. */
  readonly valueBytes: number;
  readonly #calls = native();
  readonly #ownsFd: boolean;
  readonly #count = new Uint32Array(1);
  #fd: number;
  #mapped: (Mapping & { readonly writable: boolean }) | undefined;

  /** Takes `fd` over when `ownsFd`; else someone else closes it, and closes this first. */
  constructor(fd: number, options: { readonly name?: string; readonly ownsFd: boolean }) {
    const info = mapInfo(fd, options.name ?? "the map");
    this.#fd = fd;
    this.#ownsFd = options.ownsFd;
    this.name = options.name ?? info.name;
    this.type = info.type;
    this.keySize = info.keySize;
    this.valueSize = info.valueSize;
    this.maxEntries = info.maxEntries;
    this.flags = info.flags;
    this.isPerCpu = info.type.includes("percpu");
    this.valueBytes = this.isPerCpu ? possibleCpus() * roundUp8(info.valueSize) : info.valueSize;
  }

  get fd(): number {
    if (this.#fd < 0) throw new Failure("internal", this.name, `Cannot use the map '${this.name}': it is closed`);
    return this.#fd;
  }

  get isClosed(): boolean {
    return this.#fd < 0;
  }

  #checkKey(key: Uint8Array): void {
    if (key.length !== this.keySize) this.#refuse("key", this.keySize, key.length);
  }

  #checkValue(value: Uint8Array): void {
    if (value.length !== this.valueBytes) this.#refuse("value", this.valueBytes, value.length);
  }

  #refuse(what: string, wanted: number, got: number): never {
    throw new RangeError(`Cannot use map ${this.name} as '${what}' must be ${wanted} bytes long: it is ${got}`);
  }

  #checkRows(what: string, bytes: Uint8Array, size: number, count: number): void {
    if (!Number.isInteger(count) || count < 0 || count > 0xffffffff) {
      throw new RangeError(`Cannot use map ${this.name} as 'count' must be a whole number: it is ${count}`);
    }
    if (bytes.length < size * count) {
      throw new RangeError(
        `Cannot use map ${this.name} as '${what}' must hold ${count} rows of ${size} bytes: it is ${bytes.length} long`,
      );
    }
  }

  /** A copy of the value, undefined when the key is absent. */
  lookup(key: Uint8Array): Uint8Array | undefined {
    const value = new Uint8Array(this.valueBytes);
    return this.lookupInto(key, value) ? value : undefined;
  }

  /** Writes the value to `value`, which must be `valueBytes` long. False when the key is absent. */
  lookupInto(key: Uint8Array, value: Uint8Array): boolean {
    this.#checkKey(key);
    this.#checkValue(value);
    const result = this.#calls.mapLookup(this.fd, key, value);
    if (result === 0) return true;
    if (result === -ENOENT) return false;
    throw kernelError("look up a row of", this.name, -result);
  }

  /** Writes one row. `flags`: Update.any, .noexist or .exist. Throws KernelError (EEXIST, ENOENT, E2BIG when full, …). */
  update(key: Uint8Array, value: Uint8Array, flags = 0): void {
    const errno = this.tryUpdate(key, value, flags);
    if (errno !== 0) throw kernelError("update a row of", this.name, errno);
  }

  /** Like update, but returns the errno, 0 when it went well. */
  tryUpdate(key: Uint8Array, value: Uint8Array, flags = 0): number {
    this.#checkKey(key);
    this.#checkValue(value);
    return 0 - this.#calls.mapUpdate(this.fd, key, value, flags);
  }

  /** False when the key was absent. */
  delete(key: Uint8Array): boolean {
    this.#checkKey(key);
    const result = this.#calls.mapDelete(this.fd, key);
    if (result === 0) return true;
    if (result === -ENOENT) return false;
    throw kernelError("delete a row of", this.name, -result);
  }

  /** The key after `key` in the kernel's order (the first one when undefined or gone), undefined at the end. */
  nextKey(key: Uint8Array | undefined): Uint8Array | undefined {
    if (key !== undefined) this.#checkKey(key);
    const next = new Uint8Array(this.keySize);
    const result = this.#calls.mapNextKey(this.fd, key ?? null, next);
    if (result === 0) return next;
    if (result === -ENOENT) return undefined;
    throw kernelError("iterate", this.name, -result);
  }

  /**
   * Every row, as copies that are the caller's. Rows may be deleted or updated while iterating; a row that comes or goes
   * meanwhile may be seen or not; with many changes in a hash without batch operations, a row may be seen twice.
   */
  *entries(): Generator<[key: Uint8Array, value: Uint8Array]> {
    for (const rows of this.batches()) {
      for (let i = 0; i < rows.count; i++) {
        yield [
          rows.keys.slice(i * this.keySize, (i + 1) * this.keySize),
          rows.values.slice(i * this.valueBytes, (i + 1) * this.valueBytes),
        ];
      }
    }
  }

  /**
   * Every row, some thousands at a time, without copying: the arrays are written anew for the next chunk. One system call
   * per chunk where the map type has batch lookups, else two per row.
   */
  *batches(chunk: number = DEFAULT_CHUNK): Generator<Rows> {
    if (!Number.isInteger(chunk) || chunk < 1) {
      throw new RangeError(`Cannot read map ${this.name} as 'chunk' must be a positive whole number: it is ${chunk}`);
    }
    let size = Math.min(chunk, Math.max(this.maxEntries, 1));
    let keys = new Uint8Array(size * this.keySize);
    let values = new Uint8Array(size * this.valueBytes);
    let token: Uint8Array<ArrayBuffer> | null = null;
    // The kernel writes a bucket number (4 bytes) or a key.
    let next = new Uint8Array(Math.max(this.keySize, 8));
    let spare = new Uint8Array(next.length);
    const count = new Uint32Array(1);
    if (isWithout("batch")) {
      yield* this.#chunksOneByOne(size);
      return;
    }
    for (;;) {
      count[0] = size;
      const result = this.#calls.mapLookupBatch(this.fd, token, next, keys, values, count, null);
      if (result === -ENOSPC) {
        // One hash bucket holds more rows than fit.
        size *= 2;
        keys = new Uint8Array(size * this.keySize);
        values = new Uint8Array(size * this.valueBytes);
        continue;
      }
      if (result < 0 && result !== -ENOENT) {
        if (token === null && isUnsupported(-result)) {
          yield* this.#chunksOneByOne(size);
          return;
        }
        throw kernelError("read rows of", this.name, -result);
      }
      if (count[0] > 0) yield { keys, values, count: count[0] };
      if (result === -ENOENT) return;
      token = next;
      next = spare;
      spare = token;
    }
  }

  *#chunksOneByOne(size: number): Generator<Rows> {
    const keys = new Uint8Array(size * this.keySize);
    const values = new Uint8Array(size * this.valueBytes);
    let count = 0;
    // A key that vanishes sends the kernel's iteration back to the start: the bound keeps a busy map from holding us for ever.
    let budget = this.maxEntries * 2 + 16;
    let key = this.nextKey(undefined);
    while (key !== undefined && budget-- > 0) {
      if (this.lookupInto(key, values.subarray(count * this.valueBytes, (count + 1) * this.valueBytes))) {
        keys.set(key, count * this.keySize);
        count++;
      }
      // Before the rows go out, so that the caller may delete them.
      key = this.nextKey(key);
      if (count === size) {
        yield { keys, values, count };
        count = 0;
      }
    }
    if (count > 0) yield { keys, values, count };
  }

  /** All rows in two arrays that are the caller's. */
  readAll(): Rows {
    const parts: Rows[] = [];
    let count = 0;
    for (const rows of this.batches()) {
      parts.push({
        keys: rows.keys.slice(0, rows.count * this.keySize),
        values: rows.values.slice(0, rows.count * this.valueBytes),
        count: rows.count,
      });
      count += rows.count;
    }
    if (parts.length === 1 && parts[0] !== undefined) return parts[0];
    const keys = new Uint8Array(count * this.keySize);
    const values = new Uint8Array(count * this.valueBytes);
    let at = 0;
    for (const part of parts) {
      keys.set(part.keys, at * this.keySize);
      values.set(part.values, at * this.valueBytes);
      at += part.count;
    }
    return { keys, values, count };
  }

  /** Number of rows there are now; reads them all. */
  countRows(): number {
    let count = 0;
    for (const rows of this.batches()) count += rows.count;
    return count;
  }

  /**
   * Writes `count` rows in one system call (one by one where the map type or kernel has no batches). Not atomic: throws
   * BatchError, whose `done` rows were written. `flags` as in update.
   */
  updateBatch(keys: Uint8Array, values: Uint8Array, count: number, flags = 0): void {
    this.#checkRows("keys", keys, this.keySize, count);
    this.#checkRows("values", values, this.valueBytes, count);
    if (count === 0) return;
    if (!isWithout("batch")) {
      this.#count[0] = count;
      let options: Uint8Array | null = null;
      if (flags !== 0) {
        options = new Uint8Array(24);
        const view = new DataView(options.buffer);
        view.setBigUint64(0, 24n, true);
        view.setBigUint64(8, BigInt(flags), true);
      }
      const result = this.#calls.mapUpdateBatch(this.fd, keys, values, this.#count, options);
      if (result === 0) return;
      const done = this.#count[0] ?? 0;
      if (!isUnsupported(-result) || (done > 0 && done < count)) {
        throw new BatchError("update rows of", this.name, -result, Math.min(done, count), count);
      }
    }
    for (let i = 0; i < count; i++) {
      const errno = this.tryUpdate(
        keys.subarray(i * this.keySize, (i + 1) * this.keySize),
        values.subarray(i * this.valueBytes, (i + 1) * this.valueBytes),
        flags,
      );
      if (errno !== 0) throw new BatchError("update rows of", this.name, errno, i, count);
    }
  }

  /** Deletes the rows of `count` keys; absent ones are no error. Returns how many there were. */
  deleteBatch(keys: Uint8Array, count: number): number {
    this.#checkRows("keys", keys, this.keySize, count);
    let deleted = 0;
    let at = 0;
    while (at < count && !isWithout("batch")) {
      this.#count[0] = count - at;
      const result = this.#calls.mapDeleteBatch(this.fd, keys.subarray(at * this.keySize), this.#count, null);
      if (result === 0) return deleted + count - at;
      if (isUnsupported(-result)) break;
      const done = this.#count[0] ?? 0;
      deleted += done;
      // The kernel stops at the first absent key: go on behind it.
      if (result !== -ENOENT) throw new BatchError("delete rows of", this.name, -result, at + done, count);
      at += done + 1;
    }
    for (; at < count; at++) if (this.delete(keys.subarray(at * this.keySize, (at + 1) * this.keySize))) deleted++;
    return deleted;
  }

  /** Bytes from one element of the mapped array to the next. */
  get stride(): number {
    return roundUp8(this.valueSize);
  }

  /**
   * The array's memory itself: element i at i * stride, stride * maxEntries bytes, 8-byte aligned. A store through it is
   * seen by programs at once; an aligned 64-bit store (Atomics.store on a BigUint64Array) is never seen in halves. Needs
   * MapFlag.mmapable. Mapped once per BpfMap; close() ends it and detaches the buffer. Writing to a mapping made with
   * `writable` false ends the process.
   */
  mmap(writable = true): ArrayBuffer {
    requireNotOverridden("mmap_array");
    if (this.#mapped !== undefined) {
      if (this.#mapped.writable !== writable) {
        throw new Failure(
          "internal",
          this.name,
          `Cannot map ${this.name} as 'writable' must be ${this.#mapped.writable}: it is mapped so already`,
        );
      }
      return this.#mapped.buffer;
    }
    if ((this.flags & MapFlag.mmapable) === 0 || this.type !== "array") {
      throw new Failure(
        "internal",
        this.name,
        `Cannot map ${this.name} as 'flags' must have BPF_F_MMAPABLE, on an array`,
      );
    }
    const bytes = this.stride * this.maxEntries;
    const mapped = mapMemory(this.fd, bytes, 0, writable, this.name);
    this.#mapped = { ...mapped, writable };
    return mapped.buffer;
  }

  pin(path: string): void {
    pinDescriptor(this.fd, this.name, path);
  }

  info(): MapInfo {
    return mapInfo(this.fd, this.name);
  }

  /** Another BpfMap on the same kernel map, which the caller closes; for instance to outlive the object that this one belongs to. */
  duplicate(): BpfMap {
    return adoptMap(duplicateDescriptor(this.fd, this.name), this.name);
  }

  /** Ends the mapping and, unless an object owns it, the descriptor. The kernel's map lives on while pinned or used. */
  close(): void {
    if (this.#fd < 0) return;
    if (this.#mapped !== undefined) {
      unmapMemory(this.#mapped);
      this.#mapped = undefined;
    }
    if (this.#ownsFd) closeDescriptor(this.#fd);
    this.#fd = -1;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** errnos by which kernels say that a map type has no batch operation; EINVAL is that of kernels before 5.6. */
function isUnsupported(errno: number): boolean {
  return errno === ENOTSUPP || errno === EOPNOTSUPP || errno === EINVAL;
}

function adoptMap(fd: number, name: string | undefined): BpfMap {
  try {
    return new BpfMap(fd, { ownsFd: true, ...(name === undefined ? {} : { name }) });
  } catch (error) {
    closeDescriptor(fd);
    throw error;
  }
}

/** The map that is pinned at `path`; the caller closes it. `name` replaces the kernel's, which is cut after 15 bytes. */
export function openPinnedMap(path: string, name?: string): BpfMap {
  return adoptMap(openPinned(path, "map"), name);
}

/** Makes a map; the caller closes it. */
export function createMap(spec: MapSpec): BpfMap {
  for (const field of ["keySize", "valueSize", "maxEntries"] as const) {
    const value = spec[field];
    if (!Number.isInteger(value) || value < 0 || value > 0xffffffff) {
      throw new RangeError(`Cannot create map ${spec.name} as '${field}' must be a whole number: it is ${value}`);
    }
  }
  const options = new Uint8Array(48);
  const view = new DataView(options.buffer);
  view.setBigUint64(0, 48n, true);
  view.setUint32(24, spec.innerMap?.fd ?? 0, true);
  view.setUint32(28, spec.flags ?? 0, true);
  const fd = native().mapCreate(
    MAP_TYPES[spec.type],
    spec.name.slice(0, 15),
    spec.keySize,
    spec.valueSize,
    spec.maxEntries,
    options,
  );
  if (fd < 0) throw kernelError("create the map", spec.name, -fd);
  return adoptMap(fd, spec.name);
}
