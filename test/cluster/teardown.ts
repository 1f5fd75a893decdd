// Removes a cluster, whole, half made or crashed: it asks nobody, and finds everything by name.
import { existsSync, readdirSync, rmdirSync, rmSync } from "node:fs";
import { basename } from "node:path";
import { removeCgroup } from "../../src/lab/cgroups.ts";
import { NetworkScript } from "../../src/lab/shell.ts";
import { existsInOlder, removeFromOlder } from "./cgroup-hierarchies.ts";
import { type ClusterPaths, isClusterNamespace, STATE_ROOT } from "./paths.ts";

/** What of a cluster is on this machine, one line each; empty when there is nothing. */
export function traces(paths: ClusterPaths): string[] {
  const own = basename(paths.cgroup);
  return [
    ...namespacesOf(paths).map((namespace) => `namespace ${namespace}`),
    ...[paths.state, paths.cgroup].filter((path) => existsSync(path)),
    ...(existsInOlder(own) ? [`cgroup ${own}`] : []),
  ];
}

function namespacesOf(paths: ClusterPaths): string[] {
  try {
    return readdirSync("/run/netns").filter((namespace) => isClusterNamespace(paths, namespace));
  } catch {
    return [];
  }
}

/** Ends the cluster's processes and removes its namespaces, cgroups and files. false when there was nothing. */
export async function tearDown(paths: ClusterPaths): Promise<boolean> {
  if (traces(paths).length === 0) return false;
  // First all processes at once, so that nobody makes anything new: with the last one of a node its mounts go.
  await removeCgroup(paths.cgroup, 20_000);
  const script = new NetworkScript();
  const namespaces = namespacesOf(paths).map((namespace) => `netns del ${namespace}`);
  script.ip("", namespaces, { force: true });
  await script.run(`cluster ${paths.name}`);
  removeFromOlder(basename(paths.cgroup));
  rmSync(paths.state, { recursive: true, force: true, maxRetries: 5 });
  try {
    rmdirSync(STATE_ROOT);
  } catch {
    // Another cluster's things are in it.
  }
  return true;
}
