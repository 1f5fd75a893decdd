// From what somebody asks to a cluster that stands. One that does not come up is taken down again.
import { existsSync } from "node:fs";
import { Failure } from "../../src/lib/errors.ts";
import { Cluster, type ClusterConfig, claimCluster } from "./cluster.ts";
import { dnsManifest } from "./cluster-dns.ts";
import { isPodReady } from "./cluster-pod.ts";
import type { Component } from "./component.ts";
import { imageStore } from "./image-store.ts";
import { installedManifest, prepareStore, storeOf } from "./installed.ts";
import { makeNetwork } from "./network.ts";
import { throughOfEnvironment } from "./node-proxy.ts";
import { clusterPaths } from "./paths.ts";
import { programPath } from "./programs.ts";
import type { Progress } from "./progress.ts";
import { prepareProxies, rbacManifest, waitForProxy } from "./proxy.ts";
import { tearDown } from "./teardown.ts";
import { waitUntil } from "./wait-until.ts";

export interface ClusterWishes {
  /** @default "cluster" */
  readonly name?: string;
  /** @default "millrace" */
  readonly proxy?: ClusterConfig["proxy"];
  /** How Millrace's agents come to run. @default what the environment variable THROUGH says, else "process" */
  readonly through?: ClusterConfig["through"];
  /** @default 3 */
  readonly nodes?: number;
  /** @default "ptp" */
  readonly cni?: ClusterConfig["cni"];
  /** Further flags of `millrace run`. */
  readonly agentFlags?: readonly string[];
  /** Directory of another build of Millrace. */
  readonly dist?: string;
  /** What its nodes have. @default "cluster" */
  readonly images?: ClusterConfig["images"];
  /** Remove what a cluster of this name has left behind, instead of a refusal. @default false */
  readonly replace?: boolean;
  /** Leave a cluster that does not come up as it is, to be looked at. @default false */
  readonly keep?: boolean;
  readonly progress?: Progress;
}

interface Condition {
  readonly type: string;
  readonly status: string;
}

/**
 * Starts a cluster and returns when it stands: every node Ready, its proxy healthy, DNS ready. Programs and images have been
 * made before. @throws conflict when there is one of this name; what went wrong, when it does not come up
 */
export async function startCluster(wishes: ClusterWishes = {}): Promise<Cluster> {
  const { progress = () => {}, replace = false, keep = false } = wishes;
  const config: ClusterConfig = {
    name: wishes.name ?? "cluster",
    proxy: wishes.proxy ?? "millrace",
    through: wishes.through ?? throughOfEnvironment(),
    nodes: wishes.nodes ?? 3,
    cni: wishes.cni ?? "ptp",
    agentFlags: wishes.agentFlags ?? [],
    dist: wishes.dist ?? "",
    images: wishes.images ?? "cluster",
  };
  for (const made of [programPath("kubelet"), imageStore(config.images)]) {
    if (existsSync(made)) continue;
    throw new Failure("machine", made, `could not start a cluster: ${made} is missing, \`make cluster\` builds it`);
  }
  await prepareStore(config, progress);
  if (replace) await tearDown(clusterPaths(config.name));
  const cluster = new Cluster(config);
  claimCluster(cluster);
  try {
    await bringUp(cluster, progress);
    return cluster;
  } catch (error) {
    const told = withLastWords(cluster, error);
    if (!keep) await cluster.down();
    throw told;
  }
}

async function bringUp(cluster: Cluster, progress: Progress): Promise<void> {
  const { control, nodes, config, paths } = cluster;
  progress("certificates and network");
  await Promise.all([control.prepare(), makeNetwork(paths, nodes.length)]);
  progress("control plane and containerd");
  await Promise.all([startControlPlane(cluster), startRuntimes(cluster)]);
  progress("nodes");
  await Promise.all(nodes.map((node) => createNode(cluster, node.object)));
  await Promise.all(nodes.map(({ kubelet }) => kubelet.start()));
  await cluster.apply([dnsManifest(), installedManifest(config, paths) || rbacManifest()].join("---\n"));
  await prepareProxies(nodes, config, control.authority, cluster.api);
  await Promise.all(nodes.map((node) => startProxy(cluster, node.name)));
  await waitUntil("every node Ready", () => allNodesReady(cluster));
  progress("DNS");
  await waitUntil("CoreDNS ready", () => dnsReady(cluster));
  progress("the cluster stands");
}

async function startControlPlane({ control, api }: Cluster): Promise<void> {
  await control.etcd.start();
  await Promise.all([control.apiserver.start(), control.forwarder.start()]);
  await waitForApi(control.apiserver, api);
  await Promise.all([control.controllers.start(), control.scheduler.start()]);
}

async function waitForApi(apiserver: Component, api: Cluster["api"]): Promise<void> {
  const isReady = async () => ((await api.send({ path: "/readyz" })).status === 200 ? true : undefined);
  await waitUntil("the API server ready", isReady, { from: apiserver });
}

async function startRuntimes({ control, nodes, config }: Cluster): Promise<void> {
  await Promise.all(
    nodes.map(async (node) => {
      await node.prepare(control.authority, config.cni, storeOf(config));
      await node.containerd.start();
      await node.waitForContainerd();
    }),
  );
}

async function createNode({ api }: Cluster, body: object): Promise<void> {
  await api.ask({ method: "POST", path: "/api/v1/nodes", body });
}

async function startProxy(cluster: Cluster, node: string): Promise<void> {
  if (cluster.config.proxy === "none") return;
  const proxy = cluster.agent(node);
  await proxy.start();
  await waitForProxy(cluster.node(node), proxy);
}

async function allNodesReady({ api, nodes }: Cluster): Promise<true | undefined> {
  const { items } = await api.ask<{ items: readonly { status: { conditions?: readonly Condition[] } }[] }>(
    "/api/v1/nodes",
  );
  const ready = items.filter(({ status }) => isTrue(status.conditions, "Ready"));
  return ready.length === nodes.length ? true : undefined;
}

function isTrue(conditions: readonly Condition[] | undefined, type: string): boolean {
  return conditions?.some((condition) => condition.type === type && condition.status === "True") === true;
}

async function dnsReady(cluster: Cluster): Promise<true | undefined> {
  const pods = await cluster.pods("kube-system", "k8s-app=kube-dns");
  return pods.length > 0 && pods.every(isPodReady) ? true : undefined;
}

/** The failure with the last lines of those programs that were started and have ended. */
function withLastWords(cluster: Cluster, error: unknown): unknown {
  if (!(error instanceof Failure)) return error;
  const ended = cluster.components.filter(
    (one) => one.log !== "" && one.pid === undefined && one.name !== error.subject,
  );
  if (ended.length === 0) return error;
  const words = ended.map((component) => `${component.name} has ended:\n${component.lastWords()}`);
  return new Failure(error.code, error.subject, [error.message, ...words].join("\n"), { cause: error });
}
