// Memory: what the kernel counts for each map, and what an agent process has resident.
import fs from "node:fs";
import type { Dataplane } from "../src/datapath/dataplane.ts";
import { LAYOUT } from "../src/datapath/layout.gen.ts";

export interface MapMemory {
  readonly map: string;
  readonly type: string;
  readonly entries: number;
  readonly bytes: number;
}

/** Every pinned map, the largest first. Preallocated: the same when empty and when full. */
export function mapMemory(dataplane: Dataplane): MapMemory[] {
  return Object.keys(LAYOUT.maps)
    .map((name): MapMemory => {
      const { type, maxEntries, memoryBytes } = dataplane.map(name).info();
      return { map: name, type, entries: maxEntries, bytes: memoryBytes };
    })
    .sort((a, b) => b.bytes - a.bytes);
}

export interface ResidentMemory {
  /** VmRSS of the process. */
  readonly residentBytes: number;
  /** Of that, kernel maps that it has mapped: they are counted with the maps. */
  readonly mappedArrayBytes: number;
}

/** What a process has resident now. */
export function residentMemory(pid: number): ResidentMemory {
  let residentBytes = 0;
  let mappedArrayBytes = 0;
  let isMap = false;
  for (const line of fs.readFileSync(`/proc/${pid}/smaps`, "utf8").split("\n")) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) isMap = line.endsWith("bpf-map");
    const found = /^Rss:\s+(\d+) kB/.exec(line);
    if (found === null) continue;
    residentBytes += Number(found[1]) * 1024;
    if (isMap) mappedArrayBytes += Number(found[1]) * 1024;
  }
  return { residentBytes, mappedArrayBytes };
}
