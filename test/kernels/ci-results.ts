// What CI counts of `make kernels-ci`, in the form that vitest's JSON has: a program that loads is a test, and so is a kernel
// that could be asked.
import type { ProgramReport } from "./program-report.ts";
import type { KernelResults } from "./results.ts";
import { defectsOf, programDefects } from "./table.ts";

export interface CiResults {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[];
  }[];
}

/** A kernel that was not asked, and why. */
export interface Unasked {
  readonly name: string;
  readonly reason: string;
  /** Its packages could be had. */
  readonly available: boolean;
}

/** The one kernel that CI can do without: its suite is about to leave the mirrors. */
const MAY_BE_MISSING = "5.10";

export function isExcused({ name, available }: Unasked): boolean {
  return name === MAY_BE_MISSING && !available;
}

export function ciResults(
  own: readonly ProgramReport[],
  kernels: readonly KernelResults[],
  without: readonly Unasked[],
): CiResults {
  const failed = [
    ...programDefects(own).map((words) => `running: ${words}`),
    ...kernels.flatMap((results) => defectsOf(results).map((words) => `${results.files.name}: ${words}`)),
    ...without.flatMap((one) => (isExcused(one) ? [] : `${one.name}: ${one.reason}`)),
  ];
  const loaded = [own, ...kernels.map(({ loads }) => loads?.programs ?? [])].flat();
  const tests = kernels.flatMap((results) => [...results.tests.values()]);
  const passed =
    loaded.filter((report) => programDefects([report]).length === 0).length +
    tests.reduce((sum, file) => sum + file.passed, 0);
  const assertionResults = failed.map((fullName) => ({ fullName, status: "failed" }));
  return {
    numPassedTests: passed,
    numFailedTests: failed.length,
    testResults: [{ name: "make kernels-ci", status: failed.length === 0 ? "passed" : "failed", assertionResults }],
  };
}
