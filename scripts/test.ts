// Runs vitest: `node scripts/test.ts SUITE [what vitest takes]`. SUITE is "main", "cluster" for the tests that need a real cluster, or
// "prometheus" for those that need Prometheus. The whole of "main" runs in two lanes side by side, as both wait for the kernel most of
// the time: one begins with the unit and kernel tests, the other with the labs, and whoever is done takes the next lab of those that are
// left. What a lab printed is shown when it has ended. Leaves the results in build/results-SUITE.json for .ci/run.
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, globSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";

const CONFIGS: Readonly<Record<string, string>> = {
  main: "vitest.config.ts",
  cluster: "test/cluster/vitest.config.ts",
  prometheus: "test/prometheus/live/vitest.config.ts",
};
/** Projects of vitest.config.ts whose files share what belongs to the whole machine. Labs share nothing. */
const ONE_BY_ONE = ["unit", "kernel"];
const LABS = "test/lab/**/*.test.ts";
/**
 * The labs that take longest come first, so that the lanes end together. Before them the one that fills the kernel's queues, which all
 * network namespaces share: frames of another lab beside it would be lost. There are only unit tests then.
 */
const FIRST = [
  "flood",
  "seeds",
  "restart",
  "change-under-load",
  "cleanup",
  "bypass",
  "lab",
  "service-fields",
  "node-traffic",
].map((name) => `test/lab/${name}.test.ts`);

interface Results {
  numPassedTests: number;
  numFailedTests: number;
  testResults: unknown[];
}

/** A run of vitest; `shown` at once, else when it has ended. */
interface Job {
  readonly name: string;
  readonly args: readonly string[];
  readonly shown: boolean;
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
const children = new Set<ChildProcess>();
let stopped = false;
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.once(signal, () => {
    stopped = true;
    for (const child of children) child.kill(signal);
  });
}

/** Resolves to vitest's status. `output`: a file descriptor, or "inherit". */
function run(args: readonly string[], json: string, output: number | "inherit"): Promise<number> {
  const flags = ["run", "--config", config, ...reporters, `--outputFile.json=${json}`, ...args];
  const stdio = ["inherit", output, output] as const;
  const child = spawn(process.execPath, [vitest, ...flags], { cwd: root, stdio: [...stdio] });
  children.add(child);
  return new Promise((done) =>
    child.once("close", (status) => {
      children.delete(child);
      done(status ?? 1);
    }),
  );
}

async function runLanes(): Promise<number> {
  const directory = resolve(root, "build/test-lanes");
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory);
  const sum: Results = { numPassedTests: 0, numFailedTests: 0, testResults: [] };
  let worst = 0;
  /** What ended while the shown job was still writing. */
  let withheld: string[] | undefined = [];

  const perform = async ({ name, args, shown }: Job): Promise<void> => {
    const json = resolve(directory, `${name}.json`);
    const log = resolve(directory, `${name}.log`);
    const output = shown ? "inherit" : openSync(log, "w");
    const status = await run(args, json, output);
    // Not in one expression: the other lane may have failed meanwhile.
    worst = Math.max(worst, status);
    if (output !== "inherit") {
      closeSync(output);
      if (withheld === undefined) process.stdout.write(readFileSync(log));
      else withheld.push(log);
    } else {
      for (const earlier of withheld ?? []) process.stdout.write(readFileSync(earlier));
      withheld = undefined;
    }
    if (!existsSync(json)) return;
    const part = JSON.parse(readFileSync(json, "utf8")) as Results;
    sum.numPassedTests += part.numPassedTests;
    sum.numFailedTests += part.numFailedTests;
    sum.testResults.push(...part.testResults);
  };

  const files = globSync(LABS, { cwd: root }).sort();
  const left = [...FIRST, ...files.filter((file) => !FIRST.includes(file))].map(
    (file): Job => ({
      name: file.replace(/^test\/|\.test\.ts$/g, "").replaceAll("/", "-"),
      args: ["--project=lab", file],
      shown: false,
    }),
  );
  const started = Date.now();
  const lane = async (first: readonly Job[]): Promise<string> => {
    const done: string[] = [];
    const queue = [...first];
    for (let job = queue.shift() ?? left.shift(); job !== undefined && !stopped; job = queue.shift() ?? left.shift()) {
      const from = Date.now();
      await perform(job);
      done.push(`${job.name} ${Math.round((Date.now() - from) / 1000)} s`);
    }
    return `${Math.round((Date.now() - started) / 1000)} s: ${done.join(", ")}\n`;
  };
  const unit: Job = {
    name: ONE_BY_ONE.join("-"),
    args: ONE_BY_ONE.map((project) => `--project=${project}`),
    shown: true,
  };
  const lanes = await Promise.all([lane([unit]), lane([])]);
  process.stdout.write(lanes.join(""));
  writeFileSync(results, JSON.stringify(sum));
  return worst;
}

process.exitCode = suite === "main" && rest.length === 0 ? await runLanes() : await run(rest, results, "inherit");
