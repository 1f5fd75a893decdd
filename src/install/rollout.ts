// Carries out an InstallPlan: objects, then node after node. All that it knows lies in the cluster (labels, an affinity, an annotation), so
// that a run that was broken off is gone on with by the next.
import type { ClusterObject, ObjectName } from "../kube/cluster-objects.ts";
import { count, field, texts } from "../kube/fields.ts";
import { Failure } from "../lib/errors.ts";
import { hasRequirement, withRequirement } from "./affinity.ts";
import { agentState, describeTrouble, imageAdvice, rolloutState } from "./agents.ts";
import type { ClusterFacts } from "./cluster-facts.ts";
import { awaitController } from "./controller.ts";
import { hadEmbeddedKubeProxy, type InstallPlan, named, WAY_BACK } from "./install-plan.ts";
import type { SysAdminChoice } from "./kept-options.ts";
import type { KubeProxyFacts } from "./kube-proxy.ts";
import { configureManifest, type SysAdmin } from "./manifest.ts";
import { CLEANED_ANNOTATION, DAEMON_SET, DRAINING_ANNOTATION, NODE_LABEL } from "./names.ts";
import { type NodeLook, needsSysAdmin, parseNodeLook } from "./node-look.ts";
import type { NodeStep } from "./node-pods.ts";
import { runNodePod } from "./run-node-pod.ts";
import { change, inLanes, type Look, NotReached, persist, stopIfAsked, until, type Work } from "./work.ts";

/** kube-proxy where it was asked to stay; Millrace's DaemonSet has the contrary. */
export const KUBE_PROXY_ONLY = { key: NODE_LABEL, operator: "In", values: ["kube-proxy"] } as const;
const NOT_DRAINING = { [DRAINING_ANNOTATION]: null };
const LOOKS_AT_ONCE = 10;
const AGENT_WAIT_S = 120;
/** Reading and changing the rules of a large cluster take minutes. */
const CLEAN_MS = 600_000;
const REPLACED_MS = 120_000;

export interface Rollout {
  readonly work: Work;
  readonly facts: ClusterFacts;
  readonly plan: InstallPlan;
  /** The manifest's, unchanged. */
  readonly manifest: readonly ClusterObject[];
  readonly parallel: number;
  /** Fields that others have written are taken over. */
  readonly force: boolean;
}

/** @throws Failure "cluster" that says what went wrong, what goes on, and how to go back */
export async function rollOut(rollout: Rollout): Promise<void> {
  const { work, plan } = rollout;
  const looks = await lookAtNodes(rollout);
  const { sysAdmin, why } = chooseSysAdmin(plan.sysAdmin, rollout.facts, plan.kubeProxy !== undefined, looks);
  if (why !== "") work.progress.line(why);
  const objects = chosenObjects(rollout.manifest, plan, sysAdmin);
  const isAgents = ({ kind, metadata }: ClusterObject): boolean => kind === "DaemonSet" && metadata.name === DAEMON_SET;
  await applyAll(
    rollout,
    objects.filter((one) => !isAgents(one)),
  );
  await labelNodes(rollout);
  if (plan.kubeProxy !== undefined) await holdBack(work, plan.kubeProxy);
  const [daemonSet] = objects.filter(isAgents);
  await applyAll(rollout, daemonSet === undefined ? [] : [daemonSet]);
  if (plan.kubeProxy === undefined) {
    await awaitAgents(rollout, plan.nodes);
    await cleanAfterEmbedded(rollout, daemonSet);
  } else {
    await takeOver(rollout, daemonSet);
    await awaitAgents(rollout, plan.nodes);
    await checkHeldBack(work, plan.kubeProxy);
  }
  await awaitController(work, plan.image, rollout.facts);
}

/** A pod on each node: the image is there, and what its runtime gives. Nothing is changed before all have answered. */
async function lookAtNodes({ work, facts, plan }: Rollout): Promise<NodeLook[]> {
  const looks: NodeLook[] = [];
  const steps: NodeStep[] = [{ name: "look", args: ["node-check", "look"], isPrivileged: true }];
  await inLanes(plan.nodes, LOOKS_AT_ONCE, async (node) => {
    try {
      const { image, ownPullSecrets: pullSecrets } = plan;
      const options = { what: "look", node, image, steps, pullSecrets, daemonSet: undefined };
      const look = parseNodeLook(await runNodePod(work, options));
      if (look === undefined)
        throw new NotReached("its pod's answer makes no sense: is it another version of the image?");
      looks.push(look);
    } catch (error) {
      if (!(error instanceof NotReached)) throw error;
      const advice = imageAdvice({ why: error.message }, plan.image, facts);
      throw new Failure(
        "cluster",
        `Node ${node}`,
        [`could not look at node ${node}: ${error.message}`, advice, "Nothing was changed."].filter(Boolean).join("\n"),
        { cause: error },
      );
    }
  });
  work.progress.line(`looked at ${plan.nodes.length === 1 ? "the node" : `all ${plan.nodes.length} nodes`}`);
  return looks;
}

