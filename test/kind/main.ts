// `make kind`: kind clusters on this machine, without a registry. Builds what is missing, makes clusters in a Docker of their own, installs
// Millrace as the guides say, checks it, and takes everything away.
import { spawnSync } from "node:child_process";
import { mkdirSync, readlinkSync, statSync } from "node:fs";
import { Command, Option } from "commander";
import { FAILURES, Failure } from "../../src/lib/errors.ts";
import { makeImages } from "../cluster/images.ts";
import { buildPrograms } from "../cluster/programs.ts";
import { progressOnStderr } from "../cluster/progress.ts";
import { checkedOnHost, dockerDown, dockerUp, hostEnvironment, leftOfDocker, onHost } from "./docker.ts";
import { KindCluster, PROXY_MODES, type ProxyMode } from "./kind-cluster.ts";
import { makeNodeImage, nodeImage } from "./node-image.ts";
import { CACHE, HOST_NAMESPACE } from "./paths.ts";
import { buildKindPrograms } from "./programs.ts";
import { Report } from "./report.ts";
import { SCENARIOS, type Scenario } from "./scenarios.ts";

/** Programs, the test cluster's images, and the nodes' image: what takes minutes once. Leaves Docker up. */
async function build(): Promise<void> {
  const progress = progressOnStderr();
  mkdirSync(CACHE, { recursive: true });
  await buildPrograms(progress, false);
  await makeImages(progress, "cluster");
  await buildKindPrograms(progress);
  await dockerUp();
  await makeNodeImage(progress);
}

/** Whether this process is in the network of the clusters' machine. */
function isOnHost(): boolean {
  try {
    return statSync("/proc/self/ns/net").ino === statSync(HOST_NAMESPACE).ino;
  } catch {
    return false;
  }
}

/** This same command again, on the clusters' machine. Its status is ours. */
function againOnHost(): void {
  const own = readlinkSync("/proc/self/exe");
  const [file, ...args] = onHost([own, ...process.execArgv, ...process.argv.slice(1)]);
  const { status } = spawnSync(file, args, { stdio: "inherit", env: hostEnvironment() });
  process.exitCode = status ?? 1;
}

async function up({ name, proxy, nodes }: { name: string; proxy: ProxyMode; nodes: string }): Promise<void> {
  if (!isOnHost()) {
    await build();
    againOnHost();
    return;
  }
  const cluster = new KindCluster({ name, proxy, nodes: Number(nodes), image: nodeImage() });
  await cluster.up();
  process.stdout.write(
    `${[
      `Cluster ${name} stands: ${nodes} nodes, kube-proxy: ${proxy}.`,
      `  a shell on its machine  ${onHost(["env", `KUBECONFIG=${cluster.kubeconfig}`, `DOCKER_HOST=${hostEnvironment()["DOCKER_HOST"]}`, `PATH=${CACHE}/bin:$PATH`, "bash"]).join(" ")}`,
      "  take it away            make kind-down",
    ].join("\n")}\n`,
  );
}

async function test(names: readonly string[], { keep = false }: { keep?: boolean }): Promise<void> {
  const wanted = names.length === 0 ? SCENARIOS : SCENARIOS.filter(({ name }) => names.includes(name));
  if (wanted.length === 0) {
    const known = SCENARIOS.map(({ name }) => name).join(", ");
    throw new Failure("usage", names.join(), `could not run ${names.join()}: there are ${known}`);
  }
  if (!isOnHost()) {
    await build();
    againOnHost();
    if (keep) return;
    await dockerDown();
    const left = leftOfDocker();
    process.stdout.write(left.length === 0 ? "Nothing is left on this machine.\n" : `Left: ${left.join(", ")}\n`);
    if (left.length > 0) process.exitCode = 1;
    return;
  }
  const report = new Report();
  for (const scenario of wanted) await runScenario(report, scenario, keep);
  report.summary();
  if (report.failed.length > 0) process.exitCode = 1;
}

async function runScenario(report: Report, { name, title, proxy, nodes, run }: Scenario, keep: boolean): Promise<void> {
  const cluster = new KindCluster({ name, proxy, nodes, image: nodeImage() });
  try {
    if (!(keep && (await cluster.stands()))) await report.step(`${title}: the cluster`, () => cluster.up());
    await run(report, cluster);
  } catch (error) {
    report.fail(title, error instanceof Error ? error.message : String(error));
  }
  if (keep) return;
  await report.step(`${title}: taken away`, () => cluster.down());
  await report.check(`${name}: no container is left`, async () => {
    const left = (await checkedOnHost(["docker", "ps", "--all", "--format={{.Names}}"])).trim();
    if (left !== "") throw new Error(left.replaceAll("\n", ", "));
    return undefined;
  });
}

// Whole clusters share this machine's processors: a limit that cuts off what hangs is three times as long as elsewhere.
process.env["MILLRACE_SLOW"] ??= "3";

const program = new Command("kind").description("kind clusters on this machine, without a registry");
program.command("build").description("build programs and the node image, if they are missing").action(build);
program
  .command("up")
  .option("--name <name>", "name of the cluster", "millrace")
  .addOption(new Option("--proxy <mode>", "kube-proxy's mode").choices(PROXY_MODES).default("none"))
  .option("--nodes <number>", "how many", "3")
  .action(up);
program
  .command("test")
  .argument("[scenario...]", SCENARIOS.map(({ name }) => name).join(", "))
  .option("--keep", "leave the clusters, and use those that stand")
  .action(test);
program.command("down").description("take every cluster and their Docker away").action(dockerDown);

try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`kind: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = error instanceof Failure ? FAILURES[error.code].exit : 1;
}
