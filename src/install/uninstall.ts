// Carries out an UninstallPlan: node after node back to kube-proxy, then the objects. A run that was broken off is gone on with by the next.
import type { ClusterObject, ClusterObjects, Kind } from "../kube/cluster-objects.ts";
import { field, text, texts } from "../kube/fields.ts";
import { Failure } from "../lib/errors.ts";
import { withoutKey } from "./affinity.ts";
import type { agentPods } from "./agents.ts";
import type { ClusterFacts } from "./cluster-facts.ts";
import { awaitControllerGone } from "./controller.ts";
import { counted, named } from "./install-plan.ts";
import {
  AGENT_PODS,
  ANNOUNCER_SECRET,
  CLEANED_ANNOTATION,
  CONTROLLER,
  DAEMON_SET,
  DRAINING_ANNOTATION,
  NAMESPACE,
  NODE_LABEL,
} from "./names.ts";
import type { NodeStep } from "./node-pods.ts";
import { isNoImage, podState } from "./pod-state.ts";
import { awaitReplaced, kubeProxyPods } from "./rollout.ts";
import { runNodePod } from "./run-node-pod.ts";
import type { UninstallPlan } from "./uninstall-plan.ts";
import { change, inLanes, NotReached, persist, stopIfAsked, until, type Work } from "./work.ts";

export interface Uninstall {
  readonly work: Work;
  readonly facts: ClusterFacts;
  readonly plan: UninstallPlan;
  readonly manifest: readonly ClusterObject[];
  readonly drainTimeout: string;
  readonly drainTimeoutMs: number;
  readonly parallel: number;
}

/** Kinds of the CustomResourceDefinitions whose objects people write; the others' are reports of ours. */
const KINDS_OF_PEOPLE: Readonly<Record<string, Kind>> = {
  "ipaddresspools.metallb.io": "IPAddressPool",
  "l2advertisements.metallb.io": "L2Advertisement",
};
/** Those that are reports of ours. */
const REPORTS: readonly { readonly crd: string; readonly kind: Kind }[] = [
  { crd: "configurationstates.metallb.io", kind: "ConfigurationState" },
  { crd: "servicel2statuses.metallb.io", kind: "ServiceL2Status" },
];
const DRAINS_AT_ONCE = 10;

/** Of the manifest's CustomResourceDefinitions: how many objects of people each has. */
export async function countObjects(
  api: ClusterObjects,
  manifest: readonly ClusterObject[],
): Promise<ReadonlyMap<string, number>> {
  const names = manifest
    .filter(({ kind }) => kind === "CustomResourceDefinition")
    .map(({ metadata: { name } }) => name);
  const counts = await Promise.all(
    names.map(async (name) => {
      const kind = KINDS_OF_PEOPLE[name];
      return kind === undefined ? 0 : (await api.list(kind)).length;
    }),
  );
  return new Map(names.map((name, at) => [name, counts[at]!]));
}

/** @throws Failure "cluster" */
export async function uninstall(run: Uninstall): Promise<void> {
  const { work, plan } = run;
  const daemonSet = (await work.api.get("DaemonSet", { namespace: NAMESPACE, name: DAEMON_SET })) ?? ownDaemonSet(run);
  if (plan.isPartial) return drainAll(run, daemonSet, run.parallel, stepsBefore(plan));
  if (plan.kubeProxy === undefined) await leave(run, daemonSet);
  else if (plan.nodes.length > 0) await handBack(run, daemonSet);
  await deleteObjects(run);
  await restoreKubeProxy(run);
  await unlabelNodes(run);
}

function ownDaemonSet({ manifest }: Uninstall): ClusterObject | undefined {
  return manifest.find(({ kind, metadata }) => kind === "DaemonSet" && metadata.name === DAEMON_SET);
}

/** Nobody takes over: agents go all at once, what they left in the kernels node by node. */
async function leave(run: Uninstall, daemonSet: ClusterObject | undefined): Promise<void> {
  const { work, plan } = run;
  // Whom a later run has to look after, when this one is broken off.
  for (const node of plan.nodes) await markNode(work, node, {});
  await persist(work, "agents", () => work.api.remove("DaemonSet", { namespace: NAMESPACE, name: DAEMON_SET }));
  await until(work, "agents", async () => {
    const left = (await allAgentPods(work)).filter((pod) => plan.nodes.includes(text(pod, "spec", "nodeName")));
    return left.length === 0 ? { done: undefined } : { waiting: `${counted(left.length, "pod")} end` };
  });
  await drainAll(run, daemonSet, DRAINS_AT_ONCE, []);
}