/** What is applied: the manifest as it was chosen, without the CustomResourceDefinitions of others. */
export function chosenObjects(
  manifest: readonly ClusterObject[],
  plan: InstallPlan,
  sysAdmin: SysAdmin,
): ClusterObject[] {
  return configureManifest(manifest, { ...plan, sysAdmin }).filter(
    ({ kind, metadata }) => kind !== "CustomResourceDefinition" || !plan.keptCrds.has(metadata.name),
  );
}

/**
 * `why`: "" when there is nothing to say. What agents have already they keep by "auto": taking it away would replace each, for nothing that
 * was asked for.
 */
export function chooseSysAdmin(
  wanted: SysAdminChoice,
  { millrace }: Pick<ClusterFacts, "millrace">,
  isTakeover: boolean,
  looks: readonly NodeLook[],
): { readonly sysAdmin: SysAdmin; readonly why: string } {
  if (wanted === "off") return { sysAdmin: "none", why: "" };
  if (wanted === "in-place") return { sysAdmin: "in-place", why: "" };
  if (looks.some(needsSysAdmin))
    return {
      sysAdmin: "in-place",
      why: "the agents get SYS_ADMIN: these nodes' container runtime knows neither BPF nor PERFMON",
    };
  // Nobody looked: what a run that looked has found still is.
  const isInPlace = looks.length === 0 && millrace?.sysAdmin === "in-place";
  if (wanted === "on") return { sysAdmin: isInPlace ? "in-place" : "beside", why: "" };
  if (millrace !== undefined) return { sysAdmin: millrace.sysAdmin, why: "" };
  if (isTakeover && looks.some(({ isConntrackModule }) => isConntrackModule))
    return {
      sysAdmin: "beside",
      why: "the agents get SYS_ADMIN too, so that connections of kube-proxy go on: nf_conntrack is a module here. When those have ended, millrace install --sys-admin off takes it away",
    };
  return { sysAdmin: "none", why: "" };
}

async function applyAll({ work, force }: Rollout, objects: readonly ClusterObject[]): Promise<void> {
  for (const object of objects) {
    stopIfAsked(work);
    const { kind, metadata } = object;
    const title = `${kind} ${metadata.namespace === undefined ? "" : `${metadata.namespace}/`}${metadata.name}`;
    await persist(work, title, () => work.api.apply(object, { force }));
    work.progress.live(`applied ${title}`);
  }
  if (objects.length === 1) work.progress.line(`applied ${objects[0]!.kind} ${objects[0]!.metadata.name}`);
  if (objects.length > 1) work.progress.line(`applied ${objects.length} objects`);
}

/**
 * Nodes that nobody has labelled are kube-proxy's for now, and those that are left remain so; but one that joined since kube-proxy was held
 * back has an agent already.
 */
async function labelNodes({ work, facts, plan }: Rollout): Promise<void> {
  const left = new Set(plan.left.map(({ node }) => node));
  for (const { name, label, ready, isDraining } of facts.nodes) {
    if (plan.kubeProxy === undefined && plan.nodes.includes(name)) {
      // A node that was given back, or left out before, and has no kube-proxy any more.
      if (label === "kube-proxy") await labelNode(work, name, "millrace");
      else if (isDraining) await change(work, "Node", { name }, () => ({ metadata: { annotations: NOT_DRAINING } }));
    }
    if (label !== "") continue;
    const isHeldBack = plan.kubeProxy?.isHeldBack === true && !left.has(name);
    // Without kube-proxy only who shall get no agent is told so.
    const isWanted = plan.kubeProxy !== undefined || (left.has(name) && ready !== "unknown");
    if (isWanted) await labelNode(work, name, isHeldBack ? "millrace" : "kube-proxy");
  }
}

/** One that is taken is not given back any more, whatever came of that. */
async function labelNode(work: Work, name: string, value: "kube-proxy" | "millrace"): Promise<void> {
  await change(work, "Node", { name }, (node) => {
    const annotations = texts(node, "metadata", "annotations");
    const isTurned = value === "millrace" && Object.hasOwn(annotations, DRAINING_ANNOTATION);
    if (texts(node, "metadata", "labels")[NODE_LABEL] === value && !isTurned) return undefined;
    return { metadata: { labels: { [NODE_LABEL]: value }, ...(isTurned ? { annotations: NOT_DRAINING } : {}) } };
  });
}

