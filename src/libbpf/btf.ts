// Reads BTF, the type information of BPF objects and of the kernel: structs, enums, variables, map definitions.
// Bytes in, records out; only the words for types of maps are libbpf's. Never loads anything, never writes BTF.
import { Failure } from "../lib/errors.ts";
import { typeName } from "./native.ts";

/** By the numbers of the format. */
const KINDS = [
  "void",
  "int",
  "ptr",
  "array",
  "struct",
  "union",
  "enum",
  "fwd",
  "typedef",
  "volatile",
  "const",
  "restrict",
  "func",
  "func_proto",
  "var",
  "datasec",
  "float",
  "decl_tag",
  "type_tag",
  "enum64",
] as const;
export type BtfKind = (typeof KINDS)[number];

/** Kinds that are followed to what they stand for. */
const ALIASES = ["typedef", "volatile", "const", "restrict", "type_tag", "var"] as const satisfies readonly BtfKind[];
type Alias = (typeof ALIASES)[number];

/** What a type is once typedefs and qualifiers are followed. */
export interface BtfShape {
  /** Id of the type as asked for, before anything was followed. */
  readonly typeId: number;
  /** The first typedef on the way, such as "__be16"; "" when there is none. */
  readonly typedef: string;
  readonly kind: Exclude<BtfKind, Alias | "datasec" | "decl_tag" | "enum64">;
  /** Bytes; 0 for void, fwd and functions. */
  readonly size: number;
  /** Name of the struct, union, enum or integer; "" when it has none. */
  readonly name: string;
  /** For array. */
  readonly length: number;
  /** For array its element, for ptr its target. */
  readonly element: BtfShape | undefined;
}

export interface BtfMember {
  /** "" for an anonymous struct or union. */
  readonly name: string;
  readonly bitOffset: number;
  /** Width of a bit field; else 8 * type.size. */
  readonly bitSize: number;
  readonly isBitField: boolean;
  readonly type: BtfShape;
}

export interface BtfStruct {
  readonly name: string;
  readonly size: number;
  readonly members: readonly BtfMember[];
}

export interface BtfEnum {
  readonly name: string;
  readonly values: readonly { readonly name: string; readonly value: bigint }[];
}

export interface BtfVariable {
  readonly name: string;
  readonly offset: number;
  readonly size: number;
  readonly type: BtfShape;
}

export interface BtfDatasec {
  readonly variables: readonly BtfVariable[];
}

/** A map as the source defines it in SEC(".maps"). */
export interface BtfMapDefinition {
  readonly name: string;
  readonly type: string;
  /** 0 when the source leaves it to whoever loads. */
  readonly maxEntries: number;
  readonly flags: number;
  readonly keySize: number;
  readonly valueSize: number;
  /** undefined when the source gives a size only, or nothing (ring buffer). */
  readonly key: BtfShape | undefined;
  readonly value: BtfShape | undefined;
}

interface RawType {
  readonly kind: BtfKind;
  readonly name: string;
  readonly flag: boolean;
  readonly vlen: number;
  /** Size or type id, as the kind has it. */
  readonly word: number;
  /** Offset of what follows the common header. */
  readonly at: number;
}

export interface Btf {
  /** Structs and unions that have a name, in the order of their ids. */
  structs(): BtfStruct[];
  /** undefined when there is none. */
  struct(name: string): BtfStruct | undefined;
  enums(): BtfEnum[];
  enum(name: string): BtfEnum | undefined;
  /** Section names are those of the ELF file: ".rodata", ".bss", ".maps". */
  datasec(name: string): BtfDatasec | undefined;
  shape(typeId: number): BtfShape;
  maps(): BtfMapDefinition[];
}

const MAGIC = 0xeb9f;
const MAX_DEPTH = 32;

function broken(reason: string): Failure {
  return new Failure("invalid_object", "BTF", `could not read BTF: ${reason}`);
}

