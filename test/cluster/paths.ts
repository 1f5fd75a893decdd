// Where the things of one cluster are and what they are called. Names only: it makes and removes nothing.
import { join, resolve } from "node:path";
import { cgroupRoot, namespaceName, namespacePath } from "../../src/lab/lab-paths.ts";
import { Failure } from "../../src/lib/errors.ts";

const REPOSITORY = resolve(import.meta.dirname, "../..");

/** What is built once and kept: programs and images. Ignored by git, and `make clean` leaves it. */
export const CACHE = join(REPOSITORY, ".cache/cluster");

/** The clusters' files. Not /run: images are unpacked here, and /run may be small. */
export const STATE_ROOT = "/var/lib/millrace-cluster";

export const CGROUP_PREFIX = "millrace-cluster-";

export interface ClusterPaths {
  readonly name: string;
  /** The prefix of its namespaces, as labs have theirs: `lab` of a LabNetwork. */
  readonly network: string;
  readonly state: string;
  readonly logs: string;
  readonly pids: string;
  readonly pki: string;
  readonly etcd: string;
  /** cgroup2 directory of all its processes. */
  readonly cgroup: string;
}

/** @throws usage when `name` cannot be part of paths, namespaces and cgroups. */
export function clusterPaths(name: string): ClusterPaths {
  if (!/^[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?$/.test(name)) {
    throw new Failure(
      "usage",
      name.slice(0, 64),
      `could not use cluster name '${name.slice(0, 64)}': take at most 24 of a-z, 0-9 and '-', the ends not '-'`,
    );
  }
  const state = join(STATE_ROOT, name);
  return {
    name,
    network: `cluster-${name}`,
    state,
    logs: join(state, "logs"),
    pids: join(state, "pids"),
    pki: join(state, "pki"),
    etcd: join(state, "etcd"),
    cgroup: join(cgroupRoot(), `${CGROUP_PREFIX}${name}`),
  };
}

/** A member of the LAN: `lan` itself, `control`, `node1`, `client1`, `h1` (a host outside). */
export function memberNamespace(paths: ClusterPaths, member: string): string {
  return namespaceName(paths.network, member);
}

export function memberNamespacePath(paths: ClusterPaths, member: string): string {
  return namespacePath(memberNamespace(paths, member));
}

/** Whether a namespace found on the machine is one of this cluster: `a` never takes one of `a-node1`. */
export function isClusterNamespace(paths: ClusterPaths, namespace: string): boolean {
  const prefix = memberNamespace(paths, "");
  return namespace.startsWith(prefix) && /^(lan|control|(node|client|h)\d+)$/.test(namespace.slice(prefix.length));
}

/** The files of one node, on the machine; in its mount namespace they lie where programs look for them. */
export function nodeFiles(paths: ClusterPaths, node: string): string {
  return join(paths.state, node);
}
