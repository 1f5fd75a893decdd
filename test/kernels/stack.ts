// `node test/kernels/stack.ts`: each program's functions with their stack, and its deepest chain of calls, from the objects in
// build/bpf by this machine's kernel. Status 1 when a chain is deeper than features to come can bear.

import { hasFeature } from "../../src/libbpf/mod.ts";
import { chainText, DEEPEST_ALLOWED, frameBytes } from "./chains.ts";
import { type ProgramReport, reportPrograms } from "./program-report.ts";

/** The deeper of what a program takes where the kernel has all, and where it lacks all: dead code is not counted by the kernel. */
export function deepestReports(): ProgramReport[] {
  const without = reportPrograms((name) => name === "ct_lookup" && hasFeature(name));
  return reportPrograms().map((report, at) => {
    const other = without[at]!;
    return other.chain.bytes > report.chain.bytes ? other : report;
  });
}

function print(report: ProgramReport): void {
  const { program, refusal, functions, chain } = report;
  const head = refusal === undefined ? `${chain.bytes} bytes: ${chainText(functions, chain)}` : `REFUSED: ${refusal}`;
  process.stdout.write(`${program}  ${head}\n`);
  for (const { name, stack, calls } of functions) {
    const called = calls.map((at) => functions[at]!.name).join(", ");
    process.stdout.write(`    ${name.padEnd(26)} ${String(stack).padStart(4)} -> ${frameBytes(stack)}  ${called}\n`);
  }
}

if (import.meta.main) {
  const reports = deepestReports();
  for (const report of reports) print(report);
  const deepest = reports.reduce((a, b) => (b.chain.bytes > a.chain.bytes ? b : a));
  const tooDeep = deepest.chain.bytes > DEEPEST_ALLOWED;
  process.stdout.write(
    `\nThe deepest chain has ${deepest.chain.bytes} bytes (${deepest.program}); ${DEEPEST_ALLOWED} are allowed.\n`,
  );
  if (tooDeep || reports.some(({ refusal }) => refusal !== undefined)) process.exitCode = 1;
}
