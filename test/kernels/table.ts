// What `make kernels` prints: a line for each kernel and program, then one for each kernel's tests and paths. Text from values.
import { chainText, DEEPEST_ALLOWED } from "./chains.ts";
import { countReasons } from "./measured.ts";
import type { ProgramReport } from "./program-report.ts";
import type { KernelResults } from "./results.ts";

const HEAD = ["kernel", "program", "loads", "seconds", "instructions", "stack", "deepest chain of calls"] as const;
const NUMBERS: ReadonlySet<number> = new Set([3, 4, 5]);

/** Lines of columns as wide as what is in them; numbers to the right. */
export function columns(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, at) => Math.max(...rows.map((row) => row[at]?.length ?? 0)));
  const cell = (text: string, at: number): string =>
    NUMBERS.has(at) ? text.padStart(widths[at]!) : text.padEnd(widths[at]!);
  return rows.map((row) => `${row.map(cell).join("  ").trimEnd()}\n`).join("");
}

function programRow(kernel: string, report: ProgramReport): string[] {
  const { program, refusal, seconds, instructions, functions, chain } = report;
  if (refusal !== undefined) return [kernel, program, "REFUSED", seconds.toFixed(1), "", "", refusal];
  const figures = [seconds.toFixed(1), instructions.toLocaleString("en"), String(chain.bytes)];
  const deep = chain.bytes > DEEPEST_ALLOWED ? ` TOO DEEP (${DEEPEST_ALLOWED} are allowed)` : "";
  return [kernel, program, "yes", ...figures, `${chainText(functions, chain)}${deep}`];
}

/** kernel x program x (loads, seconds, instructions, stack). */
export function programTable(
  kernels: readonly { readonly name: string; readonly programs: readonly ProgramReport[] }[],
): string {
  return columns([
    HEAD,
    ...kernels.flatMap(({ name, programs }) => programs.map((report) => programRow(name, report))),
  ]);
}

/** Tests and paths of a kernel: how many held, what was left out and why, and everything that went wrong. */
export function answersText({ files, tests, smoke, nic, complaints, problems }: KernelResults): string {
  const lines: string[] = [];
  const reports = [...tests.values()];
  if (reports.length > 0) {
    const passed = reports.reduce((sum, report) => sum + report.passed, 0);
    const left = reports.map(({ file, skipped }) => ({ file, reasons: Object.entries(countReasons(skipped)) }));
    const skipped = left.flatMap(({ file, reasons }) =>
      reasons.map(([reason, count]) => `  left out: ${file}: ${count} x ${reason}`),
    );
    const leftOut = reports.reduce((sum, report) => sum + report.skipped.length, 0);
    const failed = reports.flatMap((report) =>
      report.failed.map((test) => `  FAILED ${report.file}: ${test.name}: ${test.reason}`),
    );
    lines.push(`tests: ${passed} passed, ${failed.length} failed, ${leftOut} left out`, ...failed, ...skipped);
  }
  for (const [name, checks] of [
    ["every path in a lab", smoke],
    ["NIC and VLAN device", nic],
  ] as const) {
    if (checks === undefined) continue;
    const wrong = checks.flatMap((check) =>
      check.wrong === undefined ? [] : `  FAILED ${check.name}: ${check.wrong}`,
    );
    const notes = checks.flatMap((check) => (check.note === undefined ? [] : `  ${check.name}: ${check.note}`));
    lines.push(`${name}: ${checks.length - wrong.length} held, ${wrong.length} failed`, ...notes, ...wrong);
  }
  lines.push(
    ...problems.map((line) => `FAILED ${line}`),
    ...complaints.map((line) => `the kernel says: ${line.trim()}`),
  );
  return lines.map((line) => `${files.name.padEnd(8)}${line}\n`).join("");
}

/** Programs that are refused, or deeper than is allowed. */
export function programDefects(programs: readonly ProgramReport[]): string[] {
  return programs.flatMap(({ program, refusal, chain }) => {
    if (refusal !== undefined) return `${program} is refused: ${refusal}`;
    return chain.bytes > DEEPEST_ALLOWED ? `${program} takes ${chain.bytes} bytes of stack` : [];
  });
}

/** Everything that went wrong on a kernel, in words. */
export function defectsOf({ loads, tests, smoke = [], nic = [], problems }: KernelResults): string[] {
  return [
    ...problems,
    ...programDefects(loads?.programs ?? []),
    ...[...tests.values()].flatMap(({ failed }) => failed.map(({ name, reason }) => `${name}: ${reason}`)),
    ...[...smoke, ...nic].flatMap(({ name, wrong }) => (wrong === undefined ? [] : `${name}: ${wrong}`)),
  ];
}
