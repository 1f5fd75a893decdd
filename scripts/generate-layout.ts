// Writes src/datapath/layout.gen.ts from the BTF of the compiled objects: `make bpf` calls it. The file is committed, and
// `make check` fails when generating it again changes it.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describeLayout, type FieldLayout, fingerprintOf, type StructLayout } from "../src/datapath/layout.ts";
import { OBJECTS, SHARED_ENUMS } from "../src/datapath/objects.ts";
import { openObject } from "../src/libbpf/mod.ts";

const root = join(import.meta.dirname, "..");

const camel = (name: string): string => name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
const pascal = (name: string): string => camel(`_${name}`);
const upper = (name: string): string => name.toUpperCase();
const isPadding = (name: string): boolean => /^(pad\d*|reserved)$/.test(name);

type Element = Omit<FieldLayout, "name" | "offset">;

function typeOf(element: Element): string {
  switch (element.kind) {
    case "address":
      return "Address";
    case "struct":
      return pascal(element.struct!);
    case "u64":
    case "be64":
      return "bigint";
    case "array":
      return element.element!.kind === "u8" ? "Uint8Array" : `readonly ${typeOf(element.element!)}[]`;
    default:
      return "number";
  }
}

const ACCESSORS: Readonly<Record<string, readonly [name: string, order: string]>> = {
  u8: ["Uint8", ""],
  u16: ["Uint16", ", true"],
  u32: ["Uint32", ", true"],
  u64: ["BigUint64", ", true"],
  be16: ["Uint16", ", false"],
  be32: ["Uint32", ", false"],
  be64: ["BigUint64", ", false"],
};

function readOf(element: Element, at: string): string {
  if (element.kind === "address") return `readAddress(bytes, ${at})`;
  if (element.kind === "struct") return `read${pascal(element.struct!)}(bytes, ${at})`;
  if (element.kind === "array") {
    const inner = element.element!;
    if (inner.kind === "u8") return `bytes.slice(${at}, ${at} + ${element.length})`;
    return `[${Array.from({ length: element.length! }, (_, i) => readOf(inner, `${at} + ${i * inner.size}`)).join(", ")}]`;
  }
  const [name, order] = ACCESSORS[element.kind]!;
  return `view.get${name}(${at}${order})`;
}

function writeOf(element: Element, at: string, value: string): string[] {
  if (element.kind === "address") return [`writeAddress(${value}, bytes, ${at});`];
  if (element.kind === "struct") return [`write${pascal(element.struct!)}(bytes, ${at}, ${value});`];
  if (element.kind === "array") {
    const inner = element.element!;
    if (inner.kind === "u8") return [`bytes.set(${value}.subarray(0, ${element.length}), ${at});`];
    return Array.from({ length: element.length! }, (_, i) =>
      writeOf(inner, `${at} + ${i * inner.size}`, `${value}[${i}]!`),
    ).flat();
  }
  const [name, order] = ACCESSORS[element.kind]!;
  return [`view.set${name}(${at}, ${value}${order});`];
}

const needsView = (struct: StructLayout): boolean =>
  struct.fields.some(
    ({ kind, name, element }) =>
      !isPadding(name) && kind !== "address" && kind !== "struct" && !(kind === "array" && element?.kind === "u8"),
  );

function renderStruct(struct: StructLayout): string {
  const name = pascal(struct.name);
  const fields = struct.fields.filter((field) => !isPadding(field.name));
  const at = (offset: number): string => (offset === 0 ? "at" : `at + ${offset}`);
  const view = needsView(struct)
    ? ["  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);"]
    : [];
  return [
    `/** struct ${struct.name}, ${struct.size} bytes. */`,
    `export interface ${name} {`,
    ...fields.map((field) => `  readonly ${camel(field.name)}: ${typeOf(field)};`),
    "}",
    "",
    `export const ${upper(struct.name)} = {`,
    `  size: ${struct.size},`,
    ...fields.map((field) => `  ${camel(field.name)}: ${field.offset},`),
    "} as const;",
    "",
    `export function read${name}(bytes: Uint8Array, at = 0): ${name} {`,
    ...view,
    "  return {",
    ...fields.map((field) => `    ${camel(field.name)}: ${readOf(field, at(field.offset))},`),
    "  };",
    "}",
    "",
    `export function write${name}(bytes: Uint8Array, at: number, value: ${name}): void {`,
    ...view,
    `  bytes.fill(0, at, at + ${struct.size});`,
    ...fields
      .flatMap((field) => writeOf(field, at(field.offset), `value.${camel(field.name)}`))
      .map((line) => `  ${line}`),
    "}",
    "",
  ].join("\n");
}

const objects = OBJECTS.map((name) => openObject(join(root, "build/bpf", `${name}.bpf.o`)));
const layout = describeLayout(
  objects.map((object) => object.btf()),
  SHARED_ENUMS,
);
const config = [
  ...new Set(
    objects
      .flatMap(
        (object) =>
          object
            .btf()
            .datasec(".rodata")
            ?.variables.map(({ name }) => name) ?? [],
      )
      .filter((name) => name.startsWith("config_")),
  ),
];
for (const object of objects) object.close();

const { address: _address, ...structs } = layout.structs;
const text = [
  "// Generated by `make bpf` from the BTF of the compiled objects. Do not edit: change bpf/types.h.",
  'import { type Address, readAddress, writeAddress } from "../lib/address.ts";',
  'import type { Layout } from "./layout.ts";',
  "",
  `/** Names the layout of every pinned map: pins live under it. */`,
  `export const FINGERPRINT = "${fingerprintOf(layout)}";`,
  "",
  "/** Read-only variables that are set before the objects are loaded. */",
  `export const CONFIG = ${JSON.stringify(config.sort())} as const;`,
  "",
  ...Object.entries(layout.enums).map(([name, values]) =>
    [
      `export const ${upper(name)}_VALUES = {`,
      ...Object.entries(values).map(([key, value]) => `  ${key}: ${value},`),
      "} as const;",
      "",
    ].join("\n"),
  ),
  ...Object.values(structs).map(renderStruct),
  "/** The layout itself, to compare with an object's BTF and to copy values into another layout. */",
  `export const LAYOUT: Layout = ${JSON.stringify(layout, null, 2)};`,
  "",
].join("\n");
writeFileSync(join(root, "src/datapath/layout.gen.ts"), text);
