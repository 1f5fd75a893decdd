// The Pod and Node objects of a lab, as the kubelet and the scheduler would leave them. Pure: facts in, objects out.
import { availableParallelism } from "node:os";
import { familyOf } from "../lib/address.ts";
import type { KubernetesObject, NodeObject, PodObject } from "../wire/kubernetes.ts";
import type { LabNode } from "./lab-node.ts";
import type { LabPod } from "./lab-pod.ts";
import type { Workload } from "./workloads.ts";

function time(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}

function reference({ apiVersion, kind, name, uid }: Workload) {
  return { apiVersion, kind, name, uid, controller: true };
}

/** The Pod object. `owner` is the workload that made it, undefined for a bare Pod. */
export function podObject(pod: LabPod, owner: Workload | undefined): PodObject {
  const { origin, node } = pod;
  const ready = pod.ready ? "True" : "False";
  const reason = pod.over ? { reason: "PodCompleted" } : {};
  const condition = (type: string, status: string) => ({ type, status, ...(status === "False" ? reason : {}) });
  const { template } = origin;
  const spec: PodObject["spec"] = {
    ...(template.spec as PodObject["spec"]),
    ...(node && { nodeName: node.name }),
    ...(origin.hostname !== "" && { hostname: origin.hostname }),
    ...(origin.hostname !== "" && origin.subdomain !== "" && { subdomain: origin.subdomain }),
  };
  // As the API server defaults it for pods on the host network.
  if (template.hostNetwork) {
    spec.containers = spec.containers.map(({ ports, ...rest }) => ({
      ...rest,
      ...(ports && { ports: ports.map((port) => ({ ...port, hostPort: port.containerPort })) }),
    }));
  }
  const podIPs = pod.addresses.map((ip) => ({ ip }));
  const startTime = time(pod.startedMs);
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: origin.name,
      namespace: origin.namespace,
      uid: origin.uid,
      creationTimestamp: time(origin.createdMs),
      labels: { ...pod.labels },
      ...(Object.keys(pod.annotations).length > 0 && { annotations: { ...pod.annotations } }),
      ...(pod.deletedMs !== 0 && { deletionTimestamp: time(pod.deletedMs), deletionGracePeriodSeconds: 2 }),
      ...(owner && { ownerReferences: [reference(owner)] }),
    },
    spec,
    status: {
      phase: pod.phase,
      conditions: [
        condition("PodScheduled", node === undefined ? "False" : "True"),
        condition("ContainersReady", pod.over ? "False" : pod.listening ? "True" : "False"),
        condition("Ready", pod.over ? "False" : ready),
      ],
      ...(node && { hostIP: node.addresses[0] ?? "", hostIPs: node.addresses.map((ip) => ({ ip })) }),
      ...(pod.startedMs !== 0 && pod.addresses[0] !== undefined && { podIP: pod.addresses[0], podIPs, startTime }),
    },
  };
}

/** Labels that every node of a lab has. */
export function standardNodeLabels(name: string): Record<string, string> {
  return {
    "kubernetes.io/hostname": name,
    "kubernetes.io/os": "linux",
    "kubernetes.io/arch": process.arch === "x64" ? "amd64" : process.arch,
  };
}

/** The Node object. `manifest` is a Node of this name that was applied: it adds labels, annotations and conditions. */
export function nodeObject(node: LabNode, manifest: KubernetesObject | undefined): NodeObject {
  const given = manifest as NodeObject | undefined;
  const ready = { type: "Ready", status: node.up ? "True" : "False", lastTransitionTime: time(node.changedMs) };
  const others = (given?.status?.conditions ?? []).filter((condition) => condition.type !== "Ready");
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: {
      name: node.name,
      uid: `lab-${node.name}`,
      creationTimestamp: time(node.createdMs),
      labels: { ...standardNodeLabels(node.name), ...given?.metadata.labels },
      ...(given?.metadata.annotations && { annotations: given.metadata.annotations }),
    },
    spec: { ...given?.spec, podCIDR: node.prefixes[0] ?? "", podCIDRs: [...node.prefixes] },
    status: {
      addresses: [
        ...node.addresses
          .toSorted((a, b) => familyOf(a).localeCompare(familyOf(b)))
          .map((address) => ({ type: "InternalIP", address })),
        { type: "Hostname", address: node.name },
      ],
      conditions: [...others, ready],
      allocatable: { cpu: `${availableParallelism()}`, ...given?.status?.allocatable },
    },
  };
}
