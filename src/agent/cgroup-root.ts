// Whether the cgroup that the socket programs are attached to holds all processes of this node (trap C15).
import { existsSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { isCgroup2 } from "../libbpf/mod.ts";

/**
 * One sentence when `cgroup` is where a cgroup2 is mounted, but not the root of the hierarchy: so it looks from a container with a
 * cgroup namespace of its own. "" for the root, and for a subtree that somebody chose.
 */
export function cgroupProblem(cgroup: string): string {
  // The root alone has no type.
  const isRoot = !existsSync(join(cgroup, "cgroup.type"));
  if (isRoot || isCgroup2(dirname(resolve(cgroup)))) return "";
  return `${cgroup} is the root of a cgroup namespace, not of the node: sockets of processes outside of it are left to the packet programs, and cannot reach a backend at the node's own address; run in the host's cgroup namespace, or mount the host's /sys/fs/cgroup and name it with --cgroup`;
}
