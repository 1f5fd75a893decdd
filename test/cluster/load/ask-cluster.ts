// What tests ask a cluster and its agents again and again.
import type { AgentStatus, ServiceView } from "../../../src/agent/view.ts";
import { getJson } from "../../../src/lab/lab-node.ts";
import { familyOf } from "../../../src/lib/address.ts";
import type { Cluster } from "../cluster.ts";
import { isPodReady } from "../cluster-pod.ts";
import { waitUntil } from "../wait-until.ts";

const ANSWER_MS = 5000;

export function agentStatus(cluster: Cluster, node: string): Promise<AgentStatus> {
  return getJson(cluster.agentSocket(node), "/api/v1/status", ANSWER_MS) as Promise<AgentStatus>;
}

export function agentServices(cluster: Cluster, node: string): Promise<ServiceView[]> {
  return getJson(cluster.agentSocket(node), "/api/v1/services", ANSWER_MS) as Promise<ServiceView[]>;
}

/** The sum of a metric's samples whose labels are among others these, written as in the exposition: `code="200"`. */
export async function metric(
  cluster: Cluster,
  node: string,
  name: string,
  ...labels: readonly string[]
): Promise<number> {
  const { stdout } = await cluster.exec(node, ["curl", "-s", "-m", "5", "http://127.0.0.1:10249/metrics"]);
  return stdout
    .split("\n")
    .filter((line) => new RegExp(`^${name}[{ ]`).test(line) && labels.every((label) => line.includes(label)))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
}

/** Resolves when an agent, started after `sinceMs`, has in force what its source last said, and its source has said all. */
export async function inForce(cluster: Cluster, node: string, sinceMs = 0): Promise<AgentStatus> {
  return waitUntil(`the agent of ${node} to have everything in force`, async () => {
    const status = await agentStatus(cluster, node);
    const { healthy, source, appliedDigest, startedMs } = status;
    return healthy && source.synced && appliedDigest === source.digest && startedMs >= sinceMs ? status : undefined;
  });
}

export interface ServiceObject {
  readonly metadata: { readonly name: string; readonly namespace: string };
  readonly spec: { readonly clusterIPs?: readonly string[] };
}

/** @throws not_found */
export async function clusterIP(cluster: Cluster, name: string, family: "IPv4" | "IPv6" = "IPv4"): Promise<string> {
  const { spec } = await cluster.api.ask<ServiceObject>(`/api/v1/namespaces/default/services/${name}`);
  return spec.clusterIPs!.find((address) => familyOf(address) === family)!;
}

/** Waits until pods of the namespace default run and are ready. */
export async function podsReady(cluster: Cluster, names: readonly string[]): Promise<void> {
  await waitUntil(`the pods ${names.join(", ")} ready`, async () => {
    const pods = await Promise.all(names.map((name) => cluster.pod("default", name)));
    return pods.every(isPodReady) ? true : undefined;
  });
}

/** What agents know of Services: names with their addresses and ports, sorted. Headless ones are none of theirs. */
export async function servedBy(cluster: Cluster, node: string): Promise<string[]> {
  const services = await agentServices(cluster, node);
  return services.map(({ namespace, name, clusterIPs }) => `${namespace}/${name} ${clusterIPs.join()}`).sort();
}