/** Reads BTF from the bytes of a `.BTF` section or of /sys/kernel/btf/vmlinux. Throws Failure "invalid_object". */
export function parseBtf(bytes: Uint8Array): Btf {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length < 24) throw broken("it is shorter than its header");
  if (view.getUint16(0, true) !== MAGIC) throw broken("it does not begin with the magic number of this byte order");
  const header = view.getUint32(4, true);
  const typesStart = header + view.getUint32(8, true);
  const typesEnd = typesStart + view.getUint32(12, true);
  const stringsStart = header + view.getUint32(16, true);
  const stringsEnd = stringsStart + view.getUint32(20, true);
  if (typesEnd > bytes.length || stringsEnd > bytes.length) throw broken("a section ends behind its last byte");

  const u32 = (at: number): number => {
    if (at + 4 > typesEnd) throw broken("a type ends behind the last one");
    return view.getUint32(at, true);
  };
  const text = (offset: number): string => {
    const start = stringsStart + offset;
    const end = bytes.indexOf(0, start);
    if (start >= stringsEnd || end < 0 || end >= stringsEnd) throw broken(`there is no string at ${offset}`);
    return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString("utf8");
  };

  const types: RawType[] = [{ kind: "void", name: "", flag: false, vlen: 0, word: 0, at: typesStart }];
  for (let at = typesStart; at < typesEnd; ) {
    const info = u32(at + 4);
    const kind = KINDS[(info >>> 24) & 0x1f];
    if (kind === undefined || kind === "void") throw broken(`type ${types.length} is of an unknown kind`);
    const vlen = info & 0xffff;
    types.push({ kind, name: text(u32(at)), flag: info >>> 31 === 1, vlen, word: u32(at + 8), at: at + 12 });
    at += 12 + trailing(kind, vlen);
    if (at > typesEnd) throw broken("a type ends behind the last one");
  }

  const rawOf = (typeId: number): RawType => {
    const type = types[typeId];
    if (type === undefined) throw broken(`there is no type ${typeId}`);
    return type;
  };

  const shapes = new Map<number, BtfShape>();
  const shape = (typeId: number, depth = 0): BtfShape => {
    const known = shapes.get(typeId);
    if (known !== undefined) return known;
    if (depth > MAX_DEPTH) throw broken(`type ${typeId} contains itself`);
    let typedef = "";
    let at = typeId;
    let raw = rawOf(at);
    for (let steps = 0; isAlias(raw.kind); steps++) {
      if (steps > MAX_DEPTH) throw broken(`type ${typeId} is an alias of itself`);
      if (raw.kind === "typedef" && typedef === "") typedef = raw.name;
      at = raw.word;
      raw = rawOf(at);
    }
    const base = {
      typeId,
      typedef,
      name: raw.name,
      length: 0,
      element: undefined,
    };
    const made = ((): BtfShape => {
      switch (raw.kind) {
        case "enum64":
          return { ...base, kind: "enum", size: raw.word };
        case "int":
        case "enum":
        case "struct":
        case "union":
        case "float":
          return { ...base, kind: raw.kind, size: raw.word };
        case "array": {
          const element = shape(u32(raw.at), depth + 1);
          const length = u32(raw.at + 8);
          return { ...base, kind: "array", size: element.size * length, length, element };
        }
        case "ptr":
          return { ...base, kind: "ptr", size: 8 };
        case "void":
        case "fwd":
        case "func":
        case "func_proto":
          return { ...base, kind: raw.kind, size: 0 };
        default:
          throw broken(`type ${at} (${raw.kind}) has no shape`);
      }
    })();
    // What a pointer points to may lead back here: found when asked for.
    const done: BtfShape =
      raw.kind === "ptr"
        ? Object.defineProperty({ ...made }, "element", { enumerable: false, get: () => shape(raw.word) })
        : made;
    shapes.set(typeId, done);
    return done;
  };

  const structById = (typeId: number): BtfStruct | undefined => {
    const raw = rawOf(typeId);
    if (raw.kind !== "struct" && raw.kind !== "union") return undefined;
    const members: BtfMember[] = [];
    for (let i = 0; i < raw.vlen; i++) {
      const at = raw.at + i * 12;
      const type = shape(u32(at + 4));
      const offset = u32(at + 8);
      const width = raw.flag ? offset >>> 24 : 0;
      members.push({
        name: text(u32(at)),
        bitOffset: raw.flag ? offset & 0xffffff : offset,
        bitSize: width === 0 ? type.size * 8 : width,
        isBitField: width !== 0,
        type,
      });
    }
    return { name: raw.name, size: raw.word, members };
  };

  const enumById = (typeId: number): BtfEnum | undefined => {
    const raw = rawOf(typeId);
    if (raw.kind !== "enum" && raw.kind !== "enum64") return undefined;
    const values: { name: string; value: bigint }[] = [];
    for (let i = 0; i < raw.vlen; i++) {
      const at = raw.at + i * (raw.kind === "enum" ? 8 : 12);
      const low = BigInt(u32(at + 4));
      const unsigned = raw.kind === "enum" ? low : low | (BigInt(u32(at + 8)) << 32n);
      const bits = raw.kind === "enum" ? 32 : 64;
      values.push({ name: text(u32(at)), value: raw.flag ? BigInt.asIntN(bits, unsigned) : unsigned });
    }
    return { name: raw.name, values };
  };

  const datasec = (name: string): BtfDatasec | undefined => {
    const raw = types.find((type) => type.kind === "datasec" && type.name === name);
    if (raw === undefined) return undefined;
    const variables: BtfVariable[] = [];
    for (let i = 0; i < raw.vlen; i++) {
      const at = raw.at + i * 12;
      const variable = rawOf(u32(at));
      // A section may also list functions (externs).
      if (variable.kind !== "var") continue;
      variables.push({
        name: variable.name,
        offset: u32(at + 4),
        size: u32(at + 8),
        type: shape(variable.word),
      });
    }
    return { variables };
  };

  const all = <T>(kinds: readonly BtfKind[], make: (typeId: number) => T | undefined): T[] => {
    const found: T[] = [];
    for (let id = 1; id < types.length; id++) {
      const raw = types[id] as RawType;
      if (raw.name === "" || !kinds.includes(raw.kind)) continue;
      const made = make(id);
      if (made !== undefined) found.push(made);
    }
    return found;
  };
  const idOf = (name: string, kinds: readonly BtfKind[]): number | undefined => {
    const id = types.findIndex((type) => type.name === name && kinds.includes(type.kind));
    return id < 0 ? undefined : id;
  };

  return {
    structs: () => all(["struct", "union"], structById),
    struct(name) {
      const id = idOf(name, ["struct", "union"]);
      return id === undefined ? undefined : structById(id);
    },
    // An enum without values is a forward declaration.
    enums: () => all(["enum", "enum64"], enumById),
    enum(name) {
      const id = idOf(name, ["enum", "enum64"]);
      return id === undefined ? undefined : enumById(id);
    },
    datasec,
    shape: (typeId) => shape(typeId),
    maps() {
      return (datasec(".maps")?.variables ?? []).map((variable) => {
        const definition = mapDefinitionStruct(variable, structById, rawOf);
        return mapDefinition(variable.name, definition);
      });
    },
  };
}

