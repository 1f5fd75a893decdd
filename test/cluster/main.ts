// `make cluster` and `make cluster-down`: builds what is missing, starts a cluster and says how it is used, takes it away.
import { mkdirSync } from "node:fs";
import { Command, Option } from "commander";
import { FAILURES, Failure } from "../../src/lib/errors.ts";
import type { Cluster } from "./cluster.ts";
import { type ClusterCni, CNIS } from "./cni.ts";
import { makeImageStore } from "./image-store.ts";
import { IMAGE_SETS, type ImageSet, makeImages } from "./images.ts";
import { CACHE, clusterPaths } from "./paths.ts";
import { buildPrograms } from "./programs.ts";
import { progressOnStderr } from "./progress.ts";
import { PROXIES, type ServiceProxy } from "./proxy.ts";
import { startCluster } from "./start-cluster.ts";
import { tearDown } from "./teardown.ts";

interface UpOptions {
  readonly name: string;
  readonly proxy: ServiceProxy;
  readonly cni: ClusterCni;
  readonly nodes: string;
  readonly keep?: boolean;
}

async function build({ images }: { readonly images: ImageSet }): Promise<void> {
  mkdirSync(CACHE, { recursive: true });
  const progress = progressOnStderr();
  await buildPrograms(progress, images === "conformance");
  await makeImages(progress, images);
  await makeImageStore(progress, images);
}

async function up(options: UpOptions): Promise<void> {
  const progress = progressOnStderr();
  const { name, proxy, cni, nodes, keep = false } = options;
  const cluster = await startCluster({ name, proxy, cni, nodes: Number(nodes), keep, progress });
  process.stdout.write(usage(cluster));
}

function usage(cluster: Cluster): string {
  const { paths, config, kubectlScript, client } = cluster;
  const suffix = config.name === "cluster" ? "" : ` NAME=${config.name}`;
  const agents =
    config.proxy === "millrace"
      ? [`  its agents     dist/millrace status --socket ${cluster.agentSocket("node1")}`]
      : [];
  return [
    `Cluster ${config.name} stands: ${config.nodes} nodes, Services by ${config.proxy}${config.proxy === "millrace" && config.through === "daemonset" ? "'s DaemonSet" : ""}.`,
    `  kubectl        ${kubectlScript} get pods -A -o wide`,
    `  on a node      ${cluster.node("node1").enter(["COMMAND"]).join(" ")}`,
    `  from outside   ${client.enter(["COMMAND"]).join(" ")}`,
    ...agents,
    `  logs           ${paths.logs}`,
    `  take it away   make cluster-down${suffix}`,
    "",
  ].join("\n");
}

async function down({ name }: { readonly name: string }): Promise<void> {
  const removed = await tearDown(clusterPaths(name));
  process.stderr.write(removed ? `Cluster ${name} is gone.\n` : `There is no cluster ${name}.\n`);
}

const name = new Option("--name <name>", "name of the cluster").default("cluster");
const program = new Command("cluster").description("A real cluster in network namespaces of this machine");
program
  .command("build")
  .description("build programs and images, if they are missing")
  .addOption(new Option("--images <set>", "for whom").choices(IMAGE_SETS).default("cluster"))
  .action(build);
program
  .command("up")
  .addOption(name)
  .addOption(new Option("--proxy <proxy>", "who serves Services").choices(PROXIES).default("millrace"))
  .addOption(new Option("--cni <plugin>", "how pods are connected").choices(CNIS).default("ptp"))
  .option("--nodes <number>", "how many", "3")
  .option("--keep", "leave what does not come up")
  .action(up);
program.command("down").addOption(name).action(down);

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = FAILURES[error.code].exit;
}
