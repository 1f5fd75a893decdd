// What one kernel is asked: does every program load, do the tests that meet the kernel pass, does every path of packets work.
// Boots a guest only when an answer is missing.
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestFileReport } from "./guest/file-reporter.ts";
import type { LoadsReport } from "./guest/loads.ts";
import type { SmokeCheck } from "./guest/smoke.ts";
import { Guest, type GuestRun } from "./guest.ts";
import type { KernelFiles } from "./kernel-files.ts";
import { CACHE, REPOSITORY } from "./paths.ts";
import { type KernelResults, keepResult, keptResult, questionHash } from "./results.ts";

export interface Questions {
  /** Test files, from the project's folder. */
  readonly tests: readonly string[];
  /** How long all of them may take. */
  readonly testsMs: number;
  /** Does every program load. */
  readonly loads: boolean;
  readonly smoke: boolean;
  readonly nic: boolean;
  /** Tests are run whether an answer is kept or not: that depends on less than all that they stand on. */
  readonly anew: boolean;
}

type Progress = (step: string) => void;

const LOADS_MS = 20 * 60_000;
const SMOKE_MS = 30 * 60_000;

/** Every file of tests that meets the kernel itself. */
export function kernelTests(): string[] {
  return readdirSync(join(REPOSITORY, "test/kernel"), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".test.ts"))
    .map((file) => `test/kernel/${file}`)
    .sort();
}

export async function askKernel(files: KernelFiles, questions: Questions, progress: Progress): Promise<KernelResults> {
  const results: KernelResults = { files, tests: new Map(), complaints: [], problems: [] };
  const missing = takeKept(results, questions);
  if (missing.length === 0) {
    progress(`${files.name}: every answer is kept`);
    return results;
  }
  let guest: Guest | undefined;
  try {
    for (const step of missing) {
      if (guest === undefined || !guest.isUsable) {
        await guest?.stop();
        progress(`${files.name}: booting ${files.release}`);
        guest = await Guest.start(files);
      }
      progress(`${files.name}: ${step.name}`);
      // A kernel that broke down over one question is asked the next one all the same.
      await step.run(guest).catch((error: unknown) => {
        if (!(error instanceof Error)) throw error;
        progress(`${files.name}: ${error.message}`);
        results.problems.push(`${step.name}: ${error.message}`);
      });
      results.complaints.push(...guest.complaints().filter((line) => !results.complaints.includes(line)));
    }
  } finally {
    await guest?.stop();
  }
  return results;
}

interface Step {
  readonly name: string;
  run(guest: Guest): Promise<void>;
}

/** Puts the answers that are kept into `results`, and returns how to get the others. */
function takeKept(results: KernelResults, questions: Questions): Step[] {
  const { files } = results;
  const steps: Step[] = [];
  const loadsHash = questionHash("test/kernels/guest/loads.ts");
  const loads = questions.loads ? keptResult<LoadsReport>(files, "loads", loadsHash) : undefined;
  if (loads?.programs.every(({ refusal }) => refusal === undefined)) results.loads = loads;
  else if (questions.loads) {
    steps.push({
      name: "loading every program",
      async run(guest) {
        results.loads = await askLoads(guest);
        keepResult(files, "loads", loadsHash, results.loads);
      },
    });
  }
  const tests = missingTests(results, questions);
  if (tests.size > 0) {
    steps.push({
      name: `${tests.size} files of tests`,
      run: (guest) => askTests(guest, results, tests, questions.testsMs),
    });
  }
  for (const kind of ["smoke", "nic"] as const) {
    if (!questions[kind]) continue;
    const hash = questionHash(`test/kernels/guest/${kind === "nic" ? "nic" : "lab"}-smoke.ts`, true);
    const kept = keptResult<SmokeCheck[]>(files, kind, hash);
    if (kept?.every(({ wrong }) => wrong === undefined)) results[kind] = kept;
    else {
      steps.push({
        name: kind === "nic" ? "a real driver's NIC and a VLAN device as uplink" : "every path in a lab",
        async run(guest) {
          results[kind] = await askSmoke(guest, kind);
          keepResult(files, kind, hash, results[kind]);
        },
      });
    }
  }
  return steps;
}

/** Where the output of a step that went wrong lies. */
function keepOutput(guest: Guest, name: string, { output }: GuestRun): string {
  const file = join(CACHE, guest.name, `${name}.log`);
  writeFileSync(file, output);
  return file;
}

/** How bash tells SIGTRAP, by which V8 ends itself. */
const V8_GAVE_UP = 128 + 5;

