// What is said of the cgroup that socket programs are attached to. Pure.
import type { CgroupPlace } from "../cgroup-root.ts";
import { error, type Finding, ok, warning } from "./finding.ts";

export interface CgroupFacts {
  readonly cgroup: string;
  readonly isCgroup2: boolean;
  readonly place: CgroupPlace;
  /** All cgroup2 mounts that are seen here. */
  readonly mounts: readonly string[];
  /** A kubelet's cgroups, or a container runtime's, lie below it. */
  readonly hasPods: boolean;
  readonly inPod: boolean;
}

export function judgeCgroup({ cgroup, isCgroup2, place, mounts, hasPods, inPod }: CgroupFacts): Finding[] {
  const check = "cgroup.directory";
  if (!isCgroup2) {
    const there = mounts.length === 0 ? "none is mounted" : `there is one at ${mounts.join(", ")}`;
    return [
      error(
        check,
        `${cgroup} is no cgroup2 directory: ${there}`,
        "mount one (mount -t cgroup2 none /sys/fs/cgroup/unified), or name it with --cgroup",
      ),
    ];
  }
  switch (place) {
    case "root":
      return [ok(check, `${cgroup} is the root of all cgroups`)];
    case "machine":
      return [ok(check, `${cgroup} is the root of this node, which is a container itself: its pods lie below`)];
    case "pod":
      return [
        error(
          check,
          `${cgroup} is the root of ${inPod ? "this pod's" : "a container's"} cgroup namespace: sockets of processes outside of it are not served`,
          "mount the host's /sys/fs/cgroup (hostPath) at /host/sys/fs/cgroup, or elsewhere and name it with --cgroup",
        ),
      ];
    case "chosen":
      return [
        hasPods
          ? ok(check, `${cgroup} is a part of the hierarchy, with pods below it`)
          : warning(
              check,
              `${cgroup} is a part of the hierarchy: sockets of processes outside of it are left to packet programs`,
              "leave --cgroup out, unless that is meant",
            ),
      ];
  }
}
