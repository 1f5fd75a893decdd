// What the BPF objects' own type information says about the maps and the structs in them: described as plain data, named by
// a fingerprint, and used to copy values of one layout into another. Never loads anything.
import { createHash } from "node:crypto";
import { Failure } from "../lib/errors.ts";
import type { Btf, BtfShape, BtfStruct } from "../libbpf/mod.ts";

export interface FieldLayout {
  readonly name: string;
  /** Bytes from the start of the struct. */
  readonly offset: number;
  readonly size: number;
  /** `be16` is in network order; `address` is struct address; an array holds `length` elements of `element`. */
  readonly kind: "u8" | "u16" | "u32" | "u64" | "be16" | "be32" | "be64" | "address" | "struct" | "array";
  /** For struct. */
  readonly struct?: string;
  /** For array. */
  readonly length?: number;
  readonly element?: Omit<FieldLayout, "name" | "offset">;
}

export interface StructLayout {
  readonly name: string;
  readonly size: number;
  readonly fields: readonly FieldLayout[];
}

export interface MapLayout {
  readonly name: string;
  readonly type: string;
  readonly flags: number;
  /** Name of a struct, or an integer kind. */
  readonly key: string;
  readonly value: string;
  readonly keySize: number;
  readonly valueSize: number;
}

export interface Layout {
  readonly structs: Readonly<Record<string, StructLayout>>;
  readonly enums: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly maps: Readonly<Record<string, MapLayout>>;
}

/** Maps that live as long as their object and are not pinned. */
const UNPINNED: ReadonlySet<string> = new Set(["scratch"]);

const INTEGERS: Readonly<Record<number, "u8" | "u16" | "u32" | "u64">> = { 1: "u8", 2: "u16", 4: "u32", 8: "u64" };

function elementOf(shape: BtfShape, where: string): Omit<FieldLayout, "name" | "offset"> {
  const { size } = shape;
  if (shape.kind === "struct") {
    return shape.name === "address" ? { size, kind: "address" } : { size, kind: "struct", struct: shape.name };
  }
  if (shape.kind === "array" && shape.element !== undefined) {
    return { size, kind: "array", length: shape.length, element: elementOf(shape.element, where) };
  }
  if (shape.typedef === "__be16" || shape.typedef === "__be32" || shape.typedef === "__be64") {
    return { size, kind: shape.typedef.slice(2) as "be16" | "be32" | "be64" };
  }
  const kind = shape.kind === "int" || shape.kind === "enum" ? INTEGERS[size] : undefined;
  if (kind === undefined)
    throw new Failure("internal", where, `could not describe ${where}: a ${shape.kind} of ${size} bytes`);
  return { size, kind };
}

function describeStruct(struct: BtfStruct): StructLayout {
  return {
    name: struct.name,
    size: struct.size,
    fields: struct.members.map((member) => {
      const where = `${struct.name}.${member.name}`;
      if (member.isBitField || member.name === "")
        throw new Failure(
          "internal",
          where,
          `could not describe ${where}: bit fields and anonymous members are not used`,
        );
      return { name: member.name, offset: member.bitOffset / 8, ...elementOf(member.type, where) };
    }),
  };
}

function shapeName(shape: BtfShape | undefined, size: number, where: string): string {
  if (shape?.kind === "struct") return shape.name;
  const kind = INTEGERS[size];
  if (kind === undefined) throw new Failure("internal", where, `could not describe ${where}: no type`);
  return kind;
}

/** Describes the pinned maps of several objects together. Throws Failure when two objects disagree about one. */
export function describeLayout(objects: readonly Btf[], extraEnums: readonly string[] = []): Layout {
  const structs: Record<string, StructLayout> = {};
  const maps: Record<string, MapLayout> = {};
  const enums: Record<string, Record<string, number>> = {};
  const wanted: { readonly btf: Btf; readonly name: string }[] = [];
  for (const btf of objects) {
    for (const map of btf.maps()) {
      if (UNPINNED.has(map.name)) continue;
      const layout: MapLayout = {
        name: map.name,
        type: map.type,
        flags: map.flags,
        key: shapeName(map.key, map.keySize, `${map.name} key`),
        value: shapeName(map.value, map.valueSize, `${map.name} value`),
        keySize: map.keySize,
        valueSize: map.valueSize,
      };
      const known = maps[map.name];
      if (known !== undefined && JSON.stringify(known) !== JSON.stringify(layout)) {
        throw new Failure("internal", map.name, `could not describe ${map.name}: two objects define it differently`);
      }
      maps[map.name] = layout;
      for (const shape of [map.key, map.value]) if (shape?.kind === "struct") wanted.push({ btf, name: shape.name });
    }
    for (const found of btf.enums()) {
      if (found.name === "" || !extraEnums.includes(found.name)) continue;
      enums[found.name] = Object.fromEntries(found.values.map(({ name, value }) => [name, Number(value)]));
    }
  }
  while (wanted.length > 0) {
    const { btf, name } = wanted.pop()!;
    const struct = btf.struct(name);
    if (struct === undefined)
      throw new Failure("internal", name, `could not describe struct ${name}: it is not in the BTF`);
    const layout = describeStruct(struct);
    const known = structs[name];
    if (known !== undefined) {
      if (JSON.stringify(known) !== JSON.stringify(layout)) {
        throw new Failure("internal", name, `could not describe struct ${name}: two objects define it differently`);
      }
      continue;
    }
    structs[name] = layout;
    for (const field of layout.fields) {
      const struct = field.struct ?? field.element?.struct;
      if (struct !== undefined) wanted.push({ btf, name: struct });
    }
  }
  const sorted = <T>(record: Record<string, T>): Record<string, T> =>
    Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));
  return { structs: sorted(structs), enums: sorted(enums), maps: sorted(maps) };
}

/** Sixteen hex digits that name a layout: maps, structs and enums, not the maps' sizes. */
export function fingerprintOf(layout: Layout): string {
  return createHash("sha256").update(JSON.stringify(layout)).digest("hex").slice(0, 16);
}

interface Move {
  readonly from: number;
  readonly to: number;
  readonly size: number;
}

function movesBetween(from: Layout, to: Layout, struct: string, fromBase: number, toBase: number, moves: Move[]): void {
  const source = from.structs[struct];
  const target = to.structs[struct];
  if (source === undefined || target === undefined) return;
  for (const field of target.fields) {
    const old = source.fields.find(({ name }) => name === field.name);
    if (old === undefined || old.kind !== field.kind) continue;
    if (field.kind === "struct" && field.struct !== undefined && old.struct === field.struct) {
      movesBetween(from, to, field.struct, fromBase + old.offset, toBase + field.offset, moves);
    } else if (old.size === field.size) {
      moves.push({ from: fromBase + old.offset, to: toBase + field.offset, size: field.size });
    }
  }
}

/**
 * A function that turns values of `struct` of one layout into the other's: fields of the same name and kind are copied, others
 * are zero. undefined when either layout has no such struct.
 */
export function converter(
  from: Layout,
  to: Layout,
  struct: string,
): ((source: Uint8Array, sourceAt: number, target: Uint8Array, targetAt: number) => void) | undefined {
  if (from.structs[struct] === undefined || to.structs[struct] === undefined) return undefined;
  const moves: Move[] = [];
  movesBetween(from, to, struct, 0, 0, moves);
  return (source, sourceAt, target, targetAt) => {
    for (const move of moves) {
      target.set(source.subarray(sourceAt + move.from, sourceAt + move.from + move.size), targetAt + move.to);
    }
  };
}
