// `make check`: format and lint, types, generated files, the chart, lock file; each by its own tool. Layering is a test of its own
// (test/architecture.test.ts). Names of checks on the command line run only those.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { API_FIELDS } from "./api-fields.ts";
import { chartProblems } from "./chart.ts";
import { DASHBOARDS } from "./dashboards.ts";

const root = resolve(import.meta.dirname, "..");
const bin = (name: string) => resolve(root, "node_modules/.bin", name);

interface Outcome {
  readonly ok: boolean;
  readonly output: string;
}

function command(program: string, args: readonly string[]): Outcome {
  const { status, stdout, stderr, error } = spawnSync(program, args, { cwd: root, encoding: "utf8" });
  return { ok: status === 0, output: error === undefined ? `${stdout}${stderr}` : error.message };
}

/** Generating again changes nothing against the index: what is committed is what the sources say. */
function regenerated(generate: () => Outcome, files: readonly string[], fix: string): Outcome {
  const before = files.map((file) => readIfThere(resolve(root, file)));
  const outcome = generate();
  if (!outcome.ok) return outcome;
  const changed = files.filter((file, at) => readIfThere(resolve(root, file)) !== before[at]);
  if (changed.length > 0) return { ok: false, output: `${changed.join(", ")} changed when generated again: ${fix}\n` };
  if (!existsSync(resolve(root, ".git"))) return outcome;
  const { ok } = command("git", ["diff", "--quiet", "--", ...files]);
  return { ok, output: ok ? "" : `${files.join(", ")}: generated anew, not committed: ${fix}\n` };
}

function readIfThere(file: string): string {
  return existsSync(file) ? readFileSync(file, "utf8") : "";
}

/** Every dependency is pinned, and the lock file has exactly what package.json names. */
function lockFile(): Outcome {
  const manifest = JSON.parse(readFileSync(resolve(root, "package.json"), "utf8")) as Record<string, object>;
  const text = readFileSync(resolve(root, "package-lock.json"), "utf8");
  const lock = (JSON.parse(text) as { packages: Record<string, Record<string, object> & { version: string }> })
    .packages;
  const problems: string[] = [];
  for (const group of ["dependencies", "devDependencies", "optionalDependencies"]) {
    const wanted = (manifest[group] ?? {}) as Record<string, string>;
    if (JSON.stringify(wanted) !== JSON.stringify(lock[""]?.[group] ?? {})) {
      problems.push(`package-lock.json has other ${group} than package.json: run npm install`);
    }
    for (const [name, version] of Object.entries(wanted)) {
      if (!/^\d+\.\d+\.\d+$/.test(version)) problems.push(`package.json: ${name} must be an exact version: ${version}`);
      if (lock[`node_modules/${name}`]?.version !== version)
        problems.push(`package-lock.json lacks ${name} ${version}`);
    }
  }
  if (/"resolved": "http/.test(text)) problems.push("package-lock.json names a registry's host: .npmrc keeps it out");
  return { ok: problems.length === 0, output: problems.map((line) => `${line}\n`).join("") };
}

/** What is rendered from the chart is of the chart as it is. */
function chart(): Outcome {
  const problems = chartProblems();
  return { ok: problems.length === 0, output: problems.map((line) => `${line}\n`).join("") };
}

const CHECKS: Readonly<Record<string, () => Outcome>> = {
  format: () => command(bin("biome"), ["check", "--error-on-warnings", "--max-diagnostics=40", "."]),
  types: () => command(bin("tsc"), ["--noEmit", "-p", "."]),
  layering: () => command(process.execPath, ["node_modules/vitest/vitest.mjs", "run", "test/architecture.test.ts"]),
  layouts: () =>
    regenerated(
      () => command(process.execPath, ["scripts/generate-layout.ts"]),
      ["src/datapath/layout.gen.ts"],
      "commit it together with bpf/",
    ),
  docs: () =>
    regenerated(
      () => command(process.execPath, ["scripts/docs.ts"]),
      [
        "docs/cli.md",
        "docs/doctor.md",
        "docs/metrics.md",
        "docs/kernels.md",
        "docs/semantics.md",
        "docs/conformance.md",
        "docs/failover.md",
        "deploy/config-reference.yaml",
        API_FIELDS,
      ],
      "run make docs and commit them",
    ),
  dashboards: () =>
    regenerated(
      () => command(process.execPath, ["scripts/dashboards.ts"]),
      DASHBOARDS,
      "run make dashboards and commit them",
    ),
  chart,
  lock: lockFile,
};

const asked = process.argv.slice(2);
for (const name of asked) {
  if (CHECKS[name] === undefined) {
    process.stderr.write(`check: there is no check '${name}': ${Object.keys(CHECKS).join(", ")}\n`);
    process.exit(2);
  }
}
for (const [name, run] of Object.entries(CHECKS)) {
  if (asked.length > 0 && !asked.includes(name)) continue;
  const { ok, output } = run();
  process.stdout.write(`  ${ok ? "ok    " : "FAILED"} ${name}\n${ok ? "" : output}`);
  if (!ok) process.exitCode = 1;
}
