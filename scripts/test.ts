// Runs vitest: `node scripts/test.ts SUITE [what vitest takes]`. SUITE is "main", or "cluster" for the tests that need a real
// cluster. Leaves the results in build/results-SUITE.json for .ci/run. A file whose process died, when nothing else went
// wrong, is run once more and said to be: what kills a process every time fails, what killed it once is in the log.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { relative, resolve } from "node:path";
import type { CrashReport } from "./crash-reporter.ts";

const CONFIGS: Readonly<Record<string, string>> = {
  main: "vitest.config.ts",
  cluster: "test/cluster/vitest.config.ts",
};

/** Of vitest's JSON what is needed here; all else is kept. */
interface Results {
  numPassedTests: number;
  numFailedTests: number;
  testResults: { name: string; status: string; assertionResults: { status: string }[] }[];
}

const root = resolve(import.meta.dirname, "..");
const [suite = "", ...rest] = process.argv.slice(2);
const config = CONFIGS[suite];
if (config === undefined) throw new Error(`there is no suite '${suite}': ${Object.keys(CONFIGS).join(", ")}`);
const build = (name: string): string => resolve(root, "build", name);
const results = build(`results-${suite}.json`);

function run(output: string, words: readonly string[]): { status: number; crashes: CrashReport } {
  const report = build(`crashes-${suite}.json`);
  for (const file of [output, report]) rmSync(file, { force: true });
  const reporters = ["default", "json", resolve(root, "scripts/crash-reporter.ts")].map((name) => `--reporter=${name}`);
  const vitest = resolve(root, "node_modules/vitest/vitest.mjs");
  const flags = ["run", "--config", config as string, ...reporters, `--outputFile.json=${output}`];
  const { status } = spawnSync(process.execPath, [vitest, ...flags, ...words], {
    cwd: root,
    stdio: "inherit",
    env: { ...process.env, CRASH_REPORT: report },
  });
  const crashes = existsSync(report) ? (JSON.parse(readFileSync(report, "utf8")) as CrashReport) : undefined;
  return { status: status ?? 1, crashes: crashes ?? { files: [], errors: 0 } };
}

const readResults = (file: string): Results => JSON.parse(readFileSync(file, "utf8")) as Results;

/** Runs the one file again whose process died, and puts its results in place of those of the first run. */
function runAgain(file: string): number {
  const again = build(`results-again.json`);
  process.stderr.write(`died once, run again: ${file}\n`);
  const { status } = run(again, [file]);
  if (!existsSync(again)) return 1;
  const [first, second] = [readResults(results), readResults(again)];
  rmSync(again);
  const testResults = [...first.testResults.filter(({ name }) => relative(root, name) !== file), ...second.testResults];
  const count = (wanted: string): number =>
    testResults.flatMap(({ assertionResults }) => assertionResults).filter(({ status: one }) => one === wanted).length;
  const merged = { ...first, testResults, numPassedTests: count("passed"), numFailedTests: count("failed") };
  writeFileSync(results, JSON.stringify(merged));
  return status;
}

mkdirSync(resolve(root, "build"), { recursive: true });
const { status, crashes } = run(results, rest);
const [died, ...others] = crashes.files;
const onlyDied = died !== undefined && others.length === 0 && crashes.errors === 1 && existsSync(results);
process.exitCode = status !== 0 && onlyDied && readResults(results).numFailedTests === 0 ? runAgain(died) : status;
