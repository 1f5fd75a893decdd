import fs from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Btf, openObject, parseBtf } from "../../../src/libbpf/mod.ts";
import { describeKernel } from "../require-kernel.ts";
import { compile, type Directory, temporaryDirectory } from "./fixture.ts";

describeKernel("BTF of an object", () => {
  let directory: Directory;
  let btf: Btf;
  beforeAll(() => {
    directory = temporaryDirectory();
    using object = openObject(compile("sample.bpf.c", directory.path));
    btf = object.btf();
  });
  afterAll(() => directory?.[Symbol.dispose]());

  it("a struct's members have names, places, kinds and the typedefs that carry byte order", () => {
    const members = (name: string): unknown[] =>
      (btf.struct(name)?.members ?? []).map(({ name, bitOffset, bitSize, isBitField, type }) =>
        [name, bitOffset, bitSize, isBitField, type.kind, type.typedef, type.name].join(" "),
      );
    expect(btf.struct("key")?.size).toBe(8);
    expect(members("key")).toEqual([
      "address 0 32 false int __be32 unsigned int",
      "port 32 16 false int __be16 unsigned short",
      "protocol 48 8 false int __u8 unsigned char",
      "rest 56 8 false int __u8 unsigned char",
    ]);
    expect(members("value")).toEqual([
      "counter 0 64 false int __u64 unsigned long long",
      "inner 64 128 false struct  inner",
      "port 192 16 false int port_number unsigned short",
      "low 208 4 true int __u16 unsigned short",
      "high 212 12 true int __u16 unsigned short",
      "colour 224 32 false enum  colour",
    ]);
    const bytes = btf.struct("inner")?.members[0]?.type;
    expect([bytes?.kind, bytes?.length, bytes?.size, bytes?.element?.typedef]).toEqual(["array", 16, 16, "__u8"]);
    expect(btf.struct("nothing")).toBeUndefined();
  });

  it("a struct that only a global pointer names is there", () => {
    expect(btf.structs().map((struct) => struct.name)).toEqual(
      expect.arrayContaining(["event", "key", "value", "inner"]),
    );
  });

  it("enums have their values, negative ones too", () => {
    expect(btf.enum("colour")).toMatchObject({
      values: [
        { name: "RED", value: 1n },
        { name: "GREEN", value: 7n },
        { name: "BLUE", value: -3n },
      ],
    });
  });

  it("map definitions tell key and value types", () => {
    const maps = btf
      .maps()
      .map((map) => [
        map.name,
        map.type,
        map.maxEntries,
        map.flags,
        map.key?.name,
        map.keySize,
        map.value?.name,
        map.valueSize,
      ])
      .sort();
    expect(maps).toEqual([
      ["events", "ringbuf", 4096, 0, undefined, 0, undefined, 0],
      ["table", "hash", 1024, 0, "key", 8, "value", 32],
      ["words", "array", 512, 1024, "unsigned int", 4, "inner", 16],
    ]);
  });

  it("read-only variables have offset and size", () => {
    const section = btf.datasec(".rodata");
    const variables = section?.variables.map(({ name, offset, size, type }) => [name, offset, size, type.kind]);
    expect(variables?.sort()).toEqual([
      ["answer", 0, 4, "int"],
      ["name", 16, 8, "array"],
      ["wide", 8, 8, "int"],
    ]);
    expect(btf.datasec(".nothing")).toBeUndefined();
  });

  it.skipIf(!fs.existsSync("/sys/kernel/btf/vmlinux"))("the kernel's own types are read", () => {
    const kernel = parseBtf(fs.readFileSync("/sys/kernel/btf/vmlinux"));
    expect(kernel.structs().length).toBeGreaterThan(1000);
    // Pointers that lead back to their own struct, unions without names, bit fields.
    const list = kernel.struct("list_head");
    expect(list?.members.map((member) => member.type.element?.name)).toEqual(["list_head", "list_head"]);
    expect(kernel.struct("sk_buff")?.size).toBeGreaterThan(100);
    expect(kernel.enum("bpf_map_type")?.values.find((value) => value.name === "BPF_MAP_TYPE_RINGBUF")?.value).toBe(27n);
  });
});

describe("BTF that is broken", () => {
  const header = (change: (view: DataView) => void, length = 40): Uint8Array => {
    const bytes = new Uint8Array(length);
    const view = new DataView(bytes.buffer);
    view.setUint16(0, 0xeb9f, true);
    view.setUint8(2, 1);
    view.setUint32(4, 24, true);
    view.setUint32(12, 12, true);
    view.setUint32(16, 12, true);
    view.setUint32(20, 4, true);
    change(view);
    return bytes;
  };
  const cases: { name: string; bytes: Uint8Array; message: string }[] = [
    { name: "empty", bytes: new Uint8Array(0), message: "shorter than its header" },
    { name: "not BTF", bytes: header((view) => view.setUint16(0, 1)), message: "magic number" },
    { name: "cut off", bytes: header(() => {}, 30), message: "ends behind its last byte" },
    {
      name: "of an unknown kind",
      bytes: header((view) => view.setUint32(28, 31 << 24, true)),
      message: "unknown kind",
    },
    {
      name: "a struct without its members",
      bytes: header((view) => view.setUint32(28, (4 << 24) | 3, true)),
      message: "ends behind the last one",
    },
    {
      name: "a name out of bounds",
      bytes: header((view) => {
        view.setUint32(24, 99, true);
        view.setUint32(28, 2 << 24, true);
      }),
      message: "no string at 99",
    },
  ];
  for (const { name, bytes, message } of cases) {
    it(`${name}: refused`, () => {
      expect(() => parseBtf(bytes)).toThrow(message);
    });
  }

  it("a typedef of itself is refused, not followed for ever", () => {
    const bytes = header((view) => {
      view.setUint32(28, 8 << 24, true);
      view.setUint32(32, 1, true);
    });
    expect(() => parseBtf(bytes).shape(1)).toThrow("alias of itself");
  });
});
