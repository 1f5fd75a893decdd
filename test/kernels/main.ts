// `make kernels` and `make kernels-ci`: asks Debian's kernels, and this machine's own, and prints what they answered.
//   main.ts [--quick | --ci | --file FILE...] [KERNEL...]
// The table goes to standard output, progress to standard error. Status 1 when something is wrong.
import { mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism, release, totalmem } from "node:os";
import { dirname } from "node:path";
import { parseArgs } from "node:util";
import { FAILURES, Failure } from "../../src/lib/errors.ts";
import { progressOnStderr } from "../cluster/progress.ts";
import { askKernel, kernelTests, type Questions } from "./ask-kernel.ts";
import { ciResults, isExcused, type Unasked } from "./ci-results.ts";
import { type KernelFiles, kernelFiles } from "./kernel-files.ts";
import { KERNELS, type KernelSource } from "./kernels.ts";
import { shortened, writeMeasured } from "./measured.ts";
import { writeKernelsPage } from "./page.ts";
import { CI_RESULTS } from "./paths.ts";
import type { ProgramReport } from "./program-report.ts";
import { type KernelResults, objectsHash, shortHash } from "./results.ts";
import { deepestReports } from "./stack.ts";
import { answersText, defectsOf, programDefects, programTable } from "./table.ts";

const FLOW_STATES = "test/kernel/datapath/flow-states.test.ts";
const HOUR_MS = 3_600_000;
const progress = progressOnStderr();

/** `files`: chosen files of tests alone, whether they have a kept answer or not; nothing is recorded. */
type Mode = "full" | "quick" | "ci" | "files";

function questionsFor(mode: Mode, source: KernelSource, files: readonly string[]): Questions {
  const all = { loads: true, smoke: true, nic: false, anew: false };
  switch (mode) {
    case "full":
      return { ...all, tests: kernelTests(), testsMs: 4 * HOUR_MS, nic: source.nic };
    case "quick":
      return { ...all, tests: [FLOW_STATES], testsMs: HOUR_MS };
    case "ci":
      return { ...all, tests: source.name === "6.1" ? [FLOW_STATES] : [], testsMs: HOUR_MS / 4, smoke: false };
    case "files":
      return { loads: false, smoke: false, nic: false, anew: true, tests: files, testsMs: HOUR_MS };
  }
}

/** @throws usage */
function chosenFiles(files: readonly string[]): readonly string[] {
  const known = kernelTests();
  for (const file of files) {
    if (!known.includes(file)) throw new Failure("usage", file, `'${file}' is no file of tests under test/kernel`);
  }
  return files;
}

/** Those named; else all, or in CI those that it asks. @throws usage */
function chosenKernels(names: readonly string[], mode: Mode): KernelSource[] {
  const wanted = names.length > 0 ? names : mode === "ci" ? ["6.1", "5.10"] : KERNELS.map(({ name }) => name);
  return wanted.map((name) => {
    const found = KERNELS.find((kernel) => kernel.name === name || (name.startsWith("7.") && kernel.name === "7.x"));
    if (found !== undefined) return found;
    const known = KERNELS.map((kernel) => kernel.name).join(", ");
    throw new Failure("usage", name, `there is no kernel '${name}' here: ${known}`);
  });
}

interface Answers {
  readonly kernels: readonly KernelResults[];
  readonly without: readonly Unasked[];
}

/** A guest takes its RAM and what its code was translated to, and keeps one processor busy. */
const GUEST_BYTES = 6 * 2 ** 30;

function guestsAtOnce(): number {
  return Math.max(1, Math.min(availableParallelism(), Math.floor(totalmem() / GUEST_BYTES)));
}

/** `done` is told of each kernel as soon as it was asked everything. */
async function askAll(
  sources: readonly KernelSource[],
  ask: (source: KernelSource) => Questions,
  done: (results: KernelResults) => void,
): Promise<Answers> {
  const kernels: KernelResults[] = [];
  const without: Unasked[] = [];
  const waiting = [...sources];
  const askNext = async (): Promise<void> => {
    for (let source = waiting.shift(); source !== undefined; source = waiting.shift()) {
      let files: KernelFiles | undefined;
      try {
        files = kernelFiles(source, progress);
        const results = await askKernel(files, ask(source), progress);
        kernels.push(results);
        done(results);
      } catch (error) {
        if (!(error instanceof Error)) throw error;
        progress(`${source.name}: ${error.message}`);
        without.push({ name: source.name, reason: error.message, available: files !== undefined });
      }
    }
  };
  await Promise.all(Array.from({ length: guestsAtOnce() }, askNext));
  const place = (name: string): number => sources.findIndex((source) => source.name === name);
  kernels.sort((a, b) => place(a.files.name) - place(b.files.name));
  return { kernels, without };
}

function printPrograms(own: readonly ProgramReport[], { kernels }: Answers): void {
  const asked = kernels.map(({ files, loads }) => ({ name: files.name, programs: loads?.programs ?? [] }));
  process.stdout.write(`${programTable([...asked, { name: "running", programs: own }])}\n`);
  process.stdout.write(
    `running is ${release()}; its tests are those of \`make test\`. The objects are ${shortHash(objectsHash())}.\n`,
  );
}

function printAnswers({ kernels, without }: Answers): void {
  for (const results of kernels) process.stdout.write(answersText(results));
  for (const { name, reason } of without) process.stdout.write(`${name.padEnd(8)}not asked: ${reason}\n`);
}

/** Keeps what the page says of a kernel. */
function record(results: KernelResults): void {
  const order = KERNELS.map(({ name }) => name);
  writeMeasured([shortened(results, shortHash(objectsHash()), kernelTests().length)], order);
  writeKernelsPage();
}

/** Keeps CI's count. */
function recordCi(own: readonly ProgramReport[], { kernels, without }: Answers): void {
  mkdirSync(dirname(CI_RESULTS), { recursive: true });
  writeFileSync(CI_RESULTS, JSON.stringify(ciResults(own, kernels, without)));
}

function loadedHere(): readonly ProgramReport[] {
  progress(`${release()}: loading every program into this machine's own kernel`);
  return deepestReports();
}

async function main(): Promise<void> {
  const file = { type: "string", multiple: true, default: [] as string[] } as const;
  const options = { quick: { type: "boolean" }, ci: { type: "boolean" }, file } as const;
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  const mode: Mode = values.file.length > 0 ? "files" : values.ci ? "ci" : values.quick ? "quick" : "full";
  const sources = chosenKernels(positionals, mode);
  const files = chosenFiles(values.file);
  const own = mode === "files" ? [] : loadedHere();
  const answers = await askAll(
    sources,
    (source) => questionsFor(mode, source, files),
    (results) => {
      if (mode === "full" || mode === "quick") record(results);
    },
  );
  if (mode !== "files") printPrograms(own, answers);
  printAnswers(answers);
  if (mode === "ci") recordCi(own, answers);
  const defects = [...programDefects(own), ...answers.kernels.flatMap(defectsOf)];
  const unasked = answers.without.filter((one) => mode !== "ci" || !isExcused(one));
  if (defects.length > 0 || unasked.length > 0) process.exitCode = 1;
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => process.exit(130));
try {
  await main();
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = FAILURES[error.code].exit;
}
