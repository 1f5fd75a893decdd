import { Worker } from "node:worker_threads";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { type BpfObject, createWakeup, openObject, RingBuffer } from "../../../src/libbpf/mod.ts";
import { describeKernel } from "../require-kernel.ts";
import { allDescriptors, compile, type Directory, temporaryDirectory } from "./fixture.ts";

describeKernel("ring buffers", () => {
  let directory: Directory;
  let path: string;
  let object: BpfObject;
  let before: string[];
  beforeAll(() => {
    directory = temporaryDirectory();
    path = compile("sample.bpf.c", directory.path);
    object = openObject(path);
    object.load();
  });
  afterAll(() => {
    object?.close();
    directory?.[Symbol.dispose]();
  });
  const bpfOnly = (): string[] => allDescriptors().filter((line) => /bpf|eventfd/.test(line));
  beforeEach(() => {
    before = bpfOnly();
  });
  afterEach(() => expect(bpfOnly()).toEqual(before));

  /** Has the program write one record that holds the packet's length; mark 13 discards it. */
  function emit(length: number, mark = 0): number {
    const context = new Uint8Array(192);
    new DataView(context.buffer).setUint32(8, mark, true);
    return object.program("emit").testRun({ data: new Uint8Array(length), context }).retval;
  }

  const lengthOf = (record: Uint8Array): number => new DataView(record.buffer, record.byteOffset).getUint32(0, true);

  it("records arrive in order, over the end of the buffer, discarded ones left out", () => {
    const got: number[] = [];
    using ring = RingBuffer.open(object.map("events").fd, (record) => got.push(lengthOf(record)));
    expect(ring.poll(0)).toBe(0);
    const sent: number[] = [];
    for (let i = 0; i < 2000; i++) {
      const length = 64 + (i % 200);
      const discarded = i % 7 === 0;
      expect(emit(length, discarded ? 13 : 0)).toBe(0);
      if (!discarded) sent.push(length);
      if (i % 100 === 99) ring.consume();
    }
    expect(ring.poll(0)).toBe(0);
    expect(got).toEqual(sent);
  });

  it("a full buffer refuses records until it is read", () => {
    using ring = RingBuffer.open(object.map("events").fd, () => {});
    let sent = 0;
    while (emit(64) === 0) sent++;
    expect(sent).toBe(4096 / 16 - 1);
    expect(ring.poll(1000)).toBe(sent);
    expect(emit(64)).toBe(0);
    expect(ring.consume()).toBe(1);
  });

  it("a callback that throws ends the reading, and no record is read twice", () => {
    const got: number[] = [];
    using ring = RingBuffer.open(object.map("events").fd, (record) => {
      got.push(lengthOf(record));
      if (lengthOf(record) === 65) throw new Error("enough");
    });
    for (const length of [64, 65, 66]) emit(length);
    expect(() => ring.consume()).toThrow("enough");
    expect(ring.consume()).toBe(1);
    expect(got).toEqual([64, 65, 66]);
  });

  it("a worker waits without polling, reads, and is woken to end", async () => {
    using wakeup = createWakeup();
    const mapFd = object.map("events").fd;
    const worker = new Worker(new URL("./ring-worker.ts", import.meta.url), {
      workerData: { mapFd, wakeFd: wakeup.fd, path },
    });
    const ended = new Promise<number>((resolve, reject) => worker.once("exit", resolve).once("error", reject));
    const got: number[] = [];
    let programs = 0;
    const messages = new Promise<void>((resolve, reject) => {
      worker.once("error", reject);
      worker.on("message", (message: { programs?: number; records?: number[] }) => {
        if (message.programs !== undefined) {
          programs = message.programs;
          for (let i = 0; i < 50; i++) emit(64 + i);
        }
        got.push(...(message.records ?? []));
        if (got.length === 50) resolve();
      });
    });
    try {
      await messages;
    } finally {
      wakeup.wake();
      expect(await ended).toBe(0);
    }
    expect(programs).toBe(8);
    expect(got).toEqual(Array.from({ length: 50 }, (_, i) => 64 + i));
  });

  it("another kind of map is refused", () => {
    expect(() => RingBuffer.open(object.map("table").fd, () => {})).toThrow(
      "'mapFd' must be a ringbuf's: it is a hash",
    );
  });

  it("a closed reader is not read", () => {
    const ring = RingBuffer.open(object.map("events").fd, () => {});
    ring.close();
    ring.close();
    expect(() => ring.consume()).toThrow("Cannot read a ring buffer that is closed");
  });
});
