// Prints "N passed, N failed" from vitest's JSON results of the suites named on the command line, each as SUITE=STATUS of its
// command; status 1 when one ran nothing or something failed. A command that fails without a failed test counts as one failure.
import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";

interface Results {
  numPassedTests: number;
  numFailedTests: number;
  /** Files that could not be loaded have no tests in them: each is a failure. */
  testResults: { status: string; assertionResults: unknown[] }[];
}

let passed = 0;
let failed = 0;
for (const argument of process.argv.slice(2)) {
  const [suite, status] = argument.split("=");
  const file = resolve(import.meta.dirname, `../build/results-${suite}.json`);
  let here = { passed: 0, failed: 0 };
  if (existsSync(file)) {
    const results = JSON.parse(readFileSync(file, "utf8")) as Results;
    const broken = results.testResults.filter((f) => f.status === "failed" && f.assertionResults.length === 0);
    here = { passed: results.numPassedTests, failed: results.numFailedTests + broken.length };
  }
  if (here.failed === 0 && (status !== "0" || here.passed === 0)) here.failed = 1;
  passed += here.passed;
  failed += here.failed;
}
if (passed === 0 && failed === 0) failed = 1;
process.stdout.write(`${passed} passed, ${failed} failed\n`);
process.exitCode = failed === 0 ? 0 : 1;
