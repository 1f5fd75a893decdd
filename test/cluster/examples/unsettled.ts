// Whether Kubernetes' own controllers are done: every workload has its pods, every pod is what it is to be, and every slice
// says so. Pure: a snapshot in, what is still open out.
import { familyOf } from "../../../src/lib/address.ts";
import type { KubernetesObject, PodObject, ServiceObject } from "../../../src/wire/kubernetes.ts";
import type { Snapshot } from "./snapshot.ts";

interface Owned {
  readonly metadata: { readonly ownerReferences?: unknown[] };
}

interface Scaled {
  readonly replicas?: number;
}

/** What is to happen yet, one line each; empty when nothing is. `unready` names pods that are to be so. */
export function unsettled(snapshot: Snapshot, unready: ReadonlySet<string>): string[] {
  const { workloads, pods, services } = snapshot;
  return [
    ...orphans(snapshot),
    ...workloads
      .filter((workload) => !hasItsPods(workload, snapshot))
      .map((one) => `${title(one)} has not all its pods`),
    ...pods.filter((pod) => !isDone(pod, unready)).map(({ metadata }) => `pod ${metadata.name} changes`),
    ...services.flatMap((service) => openEndpoints(service, snapshot)),
  ];
}

function title({ kind, metadata }: KubernetesObject): string {
  return `${kind} ${metadata.namespace}/${metadata.name}`;
}

function ownersOf({ metadata }: Owned): readonly string[] {
  return ((metadata.ownerReferences ?? []) as { readonly uid: string }[]).map(({ uid }) => uid);
}

/** Objects whose owner is gone: they follow it. */
function orphans({ nodes, services, slices, endpoints, pods, workloads }: Snapshot): string[] {
  const all = [...nodes, ...services, ...endpoints, ...pods, ...workloads];
  const known = new Set(all.map(({ metadata }) => metadata.uid));
  return [...workloads, ...pods, ...slices]
    .filter((object) => ownersOf(object).some((uid) => !known.has(uid)))
    .map(({ metadata }) => `${metadata.name} is without its owner`);
}

function hasItsPods(workload: KubernetesObject, { nodes, pods, workloads }: Snapshot): boolean {
  const spec = workload["spec"] as Scaled;
  const status = workload["status"] as { readonly observedGeneration?: number; readonly updatedReplicas?: number };
  const { uid, generation } = workload.metadata;
  const owned = [...pods, ...workloads].filter((object) => ownersOf(object).includes(uid!)).length;
  if (workload.kind === "Job") return owned > 0;
  if (status.observedGeneration !== generation) return false;
  switch (workload.kind) {
    case "Deployment":
      return (status.updatedReplicas ?? 0) === spec.replicas && replicasOf(workload, workloads) === spec.replicas;
    case "DaemonSet":
      return owned === nodes.length;
    default:
      return owned === spec.replicas;
  }
}

/** What the ReplicaSets of a Deployment are to have together. */
function replicasOf(deployment: KubernetesObject, workloads: readonly KubernetesObject[]): number {
  return workloads
    .filter((object) => ownersOf(object).includes(deployment.metadata.uid!))
    .reduce((sum, { spec }) => sum + ((spec as Scaled).replicas ?? 0), 0);
}

function isDone({ metadata, status }: PodObject, unready: ReadonlySet<string>): boolean {
  if (metadata.deletionTimestamp) return false;
  return status?.phase === "Succeeded" || isReady(status) === !unready.has(metadata.name);
}

function isReady(status: PodObject["status"]): boolean {
  return status?.conditions?.some((condition) => condition.type === "Ready" && condition.status === "True") === true;
}

function openEndpoints(service: ServiceObject, snapshot: Snapshot): string[] {
  const { spec, metadata } = service;
  if (spec.type === "ExternalName") return [];
  const wanted = spec.selector === undefined ? byHand(service, snapshot) : selected(service, snapshot);
  if (wanted === undefined) return [];
  const families = new Set<string>(spec.ipFamilies);
  const found = slicesOf(service, snapshot).flatMap(({ ports, endpoints }) =>
    (endpoints ?? [])
      .filter(({ conditions }) => conditions?.ready !== false)
      .map(({ addresses }) => `${addresses[0]} ${(ports ?? []).map(({ name }) => name ?? "").join()}`),
  );
  const expected = wanted.filter((line) => families.has(familyOf(line.split(" ")[0]!)));
  return sameLines(found, expected) ? [] : [`the slices of ${metadata.name} change`];
}

function sameLines(one: readonly string[], other: readonly string[]): boolean {
  return [...new Set(one)].sort().join("\n") === [...new Set(other)].sort().join("\n");
}

function slicesOf({ metadata }: ServiceObject, { slices }: Snapshot): Snapshot["slices"] {
  return slices.filter(
    (slice) =>
      slice.metadata.namespace === metadata.namespace &&
      slice.metadata.labels?.["kubernetes.io/service-name"] === metadata.name,
  );
}

/** The addresses of the pods that a Service selects and that are ready, each with the names of its ports. */
function selected({ spec, metadata }: ServiceObject, { pods }: Snapshot): string[] {
  const ports = (spec.ports ?? []).map(({ name }) => name ?? "").join();
  return pods
    .filter((pod) => pod.metadata.namespace === metadata.namespace && !pod.metadata.deletionTimestamp)
    .filter(({ status }) => status?.phase === "Running" && isReady(status))
    .filter(({ metadata: { labels } }) =>
      Object.entries(spec.selector!).every(([key, value]) => labels?.[key] === value),
    )
    .flatMap(({ status }) => (status?.podIPs ?? []).map(({ ip }) => `${ip} ${ports}`));
}

/** The addresses of the Endpoints object of a Service, which a controller copies into slices. undefined when there is none to copy. */
function byHand({ metadata }: ServiceObject, { endpoints }: Snapshot): string[] | undefined {
  const own = endpoints.find(
    (one) => one.metadata.namespace === metadata.namespace && one.metadata.name === metadata.name,
  );
  if (own === undefined || own.metadata.labels?.["endpointslice.kubernetes.io/skip-mirror"] === "true")
    return undefined;
  return (own.subsets ?? []).flatMap(({ addresses, ports }) =>
    (addresses ?? []).map(({ ip }) => `${ip} ${(ports ?? []).map(({ name }) => name ?? "").join()}`),
  );
}
