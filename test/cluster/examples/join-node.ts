// One more node for a cluster that stands: as a machine that is installed and joins.
import { addNode } from "../../../src/lab/network.ts";
import { NetworkScript } from "../../../src/lab/shell.ts";
import type { Cluster } from "../cluster.ts";
import { ClusterNode } from "../cluster-node.ts";
import { clusterNetwork } from "../network.ts";
import { prepareProxies, proxyComponent, waitForProxy } from "../proxy.ts";
import { waitUntil } from "../wait-until.ts";

/** Returns when it is Ready and its proxy healthy. It goes with the cluster. */
export async function joinNode(cluster: Cluster, number: number, others: readonly number[]): Promise<ClusterNode> {
  const { paths, config, control, api } = cluster;
  const script = new NetworkScript();
  addNode(script, clusterNetwork(paths), number, others);
  await script.run(`node${number} of cluster ${paths.name}`);
  const node = new ClusterNode(paths, number);
  await node.prepare(control.authority, config.cni, config.images);
  await node.containerd.start();
  await node.waitForContainerd();
  await api.ask({ method: "POST", path: "/api/v1/nodes", body: node.object });
  await node.kubelet.start();
  await prepareProxies([node], config, control.authority, api);
  const proxy = proxyComponent(node, config);
  if (proxy !== undefined) {
    await proxy.start();
    await waitForProxy(node, proxy);
  }
  await waitUntil(`${node.name} Ready`, () => isReady(cluster, node.name), { from: node.kubelet });
  return node;
}

async function isReady({ api }: Cluster, node: string): Promise<true | undefined> {
  const { status } = await api.ask<{ status: { conditions?: readonly { type: string; status: string }[] } }>(
    `/api/v1/nodes/${node}`,
  );
  return status.conditions?.some((one) => one.type === "Ready" && one.status === "True") ? true : undefined;
}
