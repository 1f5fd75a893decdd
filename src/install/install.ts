// `millrace install` from the first look to the last word. What is shown and asked goes through the caller.
import type { Clock } from "../kube/clock.ts";
import type { ClusterObject, ClusterObjects } from "../kube/cluster-objects.ts";
import { canonicalAddress } from "../lib/address.ts";
import { Failure } from "../lib/errors.ts";
import { DEFAULT_NODE_PORT_ADDRESSES, parseNodePortAddresses, servesNodePorts } from "../model/node-port-addresses.ts";
import { type ClusterFacts, type NodeFacts, nodeFacts, readClusterFacts } from "./cluster-facts.ts";
import { gatherCluster, missingRights, RIGHTS, TEST_RIGHTS } from "./gather.ts";
import {
  chosenOptions,
  type InstallOptions,
  type InstallPlan,
  planInstall,
  type TakenSettings,
  WAY_BACK,
} from "./install-plan.ts";
import type { KubeProxyFacts } from "./kube-proxy.ts";
import { configOf, imageOf, manifestText, pullSecretsOf } from "./manifest.ts";
import { DAEMON_SET, NAMESPACE } from "./names.ts";
import { chooseSysAdmin, chosenObjects, rollOut } from "./rollout.ts";
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
  /** Takes the objects as YAML in place of the cluster. */
  readonly dryRun: ((text: string) => void) | undefined;
  /** False: the user does not want it. */
  readonly confirm: (question: string) => Promise<boolean>;
  /** `set`: the settings that count before kube-proxy's. */
  readonly takeSettings: (
    kubeProxy: KubeProxyFacts | undefined,
    set: Readonly<Record<string, string>>,
  ) => Promise<TakenSettings>;
  /** Why agents cannot have this setting, "" when they can. */
  readonly settingProblem: (name: string, value: string) => string;
}

/** @throws Failure */
export async function install(run: InstallRun): Promise<void> {
  const { api, progress, manifest, options, settingProblem } = run;
  progress.live("looking at the cluster");
  const facts = readClusterFacts(await gatherCluster(api, run.kubeconfigServer));
  const known = { facts, options, image: imageOf(manifest), settingProblem };
  const plan = planInstall({
    ...known,
    objects: manifest.length,
    crds: manifest.filter(({ kind }) => kind === "CustomResourceDefinition").map(({ metadata: { name } }) => name),
    config: configOf(manifest),
    taken: await run.takeSettings(facts.kubeProxy, chosenOptions(known).options.set),
  });
  showPlan(progress, plan);
  refuse(plan.refusals, "install Millrace");
  if (run.dryRun !== undefined) return run.dryRun(dryRunText(run, facts, plan));
  const missing = await missingRights(api, options.selfTest ? [...RIGHTS, ...TEST_RIGHTS] : RIGHTS);
  if (missing.length > 0) {
    const message = `could not install Millrace: your account may not ${missing.join(", ")}; use one that may, such as a cluster administrator's`;
    throw new Failure("cluster", "rights", message);
  }
  if (!(await run.confirm("Do this?"))) throw new Failure("cluster", "the cluster", "not done: nothing was changed");
  const work: Work = run;
  const { parallel, force } = options;
  await rollOut({ work, facts, plan, manifest, parallel, force });
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

/** What is applied, as far as it can be told without a look at the nodes: by that alone it shows which need SYS_ADMIN. */
function dryRunText({ progress, manifest }: InstallRun, facts: ClusterFacts, plan: InstallPlan): string {
  const { sysAdmin } = chooseSysAdmin(plan.sysAdmin, facts, plan.kubeProxy !== undefined, []);
  if (facts.millrace === undefined && ["auto", "on"].includes(plan.sysAdmin))
    progress.line(
      "warning: a dry run does not look whether nodes need SYS_ADMIN. --sys-admin in-place prints it in place of BPF and PERFMON, for a container runtime that knows neither; --sys-admin on beside them, for a conntrack that is a module.",
    );
  return manifestText(chosenObjects(manifest, plan, sysAdmin));
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
  const pullSecrets = pullSecretsOf(daemonSet);
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
