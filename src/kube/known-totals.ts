// How many frontends, endpoints and Nodes the API had when it was last read, kept on disk: what the first list after a start is
// measured by, as what is served then was read by a process before.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { replaceFile } from "../lib/state-store.ts";
import type { ResourceName } from "./resources.ts";

export type KnownTotals = Readonly<Partial<Record<ResourceName, number>>>;

const fileIn = (stateDir: string): string => join(stateDir, "api-totals.json");

/** A file that is absent or unusable remembers nothing: the first list is believed then. */
export function readKnownTotals(stateDir: string): KnownTotals {
  try {
    const found: unknown = JSON.parse(readFileSync(fileIn(stateDir), "utf8"));
    if (typeof found !== "object" || found === null) return {};
    return Object.fromEntries(Object.entries(found).filter(([, count]) => Number.isSafeInteger(count) && count >= 0));
  } catch {
    return {};
  }
}

/** Replaces what is remembered, by rename. Throws what the file system does. */
export function writeKnownTotals(stateDir: string, totals: KnownTotals): void {
  replaceFile(fileIn(stateDir), `${JSON.stringify(totals)}\n`);
}
