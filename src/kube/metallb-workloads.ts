// MetalLB as it is found in a cluster: its controller and its speakers, among Deployments and DaemonSets. Pure.
import type { ClusterObject } from "./cluster-objects.ts";

type Loose = Readonly<Record<string, unknown>>;

/** Labels that all ways of installing MetalLB put on its workloads: its manifests and its operator, its chart. */
export const METALLB_LABELS = ["app=metallb", "app.kubernetes.io/name=metallb"] as const;

const METALLB_IMAGE = /(^|\/)metallb[-/]?(controller|speaker)\b|\/metallb\/(controller|speaker)\b/;

function within(object: unknown, ...path: readonly string[]): unknown {
  let found = object;
  for (const part of path)
    found =
      typeof found === "object" && found !== null && Object.hasOwn(found, part) ? (found as Loose)[part] : undefined;
  return found;
}

/** How many of its pods there ought to be. */
function wantedPods(workload: ClusterObject): number {
  const wanted =
    workload.kind === "DaemonSet"
      ? (within(workload, "status", "desiredNumberScheduled") ?? 0)
      : (within(workload, "spec", "replicas") ?? 1);
  return typeof wanted === "number" ? wanted : 0;
}

function isMetallb(workload: ClusterObject): boolean {
  const all = {
    ...workload.metadata.labels,
    ...(within(workload, "spec", "template", "metadata", "labels") as Loose | undefined),
  } as Loose;
  const isNamed = METALLB_LABELS.some((label) => {
    const [key = "", value] = label.split("=");
    return all[key] === value;
  });
  if (isNamed) return true;
  const containers = within(workload, "spec", "template", "spec", "containers");
  return Array.isArray(containers) && containers.some((one) => METALLB_IMAGE.test(String(within(one, "image") ?? "")));
}

/** Whether a Deployment or DaemonSet is MetalLB's and ought to have pods. */
export function isRunningMetallb(workload: ClusterObject): boolean {
  return isMetallb(workload) && wantedPods(workload) > 0;
}

/** As "DaemonSet metallb-system/speaker". */
export function workloadTitle({ kind, metadata: { namespace, name } }: ClusterObject): string {
  return `${kind} ${namespace ?? ""}/${name}`;
}
