// One more node for a cluster that stands: as a machine that is installed and joins.
import { addNode } from "../../../src/lab/network.ts";
import { NetworkScript } from "../../../src/lab/shell.ts";
import type { Cluster } from "../cluster.ts";
import { ClusterNode } from "../cluster-node.ts";
import { storeOf } from "../installed.ts";
import { clusterNetwork } from "../network.ts";
import { prepareProxies, waitForProxy } from "../proxy.ts";
import { waitUntil } from "../wait-until.ts";

/**
 * Returns when it is Ready, its proxy healthy and `meanwhile` done, which is called before its proxy is there. It goes with the
 * cluster.
 */
export async function joinNode(
  cluster: Cluster,
  number: number,
  others: readonly number[],
  meanwhile: (node: ClusterNode) => Promise<unknown> = async () => {},
): Promise<ClusterNode> {
  const { paths, config, control, api } = cluster;
  const script = new NetworkScript();
  addNode(script, clusterNetwork(paths), number, others);
  await script.run(`node${number} of cluster ${paths.name}`);
  const node = new ClusterNode(paths, number);
  await node.prepare(control.authority, config.cni, storeOf(config));
  await node.containerd.start();
  await node.waitForContainerd();
  const isDone = meanwhile(node);
  // Nobody waits for it until the node is there.
  isDone.catch(() => undefined);
  await api.ask({ method: "POST", path: "/api/v1/nodes", body: node.object });
  await node.kubelet.start();
  await prepareProxies([node], config, control.authority, api);
  const proxy = cluster.proxyOf(node);
  if (proxy !== undefined) {
    await proxy.start();
    await waitForProxy(node, proxy);
  }
  await waitUntil(`${node.name} Ready`, () => isReady(cluster, node.name), { from: node.kubelet });
  await isDone;
  return node;
}

async function isReady({ api }: Cluster, node: string): Promise<true | undefined> {
  const { status } = await api.ask<{ status: { conditions?: readonly { type: string; status: string }[] } }>(
    `/api/v1/nodes/${node}`,
  );
  return status.conditions?.some((one) => one.type === "Ready" && one.status === "True") ? true : undefined;
}
