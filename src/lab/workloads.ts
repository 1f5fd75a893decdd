// From a workload's manifest to what its controller needs: how many pods, of which template. One shape for Pod,
// ReplicationController, ReplicaSet, Deployment, StatefulSet, DaemonSet and Job. Checks what the lab uses. Pure.
import { matchesSelector } from "../model/label-selector.ts";
import type { LabelSelector, Notice } from "../model/objects.ts";
import { containerPorts } from "../standalone/endpoint-slices.ts";
import { checkPodSpec } from "../standalone/validate-node-pod.ts";
import { type Checks, createChecks, type FieldError } from "../wire/field-checks.ts";
import { type ContainerPort, type ManifestObject, objectTitle, type PodObject } from "../wire/kubernetes.ts";
import { checkLabels, checkSelector } from "../wire/label-selector.ts";
import { contentLetters } from "../wire/names.ts";
import { labNotice } from "./refusals.ts";

export const WORKLOAD_KINDS = [
  "Pod",
  "ReplicationController",
  "ReplicaSet",
  "Deployment",
  "StatefulSet",
  "DaemonSet",
  "Job",
] as const;
export type WorkloadKind = (typeof WORKLOAD_KINDS)[number];

export const POD_IP_ANNOTATION = "millrace.io/pod-ip";

/** What the lab needs of a pod; `spec` is what the manifest says, for the Pod object. */
export interface PodTemplate {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly spec: Readonly<Record<string, unknown>>;
  readonly nodeName: string;
  readonly nodeSelector: Readonly<Record<string, string>>;
  readonly hostNetwork: boolean;
  readonly ports: readonly ContainerPort[];
  /** Names a pod of this template: another template has another one. */
  readonly revision: string;
}

export interface Workload {
  readonly kind: WorkloadKind;
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly apiVersion: string;
  readonly template: PodTemplate;
  readonly selector: LabelSelector;
  /** Pods asked for; for a Job its completions. */
  readonly replicas: number;
  /** Of a Job: how many at once. */
  readonly parallelism: number;
  readonly backoffLimit: number;
  /** Of a Deployment: pods over and under `replicas` while it changes its template. */
  readonly maxSurge: number;
  readonly maxUnavailable: number;
  /** Deployment: old pods go before new ones come. StatefulSet: pods come and go without waiting for each other. */
  readonly recreate: boolean;
  readonly parallel: boolean;
  /** StatefulSet: the headless Service that names its pods. */
  readonly serviceName: string;
}

export function isWorkloadKind(kind: string): kind is WorkloadKind {
  return (WORKLOAD_KINDS as readonly string[]).includes(kind);
}

/** The workload of a document, or what is wrong with it. */
export function parseWorkload(document: ManifestObject, uid: string): Workload | Notice[] {
  const { object } = document;
  const checks = createChecks();
  const kind = object.kind as WorkloadKind;
  const spec = checks.record("spec", object["spec"]) ?? {};
  if (object["spec"] === undefined || object["spec"] === null) checks.required("spec");
  const isPod = kind === "Pod";
  const holder = isPod ? object : (checks.record("spec.template", spec["template"]) ?? {});
  if (!isPod && (spec["template"] === undefined || spec["template"] === null)) checks.required("spec.template");
  const template = parseTemplate(checks, holder as Record<string, unknown>, isPod ? "" : "spec.template.");
  const replicas = count(checks, "spec.replicas", spec["replicas"], kind === "DaemonSet" ? 0 : 1);
  const parallelism = count(checks, "spec.parallelism", spec["parallelism"], 1);
  const strategy = checks.record("spec.strategy", spec["strategy"]) ?? {};
  const rolling = checks.record("spec.strategy.rollingUpdate", strategy["rollingUpdate"]) ?? {};
  const maxSurge = share(checks, "spec.strategy.rollingUpdate.maxSurge", rolling["maxSurge"], replicas, "up");
  const unavailable = rolling["maxUnavailable"];
  const maxUnavailable = share(checks, "spec.strategy.rollingUpdate.maxUnavailable", unavailable, replicas, "down");
  const management = checks.oneOf("spec.podManagementPolicy", spec["podManagementPolicy"], [
    "OrderedReady",
    "Parallel",
  ]);
  const workload: Workload = {
    kind,
    namespace: object.metadata.namespace ?? "default",
    name: object.metadata.name,
    uid,
    apiVersion: object.apiVersion,
    template,
    selector: isPod
      ? { matchLabels: {}, matchExpressions: [] }
      : parseSelector(checks, kind, spec["selector"], template),
    replicas: kind === "Job" ? count(checks, "spec.completions", spec["completions"], 1) : replicas,
    parallelism,
    backoffLimit: count(checks, "spec.backoffLimit", spec["backoffLimit"], 6),
    maxSurge,
    maxUnavailable: maxSurge === 0 && maxUnavailable === 0 ? 1 : maxUnavailable,
    recreate: checks.oneOf("spec.strategy.type", strategy["type"], ["Recreate", "RollingUpdate"]) === "Recreate",
    parallel: management === "Parallel",
    serviceName: checks.string("spec.serviceName", spec["serviceName"]) ?? "",
  };
  return checks.errors.length === 0 ? workload : checks.errors.map((error) => notice(document, error));
}

