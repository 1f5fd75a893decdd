// Runs vitest: `node scripts/test.ts SUITE [what vitest takes]`. SUITE is "main", or "cluster" for the tests that need a real
// cluster. Leaves the results in build/results-SUITE.json for .ci/run.
import { spawnSync } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { resolve } from "node:path";

const CONFIGS: Readonly<Record<string, string>> = {
  main: "vitest.config.ts",
  cluster: "test/cluster/vitest.config.ts",
};

const root = resolve(import.meta.dirname, "..");
const [suite = "", ...rest] = process.argv.slice(2);
const config = CONFIGS[suite];
if (config === undefined) throw new Error(`there is no suite '${suite}': ${Object.keys(CONFIGS).join(", ")}`);
const results = resolve(root, `build/results-${suite}.json`);
mkdirSync(resolve(root, "build"), { recursive: true });
rmSync(results, { force: true });

const vitest = resolve(root, "node_modules/vitest/vitest.mjs");
const reporters = ["default", "json", resolve(root, "scripts/crash-reporter.ts")].map((name) => `--reporter=${name}`);
const flags = ["run", "--config", config, ...reporters, `--outputFile.json=${results}`];
const { status } = spawnSync(process.execPath, [vitest, ...flags, ...rest], { cwd: root, stdio: "inherit" });
process.exitCode = status ?? 1;
