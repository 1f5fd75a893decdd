// MetalLB as it is found in a cluster: its controller and its speakers, among Deployments and DaemonSets. Pure.
import type { ClusterObject } from "./cluster-objects.ts";
import { count, field, hasLabels, items, text, texts } from "./fields.ts";

/** Labels that all ways of installing MetalLB put on its workloads: its manifests and its operator, its chart. */
export const METALLB_LABELS = ["app=metallb", "app.kubernetes.io/name=metallb"] as const;

const METALLB_IMAGE = /(^|\/)metallb[-/]?(controller|speaker)\b|\/metallb\/(controller|speaker)\b/;

/** How many of its pods there ought to be. */
function wantedPods(workload: ClusterObject): number {
  if (workload.kind === "DaemonSet") return count(workload, "status", "desiredNumberScheduled");
  const replicas = field(workload, "spec", "replicas") ?? 1;
  return typeof replicas === "number" ? replicas : 0;
}

function isMetallb(workload: ClusterObject): boolean {
  const labels = {
    ...texts(workload, "metadata", "labels"),
    ...texts(workload, "spec", "template", "metadata", "labels"),
  };
  if (METALLB_LABELS.some((label) => hasLabels(labels, label))) return true;
  const containers = items(workload, "spec", "template", "spec", "containers");
  return containers.some((one) => METALLB_IMAGE.test(text(one, "image")));
}

/** Whether a Deployment or DaemonSet is MetalLB's and ought to have pods. */
export function isRunningMetallb(workload: ClusterObject): boolean {
  return isMetallb(workload) && wantedPods(workload) > 0;
}

/** As "DaemonSet metallb-system/speaker". */
export function workloadTitle({ kind, metadata: { namespace, name } }: ClusterObject): string {
  return `${kind} ${namespace ?? ""}/${name}`;
}
