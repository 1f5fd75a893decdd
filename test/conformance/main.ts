// `make conformance`: Kubernetes' own end-to-end specs about Services, on a cluster whose Services Millrace or kube-proxy
// serves. What came of each spec goes to results/PROXY.json, with THROUGH=daemonset to daemonset.json, of which docs/conformance.md is
// made; the logs of what failed to build/.
import { spawn } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { Command, Option } from "commander";
import { inCgroup, makeCgroup } from "../../src/lab/cgroups.ts";
import { runChecked } from "../../src/lab/shell.ts";
import { FAILURES, Failure } from "../../src/lib/errors.ts";
import type { Cluster } from "../cluster/cluster.ts";
import { Member } from "../cluster/member.ts";
import { throughOfEnvironment } from "../cluster/node-proxy.ts";
import { kubernetesVersion, programPath } from "../cluster/programs.ts";
import { type Progress, progressOnStderr } from "../cluster/progress.ts";
import { startCluster } from "../cluster/start-cluster.ts";
import { addOutside } from "./outside.ts";
import {
  BUILD,
  focusOf,
  isInScope,
  JUDGED,
  type Judged,
  mergeResults,
  namesIn,
  needsSixNodes,
  outcomesIn,
  readScope,
  reasonFor,
  type SpecResult,
} from "./specs.ts";

interface Options {
  readonly proxy: Exclude<Judged, "daemonset">;
  readonly name: string;
  readonly procs: string;
  readonly focus?: string;
  readonly keep?: boolean;
}

const PROXIES = JUDGED.filter((one) => one !== "daemonset");

/** What the specs take for granted, as kube-proxy does it unasked: external IPs of documentation's TEST-NET-3 (RFC 5737). */
const AGENT_FLAGS: readonly string[] = ["--external-ip-cidrs=203.0.113.0/24"];

async function main(options: Options): Promise<void> {
  const progress = progressOnStderr();
  const judged = options.proxy === "millrace" && throughOfEnvironment() === "daemonset" ? "daemonset" : options.proxy;
  const reports = join(BUILD, judged);
  rmSync(reports, { recursive: true, force: true });
  mkdirSync(reports, { recursive: true });
  const scope = readScope();
  const known = (await listSpecs(join(reports, "specs.json"))).filter((name) => isInScope(name, scope));
  const focus = new RegExp(options.focus ?? "");
  const wanted = known.filter((name) => reasonFor(name, scope, judged) === undefined && focus.test(name));
  const results: SpecResult[] = [];
  for (const nodes of [3, 6]) {
    const specs = wanted.filter((name) => needsSixNodes(name, scope) === (nodes === 6));
    if (specs.length === 0) continue;
    results.push(...(await judge({ ...options, nodes, specs, reports, progress })));
    mergeResults(judged, { kubernetes: kubernetesVersion(), specs: results }, known);
  }
  report(results, reports);
}

/** Names of all specs that e2e.test has. */
async function listSpecs(path: string): Promise<string[]> {
  await runChecked(programPath("e2e.test"), [
    "--provider=skeleton",
    "--ginkgo.dry-run",
    `--ginkgo.json-report=${path}`,
  ]);
  return namesIn(path);
}

interface Trial extends Options {
  readonly nodes: number;
  readonly specs: readonly string[];
  readonly reports: string;
  readonly progress: Progress;
}

async function judge(trial: Trial): Promise<SpecResult[]> {
  const { proxy, nodes, specs, reports, progress } = trial;
  const images = "conformance";
  progress(`${specs.length} specs on ${nodes} nodes, Services by ${proxy}`);
  const cluster = await startCluster({
    name: trial.name,
    proxy,
    nodes,
    images,
    agentFlags: AGENT_FLAGS,
    replace: true,
    progress,
  });
  try {
    await addOutside(cluster.paths);
    await cloudOf(cluster).start();
    const path = join(reports, `${nodes}-nodes.json`);
    await runSpecs(cluster, trial, path);
    return outcomesIn(path, specs, join(reports, `${nodes}-nodes`));
  } finally {
    if (trial.keep !== true) await cluster.down();
  }
}

function cloudOf({ paths }: Cluster) {
  const script = join(import.meta.dirname, "cloud.ts");
  const command = [process.execPath, "--no-warnings", script, paths.name];
  return new Member(paths, "lan").component("cloud", { command: () => command });
}

/** Runs ginkgo in the control plane's namespace; its status says no more than its report. */
async function runSpecs(
  { control, kubeconfig }: Cluster,
  { specs, procs, nodes }: Trial,
  report: string,
): Promise<void> {
  const ginkgo = [
    `--procs=${procs}`,
    `--focus=${focusOf(specs)}`,
    `--json-report=${report}`,
    "--no-color",
    "--silence-skips",
    "--timeout=3h",
  ];
  const suite = [
    `--kubeconfig=${kubeconfig}`,
    `--kubectl-path=${programPath("kubectl")}`,
    "--provider=skeleton",
    "--node-os-distro=debian",
    // Only the first of the processes would find out.
    `--num-nodes=${nodes}`,
  ];
  const command = control.enter([programPath("ginkgo"), ...ginkgo, programPath("e2e.test"), "--", ...suite]);
  const cgroup = join(control.cgroup, "e2e");
  makeCgroup(cgroup);
  const [file, ...args] = inCgroup(cgroup, command);
  const child = spawn(file, args, { stdio: ["ignore", "inherit", "inherit"] });
  await new Promise<void>((resolve, reject) => child.once("exit", () => resolve()).once("error", reject));
}

function report(results: readonly SpecResult[], logs: string): void {
  const of = (wanted: SpecResult["outcome"]) => results.filter(({ outcome }) => outcome === wanted);
  for (const { name, why = "" } of of("skipped")) process.stdout.write(`skipped  ${name}: ${why}\n`);
  for (const { name, why = "" } of of("failed")) process.stdout.write(`failed   ${name}: ${why}\n`);
  const counts = (["passed", "failed", "skipped"] as const).map((outcome) => `${of(outcome).length} ${outcome}`);
  process.stdout.write(`${counts.join(", ")}\n`);
  if (of("failed").length > 0) process.stdout.write(`their logs are below ${logs}\n`);
  // A spec that skips itself has judged nothing.
  if (of("passed").length < results.length || results.length === 0) process.exitCode = 1;
}

const program = new Command("conformance")
  .description("Kubernetes' end-to-end specs about Services")
  .addOption(new Option("--proxy <proxy>", "who serves Services").choices(PROXIES).default("millrace"))
  .option("--name <name>", "name of the cluster", "conformance")
  .option("--procs <number>", "how many specs at once", "5")
  .option("--focus <regex>", "only specs whose name this matches")
  .option("--keep", "leave the cluster as it is")
  .action(main);

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = FAILURES[error.code].exit;
}
