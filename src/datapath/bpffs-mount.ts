// Whether a bpffs that this process mounts outlives it. One that nobody else sees goes with the last process of its mount namespace,
// and everything that is pinned there goes with it: Services would end with the pod.
import { readFileSync, readlinkSync } from "node:fs";
import { type Mount, mountOf, parseMounts } from "../lib/mountinfo.ts";

export const BPFFS = "/sys/fs/bpf";

export interface MountFacts {
  /** Of this process. */
  readonly mounts: readonly Mount[];
  readonly inPod: boolean;
  /** The container was made for this process alone: it is its first one. */
  readonly isInit: boolean;
  /** The machine's first process has other mounts, or, where that is not to be learnt, the process that started this one. */
  readonly hasOwnMounts: boolean;
}

/** The kubelet gives every container these variables, whatever it is told of Services. */
export const isInPod = (env: NodeJS.ProcessEnv = process.env): boolean =>
  (env["KUBERNETES_SERVICE_HOST"] ?? "") !== "" && (env["KUBERNETES_SERVICE_PORT"] ?? "") !== "";

export function readMountFacts(env: NodeJS.ProcessEnv = process.env): MountFacts {
  return {
    mounts: parseMounts(readFileSync("/proc/self/mountinfo", "utf8")),
    inPod: isInPod(env),
    isInit: process.pid === 1,
    hasOwnMounts: hasOwnMounts(),
  };
}

function hasOwnMounts(): boolean {
  const own = namespaceOf("self");
  return own !== (namespaceOf("1") ?? namespaceOf(String(process.ppid)) ?? own);
}

function namespaceOf(pid: string): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/mnt`);
  } catch {
    return undefined;
  }
}

/** Why a bpffs is not to be mounted here, with what to do instead; "" when others would see it, or stay as long as it does. */
export function bpffsRefusal({ mounts, inPod, isInit, hasOwnMounts }: MountFacts): string {
  if (mountOf(BPFFS, mounts)?.isShared === true) return "";
  if (inPod) {
    return "it would be this container's alone, and all pins, with every Service of the node, would go with the pod; mount the host's into it: a hostPath volume of /sys/fs/bpf, with mountPropagation HostToContainer, and before it a privileged init container that runs 'millrace prepare' with mountPropagation Bidirectional, or a bpffs that the host has mounted itself";
  }
  if (isInit || hasOwnMounts) {
    const whose = isInit ? "this container's" : "this process's mount namespace's";
    return `it would be ${whose} alone, and all pins would go with it; mount it on the host (mount -t bpf bpf ${BPFFS}), where it is seen from here`;
  }
  return "";
}
