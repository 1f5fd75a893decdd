// When a flow table counts as filling, crowded or full, and when to look again. Numbers alone: nothing here reads a map.
//
//   of what it holds before the LRU evicts on its own
//     70 %  sweeps come every second, and look closer
//     80 %  no client address gets more than its share
//     90 %  the idlest are given up, down to 85 %
//     95 %  still, or in a second: no new flow is let in, as an LRU would evict living ones to make room

export const FILLING = 0.7;
export const CROWDED = 0.8;
export const GIVING_UP = 0.9;
export const GIVEN_UP = 0.85;
const FULL = 0.95;

/** Entries that a sweep looks at in a second: a tenth to a fifth of a processor, however large the tables. */
export const SWEEP_RATE = 500_000;

/** Between two sweeps, while no table fills. */
export const SWEEP_MS = 15_000;
const SWEEP_FILLING_MS = 1_000;
/** So long a refusal holds when no sweep renews it: it outlives a slow sweep, not the agent. */
export const REFUSAL_SECONDS = 5;

/** Free elements that the kernel parks for each CPU (LOCAL_FREE_TARGET of kernel/bpf/bpf_lru_list.c): others evict meanwhile. */
const PARKED_PER_CPU = 128;

/** How many entries an LRU map holds for certain, with so many possible CPUs: beyond them it may evict. At least half of it. */
export function roomOf(maxEntries: number, possibleCpus: number): number {
  return maxEntries - Math.min(maxEntries >> 1, PARKED_PER_CPU * possibleCpus);
}

/** Flows that one client address may have in a table that is crowded: its two entries each take an eighth of it. */
export function shareOf(room: number): number {
  return Math.max(1024, room >> 4);
}

/** A table as a sweep found it. */
export interface TableUse {
  readonly room: number;
  /** Before anything was given up. */
  readonly found: number;
  /** What is there now. */
  readonly left: number;
}

/** What was left by the sweep before, so many milliseconds earlier. */
export interface EarlierUse {
  readonly left: number;
  readonly ms: number;
}

/** How many entries there will be in `ms` when the table goes on growing as it did. */
function expected({ found, left }: TableUse, earlier: EarlierUse | undefined, ms: number): number {
  if (earlier === undefined) return left;
  return left + (Math.max(0, found - earlier.left) * ms) / earlier.ms;
}

/** It is above 95 %, or will be before the next sweep of a table that fills is done, which takes `sweepMs`. */
export function isFull(use: TableUse, earlier: EarlierUse | undefined, sweepMs = 0): boolean {
  return expected(use, earlier, SWEEP_FILLING_MS + sweepMs) > use.room * FULL;
}

/** It is above 70 %, or might come to give flows up before long. */
function fills(use: TableUse, earlier: EarlierUse | undefined): boolean {
  return use.left > use.room * FILLING || expected(use, earlier, SWEEP_MS) > use.room * GIVING_UP;
}

/** When to sweep again. */
export function nextSweepMs(uses: readonly (readonly [TableUse, EarlierUse | undefined])[]): number {
  return uses.some(([use, earlier]) => fills(use, earlier)) ? SWEEP_FILLING_MS : SWEEP_MS;
}