function notice(document: ManifestObject, error: FieldError): Notice {
  const { reason, message, field } = error;
  return labNotice({ object: objectTitle(document.object), file: document.file, field }, reason, message, "error");
}

function count(checks: Checks, field: string, value: unknown, absent: number): number {
  const number = checks.integer(field, value);
  if (number === undefined) return absent;
  if (number >= 0 && number <= 1000) return number;
  checks.invalid(field, number, "must be between 0 and 1000 in a lab");
  return absent;
}

/** A number, or a percentage of `replicas`; 25 % when absent. */
function share(checks: Checks, field: string, value: unknown, replicas: number, round: "up" | "down"): number {
  const percent = typeof value === "string" ? /^(\d{1,3})%$/.exec(value) : undefined;
  if (value === undefined || value === null || percent) {
    const part = (replicas * Number(percent?.[1] ?? 25)) / 100;
    return round === "up" ? Math.ceil(part) : Math.floor(part);
  }
  return count(checks, field, value, 1);
}

function parseSelector(checks: Checks, kind: WorkloadKind, value: unknown, template: PodTemplate): LabelSelector {
  if (value === undefined || value === null) return { matchLabels: template.labels, matchExpressions: [] };
  const selector =
    kind === "ReplicationController"
      ? { matchLabels: checkLabels(checks, "spec.selector", value), matchExpressions: [] }
      : checkSelector(checks, "spec.selector", value);
  if (!matchesSelector(selector, template.labels)) {
    checks.invalid("spec.template.metadata.labels", template.labels, "`selector` does not match template `labels`");
  }
  return selector;
}

function parseTemplate(checks: Checks, holder: Readonly<Record<string, unknown>>, at: string): PodTemplate {
  const metadata = checks.record(`${at}metadata`, holder["metadata"]) ?? {};
  const labels = checkLabels(checks, `${at}metadata.labels`, metadata["labels"]);
  const annotations: Record<string, string> = {};
  for (const [key, value] of Object.entries(
    checks.record(`${at}metadata.annotations`, metadata["annotations"]) ?? {},
  )) {
    const text = checks.string(`${at}metadata.annotations.${key}`, value);
    if (text !== undefined) annotations[key] = text;
  }
  const before = checks.errors.length;
  checkPodSpec(checks, `${at}spec`, holder["spec"]);
  // What follows reads fields that were found in order.
  const spec = (checks.errors.length === before ? holder["spec"] : { containers: [] }) as PodObject["spec"];
  return {
    labels,
    annotations,
    spec,
    nodeName: spec.nodeName ?? "",
    nodeSelector: (spec["nodeSelector"] ?? {}) as Record<string, string>,
    hostNetwork: spec.hostNetwork ?? false,
    ports: containerPorts({ spec }),
    revision: revisionOf(at === "" ? [spec, annotations[POD_IP_ANNOTATION] ?? ""] : [labels, annotations, spec]),
  };
}

function revisionOf(content: unknown): string {
  return contentLetters(canonicalJson(content), 10);
}

function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, one: unknown) =>
    typeof one === "object" && one !== null && !Array.isArray(one)
      ? Object.fromEntries(Object.entries(one).sort(([a], [b]) => (a < b ? -1 : 1)))
      : one,
  );
}

/** Host ports that the pod takes on its node, as the scheduler sees them: on the host network its own ports are. */
export function hostPortsOf(template: PodTemplate): string[] {
  return template.ports.flatMap((port) => {
    const number = template.hostNetwork ? port.containerPort : (port.hostPort ?? 0);
    return number === 0 ? [] : [`${port.protocol ?? "TCP"}/${number}`];
  });
}

/** Ports that the pod's server listens on: the declared ones, 80 when there are none. */
export function servedPorts(template: PodTemplate): number[] {
  const ports = [...new Set(template.ports.map((port) => port.containerPort))];
  return ports.length === 0 ? [80] : ports;
}
