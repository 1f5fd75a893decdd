// How many frontends, endpoints and Nodes the API had when it was last read, kept on disk: what the first list after a start is
// measured by, as what is served then was read by a process before.
import { join } from "node:path";
import { recall, remember } from "../lib/state-store.ts";
import type { ResourceName } from "./resources.ts";

export type SavedTotals = Readonly<Partial<Record<ResourceName, number>>>;

const fileIn = (stateDir: string): string => join(stateDir, "api-totals.json");

/** A file that is absent or unusable remembers nothing: the first list is believed then. */
export function readSavedTotals(stateDir: string): SavedTotals {
  const found = recall(fileIn(stateDir)) ?? {};
  return Object.fromEntries(Object.entries(found).filter(([, count]) => Number.isSafeInteger(count) && count >= 0));
}

/** Replaces what is remembered. False when that was not possible. */
export function writeSavedTotals(stateDir: string, totals: SavedTotals): boolean {
  return remember(fileIn(stateDir), totals);
}
