// How long the kernel takes over each object: opening it, and loading it over maps that are there (the verifier, mostly).
import { LAYOUT } from "../src/datapath/layout.gen.ts";
import { giveMap } from "../src/datapath/load.ts";
import { OBJECTS, objectPath } from "../src/datapath/objects.ts";
import { openObject } from "../src/libbpf/mod.ts";
import type { BenchNode } from "./node.ts";

export interface LoadResult {
  readonly object: string;
  readonly programs: number;
  readonly openMs: number;
  readonly loadMs: number;
}

export function benchLoad(node: BenchNode): LoadResult[] {
  return OBJECTS.map((name): LoadResult => {
    const start = performance.now();
    using object = openObject(objectPath(name));
    for (const map of object.maps()) if (LAYOUT.maps[map] !== undefined) giveMap(object, map, node.dataplane.map(map));
    const opened = performance.now();
    object.load();
    const loadMs = performance.now() - opened;
    return { object: name, programs: object.programs().length, openMs: opened - start, loadMs };
  });
}
