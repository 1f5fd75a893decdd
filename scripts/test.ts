// Runs vitest: `node scripts/test.ts SUITE [what vitest takes]`. SUITE is "main", "cluster" for the tests that need a real cluster, or
// "prometheus" for those that need Prometheus. The whole of "main" runs in two lanes side by side, the labs in one of their own, which
// is printed when it is done: both wait for the kernel most of the time. Leaves the results in build/results-SUITE.json for .ci/run.
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";

const CONFIGS: Readonly<Record<string, string>> = {
  main: "vitest.config.ts",
  cluster: "test/cluster/vitest.config.ts",
  prometheus: "test/prometheus/live/vitest.config.ts",
};
/** Projects of vitest.config.ts. */
const LANES = [["unit", "kernel"], ["lab"]] as const;

interface Results {
  numPassedTests: number;
  numFailedTests: number;
  testResults: unknown[];
}

const root = resolve(import.meta.dirname, "..");
const [suite = "", ...rest] = process.argv.slice(2);
const config = CONFIGS[suite] ?? "";
if (config === "") throw new Error(`there is no suite '${suite}': ${Object.keys(CONFIGS).join(", ")}`);
const results = resolve(root, `build/results-${suite}.json`);
mkdirSync(resolve(root, "build"), { recursive: true });
rmSync(results, { force: true });

const vitest = resolve(root, "node_modules/vitest/vitest.mjs");
const reporters = ["default", "json", resolve(root, "scripts/crash-reporter.ts")].map((name) => `--reporter=${name}`);
const children: ChildProcess[] = [];
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.once(signal, () => {
    for (const child of children) child.kill(signal);
  });
}

/** Resolves to vitest's status. `output`: a file descriptor, or "inherit". */
function run(args: readonly string[], json: string, output: number | "inherit"): Promise<number> {
  const flags = ["run", "--config", config, ...reporters, `--outputFile.json=${json}`, ...args];
  const stdio = ["inherit", output, output] as const;
  const child = spawn(process.execPath, [vitest, ...flags], { cwd: root, stdio: [...stdio] });
  children.push(child);
  return new Promise((done) => child.once("close", (status) => done(status ?? 1)));
}

async function runLanes(): Promise<number> {
  const lanes = LANES.map((projects, lane) => {
    const json = resolve(root, `build/lane-${lane}.json`);
    const log = resolve(root, `build/lane-${lane}.log`);
    rmSync(json, { force: true });
    const output: number | "inherit" = lane === 0 ? "inherit" : openSync(log, "w");
    const status = run(
      projects.map((project) => `--project=${project}`),
      json,
      output,
    );
    return { json, log, output, status };
  });
  let worst = 0;
  const sum: Results = { numPassedTests: 0, numFailedTests: 0, testResults: [] };
  for (const { json, log, output, status } of lanes) {
    worst = Math.max(worst, await status);
    if (output !== "inherit") {
      closeSync(output);
      process.stdout.write(readFileSync(log));
    }
    if (!existsSync(json)) continue;
    const part = JSON.parse(readFileSync(json, "utf8")) as Results;
    sum.numPassedTests += part.numPassedTests;
    sum.numFailedTests += part.numFailedTests;
    sum.testResults.push(...part.testResults);
  }
  writeFileSync(results, JSON.stringify(sum));
  return worst;
}

process.exitCode = suite === "main" && rest.length === 0 ? await runLanes() : await run(rest, results, "inherit");
