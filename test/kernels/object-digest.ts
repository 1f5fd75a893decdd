// What of an object decides how a kernel meets its programs: instructions, relocations, maps and constants. Types and the lines of the
// source, which BTF has, change with every comment; those that matter are in the generated layouts.
import { createHash } from "node:crypto";

const HEADER_BYTES = 64;
const DESCRIBES_THE_SOURCE = [".BTF", ".BTF.ext"];

export interface Section {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** The sections of an ELF object of 64 bits, little-endian (elf(5)), in their order. @throws Error of anything else */
export function sectionsOf(object: Uint8Array): Section[] {
  const view = new DataView(object.buffer, object.byteOffset, object.byteLength);
  if (object.length < HEADER_BYTES || view.getUint32(0) !== 0x7f454c46 || view.getUint16(4) !== 0x0201) {
    throw new Error("could not read an object: it is no little-endian ELF of 64 bits");
  }
  const table = Number(view.getBigUint64(40, true));
  const headers = Array.from({ length: view.getUint16(60, true) }, (_, i) => {
    const at = table + i * HEADER_BYTES;
    const [offset, size] = [24, 32].map((field) => Number(view.getBigUint64(at + field, true)));
    return { name: view.getUint32(at, true), bytes: object.subarray(offset!, offset! + size!) };
  });
  const names = Buffer.from(headers[view.getUint16(62, true)]?.bytes ?? []);
  return headers.map(({ name, bytes }) => ({ name: names.toString("latin1", name, names.indexOf(0, name)), bytes }));
}

/** SHA-256, in hex. */
export function objectDigest(object: Uint8Array): string {
  const hash = createHash("sha256");
  for (const { name, bytes } of sectionsOf(object)) {
    if (DESCRIBES_THE_SOURCE.includes(name)) continue;
    hash.update(`${name}\0${bytes.length}\0`);
    hash.update(bytes);
  }
  return hash.digest("hex");
}
