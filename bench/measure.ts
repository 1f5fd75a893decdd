// How numbers are taken: rounds that alternate with an empty program's, so that what disturbs the machine disturbs both, and
// the median of them. A run whose packets were not decided as the scenario says is an error, not a number.
import type { Dataplane } from "../src/datapath/dataplane.ts";
import { HOOK_VALUES, VERDICT_VALUES } from "../src/datapath/layout.gen.ts";
import { type BpfProgram, errnoName, errnoOf, possibleCpus, type TestResult, type TestRun } from "../src/libbpf/mod.ts";

export interface Effort {
  readonly rounds: number;
  /** Repetitions within one system call. */
  readonly repeat: number;
  /** Packets for what can be measured only one by one. */
  readonly singles: number;
}

export const FULL: Effort = { rounds: 20, repeat: 50_000, singles: 4_000 };
export const QUICK: Effort = { rounds: 10, repeat: 20_000, singles: 1_000 };

export interface Timing {
  /** Median over the rounds of: the program's nanoseconds a packet less the empty program's. */
  readonly ns: number;
  readonly best: number;
  readonly worst: number;
  /** The program's least less the empty program's least: what it takes when nobody disturbs. Of single packets as `best`. */
  readonly least: number;
  /** The empty program's own, as measured in between. */
  readonly emptyNs: number;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export interface Prepared {
  readonly program: BpfProgram;
  readonly packet: Uint8Array;
  readonly context: Uint8Array;
}

/** A test run; once more when a signal ended it, which the kernel looks for between two repetitions. */
function testRun(program: BpfProgram, run: TestRun): TestResult {
  for (;;) {
    try {
      return program.testRun(run);
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === undefined || errnoName(errno) !== "EINTR") throw error;
    }
  }
}

/** The first packets of a call find cold caches. */
const WARM_UP = 50;
const LIMITED_CALLS = 40;

/**
 * One packet put through a program again and again. `limit`: it changes so that only so many repetitions are alike (its time to
 * live runs out); then what one packet takes is the slope between short and long calls.
 */
export function timeRepeated(run: Prepared, empty: BpfProgram, effort: Effort, limit?: number): Timing {
  const { packet: data, context } = run;
  const average = (program: BpfProgram, repeat: number): number =>
    testRun(program, { data, context, repeat }).durationNs;
  const once = (program: BpfProgram): number => {
    if (limit === undefined) return average(program, effort.repeat);
    let sum = 0;
    for (let i = 0; i < LIMITED_CALLS; i++) {
      sum += (average(program, limit) * limit - average(program, WARM_UP) * WARM_UP) / (limit - WARM_UP);
    }
    return sum / LIMITED_CALLS;
  };
  once(run.program);
  const rounds: { readonly own: number; readonly zero: number; readonly least: number }[] = [];
  let before = once(empty);
  for (let round = 0; round < effort.rounds; round++) {
    const own = once(run.program);
    const after = once(empty);
    rounds.push({ own, zero: Math.max(before, after), least: Math.min(before, after) });
    before = after;
  }
  const kept = undisturbed(rounds);
  const differences = kept.map(({ own, zero }) => own - zero);
  return {
    ns: median(differences),
    best: Math.min(...differences),
    worst: Math.max(...differences),
    least: Math.min(...rounds.map(({ own }) => own)) - Math.min(...rounds.map(({ least }) => least)),
    emptyNs: median(kept.map(({ zero }) => zero)),
  };
}

/**
 * The rounds beside which the empty program was about as fast as it ever was: another tenant of the core slows both down by
 * half. At least a third are kept, so that a machine that is never quiet has numbers too.
 */
function undisturbed<T extends { readonly zero: number }>(rounds: readonly T[]): readonly T[] {
  const sorted = rounds.toSorted((a, b) => a.zero - b.zero);
  const limit = Math.max(sorted[0]!.zero * 1.08, sorted[Math.ceil(sorted.length / 3) - 1]!.zero);
  return sorted.filter(({ zero }) => zero <= limit);
}

type Singles = Timing & { readonly counted: number };

/** Packets that are put through one by one; those that `wanted` refuses by their return value do not count. */
export function timeSingles(
  runs: readonly Prepared[],
  empty: BpfProgram,
  wanted: (retval: number) => boolean,
): Singles {
  return timeAlternating([runs], empty, wanted)[0]!;
}

/** The same of several lists, in turns, so that what disturbs one disturbs all. */
export function timeAlternating(
  lists: readonly (readonly Prepared[])[],
  empty: BpfProgram,
  wanted: (retval: number) => boolean,
): Singles[] {
  const own = lists.map((): number[] => []);
  const zeros: number[] = [];
  for (let i = 0; i < Math.max(...lists.map(({ length }) => length)); i++) {
    // What comes first in a turn finds colder caches: each does.
    for (let turn = 0; turn < lists.length; turn++) {
      const at = (turn + i) % lists.length;
      const { program, packet: data, context } = lists[at]![i]!;
      zeros.push(testRun(empty, { data, context }).durationNs);
      const { retval, durationNs } = testRun(program, { data, context });
      if (wanted(retval)) own[at]!.push(durationNs);
    }
  }
  const zero = median(zeros);
  return own.map((times) => {
    if (times.length === 0) throw new Error("no packet was decided as the scenario says");
    const sorted = times.toSorted((a, b) => a - b);
    const quantile = (part: number): number => sorted[Math.floor(times.length * part)]! - zero;
    const best = quantile(0.05);
    return {
      ns: median(times) - zero,
      best,
      worst: quantile(0.95),
      least: best,
      emptyNs: zero,
      counted: times.length,
    };
  });
}

export type Counts = ReadonlyMap<string, number>;

const nameOf = (values: Readonly<Record<string, number>>, value: number): string =>
  Object.entries(values).find(([name, one]) => one === value && !name.endsWith("_MAX"))?.[0] ?? String(value);

/** Counters by "HOOK_... VERDICT_..." that are not 0. */
export function readVerdicts(dataplane: Dataplane): Counts {
  const rows = dataplane.map("verdicts").readAll();
  const cpus = possibleCpus();
  const view = new DataView(rows.values.buffer, rows.values.byteOffset);
  const keys = new DataView(rows.keys.buffer, rows.keys.byteOffset);
  const found = new Map<string, number>();
  for (let i = 0; i < rows.count; i++) {
    let sum = 0n;
    for (let cpu = 0; cpu < cpus; cpu++) sum += view.getBigUint64((i * cpus + cpu) * 8, true);
    if (sum === 0n) continue;
    const index = keys.getUint32(i * 4, true);
    const hook = nameOf(HOOK_VALUES, Math.floor(index / VERDICT_VALUES.VERDICT_MAX));
    found.set(`${hook} ${nameOf(VERDICT_VALUES, index % VERDICT_VALUES.VERDICT_MAX)}`, Number(sum));
  }
  return found;
}

/** What was counted between two readings, most first. */
export function countedSince(before: Counts, after: Counts): [verdict: string, count: number][] {
  return [...after]
    .map(([name, count]): [string, number] => [name, count - (before.get(name) ?? 0)])
    .filter(([, count]) => count > 0)
    .sort((a, b) => b[1] - a[1]);
}
