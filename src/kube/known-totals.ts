// How many frontends and endpoints the API had when it was last read, kept on disk: what the first list after a start is
// measured by, as what is served then was read by a process before.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
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
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  const fresh = `${fileIn(stateDir)}.new`;
  writeFileSync(fresh, `${JSON.stringify(totals)}\n`, { mode: 0o600 });
  renameSync(fresh, fileIn(stateDir));
}