function mapDefinitionStruct(
  variable: BtfVariable,
  structById: (typeId: number) => BtfStruct | undefined,
  rawOf: (typeId: number) => RawType,
): BtfStruct {
  let id = variable.type.typeId;
  for (let steps = 0; isAlias(rawOf(id).kind) && steps <= MAX_DEPTH; steps++) id = rawOf(id).word;
  const definition = structById(id);
  if (definition === undefined) throw broken(`the map ${variable.name} is not defined by a struct`);
  return definition;
}

/** `__uint(x, n)` is a pointer to an array of n integers, `__type(x, T)` a pointer to T. */
function mapDefinition(name: string, definition: BtfStruct): BtfMapDefinition {
  const target = (field: string): BtfShape | undefined =>
    definition.members.find((member) => member.name === field)?.type.element;
  const number = (field: string): number => target(field)?.length ?? 0;
  const key = target("key");
  const value = target("value");
  return {
    name,
    type: typeName("map", number("type")),
    maxEntries: number("max_entries"),
    flags: number("map_flags"),
    keySize: key?.size ?? number("key_size"),
    valueSize: value?.size ?? number("value_size"),
    key,
    value,
  };
}

function isAlias(kind: BtfKind): kind is Alias {
  return (ALIASES as readonly BtfKind[]).includes(kind);
}

/** Bytes behind the 12 that every type begins with. */
function trailing(kind: BtfKind, vlen: number): number {
  switch (kind) {
    case "int":
    case "var":
    case "decl_tag":
      return 4;
    case "array":
      return 12;
    case "struct":
    case "union":
    case "datasec":
    case "enum64":
      return vlen * 12;
    case "enum":
    case "func_proto":
      return vlen * 8;
    default:
      return 0;
  }
}
