// Where the things of one lab are and what they are called: run directory, namespaces, cgroups, pins. Names only: it
// makes and removes nothing. Every name ends in a fixed word, so that lab `a` never takes lab `a-node1` for its own.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { labPinDirectory, labRunDirectory, labSocketPath } from "../lib/paths.ts";
import { cannot } from "./refusals.ts";

export interface LabPaths {
  readonly name: string;
  readonly runDir: string;
  readonly controlSocket: string;
  readonly controlLog: string;
  /** Kubernetes objects that the agents read. */
  readonly stateDir: string;
  /** The secret that the nodes share. */
  readonly secretDir: string;
  /** What the allocator keeps. */
  readonly allocatorDir: string;
  readonly cgroup: string;
  readonly pinDir: string;
}

/** Checked, since it becomes part of paths, namespaces and cgroups. */
export function checkedLabName(name: string): string {
  if (/^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/.test(name)) return name;
  throw cannot("usage", "use lab name", name.slice(0, 64), "take at most 32 of a-z, 0-9 and '-', the ends not '-'");
}

export function labPaths(name: string): LabPaths {
  const checked = checkedLabName(name);
  const runDir = labRunDirectory(checked);
  return {
    name: checked,
    runDir,
    controlSocket: join(runDir, "control.sock"),
    controlLog: join(runDir, "control.log"),
    stateDir: join(runDir, "state"),
    secretDir: join(runDir, "announcer-secret"),
    allocatorDir: join(runDir, "allocator"),
    cgroup: join(cgroupRoot(), `millrace-lab-${checked}`),
    pinDir: labPinDirectory(checked),
  };
}

/** What belongs to one node: its agent's socket, log and state lie together. */
export function nodeDir(lab: LabPaths, node: string): string {
  return dirname(nodeSocket(lab, node));
}

export function nodeSocket(lab: LabPaths, node: string): string {
  return labSocketPath(lab.name, node);
}

/** A network namespace of the lab: `lan`, `node1`, `client1`, `p12` (a pod), `h1` (a host). */
export function namespaceName(lab: string, part: string): string {
  return `mr-${lab}-${part}`;
}

/** Whether a namespace found on the machine is one of this lab. */
export function isLabNamespace(lab: string, namespace: string): boolean {
  const prefix = `mr-${lab}-`;
  return namespace.startsWith(prefix) && /^(lan|(node|client|p|h)\d+)$/.test(namespace.slice(prefix.length));
}

export function namespacePath(namespace: string): string {
  return `/run/netns/${namespace}`;
}

/** A cgroup's name must be a file name: long ones keep their beginning and get a hash. */
export function podCgroupName(namespace: string, pod: string): string {
  const name = `${namespace}_${pod}`;
  return name.length <= 200
    ? name
    : `${name.slice(0, 180)}_${createHash("sha256").update(name).digest("hex").slice(0, 16)}`;
}

let knownCgroupRoot: string | undefined;

/** Where cgroup2 is mounted on this machine. @throws machine when it is not. */
export function cgroupRoot(): string {
  if (knownCgroupRoot !== undefined) return knownCgroupRoot;
  for (const line of readFileSync("/proc/self/mounts", "utf8").split("\n")) {
    const [, directory, type] = line.split(" ");
    if (type === "cgroup2" && directory !== undefined) {
      knownCgroupRoot = directory;
      return directory;
    }
  }
  throw cannot("machine", "find", "cgroup2", "mount it, as by `mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified`");
}
