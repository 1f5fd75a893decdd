// What the workload controllers would do now: given workloads, pods and nodes, which pods to make and which to end. As
// Kubernetes' own controllers decide it, by owner's uid and never by label alone. Pure: called again after every change.
import { matchesSelector } from "../model/label-selector.ts";
import { compareNames, matchesNode } from "./scheduler.ts";
import type { Workload } from "./workloads.ts";

export interface PodFacts {
  readonly key: string;
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** uid of its owner; of a bare Pod its own manifest's; "" of an orphan. */
  readonly owner: string;
  readonly revision: string;
  /** "" while it waits for a place. */
  readonly node: string;
  readonly phase: "Pending" | "Running" | "Succeeded" | "Failed";
  readonly ready: boolean;
  readonly terminating: boolean;
  /** Counts up with every pod made. */
  readonly sequence: number;
}

export interface NodeLabels {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

export type PodAction =
  | {
      readonly act: "create";
      readonly workload: Workload;
      readonly name: string;
      readonly node: string;
      readonly labels: Readonly<Record<string, string>>;
      readonly hostname: string;
    }
  | { readonly act: "delete"; readonly key: string }
  | { readonly act: "adopt"; readonly key: string; readonly owner: string }
  | {
      readonly act: "relabel";
      readonly key: string;
      readonly labels: Readonly<Record<string, string>>;
      readonly annotations: Readonly<Record<string, string>>;
    };

/** The next steps of every controller. `suffix` makes the random part of a name. */
export function planPods(
  workloads: readonly Workload[],
  pods: readonly PodFacts[],
  nodes: readonly NodeLabels[],
  suffix: () => string,
): PodAction[] {
  const actions: PodAction[] = [];
  const byOwner = new Map<string, PodFacts[]>();
  const names = new Set(pods.map((pod) => pod.key));
  const uids = new Set(workloads.map((workload) => workload.uid));
  for (const pod of pods) {
    let owner = pod.owner;
    if (owner !== "" && !uids.has(owner)) {
      if (!pod.terminating) actions.push({ act: "delete", key: pod.key });
      continue;
    }
    const bare = workloads.find((workload) => workload.uid === owner)?.kind === "Pod";
    if (bare && !pod.terminating && !isOver(pod)) {
      const adopter = workloads.find(
        (workload) =>
          (workload.kind === "ReplicationController" || workload.kind === "ReplicaSet") &&
          workload.namespace === pod.namespace &&
          matchesSelector(workload.selector, pod.labels),
      );
      if (adopter !== undefined) {
        actions.push({ act: "adopt", key: pod.key, owner: adopter.uid });
        owner = adopter.uid;
      }
    }
    byOwner.set(owner, [...(byOwner.get(owner) ?? []), pod]);
  }
  const context: Context = {
    actions,
    nodes,
    freshName(namespace, prefix) {
      for (;;) {
        const name = `${prefix.slice(0, 58)}${suffix()}`;
        if (names.has(`${namespace}/${name}`)) continue;
        names.add(`${namespace}/${name}`);
        return name;
      }
    },
    taken: (namespace, name) => names.has(`${namespace}/${name}`),
  };
  for (const workload of workloads) CONTROLLERS[workload.kind](workload, byOwner.get(workload.uid) ?? [], context);
  return actions;
}

interface Context {
  readonly actions: PodAction[];
  readonly nodes: readonly NodeLabels[];
  freshName(namespace: string, prefix: string): string;
  taken(namespace: string, name: string): boolean;
}

type Controller = (workload: Workload, owned: readonly PodFacts[], context: Context) => void;

const CONTROLLERS: Readonly<Record<Workload["kind"], Controller>> = {
  Pod: planBarePod,
  ReplicationController: planReplicas,
  ReplicaSet: planReplicas,
  Deployment: planDeployment,
  StatefulSet: planStatefulSet,
  DaemonSet: planDaemonSet,
  Job: planJob,
};

function isOver(pod: PodFacts): boolean {
  return pod.phase === "Succeeded" || pod.phase === "Failed";
}

function isActive(pod: PodFacts): boolean {
  return !pod.terminating && !isOver(pod);
}

interface Extra {
  readonly labels?: Readonly<Record<string, string>>;
  readonly node?: string;
  readonly hostname?: string;
}

function create(context: Context, workload: Workload, name: string, extra: Extra = {}): void {
  context.actions.push({
    act: "create",
    workload,
    name,
    node: extra.node ?? "",
    labels: { ...workload.template.labels, ...extra.labels },
    hostname: extra.hostname ?? "",
  });
}

function end(context: Context, pods: readonly PodFacts[]): void {
  for (const pod of pods) context.actions.push({ act: "delete", key: pod.key });
}

/** Those that ended by themselves. */
function endOver(context: Context, owned: readonly PodFacts[]): void {
  end(
    context,
    owned.filter((pod) => isOver(pod) && !pod.terminating),
  );
}

/** So many of a workload's, under names of their own. */
function createSome(context: Context, workload: Workload, many: number, prefix: string, extra?: Extra): void {
  for (let i = 0; i < many; i++) create(context, workload, context.freshName(workload.namespace, prefix), extra);
}

/** Pods in the order in which they may be spared: without a node, not ready, where most of them are, the newest. */
function leastNeeded(pods: readonly PodFacts[]): PodFacts[] {
  const perNode = new Map<string, number>();
  for (const pod of pods) perNode.set(pod.node, (perNode.get(pod.node) ?? 0) + 1);
  return pods.toSorted(
    (a, b) =>
      Number(a.node !== "") - Number(b.node !== "") ||
      Number(a.ready) - Number(b.ready) ||
      perNode.get(b.node)! - perNode.get(a.node)! ||
      b.sequence - a.sequence,
  );
}

function planBarePod(workload: Workload, owned: readonly PodFacts[], context: Context): void {
  const { template } = workload;
  const existing = owned.find((pod) => pod.name === workload.name);
  if (existing === undefined) {
    if (!context.taken(workload.namespace, workload.name)) create(context, workload, workload.name);
    return;
  }
  if (existing.terminating) return;
  // A pod's spec cannot change: another spec is another pod.
  if (existing.revision !== template.revision) end(context, [existing]);
  else if (JSON.stringify(existing.labels) !== JSON.stringify(template.labels)) {
    const { labels, annotations } = template;
    context.actions.push({ act: "relabel", key: existing.key, labels, annotations });
  }
}

function planReplicas(workload: Workload, owned: readonly PodFacts[], context: Context): void {
  endOver(context, owned);
  const active = owned.filter(isActive);
  createSome(context, workload, workload.replicas - active.length, `${workload.name}-`);
  end(context, leastNeeded(active).slice(0, Math.max(0, active.length - workload.replicas)));
}

function planDeployment(workload: Workload, owned: readonly PodFacts[], context: Context): void {
  endOver(context, owned);
  const active = owned.filter(isActive);
  const current = active.filter((pod) => pod.revision === workload.template.revision);
  const old = active.filter((pod) => pod.revision !== workload.template.revision);
  const { replicas } = workload;
  let room = replicas - current.length;
  if (old.length > 0) {
    if (workload.recreate) {
      end(context, old);
      return;
    }
    room = Math.min(room, replicas + workload.maxSurge - active.length);
    const unready = old.filter((pod) => !pod.ready);
    const available = active.filter((pod) => pod.ready).length;
    const spare = Math.max(0, available - (replicas - workload.maxUnavailable));
    end(context, unready);
    end(context, leastNeeded(old.filter((pod) => pod.ready)).slice(0, spare));
  } else if (workload.recreate && owned.some((pod) => pod.terminating && pod.revision !== workload.template.revision))
    return;
  const labels = { "pod-template-hash": workload.template.revision };
  createSome(context, workload, room, `${workload.name}-${workload.template.revision}-`, { labels });
  end(context, leastNeeded(current).slice(0, Math.max(0, current.length - replicas)));
}

function planStatefulSet(workload: Workload, owned: readonly PodFacts[], context: Context): void {
  const byOrdinal = new Map<number, PodFacts>();
  for (const pod of owned) byOrdinal.set(Number(/-(\d+)$/.exec(pod.name)?.[1] ?? "-1"), pod);
  const serves = (pod: PodFacts | undefined): boolean => pod?.ready === true && isActive(pod);
  for (let ordinal = 0; ordinal < workload.replicas; ordinal++) {
    const pod = byOrdinal.get(ordinal);
    if (pod === undefined) {
      const name = `${workload.name}-${ordinal}`;
      if (context.taken(workload.namespace, name)) return;
      const labels = {
        "statefulset.kubernetes.io/pod-name": name,
        "apps.kubernetes.io/pod-index": String(ordinal),
        "controller-revision-hash": workload.template.revision,
      };
      create(context, workload, name, { labels, hostname: name });
    } else if (isOver(pod) && !pod.terminating) end(context, [pod]);
    if (!workload.parallel && !serves(pod)) return;
  }
  const surplus = [...byOrdinal].filter(([ordinal]) => ordinal >= workload.replicas).sort(([a], [b]) => b - a);
  for (const [, pod] of surplus) {
    if (!pod.terminating) end(context, [pod]);
    if (!workload.parallel) return;
  }
  // A new template: from the last to the first, one at a time.
  for (let ordinal = workload.replicas - 1; ordinal >= 0; ordinal--) {
    const pod = byOrdinal.get(ordinal);
    if (pod !== undefined && pod.revision !== workload.template.revision) {
      if (!pod.terminating) end(context, [pod]);
      return;
    }
    if (!serves(pod)) return;
  }
}

function planDaemonSet(workload: Workload, owned: readonly PodFacts[], context: Context): void {
  const { template } = workload;
  const wanted = context.nodes
    .filter(({ name }) => template.nodeName === "" || template.nodeName === name)
    .filter(({ labels }) => matchesNode(template.nodeSelector, labels))
    .toSorted((a, b) => compareNames(a.name, b.name));
  const seen = new Set<string>();
  for (const pod of owned) {
    if (pod.terminating) continue;
    if (isOver(pod) || seen.has(pod.node) || !wanted.some((node) => node.name === pod.node)) end(context, [pod]);
    else seen.add(pod.node);
  }
  for (const node of wanted) {
    if (seen.has(node.name) || owned.some((pod) => pod.node === node.name && pod.terminating)) continue;
    const labels = { "controller-revision-hash": template.revision };
    createSome(context, workload, 1, `${workload.name}-`, { node: node.name, labels });
  }
  // A new template: one node after the other, the next when the last is ready again.
  const outdated = owned.filter((pod) => isActive(pod) && pod.revision !== template.revision);
  const allReady = wanted.every((node) =>
    owned.some((pod) => pod.node === node.name && isActive(pod) && (pod.ready || pod.revision !== template.revision)),
  );
  if (outdated.length > 0 && allReady) end(context, [outdated[0]!]);
}

function planJob(workload: Workload, owned: readonly PodFacts[], context: Context): void {
  const succeeded = owned.filter((pod) => pod.phase === "Succeeded").length;
  const failed = owned.filter((pod) => pod.phase === "Failed").length;
  const active = owned.filter(isActive);
  const left = failed > workload.backoffLimit ? 0 : Math.max(0, workload.replicas - succeeded);
  const wanted = Math.min(workload.parallelism, left);
  const labels = {
    "batch.kubernetes.io/job-name": workload.name,
    "job-name": workload.name,
    "batch.kubernetes.io/controller-uid": workload.uid,
    "controller-uid": workload.uid,
  };
  createSome(context, workload, wanted - active.length, `${workload.name}-`, { labels });
  end(context, leastNeeded(active).slice(0, Math.max(0, active.length - wanted)));
}

/** What a workload still waits for, or undefined when it is as it was asked to be. Pods on nodes that are down are not waited for. */
export function workloadPending(
  workload: Workload,
  owned: readonly PodFacts[],
  excused: (pod: PodFacts) => boolean,
  nodes: readonly NodeLabels[],
): string | undefined {
  const title = `${workload.kind} ${workload.namespace}/${workload.name}`;
  const active = owned.filter(isActive);
  const late = active.find((pod) => !pod.ready && !excused(pod));
  if (late !== undefined) {
    const pod = workload.kind === "Pod" ? title : `${title}: pod ${late.name}`;
    return `${pod} is not ready${late.node === "" ? "" : ` on ${late.node}`}`;
  }
  if (workload.kind === "Job") {
    const isStarted = active.length > 0 || owned.some(isOver);
    const isWanted = workload.replicas > 0 && workload.parallelism > 0;
    return isStarted || !isWanted ? undefined : `${title}: no pod was started`;
  }
  const wanted =
    workload.kind === "Pod"
      ? 1
      : workload.kind === "DaemonSet"
        ? nodes.filter((node) => matchesNode(workload.template.nodeSelector, node.labels)).length
        : workload.replicas;
  if (workload.kind === "DaemonSet" && workload.template.nodeName !== "") return undefined;
  if (active.length !== wanted) return `${title}: ${active.length} of ${wanted} pods`;
  // These two leave pods of an earlier template as they are.
  if (workload.kind === "ReplicaSet" || workload.kind === "ReplicationController") return undefined;
  const old = active.find((pod) => pod.revision !== workload.template.revision);
  return old === undefined ? undefined : `${title}: pod ${old.name} is still of the earlier template`;
}
