// Prints what failed, then "N passed, N failed", from vitest's JSON results of the suites named on the command line, each as
// SUITE=STATUS of its command; status 1 when one ran nothing or something failed. A command that fails without a failed test counts as
// one failure. The names stand at the end, as a long log is often kept by its last lines alone.
import { existsSync, readFileSync } from "node:fs";
import { relative, resolve } from "node:path";

interface Assertion {
  fullName: string;
  status: string;
  failureMessages?: string[];
}

interface Results {
  numPassedTests: number;
  numFailedTests: number;
  /** Files that could not be loaded have no tests in them: each is a failure. */
  testResults: { name: string; status: string; message?: string; assertionResults: Assertion[] }[];
}

/** Lines of a message that are shown of each failure. */
const SHOWN_LINES = 12;
const root = resolve(import.meta.dirname, "..");

function told(file: string, name: string, messages: readonly string[]): string {
  const lines = messages.flatMap((message) => message.split("\n")).slice(0, SHOWN_LINES);
  return [
    `FAILED ${file.startsWith("/") ? relative(root, file) : file}${name === "" ? "" : ` > ${name}`}`,
    ...lines.map((line) => `    ${line}`),
  ].join("\n");
}

let passed = 0;
let failed = 0;
const failures: string[] = [];
for (const argument of process.argv.slice(2)) {
  const [suite, status] = argument.split("=");
  const file = resolve(root, `build/results-${suite}.json`);
  let here = { passed: 0, failed: 0 };
  if (existsSync(file)) {
    const results = JSON.parse(readFileSync(file, "utf8")) as Results;
    const broken = results.testResults.filter((f) => f.status === "failed" && f.assertionResults.length === 0);
    here = { passed: results.numPassedTests, failed: results.numFailedTests + broken.length };
    failures.push(...broken.map((f) => told(f.name, "", [f.message ?? ""])));
    for (const { name, assertionResults } of results.testResults) {
      for (const { fullName, status, failureMessages } of assertionResults) {
        if (status === "failed") failures.push(told(name, fullName, failureMessages ?? []));
      }
    }
  }
  if (here.failed === 0 && (status !== "0" || here.passed === 0)) {
    here.failed = 1;
    failures.push(`FAILED ${suite}: status ${status}, ${here.passed} passed, and no test that failed`);
  }
  passed += here.passed;
  failed += here.failed;
}
if (passed === 0 && failed === 0) failed = 1;
for (const failure of failures) process.stdout.write(`${failure}\n`);
process.stdout.write(`${passed} passed, ${failed} failed\n`);
process.exitCode = failed === 0 ? 0 : 1;
