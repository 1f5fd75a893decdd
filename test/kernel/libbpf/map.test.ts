import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import {
  BatchError,
  type BpfMap,
  createMap,
  errnoName,
  MapFlag,
  type MapType,
  openPinnedMap,
  possibleCpus,
  Update,
  unpin,
} from "../../../src/libbpf/mod.ts";
import { describeKernel } from "../require-kernel.ts";
import { bpfDescriptors, type Directory, temporaryBpffs, withEnvironment } from "./fixture.ts";

const u32 = (value: number): Uint8Array => new Uint8Array(new Uint32Array([value]).buffer);
const u64 = (value: bigint): Uint8Array => new Uint8Array(new BigUint64Array([value]).buffer);
const readU32 = (bytes: Uint8Array): number => new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
const readU64 = (bytes: Uint8Array): bigint => new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);

describeKernel("maps", () => {
  let before: string[];
  beforeEach(() => {
    before = bpfDescriptors();
  });
  afterEach(() => expect(bpfDescriptors()).toEqual(before));

  const types: { type: MapType; flags?: number; deletes: boolean; keySize?: number }[] = [
    { type: "hash", deletes: true },
    { type: "hash", flags: MapFlag.noPrealloc, deletes: true },
    { type: "lru_hash", deletes: true },
    { type: "array", deletes: false },
    { type: "array", flags: MapFlag.mmapable, deletes: false },
    { type: "percpu_hash", deletes: true },
    { type: "percpu_array", deletes: false },
    { type: "lpm_trie", flags: MapFlag.noPrealloc, deletes: true, keySize: 8 },
  ];
  for (const without of ["", "batch"]) {
    describe(without === "" ? "with batch operations" : "with one system call per row", () => {
      let environment: Disposable;
      beforeEach(() => {
        environment = withEnvironment({ MILLRACE_WITHOUT: without });
      });
      afterEach(() => environment[Symbol.dispose]());

      for (const { type, flags = 0, deletes, keySize = 4 } of types) {
        it(`${type}${flags === 0 ? "" : ` (flags ${flags})`}: what is written is read back, iterated, deleted`, () => {
          const rows = 200;
          using map = createMap({ type, name: "contract", keySize, valueSize: 8, maxEntries: rows, flags });
          const keys = new Uint8Array(rows * keySize);
          const values = new Uint8Array(rows * map.valueBytes);
          const keyView = new DataView(keys.buffer);
          const valueView = new DataView(values.buffer);
          for (let i = 0; i < rows; i++) {
            // A trie's key begins with the number of bits that count.
            if (type === "lpm_trie") keyView.setUint32(i * keySize, 32, true);
            keyView.setUint32(i * keySize + keySize - 4, i, true);
            for (let part = 0; part < map.valueBytes; part += 8) {
              valueView.setBigUint64(i * map.valueBytes + part, BigInt(i) * 3n + BigInt(part), true);
            }
          }
          map.updateBatch(keys, values, rows);
          const expected = Array.from({ length: rows }, (_, i) => [i, BigInt(i) * 3n]);
          const idOf = (key: Uint8Array): number => readU32(key.subarray(keySize - 4));

          // An LRU map may give up some rows before it is full.
          const all = map.readAll();
          const read = Array.from({ length: all.count }, (_, i) => [
            idOf(all.keys.subarray(i * keySize, (i + 1) * keySize)),
            readU64(all.values.subarray(i * map.valueBytes)),
          ]).sort((a, b) => Number(a[0]) - Number(b[0]));
          if (type === "lru_hash") expect(all.count).toBeGreaterThan(rows / 2);
          else expect(read).toEqual(expected);
          expect(map.countRows()).toBe(all.count);
          const iterated = [...map.entries()].map(([key, value]) => [idOf(key), readU64(value)]);
          expect(iterated.sort((a, b) => Number(a[0]) - Number(b[0]))).toEqual(read);
          const chunks = [...map.batches(128)].map((chunk) => chunk.count);
          expect(chunks.reduce((sum, count) => sum + count)).toBe(all.count);

          const some = all.keys.slice(0, keySize);
          const value = map.lookup(some) as Uint8Array;
          expect(value.length).toBe(map.valueBytes);
          expect(value.length).toBe(map.isPerCpu ? possibleCpus() * 8 : 8);
          expect(readU64(value)).toBe(BigInt(idOf(some)) * 3n);
          if (map.isPerCpu)
            expect(readU64(value.subarray(map.valueBytes - 8))).toBe(
              BigInt(idOf(some)) * 3n + BigInt(map.valueBytes - 8),
            );
          if (!deletes) return;
          expect(map.delete(some)).toBe(true);
          expect(map.delete(some)).toBe(false);
          expect(map.lookup(some)).toBeUndefined();
          expect(map.lookupInto(some, value)).toBe(false);
          if (type !== "lru_hash") expect(map.deleteBatch(all.keys, all.count)).toBe(all.count - 1);
          else map.deleteBatch(all.keys, all.count);
          expect(map.readAll().count).toBe(0);
          expect([...map.entries()]).toEqual([]);
        });
      }

      it("a batch that fails half way tells how far it got, and what was written stays", () => {
        using map = createMap({ type: "array", name: "half", keySize: 4, valueSize: 8, maxEntries: 10 });
        const keys = new Uint8Array(new Uint32Array([7, 8, 9, 10, 11]).buffer);
        const values = new Uint8Array(new BigUint64Array([1n, 2n, 3n, 4n, 5n]).buffer);
        let error: unknown;
        try {
          map.updateBatch(keys, values, 5);
        } catch (thrown) {
          error = thrown;
        }
        expect(error).toBeInstanceOf(BatchError);
        expect((error as BatchError).done).toBe(3);
        expect(errnoName((error as BatchError).errno)).toBe("E2BIG");
        expect((error as BatchError).message).toBe("could not update rows of half: E2BIG at row 3 of 5");
        expect(readU64(map.lookup(u32(9)) as Uint8Array)).toBe(3n);
      });

      it("rows may be deleted while they are iterated", () => {
        using map = createMap({ type: "hash", name: "sweep", keySize: 4, valueSize: 8, maxEntries: 1000 });
        for (let i = 0; i < 1000; i++) map.update(u32(i), u64(BigInt(i)));
        let seen = 0;
        for (const [key] of map.entries()) {
          seen++;
          map.delete(key);
        }
        expect(seen).toBe(1000);
        expect(map.readAll().count).toBe(0);
      });
    });
  }

  it("updates obey their flags", () => {
    using map = createMap({ type: "hash", name: "flags", keySize: 4, valueSize: 8, maxEntries: 2 });
    expect(errnoName(map.tryUpdate(u32(1), u64(1n), Update.exist))).toBe("ENOENT");
    expect(map.tryUpdate(u32(1), u64(1n), Update.noexist)).toBe(0);
    expect(errnoName(map.tryUpdate(u32(1), u64(2n), Update.noexist))).toBe("EEXIST");
    expect(() => map.update(u32(1), u64(2n), Update.noexist)).toThrow(
      "could not update a row of flags: EEXIST (File exists)",
    );
    expect(() => map.updateBatch(u32(1), u64(2n), 1, Update.noexist)).toThrow("EEXIST at row 0 of 1");
    expect(readU64(map.lookup(u32(1)) as Uint8Array)).toBe(1n);
  });

  it("keys and values of another length never reach the kernel", () => {
    using map = createMap({ type: "hash", name: "sizes", keySize: 4, valueSize: 8, maxEntries: 2 });
    expect(() => map.lookup(u64(1n))).toThrow("Cannot use map sizes as 'key' must be 4 bytes long: it is 8");
    expect(() => map.update(u32(1), u32(1))).toThrow("Cannot use map sizes as 'value' must be 8 bytes long: it is 4");
    expect(() => map.updateBatch(u32(1), u64(1n), 2)).toThrow("'keys' must hold 2 rows of 4 bytes: it is 4 long");
    expect(() => map.updateBatch(u64(1n), u64(1n), 2)).toThrow("'values' must hold 2 rows of 8 bytes: it is 8 long");
    expect(() => map.deleteBatch(u32(1), 1.5)).toThrow("'count' must be a whole number: it is 1.5");
    expect(() => [...map.batches(0)]).toThrow("'chunk' must be a positive whole number: it is 0");
    expect(() => createMap({ type: "hash", name: "x", keySize: -4, valueSize: 8, maxEntries: 2 })).toThrow("'keySize'");
  });

  it("a mapped array and the map are the same memory, until close", () => {
    using map = createMap({
      type: "array",
      name: "mapped",
      keySize: 4,
      valueSize: 12,
      maxEntries: 1000,
      flags: MapFlag.mmapable,
    });
    expect(map.stride).toBe(16);
    const words = new BigUint64Array(map.mmap());
    expect(words.length).toBe(2000);
    Atomics.store(words, 999 * 2, 0x1122_3344_5566_7788n);
    expect(readU64(map.lookup(u32(999)) as Uint8Array)).toBe(0x1122_3344_5566_7788n);
    map.update(u32(5), new Uint8Array(12).fill(1));
    expect(Atomics.load(words, 10)).toBe(0x0101_0101_0101_0101n);
    expect(map.mmap()).toBe(words.buffer);
    expect(() => map.mmap(false)).toThrow("'writable' must be true");
    map.close();
    expect(words.length).toBe(0);
    expect(words[0]).toBeUndefined();
    expect(() => map.lookup(u32(0))).toThrow("it is closed");
  });

  it("an array that was not made for it is not mapped", () => {
    using map = createMap({ type: "array", name: "plain", keySize: 4, valueSize: 8, maxEntries: 1 });
    expect(() => map.mmap()).toThrow("Cannot map plain as 'flags' must have BPF_F_MMAPABLE");
    using _ = withEnvironment({ MILLRACE_WITHOUT: "mmap_array" });
    expect(() => map.mmap()).toThrow("could not use mmap_array: it needs Linux 5.5 or later");
  });

  it("info tells what the kernel knows", () => {
    using map = createMap({
      type: "hash",
      name: "a_name_of_many_letters",
      keySize: 4,
      valueSize: 8,
      maxEntries: 100,
      flags: 1,
    });
    const info = map.info();
    expect(info).toMatchObject({
      type: "hash",
      keySize: 4,
      valueSize: 8,
      maxEntries: 100,
      flags: 1,
      name: "a_name_of_many_",
    });
    expect(info.id).toBeGreaterThan(0);
    expect(info.memoryBytes).toBeGreaterThan(0);
    expect(map.name).toBe("a_name_of_many_letters");
  });

  it("the kernel's refusal to make a map is told with its name", () => {
    expect(() => createMap({ type: "ringbuf", name: "odd", keySize: 0, valueSize: 0, maxEntries: 1000 })).toThrow(
      "could not create the map odd: EINVAL (Invalid argument)",
    );
  });

  describe("pinned", () => {
    let bpffs: Directory;
    beforeAll(() => {
      bpffs = temporaryBpffs();
    });
    afterAll(() => bpffs[Symbol.dispose]());

    it("a map outlives its descriptor and is adopted with its rows", () => {
      const pin = `${bpffs.path}/table`;
      const spec = { type: "hash", name: "adopted", keySize: 4, valueSize: 8, maxEntries: 10 } as const;
      let made: BpfMap | undefined = createMap(spec);
      const id = made.info().id;
      made.update(u32(3), u64(33n));
      made.pin(pin);
      expect(() => made?.pin(pin)).toThrow(`could not pin adopted at ${pin}: EEXIST`);
      made.close();
      made = undefined;
      using adopted = openPinnedMap(pin);
      expect(adopted.info().id).toBe(id);
      expect(adopted).toMatchObject({ name: "adopted", type: "hash", keySize: 4, valueSize: 8, maxEntries: 10 });
      expect(readU64(adopted.lookup(u32(3)) as Uint8Array)).toBe(33n);
      using second = adopted.duplicate();
      adopted.close();
      expect(readU64(second.lookup(u32(3)) as Uint8Array)).toBe(33n);
      expect([unpin(pin), unpin(pin)]).toEqual([true, false]);
      expect(() => openPinnedMap(pin)).toThrow(`could not open the pinned map ${pin}: ENOENT`);
    });

    it("pinning needs a bpffs", () => {
      using map = createMap({ type: "hash", name: "lost", keySize: 4, valueSize: 8, maxEntries: 10 });
      expect(() => map.pin("/tmp/millrace-no-bpffs")).toThrow("could not pin lost at /tmp/millrace-no-bpffs: E");
      expect(() => map.pin(`${bpffs.path}/none/map`)).toThrow("ENOENT");
    });
  });
});
