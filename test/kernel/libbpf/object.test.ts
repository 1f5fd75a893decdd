import { execFileSync } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { Failure, VerifierError } from "../../../src/lib/errors.ts";
import {
  type BpfObject,
  createMap,
  openObject,
  openPinnedMap,
  openPinnedProgram,
  summariseLog,
  unpin,
} from "../../../src/libbpf/mod.ts";
import { describeKernel } from "../require-kernel.ts";
import { bpfDescriptors, compile, type Directory, temporaryBpffs, temporaryDirectory } from "./fixture.ts";

const packet = new Uint8Array(64);

function failureOf(call: () => unknown): Failure {
  try {
    call();
  } catch (error) {
    if (error instanceof Failure) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

describeKernel("objects and programs", () => {
  let directory: Directory;
  let path: string;
  let before: string[];
  beforeAll(() => {
    directory = temporaryDirectory();
    path = compile("sample.bpf.c", directory.path);
  });
  afterAll(() => directory?.[Symbol.dispose]());
  beforeEach(() => {
    before = bpfDescriptors();
  });
  afterEach(() => expect(bpfDescriptors()).toEqual(before));

  function loaded(configure: (object: BpfObject) => void = () => {}): BpfObject {
    const object = openObject(path);
    try {
      configure(object);
      object.load();
      return object;
    } catch (error) {
      object.close();
      throw error;
    }
  }

  it("an object lists its maps and programs before it is loaded", () => {
    using object = openObject(path, { name: "sample" });
    expect(object.maps().sort()).toEqual(["events", "table", "words"]);
    expect(object.programs().sort()).toEqual([
      "allow",
      "broken",
      "emit",
      "first",
      "pass",
      "pass_too",
      "refuse_port_1",
      "second",
    ]);
    expect(() => object.map("table")).toThrow("the object is not loaded");
    expect(() => object.program("first")).toThrow("it is not loaded");
    expect(failureOf(() => object.setAutoload("nothing", false)).code).toBe("not_found");
  });

  it("read-only variables are set by name, the others keep their value", () => {
    const run = (values: Parameters<BpfObject["setReadOnly"]>[0]): number => {
      using object = loaded((unloaded) => unloaded.setReadOnly(values));
      return object.program("first").testRun({ data: packet }).retval;
    };
    const name = new Uint8Array([1, 2, 3, 4, 5, 6, 7, 9]);
    expect(run({})).toBe(-1);
    expect(run({ answer: 42, wide: 0x1122334455667788n, name })).toBe(7);
    expect(run({ answer: 43, wide: 0x1122334455667788n, name })).toBe(-1);
    expect(run({ answer: 42, wide: 0x1122334455667788n })).toBe(-1);
  });

  const refusedValues = [
    { values: { answer: 2 ** 32 }, message: "Cannot set answer as 'value' must fit 4 bytes: it is 4294967296" },
    { values: { answer: 1.5 }, message: "Cannot set answer as 'value' must be a whole number: it is 1.5" },
    { values: { name: new Uint8Array(7) }, message: "Cannot set name as 'value' must be 8 bytes long: it is 7" },
    { values: { nothing: 1 }, message: "could not find the read-only variable nothing" },
  ];
  for (const { values, message } of refusedValues) {
    it(`a read-only value is refused: ${message}`, () => {
      using object = openObject(path);
      expect(() => object.setReadOnly(values as never)).toThrow(message);
    });
  }

  it("a map's size is chosen before loading, and nothing is chosen afterwards", () => {
    using object = loaded((unloaded) => unloaded.setMaxEntries("table", 77));
    expect(object.map("table").maxEntries).toBe(77);
    expect(() => object.setMaxEntries("table", 78)).toThrow("it is loaded already");
    expect(() => object.setReadOnly({ answer: 1 })).toThrow("it is loaded already");
    expect(() => object.setAutoload("first", false)).toThrow("it is loaded already");
    expect(() => object.load()).toThrow("it is loaded already");
  });

  it("programs that are not wanted are not loaded", () => {
    using object = loaded((unloaded) => unloaded.setAutoload("pass", false));
    expect(() => object.program("pass")).toThrow("Cannot use program pass");
    expect(object.program("pass_too").type).toBe("xdp");
  });

  it("closing an object closes what it handed out, and nothing that was duplicated", () => {
    const object = loaded();
    const table = object.map("table");
    const first = object.program("first");
    using keptMap = table.duplicate();
    using keptProgram = first.duplicate();
    object.close();
    object.close();
    expect([table.isClosed, first.isClosed]).toEqual([true, true]);
    expect(() => table.lookup(new Uint8Array(8))).toThrow("it is closed");
    expect(() => object.maps()).toThrow("it is closed");
    expect(keptMap.lookup(new Uint8Array(8))).toBeUndefined();
    expect(keptProgram.testRun({ data: packet }).retval).toBe(-1);
  });

  it("a refused program is told with the verifier's last useful lines", () => {
    const error = failureOf(() => loaded((object) => object.setAutoload("broken", true)));
    expect(error).toBeInstanceOf(VerifierError);
    const lines = error.message.split("\n");
    expect(lines[0]).toBe("could not load the program broken: the verifier refused it");
    expect(lines[1]).toMatch(/^\(\d+ lines omitted\)$/);
    expect(error.message).toContain("invalid access to packet");
    expect(error.message).not.toContain("processed");
    expect(lines.length).toBeLessThan(12);
    expect((error as VerifierError).log.split("\n").length).toBeGreaterThan(lines.length);
  });

  it("objects load beside the event loop, several at once", async () => {
    using one = openObject(path);
    using other = openObject(path);
    for (const object of [one, other]) object.setAutoload("broken", false);
    other.setAutoload("first", false);
    // Every thread that could do it waits for a writer: until one comes, nothing is loaded, and this thread goes on.
    const fifo = join(directory.path, "fifo");
    execFileSync("mkfifo", [fifo]);
    const threads = Number(process.env["UV_THREADPOOL_SIZE"] ?? 4);
    const waiting = Array.from({ length: threads }, () => open(fifo, "r"));
    let isLoaded = false;
    const loading = Promise.all([one.loadAsync(), other.loadAsync()]).then(() => {
      isLoaded = true;
    });
    await delay(20);
    expect(isLoaded).toBe(false);
    const writer = openSync(fifo, "r+");
    await loading;
    closeSync(writer);
    for (const reader of waiting) await (await reader).close();
    expect([one.loads("first"), other.loads("first"), one.loads("nonsense")]).toEqual([true, false, false]);
    expect(one.program("first").testRun({ data: packet }).retval).toBe(-1);
    await expect(one.loadAsync()).rejects.toThrow("it is loaded already");
  });

  it("a program that is refused beside the event loop is told as well", async () => {
    using object = openObject(path);
    object.setAutoload("broken", true);
    await expect(object.loadAsync()).rejects.toThrow("could not load the program broken: the verifier refused it");
  });

  it("a log that fits is not cut", () => {
    expect(summariseLog("one\ntwo\nprocessed 3 insns (limit 1000000)\n\n")).toBe("one\ntwo");
    const long = Array.from({ length: 20 }, (_, i) => `line ${i}`).join("\n");
    expect(summariseLog(long).split("\n")).toEqual(["(12 lines omitted)", ...long.split("\n").slice(12)]);
  });

  it("what is no object is refused with libbpf's words", () => {
    expect(failureOf(() => openObject("/nonexistent.o"))).toMatchObject({
      code: "not_found",
      subject: "/nonexistent.o",
    });
    const error = failureOf(() => openObject("/etc/passwd"));
    expect(error.code).toBe("invalid_object");
    expect(error.message).toContain("not a proper ELF object");
  });

  it("a map that cannot be made is named", () => {
    const error = failureOf(() => loaded((object) => object.setMaxEntries("table", 0xffffffff)));
    expect(error.code).toBe("kernel");
    expect(error.message).toContain("table");
  });

  it("a pinned map is reused with its rows, one of another shape is refused", () => {
    using bpffs = temporaryBpffs();
    const pin = `${bpffs.path}/table`;
    const key = new Uint8Array(8).fill(1);
    const value = new Uint8Array(32).fill(2);
    {
      using object = loaded();
      object.map("table").update(key, value);
      object.map("table").pin(pin);
    }
    using pinned = openPinnedMap(pin);
    {
      using object = loaded((unloaded) => unloaded.reuseMap("table", pinned));
      expect(object.map("table").info().id).toBe(pinned.info().id);
      expect(object.map("table").lookup(key)).toEqual(value);
    }
    {
      using object = loaded((unloaded) => unloaded.reuseMap("table", pinned.fd));
      expect(object.map("table").info().id).toBe(pinned.info().id);
    }
    using other = createMap({ type: "hash", name: "other", keySize: 8, valueSize: 40, maxEntries: 10 });
    const error = failureOf(() => loaded((unloaded) => unloaded.reuseMap("table", other)));
    expect(error.code).toBe("conflict");
    expect(error.message).toMatch(/^could not reuse the map table: its valueSize is 40, .* wants 32$/);
    unpin(pin);
  });

  it("a pinned program is reopened, and taken for nothing else", () => {
    using bpffs = temporaryBpffs();
    const pin = `${bpffs.path}/first`;
    let id: number;
    let tag: string;
    {
      using object = loaded();
      const first = object.program("first");
      first.pin(pin);
      ({ id, tag } = first);
    }
    using program = openPinnedProgram(pin);
    expect(program).toMatchObject({ id, tag, name: "first", type: "sched_cls" });
    expect(program.tag).toMatch(/^[0-9a-f]{16}$/);
    expect(program.expectedAttachType).toBeUndefined();
    expect(program.testRun({ data: packet }).retval).toBe(-1);
    expect(failureOf(() => openPinnedMap(pin))).toMatchObject({
      code: "conflict",
      message: `could not open ${pin}: it holds a program, not a map`,
    });
    unpin(pin);
  });

  it("a test run carries packet and context in and out", () => {
    using object = loaded();
    const context = new Uint8Array(192);
    // __sk_buff.mark
    new DataView(context.buffer).setUint32(8, 5, true);
    const data = Uint8Array.from({ length: 100 }, (_, i) => i);
    const result = object.program("second").testRun({ data, context });
    expect(result.retval).toBe(-1);
    expect(result.data).toEqual(data);
    expect(new DataView(result.context.buffer, result.context.byteOffset).getUint32(8, true)).toBe(6);
    expect(context[8]).toBe(5);
  });

  it("a test run repeats and measures", () => {
    using object = loaded();
    const words = new BigUint64Array(object.map("words").mmap());
    const result = object.program("first").testRun({ data: packet, repeat: 1000 });
    expect(words[0]).toBe(1000n);
    expect(result.durationNs).toBeGreaterThan(0);
    expect(() => object.program("first").testRun({ data: packet, repeat: 0 })).toThrow("'repeat' must be");
  });

  it("a test run that the kernel refuses is told with the program's name", () => {
    using object = loaded();
    expect(() => object.program("allow").testRun()).toThrow("could not test-run the program allow: ENOTSUPP");
    expect(() => object.program("first").testRun({ data: new Uint8Array(3) })).toThrow("EINVAL");
  });
});
