// Every process of a node stands still, as in a machine that hangs or has no power, until it goes on.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Lan } from "./lan.ts";

export interface Freezer {
  freeze(node: string): Promise<void>;
  thaw(node: string): Promise<void>;
}

/** `cgroupOf`: the cgroup2 directory of all that runs on a node. */
export function freezer(lan: Lan, cgroupOf: (node: string) => string): Freezer {
  const nameOf = (node: string): string => `processes of ${node}`;
  const set = (node: string, state: "0" | "1") => async () =>
    writeFileSync(join(cgroupOf(node), "cgroup.freeze"), state);
  return {
    freeze: (node) => lan.changes.put(nameOf(node), set(node, "1"), set(node, "0")),
    thaw: (node) => lan.changes.take(nameOf(node)),
  };
}
