// Prints "N passed, N failed" from vitest's JSON results; status 1 when nothing ran, something failed, or the test
// command itself did (its status is the argument): a build that breaks counts as one failure.
import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";

interface Results {
  numPassedTests: number;
  numFailedTests: number;
  /** Files that could not be loaded have no tests in them: each is a failure. */
  testResults: { status: string; assertionResults: unknown[] }[];
}

const file = resolve(import.meta.dirname, "../build/test-results.json");
const status = Number(process.argv[2] ?? "0");
let passed = 0;
let failed = 0;
if (existsSync(file)) {
  const results = JSON.parse(readFileSync(file, "utf8")) as Results;
  const broken = results.testResults.filter((f) => f.status === "failed" && f.assertionResults.length === 0);
  passed = results.numPassedTests;
  failed = results.numFailedTests + broken.length;
}
if (failed === 0 && (status !== 0 || passed === 0)) failed = 1;
process.stdout.write(`${passed} passed, ${failed} failed\n`);
process.exitCode = failed === 0 ? 0 : 1;