async function handBack(run: Uninstall, daemonSet: ClusterObject | undefined): Promise<void> {
  const { work, facts, plan } = run;
  await drainAll(run, daemonSet, run.parallel, stepsBefore(plan));
  const silent = facts.nodes.filter(({ ready, label }) => ready === "unknown" && label !== "kube-proxy");
  for (const { name } of silent) await markNode(work, name, { [NODE_LABEL]: "kube-proxy" });
}

/** kube-proxy serves before anything is taken out. One without a healthz server cannot be asked: that its pod is ready has to do. */
function stepsBefore({ kubeProxy }: UninstallPlan): NodeStep[] {
  if (kubeProxy === undefined || kubeProxy.healthz === "") return [];
  const args = ["node-check", "kube-proxy", "--wait", "120s", "--address", kubeProxy.healthz];
  return [{ name: "kube-proxy", args, isPrivileged: true }];
}

/** With the steps `first` before each node's drain. */
async function drainAll(
  run: Uninstall,
  daemonSet: ClusterObject | undefined,
  lanes: number,
  first: readonly NodeStep[],
): Promise<void> {
  const { work, plan, drainTimeout, drainTimeoutMs } = run;
  const { image, pullSecrets } = plan;
  let done = 0;
  const drain = ["cleanup", "--drain", "--drain-timeout", drainTimeout];
  const steps = [...first, { name: "drain", args: drain, isPrivileged: true }];
  await inLanes(plan.nodes, lanes, async (node) => {
    stopIfAsked(work);
    try {
      if (plan.kubeProxy !== undefined || plan.isPartial) await giveBack(run, node);
      const options = { what: "drain", node, image, steps, pullSecrets, daemonSet };
      await runNodePod(work, options, work.timeoutMs + drainTimeoutMs);
    } catch (error) {
      if (!(error instanceof NotReached)) throw error;
      const isNeverOurs = plan.unsure.has(node) && !plan.isPartial && isNoImage({ why: error.message });
      if (!isNeverOurs) throw drainFailure(run, node, error);
      work.progress.line(
        `warning: node ${node} was not looked at, kube-proxy serves it already: ${error.message}. If Millrace was ever there, run millrace cleanup there`,
      );
    }
    await change(work, "Node", { name: node }, () => ({
      metadata: { annotations: { [DRAINING_ANNOTATION]: null } },
    }));
    done++;
    const by = plan.kubeProxy === undefined ? "nothing of Millrace is left there" : "served by kube-proxy again";
    work.progress.line(`node ${node}: ${by} (${done}/${plan.nodes.length})`);
  });
}

function drainFailure({ plan }: Uninstall, node: string, error: NotReached): Failure {
  const lines = [
    plan.kubeProxy === undefined
      ? `could not clean node ${node}: ${error.message}`
      : `could not give node ${node} back: ${error.message}`,
    "What Millrace has in its kernel goes on as it was when its agent ended.",
    `To go on when it is mended: the same command again. To turn back: millrace install.`,
  ];
  return new Failure("cluster", `Node ${node}`, lines.join("\n"), { cause: error });
}

async function markNode(work: Work, name: string, labels: Readonly<Record<string, string>>): Promise<void> {
  await change(work, "Node", { name }, () => ({
    metadata: { labels, annotations: { [DRAINING_ANNOTATION]: "true", [CLEANED_ANNOTATION]: null } },
  }));
}

/** Its agent ends, and kube-proxy's pod comes, where there is one. */
async function giveBack({ work, plan }: Uninstall, node: string): Promise<void> {
  await markNode(work, node, { [NODE_LABEL]: "kube-proxy" });
  await until(work, `node ${node}`, async () => {
    if (plan.kubeProxy !== undefined) {
      const [proxy] = await kubeProxyPods(work, plan.kubeProxy, node);
      if (proxy === undefined) return { waiting: "kube-proxy has no pod yet" };
      const state = podState(proxy);
      if (state.state === "failed") return { failed: `kube-proxy: ${state.why}` };
      if (state.state !== "ready") return { waiting: `kube-proxy: ${state.why}` };
    }
    const agents = (await allAgentPods(work)).filter((pod) => text(pod, "spec", "nodeName") === node);
    return agents.length === 0 ? { done: undefined } : { waiting: "the agent ends" };
  });
}

