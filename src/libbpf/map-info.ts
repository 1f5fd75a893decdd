// What the kernel says of a map, and how large a value is that has a part for each CPU.
import fs from "node:fs";
import { fixedText, infoOf } from "./descriptor.ts";
import { typeName } from "./native.ts";

export interface MapInfo {
  readonly id: number;
  readonly type: string;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  /** At most 15 bytes: the kernel keeps no more. */
  readonly name: string;
  /** Bytes of kernel memory that the map takes (the kernel's own estimate), 0 when it does not say. */
  readonly memoryBytes: number;
}

let cpus: number | undefined;

/** Number of CPUs that could ever come up: a per-CPU value has one part for each. */
export function possibleCpus(): number {
  if (cpus === undefined) {
    const last = /(\d+)\s*$/.exec(fs.readFileSync("/sys/devices/system/cpu/possible", "utf8"));
    cpus = last === null ? 1 : Number(last[1]) + 1;
  }
  return cpus;
}

export function roundUp8(size: number): number {
  return (size + 7) & ~7;
}

/** Throws KernelError. */
export function mapInfo(fd: number, subject: string): MapInfo {
  const info = infoOf(fd, 88, subject);
  return {
    type: typeName("map", info.getUint32(0, true)),
    id: info.getUint32(4, true),
    keySize: info.getUint32(8, true),
    valueSize: info.getUint32(12, true),
    maxEntries: info.getUint32(16, true),
    flags: info.getUint32(20, true),
    name: fixedText(info, 24, 16),
    memoryBytes: memoryOf(fd),
  };
}

function memoryOf(fd: number): number {
  const found = /^memlock:\s*(\d+)$/m.exec(fs.readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"));
  return found === null ? 0 : Number(found[1]);
}
