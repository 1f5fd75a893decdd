// Which shared libraries programs need, by the headers of their files: whether an image has them all, without running anything of
// it. ELF of 64 bits, little-endian, as both architectures are (System V ABI, chapters 4 and 5).
import { lstatSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { pathsBelow } from "./debian.ts";

const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const PT_INTERP = 3;
const DT_NEEDED = 1n;
const DT_STRTAB = 5n;

interface Segment {
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly size: number;
}

/** Names of the file's interpreter and of the libraries in its dynamic section, each once; undefined when it is no ELF file of 64 bits. */
export function neededBy(file: Buffer): readonly string[] | undefined {
  if (file.length < 64 || file.readUInt32BE(0) !== 0x7f454c46 || file[4] !== 2 || file[5] !== 1) return undefined;
  const segments = segmentsOf(file);
  const dynamic = segments.find(({ type }) => type === PT_DYNAMIC);
  const interpreter = segments.find(({ type }) => type === PT_INTERP);
  const names = interpreter === undefined ? [] : [basename(textAt(file, interpreter.offset))];
  if (dynamic === undefined) return names;
  const entries: [tag: bigint, value: number][] = [];
  for (let at = dynamic.offset; at < dynamic.offset + dynamic.size; at += 16) {
    entries.push([file.readBigUInt64LE(at), Number(file.readBigUInt64LE(at + 8))]);
  }
  const strings = offsetOf(segments, entries.find(([tag]) => tag === DT_STRTAB)?.[1] ?? 0);
  for (const [tag, value] of entries) if (tag === DT_NEEDED) names.push(textAt(file, strings + value));
  return [...new Set(names)];
}

function segmentsOf(file: Buffer): Segment[] {
  const start = Number(file.readBigUInt64LE(32));
  const [size, count] = [file.readUInt16LE(54), file.readUInt16LE(56)];
  return Array.from({ length: count }, (_, i) => {
    const at = start + i * size;
    return {
      type: file.readUInt32LE(at),
      offset: Number(file.readBigUInt64LE(at + 8)),
      address: Number(file.readBigUInt64LE(at + 16)),
      size: Number(file.readBigUInt64LE(at + 32)),
    };
  });
}

/** Where in the file an address of the loaded program is. */
function offsetOf(segments: readonly Segment[], address: number): number {
  const holder = segments.find(
    ({ type, address: start, size }) => type === PT_LOAD && start <= address && address < start + size,
  );
  return holder === undefined ? address : address - holder.address + holder.offset;
}

function textAt(file: Buffer, at: number): string {
  return file.toString("latin1", at, file.indexOf(0, at));
}

/** One line for each library that a program or library of the trees needs and none of them has: "usr/bin/ip needs libcap.so.2". */
export function missingLibraries(trees: readonly string[]): string[] {
  const files = trees.flatMap((tree) => pathsBelow(tree).map((path) => ({ tree, path })));
  const names = new Set(files.map(({ path }) => basename(path)));
  return files
    .filter(({ tree, path }) => lstatSync(join(tree, path)).isFile())
    .flatMap(({ tree, path }) =>
      (neededBy(readFileSync(join(tree, path))) ?? [])
        .filter((library) => !names.has(library))
        .map((library) => `${path} needs ${library}`),
    );
}