/** Those that end, too. */
function allAgentPods({ api }: Work): ReturnType<typeof agentPods> {
  return api.list("Pod", { namespace: NAMESPACE, labelSelector: AGENT_PODS });
}

/** In the contrary order of the manifest: rights go last. What controllers and agents have made goes when nobody makes it anew. */
async function deleteObjects({ work, plan, manifest }: Uninstall): Promise<void> {
  const made: readonly (readonly [Kind, string])[] = [
    ["Secret", ANNOUNCER_SECRET],
    ["Lease", CONTROLLER],
  ];
  let deleted = 0;
  const remove = async (kind: Kind, which: { readonly name: string; readonly namespace?: string }): Promise<void> => {
    stopIfAsked(work);
    if (await persist(work, `${kind} ${which.name}`, () => work.api.remove(kind, which))) deleted++;
  };
  for (const { kind, metadata } of manifest.toReversed()) {
    const { name, namespace } = metadata;
    if (kind === "Namespace") continue;
    if (kind === "CustomResourceDefinition" && !plan.crds.includes(name)) continue;
    await remove(kind as Kind, { name, ...(namespace === undefined ? {} : { namespace }) });
  }
  await awaitControllerGone(work);
  const reports = plan.hasReports ? await reportsOf(work, plan) : [];
  for (const [kind, name] of [...made, ...reports]) await remove(kind, { namespace: NAMESPACE, name });
  work.progress.line(`deleted ${counted(deleted, "object")}`);
}

/** Of CustomResourceDefinitions that stay: those of the others go with them. */
async function reportsOf(work: Work, { crds }: UninstallPlan): Promise<readonly (readonly [Kind, string])[]> {
  const kinds = REPORTS.filter(({ crd }) => !crds.includes(crd)).map(({ kind }) => kind);
  const lists = await Promise.all(
    kinds.map((kind) => persist(work, kind, () => work.api.list(kind, { namespace: NAMESPACE }))),
  );
  return lists.flatMap((list, at) => list.map(({ metadata }) => [kinds[at]!, metadata.name] as const));
}

async function restoreKubeProxy({ work, plan }: Uninstall): Promise<void> {
  if (plan.kubeProxy === undefined) return;
  const { namespace, name } = plan.kubeProxy;
  let isChanged = false;
  await change(work, "DaemonSet", { namespace, name }, (daemonSet) => {
    const affinity = field(daemonSet, "spec", "template", "spec", "affinity");
    const bare = withoutKey(affinity, NODE_LABEL);
    if (bare === affinity) return undefined;
    isChanged = true;
    return { spec: { template: { spec: { affinity: patchFrom(affinity, bare) } } } };
  });
  if (!isChanged) return;
  await awaitReplaced(work, plan.kubeProxy);
  work.progress.line(`DaemonSet ${namespace}/${name} is as it was before`);
}

/** A merge patch that makes `after` of `before`: what is gone is null. */
export function patchFrom(before: unknown, after: unknown): unknown {
  const isMap = (value: unknown): value is Record<string, unknown> =>
    typeof value === "object" && value !== null && !Array.isArray(value);
  if (after === undefined) return null;
  if (!isMap(before) || !isMap(after)) return after;
  const keys = new Set([...Object.keys(before), ...Object.keys(after)]);
  return Object.fromEntries([...keys].map((key) => [key, patchFrom(before[key], after[key])]));
}

async function unlabelNodes({ work }: Uninstall): Promise<void> {
  const nodes = await persist(work, "nodes", () => work.api.list("Node"));
  const gone = { [CLEANED_ANNOTATION]: null, [DRAINING_ANNOTATION]: null };
  const labelled = nodes.filter((node) => {
    const annotations = texts(node, "metadata", "annotations");
    return (
      texts(node, "metadata", "labels")[NODE_LABEL] !== undefined ||
      Object.keys(gone).some((key) => Object.hasOwn(annotations, key))
    );
  });
  for (const { metadata } of labelled) {
    await change(work, "Node", { name: metadata.name }, () => ({
      metadata: { labels: { [NODE_LABEL]: null }, annotations: gone },
    }));
  }
  if (labelled.length > 0)
    work.progress.line(`took the label from ${named(labelled.map(({ metadata }) => metadata.name))}`);
}
