// MetalLB in layer 2 mode beside kube-proxy (nftables), on a real cluster.
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Cluster } from "../cluster/cluster.ts";
import { isPodReady } from "../cluster/cluster-pod.ts";
import { waitUntil } from "../cluster/wait-until.ts";
import { ANNOUNCERS, type ClusterProduct, processesCalled, SERVER_NODE } from "./cluster-site.ts";
import { HOLD_DIRECTORY, metallbObjects, metallbVersion, metallbWorkloads, NAMESPACE } from "./metallb.ts";
import { manifests } from "./site.ts";

const PATIENCE_MS = 180_000;

/** What keeps a node's speaker from being started, as the machine sees it. */
const holdFile = (cluster: Cluster, node: string): string =>
  join(cluster.node(node).files, HOLD_DIRECTORY.replace("/var/", ""), "hold");

const speakers = (cluster: Cluster, node: string): readonly number[] => processesCalled(cluster, node, "speaker");

/** `buildMetallb` has built it. */
export function metallbProduct(name: string): ClusterProduct {
  return {
    version: metallbVersion(),
    hasEventLoop: false,
    wishes: { name, proxy: "nftables" },
    async install(cluster) {
      for (const { name: node } of cluster.nodes) mkdirSync(join(holdFile(cluster, node), ".."), { recursive: true });
      await cluster.apply(manifests(...metallbObjects()));
      await cluster.apply(manifests(...metallbWorkloads(SERVER_NODE, ANNOUNCERS)));
      await this.settled(cluster);
    },
    agentPids: speakers,
    async killAgent(cluster, node) {
      writeFileSync(holdFile(cluster, node), "");
      for (const pid of speakers(cluster, node)) process.kill(pid, "SIGKILL");
    },
    async startAgent(cluster, node) {
      rmSync(holdFile(cluster, node), { force: true });
    },
    async upgrade(cluster) {
      const { status, stderr } = await cluster.kubectl(["-n", NAMESPACE, "rollout", "restart", "daemonset/speaker"]);
      if (status !== 0) throw new Error(stderr);
      await cluster.kubectl(["-n", NAMESPACE, "rollout", "status", "daemonset/speaker", "--timeout=180s"]);
    },
    async settled(cluster) {
      const isUp = async (): Promise<true | undefined> => {
        const pods = await cluster.pods(NAMESPACE, "app=metallb");
        const isWhole = pods.length === ANNOUNCERS.length + 1 && pods.every(isPodReady);
        return isWhole && ANNOUNCERS.every((node) => speakers(cluster, node).length > 0) ? true : undefined;
      };
      await waitUntil("MetalLB's controller and speakers", isUp, { timeoutMs: PATIENCE_MS });
    },
    async remove() {},
  };
}
