// Pods that the installer runs on a node, one at a time: to look at it, to check it, to clean it. Pure.
import { createHash } from "node:crypto";
import type { ClusterObject } from "../kube/cluster-objects.ts";
import { field, items, type Loose, text } from "../kube/fields.ts";
import { pullSecretsField, pullSecretsOf } from "./manifest.ts";
import { INSTALLER_LABEL, NAMESPACE } from "./names.ts";

const LONGEST_NAME = 200;

/** The name of the pod that does `what` on `node`. */
export function podName(what: string, node: string): string {
  const name = `millrace-${what}-${node}`;
  if (name.length <= LONGEST_NAME) return name;
  const hash = createHash("sha256").update(node).digest("hex").slice(0, 12);
  return `${name.slice(0, LONGEST_NAME - 13)}-${hash}`;
}

/** One thing that a node pod does, after another. */
export interface NodeStep {
  readonly name: string;
  readonly args: readonly string[];
  /** It works on the node's kernel and network, and sees the node's processes. */
  readonly isPrivileged: boolean;
}

export interface NodePodOptions {
  readonly what: string;
  readonly node: string;
  readonly image: string;
  readonly steps: readonly NodeStep[];
  /** Names of Secrets with credentials of a registry, beside those of the DaemonSet. */
  readonly pullSecrets: readonly string[];
  /** Of the agents' DaemonSet: where they keep things on the node. Undefined: the pod needs none of that. */
  readonly daemonSet: ClusterObject | undefined;
}

/** Volumes of the agents that a cleanup works on: state, pins, cgroup, socket, the lock of iptables. */
const SHARED = ["bpffs", "cgroup", "state", "run", "xtables-lock"];

function podSpecOf(daemonSet: ClusterObject | undefined): unknown {
  return field(daemonSet, "spec", "template", "spec");
}

/** Mounts of the agent's container, writable, and as the host has them. */
function sharedMounts(daemonSet: ClusterObject | undefined): Loose[] {
  const agent = items(podSpecOf(daemonSet), "containers").find((one) => text(one, "name") === "agent");
  return items(agent, "volumeMounts")
    .filter((one) => SHARED.includes(text(one, "name")))
    .map((one) => {
      const name = text(one, "name");
      const propagation = name === "bpffs" ? { mountPropagation: "Bidirectional" } : {};
      return { name, mountPath: text(one, "mountPath"), ...propagation };
    });
}

function sharedVolumes(daemonSet: ClusterObject | undefined): Loose[] {
  return items(podSpecOf(daemonSet), "volumes").filter((one) => SHARED.includes(text(one, "name"))) as Loose[];
}

function containerOf({ name, args, isPrivileged }: NodeStep, image: string, mounts: readonly Loose[]): Loose {
  return {
    name,
    image,
    imagePullPolicy: "IfNotPresent",
    args: [...args],
    // What went wrong is then in the pod's status, also where the user may read no logs.
    terminationMessagePolicy: "FallbackToLogsOnError",
    securityContext: isPrivileged
      ? { privileged: true, runAsUser: 0 }
      : {
          allowPrivilegeEscalation: false,
          runAsUser: 0,
          capabilities: { drop: ["ALL"] },
          seccompProfile: { type: "RuntimeDefault" },
        },
    ...(mounts.length === 0 ? {} : { volumeMounts: mounts }),
  };
}

/** In the host's network namespace, whatever taints the node has. It ends when its steps have, or one failed. */
export function nodePod({ what, node, image, steps, pullSecrets, daemonSet }: NodePodOptions): ClusterObject {
  const mounts = sharedMounts(daemonSet);
  const volumes = sharedVolumes(daemonSet);
  const secrets = [...new Set([...pullSecretsOf(daemonSet), ...pullSecrets])];
  const containers = steps.map((step) => containerOf(step, image, mounts));
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: podName(what, node), namespace: NAMESPACE, labels: { [INSTALLER_LABEL]: what } },
    spec: {
      nodeName: node,
      hostNetwork: true,
      hostPID: steps.some(({ isPrivileged }) => isPrivileged),
      dnsPolicy: "Default",
      restartPolicy: "Never",
      priorityClassName: "system-node-critical",
      tolerations: [{ operator: "Exists" }],
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: 5,
      ...pullSecretsField(secrets),
      ...(containers.length > 1 ? { initContainers: containers.slice(0, -1) } : {}),
      containers: containers.slice(-1),
      ...(volumes.length === 0 ? {} : { volumes }),
    },
  };
}
