// Whether the cgroup that the socket programs are attached to holds all processes of this node (trap C15).
import { existsSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { entriesOf } from "../lib/entries.ts";
import { HOST_CGROUP } from "../lib/paths.ts";
import { isCgroup2 } from "../libbpf/mod.ts";

/** What a kubelet, or the init of a machine, keeps right below its root: pods are in the first ones. Nobody makes them in a pod's cgroup. */
const OF_A_MACHINE = ["kubepods", "kubepods.slice", "kubelet", "kubelet.slice", "system.slice", "init.scope"];

/** chosen: some subtree; machine: the root of a node's namespace that is a container itself (kind, LXC); pod: of one container alone. */
export type CgroupPlace = "root" | "chosen" | "machine" | "pod";

/** `hasType`: the file cgroup.type is there, which only the root of the hierarchy lacks. `below`: the names in it. */
export function cgroupPlace(facts: {
  readonly hasType: boolean;
  readonly isParentCgroup2: boolean;
  readonly below: readonly string[];
}): CgroupPlace {
  if (!facts.hasType) return "root";
  if (facts.isParentCgroup2) return "chosen";
  return facts.below.some((name) => OF_A_MACHINE.includes(name)) ? "machine" : "pod";
}

export function readCgroupPlace(cgroup: string): CgroupPlace {
  return cgroupPlace({
    hasType: existsSync(join(cgroup, "cgroup.type")),
    isParentCgroup2: isCgroup2(dirname(resolve(cgroup))),
    below: entriesOf(cgroup),
  });
}

/**
 * One sentence when `cgroup` is where a cgroup2 is mounted, but not the root of the hierarchy or of a machine: so it looks from a
 * container with a cgroup namespace of its own. "" for those, and for a subtree that somebody chose.
 */
export function cgroupProblem(cgroup: string): string {
  if (readCgroupPlace(cgroup) !== "pod") return "";
  return `${cgroup} is the root of this container's cgroup namespace, not of the node: sockets of processes outside of it are left to the packet programs, and cannot reach a backend at the node's own address; in a pod, mount the host's /sys/fs/cgroup (hostPath) at ${HOST_CGROUP}, where it is found, or elsewhere and name it with --cgroup`;
}