/** Runs one of our scripts; once more when V8 gave up, as it now and then does while Node strips types (nodejs/node#64500). */
async function runScript(guest: Guest, script: string, timeoutMs: number): Promise<GuestRun> {
  const run = await guest.run(`node test/kernels/guest/${script}`, timeoutMs);
  return run.status === V8_GAVE_UP ? await guest.run(`node test/kernels/guest/${script}`, timeoutMs) : run;
}

async function askLoads(guest: Guest): Promise<LoadsReport> {
  const run = await runScript(guest, "loads.ts /job/loads.json", LOADS_MS);
  const file = keepOutput(guest, "loads", run);
  if (run.status === 0) return JSON.parse(readFileSync(join(guest.job, "loads.json"), "utf8")) as LoadsReport;
  const reason = run.output.trim().split("\n").at(-1) ?? "";
  throw new Error(`${guest.name}: loading ended with ${run.status ?? "no status in time"}: ${reason}; see ${file}`);
}

async function askSmoke(guest: Guest, kind: "smoke" | "nic"): Promise<SmokeCheck[]> {
  rmSync(join(guest.job, `${kind}.json`), { force: true });
  const run = await runScript(guest, `smoke.ts /job/${kind}.json ${kind}`, SMOKE_MS);
  const log = keepOutput(guest, kind, run);
  const file = join(guest.job, `${kind}.json`);
  if (existsSync(file)) return JSON.parse(readFileSync(file, "utf8")) as SmokeCheck[];
  const last = run.output.trim().split("\n").at(-1) ?? "";
  return [{ name: "it comes to an end", wrong: `${last}; see ${log}`, seconds: run.seconds }];
}

/** Test files without a kept answer that is all well, or all of them, and their hashes. */
function missingTests(results: KernelResults, { tests, anew }: Questions): Map<string, string> {
  const missing = new Map<string, string>();
  for (const file of tests) {
    const hash = questionHash(file);
    const kept = anew ? undefined : keptResult<TestFileReport>(results.files, file, hash);
    if (kept !== undefined && kept.failed.length === 0) results.tests.set(file, kept);
    else missing.set(file, hash);
  }
  return missing;
}

/**
 * One run of vitest over all of them, and another one over what is left when that ended early; each file's answer is kept as soon as it
 * is there. All files are run by one process, which has read the sources once: a process for each takes most of the time otherwise.
 */
async function askTests(
  guest: Guest,
  results: KernelResults,
  missing: ReadonlyMap<string, string>,
  timeoutMs: number,
): Promise<void> {
  const directory = join(guest.job, "files");
  rmSync(directory, { recursive: true, force: true });
  const reporters = ["--reporter=default", `--reporter=${REPOSITORY}/test/kernels/guest/file-reporter.ts`];
  const vitest = [
    "node",
    "node_modules/vitest/vitest.mjs",
    "run",
    "--config",
    "vitest.config.ts",
    "--project",
    "kernel",
    "--no-isolate",
  ];
  const collect = (): void => {
    if (!existsSync(directory)) return;
    for (const name of readdirSync(directory)) {
      if (!name.endsWith(".json")) continue;
      const report = JSON.parse(readFileSync(join(directory, name), "utf8")) as TestFileReport;
      const hash = missing.get(report.file);
      if (hash === undefined || results.tests.has(report.file)) continue;
      results.tests.set(report.file, report);
      // Sources may have changed meanwhile: then it is the answer to another question.
      if (questionHash(report.file) === hash) keepResult(results.files, report.file, hash, report);
    }
  };
  const timer = setInterval(collect, 2000);
  try {
    const deadline = Date.now() + timeoutMs;
    const left = (): string[] => [...missing.keys()].filter((file) => !results.tests.has(file));
    let log = "";
    for (let before = Number.POSITIVE_INFINITY; left().length < before && guest.isUsable; ) {
      const files = left();
      before = files.length;
      const words = [...vitest, ...reporters, ...files];
      const run = await guest.run(`FILE_RESULTS=/job/files ${words.join(" ")}`, Math.max(0, deadline - Date.now()));
      log = keepOutput(guest, "tests", run);
      collect();
      if (left().length === 0) break;
    }
    for (const file of left()) {
      const failed = [{ name: "the file", reason: `it did not come to an end; see ${log}` }];
      results.tests.set(file, { file, passed: 0, failed, skipped: [], seconds: 0 });
    }
  } finally {
    clearInterval(timer);
  }
}
