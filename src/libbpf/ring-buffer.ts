// Reads a BPF ring buffer from its mapped memory, in the thread that made the reader. Never keeps a thread or timer: whoever
// owns it polls, usually a worker that waits on several descriptors at once (pollReadable in system.ts).
import { Failure } from "../lib/errors.ts";
import { closeDescriptor, duplicateDescriptor } from "./descriptor.ts";
import { BpfMap } from "./map.ts";
import { type Mapping, mapMemory, unmapMemory } from "./map-memory.ts";
import { PAGE_SIZE } from "./native.ts";
import { pollReadable } from "./system.ts";

const BUSY = 0x80000000;
const DISCARDED = 0x40000000;
const HEADER = 8;

/** Called once per record with bytes that are the callee's. What it throws ends the poll; the record counts as read. */
export type RecordCallback = (record: Uint8Array) => void;

export class RingBuffer implements Disposable {
  readonly #callback: RecordCallback;
  readonly #consumer: Mapping;
  readonly #producer: Mapping;
  readonly #consumerPosition: BigUint64Array;
  readonly #producerPosition: BigUint64Array;
  readonly #data: Uint8Array;
  readonly #headers: Uint32Array;
  readonly #mask: bigint;
  #fd: number;

  private constructor(fd: number, size: number, callback: RecordCallback) {
    this.#fd = fd;
    this.#callback = callback;
    this.#mask = BigInt(size - 1);
    this.#consumer = mapMemory(fd, PAGE_SIZE, 0, true, "the ring buffer");
    try {
      // The data pages follow the producer's page, twice, so that a record at the end is in one piece.
      this.#producer = mapMemory(fd, PAGE_SIZE + 2 * size, PAGE_SIZE, false, "the ring buffer");
    } catch (error) {
      unmapMemory(this.#consumer);
      throw error;
    }
    this.#consumerPosition = new BigUint64Array(this.#consumer.buffer, 0, 1);
    this.#producerPosition = new BigUint64Array(this.#producer.buffer, 0, 1);
    this.#data = new Uint8Array(this.#producer.buffer, PAGE_SIZE);
    this.#headers = new Uint32Array(this.#producer.buffer, PAGE_SIZE);
  }

  /** Opens the ring buffer map with this descriptor, which stays the caller's and may be closed at once. One reader per map. */
  static open(mapFd: number, callback: RecordCallback): RingBuffer {
    const fd = duplicateDescriptor(mapFd, "the ring buffer");
    try {
      const map = new BpfMap(fd, { ownsFd: false });
      if (map.type !== "ringbuf") {
        throw new Failure(
          "internal",
          map.name,
          `Cannot read ${map.name} as 'mapFd' must be a ringbuf's: it is a ${map.type}`,
        );
      }
      return new RingBuffer(fd, map.maxEntries, callback);
    } catch (error) {
      closeDescriptor(fd);
      throw error;
    }
  }

  /** Readable while there are records: for a poll over several descriptors. */
  get fd(): number {
    return this.#fd;
  }

  /** Blocks this thread until there is a record, or `timeoutMs` passed (-1: for ever), then reads all there are. Returns how many. */
  poll(timeoutMs: number): number {
    return pollReadable([this.#fd], timeoutMs).length === 0 ? 0 : this.consume();
  }

  /** Reads all records there are, without waiting. Returns how many; discarded ones don't count. */
  consume(): number {
    if (this.#fd < 0) throw new Failure("internal", "ring buffer", "Cannot read a ring buffer that is closed");
    let records = 0;
    let position = Atomics.load(this.#consumerPosition, 0);
    for (;;) {
      const end = Atomics.load(this.#producerPosition, 0);
      if (position >= end) return records;
      while (position < end) {
        const offset = Number(position & this.#mask);
        const header = Atomics.load(this.#headers, offset >>> 2);
        // Reserved, not written yet: the program that is at it will wake us.
        if ((header & BUSY) !== 0) return records;
        const length = header & ~(BUSY | DISCARDED);
        const record =
          (header & DISCARDED) === 0 ? this.#data.slice(offset + HEADER, offset + HEADER + length) : undefined;
        position += BigInt((length + HEADER + 7) & ~7);
        Atomics.store(this.#consumerPosition, 0, position);
        if (record !== undefined) {
          records++;
          this.#callback(record);
        }
      }
    }
  }

  close(): void {
    if (this.#fd < 0) return;
    unmapMemory(this.#consumer);
    unmapMemory(this.#producer);
    closeDescriptor(this.#fd);
    this.#fd = -1;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