/** kube-proxy's pods stay where the label says so; the change of their template replaces each once. */
async function holdBack(work: Work, kubeProxy: KubeProxyFacts): Promise<void> {
  const { namespace, name } = kubeProxy;
  let isChanged = false;
  await change(work, "DaemonSet", { namespace, name }, (daemonSet) => {
    const affinity = field(daemonSet, "spec", "template", "spec", "affinity");
    if (hasRequirement(affinity, KUBE_PROXY_ONLY)) return undefined;
    isChanged = true;
    return { spec: { template: { spec: { affinity: withRequirement(affinity, KUBE_PROXY_ONLY) } } } };
  });
  if (!isChanged) return;
  await awaitReplaced(work, kubeProxy);
  work.progress.line(`DaemonSet ${namespace}/${name} stays on nodes with ${NODE_LABEL}=kube-proxy`);
}

/** All its pods are of its template, or it was said that some are not: on a node that is away one never is. */
export async function awaitReplaced(work: Work, { namespace, name }: KubeProxyFacts): Promise<void> {
  const title = `DaemonSet ${namespace}/${name}`;
  try {
    await until(work, title, () => lookAtReplacement(work, { namespace, name }), REPLACED_MS);
  } catch (error) {
    if (!(error instanceof NotReached)) throw error;
    work.progress.line(`warning: ${title}: ${error.message}; Kubernetes goes on with it`);
  }
}

async function lookAtReplacement({ api }: Work, which: ObjectName): Promise<Look<void>> {
  const found = await api.get("DaemonSet", which);
  const isSeen = count(found, "status", "observedGeneration") >= (found?.metadata.generation ?? 0);
  const updated = count(found, "status", "updatedNumberScheduled");
  const desired = count(found, "status", "desiredNumberScheduled");
  const isDone = isSeen && updated >= desired && count(found, "status", "numberUnavailable") === 0;
  return isDone ? { done: undefined } : { waiting: `${updated} of ${desired} pods are replaced` };
}

/** Node after node. One that joins meanwhile has an agent, and no rules of kube-proxy. */
async function takeOver(rollout: Rollout, daemonSet: ClusterObject | undefined): Promise<void> {
  const { work, plan, parallel } = rollout;
  const { due } = plan;
  const before = plan.nodes.filter((node) => !due.includes(node));
  const done: string[] = [];
  await inLanes(due, parallel, async (node) => {
    stopIfAsked(work);
    const startedMs = work.clock.now();
    try {
      await takeNode(work, node, plan, daemonSet);
    } catch (error) {
      if (!(error instanceof NotReached)) throw error;
      throw await nodeFailure(rollout, node, error, [...before, ...done]);
    }
    done.push(node);
    const seconds = Math.round((work.clock.now() - startedMs) / 1000);
    work.progress.line(
      `node ${node}: served by Millrace, kube-proxy's rules are gone (${done.length}/${due.length}, ${seconds} s)`,
    );
  });
}

async function takeNode(
  work: Work,
  node: string,
  plan: InstallPlan,
  daemonSet: ClusterObject | undefined,
): Promise<void> {
  await labelNode(work, node, "millrace");
  await until(work, `node ${node}`, async () => {
    const state = await agentState(work, node);
    if (state.state === "failed") return { failed: `the agent: ${state.why}` };
    if (state.state !== "ready") return { waiting: `the agent: ${state.why}` };
    const others = await kubeProxyPods(work, plan.kubeProxy!, node);
    return others.length > 0 ? { waiting: "kube-proxy's pod ends" } : { done: undefined };
  });
  await cleanNode(work, node, plan, daemonSet);
}

/** kube-proxy's rules go, once the agent is well by its own word; then its Service is asked. */
async function cleanNode(
  work: Work,
  node: string,
  { image, ownPullSecrets: pullSecrets }: InstallPlan,
  daemonSet: ClusterObject | undefined,
): Promise<void> {
  const steps: NodeStep[] = [
    { name: "agent", args: ["node-check", "agent", "--wait", `${AGENT_WAIT_S}s`], isPrivileged: true },
    { name: "cleanup", args: ["cleanup", "--kube-proxy"], isPrivileged: true },
    { name: "api", args: ["node-check", "api", "--wait", "30s"], isPrivileged: true },
  ];
  const options = { what: "takeover", node, image, steps, pullSecrets, daemonSet };
  await runNodePod(work, options, Math.max(work.timeoutMs, CLEAN_MS));
  await change(work, "Node", { name: node }, () => ({
    metadata: { annotations: { [CLEANED_ANNOTATION]: new Date(work.clock.wallMs()).toISOString() } },
  }));
}

/**
 * A kube-proxy that was part of K3s or RKE2 ends with their restart; its rules stay in the kernels. Each time: a server that was started
 * with it for a while leaves them anew, and nothing in the API tells of that.
 */
