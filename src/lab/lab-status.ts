// What a lab says of itself: nodes, pods, who else is on its LAN, and what is wrong. The shape is that of `lab status -o json`.
import type { Notice } from "../model/objects.ts";
import type { LabNode } from "./lab-node.ts";
import type { LabPod } from "./lab-pod.ts";
import type { LanMembers } from "./lan-members.ts";
import type { Workload } from "./workloads.ts";

export interface LabStatus {
  readonly name: string;
  readonly cni: string;
  readonly ipv6: boolean;
  readonly nodes: readonly ReturnType<typeof nodeStatus>[];
  readonly pods: readonly ReturnType<typeof podStatus>[];
  readonly clients: ReturnType<LanMembers["clients"]>;
  readonly hosts: ReturnType<LanMembers["hosts"]>;
  readonly split: readonly (readonly string[])[];
  readonly notices: readonly Notice[];
}

export function nodeStatus(node: LabNode, pods: readonly LabPod[]) {
  return {
    name: node.name,
    addresses: node.addresses,
    podCIDRs: node.prefixes,
    ready: node.up,
    link: node.link ? "up" : "down",
    agent: node.agentRunning ? "running" : "stopped",
    pods: pods.filter((pod) => pod.node === node && !pod.over).length,
    namespace: node.netns,
    cgroup: node.cgroup,
    socket: node.socket,
  };
}

/** `owner`: what made it, undefined for a bare pod. `trouble`: why it is not running, "" when it is. */
export function podStatus(pod: LabPod, owner: Workload | undefined) {
  return {
    namespace: pod.origin.namespace,
    name: pod.origin.name,
    node: pod.node?.name ?? "",
    addresses: pod.addresses,
    phase: pod.phase,
    ready: pod.ready && !pod.terminating,
    terminating: pod.terminating,
    hostNetwork: pod.origin.template.hostNetwork,
    restarts: pod.restarts,
    owner: owner === undefined ? "" : `${owner.kind}/${owner.name}`,
    trouble: pod.trouble,
    netns: pod.netns,
    cgroup: pod.cgroup,
  };
}
