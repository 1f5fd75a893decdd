// `millrace install` from the first look to the last word. What is shown and asked goes through the caller.
import type { Clock } from "../kube/clock.ts";
import type { ClusterObject, ClusterObjects } from "../kube/cluster-objects.ts";
import { canonicalAddress } from "../lib/address.ts";
import { Failure } from "../lib/errors.ts";
import { DEFAULT_NODE_PORT_ADDRESSES, parseNodePortAddresses, servesNodePorts } from "../model/node-port-addresses.ts";
import { type NodeFacts, nodeFacts, readClusterFacts } from "./cluster-facts.ts";
import { items } from "./fields.ts";
import { gatherCluster, missingRights } from "./gather.ts";
import { type InstallOptions, type InstallPlan, planInstall, type TakenSettings, WAY_BACK } from "./install-plan.ts";
import type { KubeProxyFacts } from "./kube-proxy.ts";
import { configOf, configureManifest, imageOf, manifestText } from "./manifest.ts";
import { DAEMON_SET, NAMESPACE } from "./names.ts";
import { rollOut } from "./rollout.ts";
import { runSelfTest } from "./self-test.ts";
import type { Progress, Work } from "./work.ts";

export interface InstallRun {
  readonly api: ClusterObjects;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly progress: Progress;
  readonly kubeconfigServer: string;
  /** The objects of deploy/millrace.yaml. */
  readonly manifest: readonly ClusterObject[];
  readonly options: InstallOptions;
  readonly timeoutMs: number;
  readonly force: boolean;
  /** Takes the objects as YAML in place of the cluster. */
  readonly dryRun: ((text: string) => void) | undefined;
  /** False: the user does not want it. */
  readonly confirm: (question: string) => Promise<boolean>;
  readonly takeSettings: (kubeProxy: KubeProxyFacts | undefined) => Promise<TakenSettings>;
}

/** @throws Failure */
export async function install(run: InstallRun): Promise<void> {
  const { api, progress, manifest, options } = run;
  progress.live("looking at the cluster");
  const facts = readClusterFacts(await gatherCluster(api, run.kubeconfigServer));
  const plan = planInstall({
    facts,
    options,
    image: imageOf(manifest),
    objects: manifest.length,
    crds: manifest.filter(({ kind }) => kind === "CustomResourceDefinition").map(({ metadata: { name } }) => name),
    taken: await run.takeSettings(facts.kubeProxy),
  });
  showPlan(progress, plan);
  refuse(plan.refusals, "install Millrace");
  if (run.dryRun !== undefined) return run.dryRun(dryRunText(manifest, plan, options));
  const missing = await missingRights(api);
  if (missing.length > 0) {
    const message = `could not install Millrace: your account may not ${missing.join(", ")}; use one that may, such as a cluster administrator's`;
    throw new Failure("cluster", "rights", message);
  }
  if (!(await run.confirm("Do this?"))) throw new Failure("cluster", "the cluster", "not done: nothing was changed");
  const work: Work = run;
  await rollOut({ ...run, work, facts, plan, sysAdmin: options.sysAdmin, parallel: options.parallel });
  if (options.selfTest) await selfTest(work, plan, manifest);
  progress.line(`Millrace serves the cluster's Services. ${WAY_BACK}`);
  if (!facts.crds.has("ipaddresspools.metallb.io"))
    progress.line("For LoadBalancer addresses apply an IPAddressPool and an L2Advertisement (docs/load-balancer.md).");
}

export function showPlan(
  progress: Progress,
  plan: Pick<InstallPlan, "found" | "steps" | "warnings" | "refusals">,
): void {
  for (const line of plan.found) progress.line(line);
  for (const line of plan.warnings) progress.line(`warning: ${line}`);
  if (plan.refusals.length > 0 || plan.steps.length === 0) return;
  progress.line("What will be done:");
  for (const [at, line] of plan.steps.entries()) progress.line(`${String(at + 1).padStart(3)}. ${line}`);
}

/** @throws Failure "cluster" when there are any */
export function refuse(refusals: readonly string[], what: string): void {
  if (refusals.length === 0) return;
  const lines = refusals.length === 1 ? [` ${refusals[0]}`] : refusals.map((line) => `\n  ${line}`);
  throw new Failure("cluster", "the cluster", `could not ${what}:${lines.join("")}`);
}

/** Whether nodes need SYS_ADMIN is only told by looking at them, which a dry run does not. */
function dryRunText(manifest: readonly ClusterObject[], plan: InstallPlan, options: InstallOptions): string {
  return manifestText(
    configureManifest(manifest, { ...plan, sysAdmin: options.sysAdmin === "on" ? "beside" : "none" }).filter(
      ({ kind, metadata }) => kind !== "CustomResourceDefinition" || !plan.keptCrds.has(metadata.name),
    ),
  );
}

async function selfTest(work: Work, plan: InstallPlan, manifest: readonly ClusterObject[]): Promise<void> {
  const serves = nodePortsOf({ ...configOf(manifest), ...plan.config });
  const nodes = (await readyNodes(work.api))
    .filter(({ name }) => plan.nodes.includes(name))
    .map(({ name, addresses }) => ({ name, addresses: addresses.filter((one) => serves(one, addresses)) }));
  if (nodes.length === 0) {
    work.progress.line("self-test: left out, no node is ready (is there a network plugin?)");
    return;
  }
  const [dns, daemonSet] = await Promise.all([
    work.api.get("Service", { namespace: NAMESPACE, name: "kube-dns" }),
    work.api.get("DaemonSet", { namespace: NAMESPACE, name: DAEMON_SET }),
  ]);
  const pullSecrets = items(daemonSet, "spec", "template", "spec", "imagePullSecrets");
  await runSelfTest(work, { image: plan.image, nodes, hasDns: dns !== undefined, pullSecrets });
}

/** Whether node ports answer on an InternalIP, by what the agents are told. */
function nodePortsOf(
  config: Readonly<Record<string, unknown>>,
): (address: string, internal: readonly string[]) => boolean {
  const said = config["nodeport-addresses"];
  const which = typeof said === "string" && said !== "" ? parseNodePortAddresses(said.split(",")) : undefined;
  return (address, internal) => {
    const canonical = canonicalAddress(address);
    const primaries = new Set(internal.map((one) => canonicalAddress(one)).filter((one) => one !== undefined));
    return canonical !== undefined && servesNodePorts(which ?? DEFAULT_NODE_PORT_ADDRESSES, canonical, primaries);
  };
}

async function readyNodes(api: ClusterObjects): Promise<readonly NodeFacts[]> {
  return (await api.list("Node")).map(nodeFacts).filter(({ ready }) => ready === "yes");
}