async function cleanAfterEmbedded({ work, facts, plan }: Rollout, daemonSet: ClusterObject | undefined): Promise<void> {
  if (!hadEmbeddedKubeProxy(facts)) return;
  await inLanes(plan.nodes, LOOKS_AT_ONCE, async (node) => {
    stopIfAsked(work);
    await cleanNode(work, node, plan, daemonSet);
    work.progress.line(`node ${node}: what its kube-proxy left is gone`);
  });
}

export async function kubeProxyPods(
  { api }: Work,
  { namespace, labels }: KubeProxyFacts,
  node: string,
): Promise<readonly ClusterObject[]> {
  const labelSelector = Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join();
  const pods = await api.list("Pod", { namespace, labelSelector, fieldSelector: `spec.nodeName=${node}` });
  // The agents carry kube-proxy's label too, for what scrapes it.
  return pods.filter((pod) => texts(pod, "metadata", "labels")["app.kubernetes.io/name"] !== "millrace");
}

async function nodeFailure(
  { work, facts, plan }: Rollout,
  node: string,
  error: NotReached,
  done: readonly string[],
): Promise<Failure> {
  const { pod, why } = await agentState(work, node);
  const details = await describeTrouble(work, pod);
  const rest = plan.nodes.filter((one) => one !== node && !done.includes(one));
  const lines = [
    `could not take over node ${node}: ${error.message}`,
    ...details,
    imageAdvice({ why: `${error.message} ${why}` }, plan.image, facts),
    `Node ${node} goes on with the rules that kube-proxy left there, which nobody changes any more: pods that end are still asked.`,
    done.length === 0 ? "" : `Served by Millrace, and well: ${named(done)}.`,
    rest.length === 0 ? "" : `Served by kube-proxy as before: ${named(rest)}.`,
    `To go on when it is mended: the same command again. To give this node back at once: millrace uninstall --node ${node}. ${WAY_BACK}`,
  ];
  return new Failure("cluster", `Node ${node}`, lines.filter((line) => line !== "").join("\n"), { cause: error });
}

/** All of them ready, of the current version. */
async function awaitAgents({ work, facts, plan }: Rollout, nodes: readonly string[]): Promise<void> {
  const most = { ready: -1, updated: -1 };
  let sinceMs = 0;
  try {
    // They are replaced one after another: time is over when there were never more, ready or replaced, for so long. One that comes and goes
    // is no progress.
    await until(
      work,
      "agents",
      async () => {
        const { ready, updated, waiting, failed } = await rolloutState(work, nodes);
        if (failed !== "") return { failed };
        if (waiting === "") return { done: undefined };
        if (ready > most.ready || updated > most.updated) sinceMs = work.clock.now();
        most.ready = Math.max(most.ready, ready);
        most.updated = Math.max(most.updated, updated);
        const said = `${ready}/${nodes.length} ready; ${waiting}`;
        const waitedMs = work.clock.now() - sinceMs;
        return waitedMs < work.timeoutMs
          ? { waiting: said }
          : { failed: `${said} (for ${Math.round(waitedMs / 1000)} s)` };
      },
      Number.POSITIVE_INFINITY,
    );
  } catch (error) {
    if (!(error instanceof NotReached)) throw error;
    const node = /^node (\S+):/.exec(error.message.replace(/^\d+\/\d+ ready; /, ""))?.[1] ?? "";
    const { pod } = await agentState(work, node);
    const lines = [
      `the agents did not become ready: ${error.message}`,
      ...(await describeTrouble(work, pod)),
      imageAdvice({ why: error.message }, plan.image, facts),
      `To go on when it is mended: the same command again. ${WAY_BACK}`,
    ];
    throw new Failure("cluster", "agents", lines.filter((line) => line !== "").join("\n"), { cause: error });
  }
  work.progress.line(`agents are ready on ${nodes.length === 1 ? "the node" : `all ${nodes.length} nodes`}`);
}

/** Somebody who manages kube-proxy may have put it back as it was. */
async function checkHeldBack(work: Work, { namespace, name }: KubeProxyFacts): Promise<void> {
  const found = await work.api.get("DaemonSet", { namespace, name });
  const affinity = field(found, "spec", "template", "spec", "affinity");
  if (found === undefined || hasRequirement(affinity, KUBE_PROXY_ONLY)) return;
  throw new Failure(
    "cluster",
    `DaemonSet ${namespace}/${name}`,
    `DaemonSet ${namespace}/${name} has lost the affinity that it was given: whoever manages kube-proxy put it back, and it runs beside Millrace now. Tell that manager to leave it, and run this again. ${WAY_BACK}`,
  );
}
