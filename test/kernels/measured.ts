// What is kept in the repository of the last run on each kernel, and what docs/kernels.md is made of. A shortened form of
// the results: figures, and names of what was left out or went wrong.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import type { SmokeCheck } from "./guest/smoke.ts";
import { MEASURED } from "./paths.ts";
import type { ProgramReport } from "./program-report.ts";
import type { KernelResults } from "./results.ts";

export interface MeasuredProgram {
  readonly program: string;
  readonly seconds: number;
  readonly instructions: number;
  /** Of the deepest chain of calls; undefined when the program was refused. */
  readonly stack?: number;
}

export interface MeasuredKernel {
  readonly name: string;
  readonly release: string;
  readonly version: string;
  /** Hash of the objects that were loaded, shortened. */
  readonly objects: string;
  readonly lacks: readonly string[];
  readonly programs: readonly MeasuredProgram[];
  readonly tests: {
    /** How many files of tests were run, and how many meet the kernel. */
    readonly files: number;
    readonly ofFiles: number;
    readonly passed: number;
    readonly failed: readonly string[];
    /** How many were left out, by the reason. */
    readonly leftOut: Readonly<Record<string, number>>;
  };
  readonly smoke: { readonly held: number; readonly failed: readonly string[] };
  /** Notes are figures that a check saw: how a real driver counted. */
  readonly nic?: { readonly held: number; readonly failed: readonly string[]; readonly notes: readonly string[] };
}

export function readMeasured(): MeasuredKernel[] {
  return existsSync(MEASURED) ? (JSON.parse(readFileSync(MEASURED, "utf8")) as MeasuredKernel[]) : [];
}

/**
 * The kernels given take the place of what was measured of them, but that less does not take the place of more of the same objects;
 * `order` is that of the page.
 */
export function joined(
  known: readonly MeasuredKernel[],
  kernels: readonly MeasuredKernel[],
  order: readonly string[],
): MeasuredKernel[] {
  const all = new Map(known.map((kernel) => [kernel.name, kernel]));
  for (const kernel of kernels) {
    const before = all.get(kernel.name);
    const isLess = before?.objects === kernel.objects && before.tests.files > kernel.tests.files;
    if (!isLess) all.set(kernel.name, kernel);
  }
  return order.flatMap((name) => all.get(name) ?? []);
}

export function writeMeasured(kernels: readonly MeasuredKernel[], order: readonly string[]): void {
  const sorted = joined(readMeasured(), kernels, order);
  writeFileSync(MEASURED, `${JSON.stringify(sorted, undefined, 1)}\n`);
}

export function shortened(results: KernelResults, objects: string, ofFiles: number): MeasuredKernel {
  const { files, loads, smoke = [], nic, tests, problems } = results;
  const answers = [...tests.values()].sort((a, b) => (a.file < b.file ? -1 : 1));
  const held = (checks: NonNullable<typeof nic>) => ({
    held: checks.filter(({ wrong }) => wrong === undefined).length,
    failed: checks.flatMap(({ name, wrong }) => (wrong === undefined ? [] : name)),
  });
  return {
    name: files.name,
    release: files.release,
    version: files.version,
    objects,
    lacks: (loads?.features ?? []).flatMap(({ name, available }) => (available ? [] : name)),
    programs: (loads?.programs ?? []).filter(({ object }) => object !== "pass").map(shortProgram),
    tests: {
      files: answers.length,
      ofFiles,
      passed: answers.reduce((sum, { passed }) => sum + passed, 0),
      failed: [...problems, ...answers.flatMap(({ failed }) => failed.map(({ name }) => name))],
      leftOut: countReasons(answers.flatMap(({ skipped }) => skipped)),
    },
    smoke: held(smoke),
    ...(nic === undefined ? {} : { nic: { ...held(nic), notes: notesOf(nic) } }),
  };
}

/** Tests that were left out, counted by the reason that their names give; a name without one stands for itself. */
export function countReasons(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) {
    const reason = /this kernel lacks [\w, ]+/.exec(name)?.[0] ?? name;
    counts[reason] = (counts[reason] ?? 0) + 1;
  }
  return counts;
}

function notesOf(checks: readonly SmokeCheck[]): string[] {
  return checks.flatMap(({ name, note }) => (note === undefined ? [] : `${name}: ${note}`));
}

function shortProgram({ program, seconds, instructions, chain, refusal }: ProgramReport): MeasuredProgram {
  const figures = { program, seconds: Math.round(seconds * 100) / 100, instructions };
  return refusal === undefined ? { ...figures, stack: chain.bytes } : figures;
}
