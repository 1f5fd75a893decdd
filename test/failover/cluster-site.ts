// A real cluster of four nodes as a site: what every product has in common there.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { processesIn } from "../../src/lab/cgroups.ts";
import type { Cluster } from "../cluster/cluster.ts";
import { isPodReady } from "../cluster/cluster-pod.ts";
import { clusterNetwork } from "../cluster/network.ts";
import { type ClusterWishes, startCluster } from "../cluster/start-cluster.ts";
import { waitUntil } from "../cluster/wait-until.ts";
import { serverContainer } from "../cluster/workloads.ts";
import { freezer } from "./freezer.ts";
import { Lan } from "./lan.ts";
import { manifests, PORT, poolManifests, type Site, serviceManifest } from "./site.ts";

export const SERVER_NODE = "node4";
export const ANNOUNCERS = ["node1", "node2", "node3"];

/** What differs between products. */
export interface ClusterProduct {
  readonly version: string;
  readonly hasEventLoop: boolean;
  /** The cluster that it needs. */
  readonly wishes: ClusterWishes;
  /** Puts it in, but for pools. */
  install(cluster: Cluster): Promise<void>;
  agentPids(cluster: Cluster, node: string): readonly number[];
  killAgent(cluster: Cluster, node: string): Promise<void>;
  startAgent(cluster: Cluster, node: string): Promise<void>;
  upgrade(cluster: Cluster): Promise<void>;
  settled(cluster: Cluster): Promise<void>;
  /** Ends what `install` has left outside of the cluster. */
  remove(): Promise<void>;
}

const SERVICES = "/api/v1/namespaces/default/services";
const PATIENCE_MS = 120_000;

/** Starts a cluster with the product; both are gone at the end of an `await using`. */
export async function clusterSite(product: ClusterProduct): Promise<Site> {
  const cluster = await startCluster({ ...product.wishes, nodes: 4, replace: true });
  const lan = new Lan(clusterNetwork(cluster.paths));
  const { freeze, thaw } = freezer(lan, (node) => cluster.node(node).cgroup);
  const startAgent = (node: string): Promise<void> => lan.changes.take(`agent of ${node}`);
  const startApi = async (): Promise<void> => {
    await cluster.apiserver.start();
    const isReady = async () => ((await cluster.api.send({ path: "/readyz" })).status === 200 ? true : undefined);
    await waitUntil("the API server ready", isReady, { from: cluster.apiserver, timeoutMs: PATIENCE_MS });
  };
  const site: Site = {
    lan,
    version: product.version,
    hasEventLoop: product.hasEventLoop,
    announcers: ANNOUNCERS,
    expose: (services) =>
      sideBySide(services, async ([name, address]) => {
        await cluster.api.ask({ method: "POST", path: SERVICES, body: serviceManifest(name, address) });
      }),
    withdraw: (names) =>
      sideBySide(names, async (name) => {
        await cluster.api.send({ method: "DELETE", path: `${SERVICES}/${name}` });
      }),
    async cutPower(node) {
      await lan.linkDown(node);
      await freeze(node);
    },
    async restorePower(node) {
      await thaw(node);
      await lan.linkUp(node);
    },
    killAgent: (node) =>
      lan.changes.put(
        `agent of ${node}`,
        () => product.killAgent(cluster, node),
        () => product.startAgent(cluster, node),
      ),
    startAgent,
    agentPids: (node) => product.agentPids(cluster, node),
    freeze,
    thaw,
    upgrade: () => product.upgrade(cluster),
    api: {
      away: () => lan.changes.put("API", () => cluster.apiserver.kill(), startApi),
      back: () => lan.changes.take("API"),
    },
    async settled() {
      await waitUntil("every node Ready", () => areNodesReady(cluster), { timeoutMs: PATIENCE_MS });
      await product.settled(cluster);
    },
    async [Symbol.asyncDispose]() {
      await cluster.down();
      await product.remove();
    },
  };
  try {
    await product.install(cluster);
    await cluster.apply(manifests(serverPod(), ...poolManifests(ANNOUNCERS)));
    await waitUntil(
      "the server",
      async () => ((await cluster.pods("default", "app=server")).every(isPodReady) ? true : undefined),
      {
        timeoutMs: PATIENCE_MS,
      },
    );
    await site.settled();
    return site;
  } catch (error) {
    await site[Symbol.asyncDispose]();
    throw error;
  }
}

async function sideBySide<T>(items: Iterable<T>, each: (item: T) => Promise<void>): Promise<void> {
  const left = [...items];
  const worker = async (): Promise<void> => {
    for (let item = left.pop(); item !== undefined; item = left.pop()) await each(item);
  };
  await Promise.all(Array.from({ length: 8 }, worker));
}

function serverPod(): object {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "server", namespace: "default", labels: { app: "server" } },
    spec: { nodeName: SERVER_NODE, terminationGracePeriodSeconds: 0, containers: [serverContainer(PORT)] },
  };
}

interface NodeList {
  readonly items: readonly { readonly status: { readonly conditions?: readonly { type: string; status: string }[] } }[];
}

async function areNodesReady({ api, nodes }: Cluster): Promise<true | undefined> {
  const { items } = await api.ask<NodeList>("/api/v1/nodes");
  const isReady = ({ status }: NodeList["items"][number]): boolean =>
    status.conditions?.some(({ type, status: state }) => type === "Ready" && state === "True") === true;
  return items.filter(isReady).length === nodes.length ? true : undefined;
}

/** Processes of a node by the name of their program, pods' too. */
export function processesCalled(cluster: Cluster, node: string, program: string): number[] {
  const find = (directory: string): number[] => {
    const below = readdirSync(directory, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    return [...processesIn(directory), ...below.flatMap((entry) => find(join(directory, entry.name)))];
  };
  return find(cluster.node(node).cgroup).filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/comm`, "utf8").trim() === program;
    } catch {
      return false;
    }
  });
}
