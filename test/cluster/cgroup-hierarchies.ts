// A cgroup's directory in every hierarchy of the machine: cgroup2, and where they are mounted the older ones beside it, in
// which a kubelet expects its root too.
import { existsSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { makeCgroup } from "../../src/lab/cgroups.ts";
import { cgroupRoot } from "../../src/lab/lab-paths.ts";

/** Mount points of the hierarchies of cgroup v1; none on a machine that has only cgroup2. */
export function olderHierarchies(): string[] {
  const mounts = readFileSync("/proc/self/mounts", "utf8").trim().split("\n");
  return mounts
    .map((line) => line.split(" "))
    .flatMap(([, directory, type]) => (type === "cgroup" ? [directory!] : []));
}

/** Makes the cgroup `path` (relative to the hierarchies' roots) in every hierarchy. */
export function makeEverywhere(path: string): void {
  makeCgroup(join(cgroupRoot(), path));
  for (const hierarchy of olderHierarchies()) {
    let directory = hierarchy;
    for (const part of path.split("/")) {
      const parent = directory;
      directory = join(parent, part);
      makeCgroup(directory);
      // A fresh cpuset is empty, and takes no process.
      if (basename(hierarchy).split(",").includes("cpuset")) inheritCpuset(parent, directory);
    }
  }
}

function inheritCpuset(parent: string, directory: string): void {
  for (const file of ["cpuset.cpus", "cpuset.mems"]) {
    if (existsSync(join(parent, file))) writeFileSync(join(directory, file), readFileSync(join(parent, file)));
  }
}

/** Removes what is below `path` and itself from the older hierarchies. Whatever ran in it has ended. */
export function removeFromOlder(path: string): void {
  for (const hierarchy of olderHierarchies()) removeTree(join(hierarchy, path));
}

/** Whether `path` is left in one of the older hierarchies. */
export function existsInOlder(path: string): boolean {
  return olderHierarchies().some((hierarchy) => existsSync(join(hierarchy, path)));
}

function removeTree(directory: string): void {
  if (!existsSync(directory)) return;
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    if (entry.isDirectory()) removeTree(join(directory, entry.name));
  }
  rmdirSync(directory);
}
