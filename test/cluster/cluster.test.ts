// The cluster itself, before anybody relies on it: its nodes, its pods in both families, a Service and a name by kube-proxy
// and by Millrace, that its parts can be stopped and started, and that nothing of it is left behind.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { familyOf } from "../../src/lib/address.ts";
import { DNS_ADDRESSES } from "./addressing.ts";
import type { Cluster } from "./cluster.ts";
import { isPodReady, type PodObject } from "./cluster-pod.ts";
import { clusterPaths } from "./paths.ts";
import { kubernetesVersion } from "./programs.ts";
import { startCluster } from "./start-cluster.ts";
import { tearDown, traces } from "./teardown.ts";
import { waitUntil } from "./wait-until.ts";
import { manifest, serverOnEachNode, serviceOf } from "./workloads.ts";

const FAMILIES = ["IPv4", "IPv6"] as const;
const NODES = ["node1", "node2", "node3"];
const SERVERS = { name: "servers" };

interface NodeObject {
  readonly metadata: { readonly name: string };
  readonly spec: { readonly podCIDRs: readonly string[] };
  readonly status: {
    readonly nodeInfo: { readonly kubeletVersion: string };
    readonly conditions: readonly { readonly type: string; readonly status: string }[];
  };
}

function addressOf(pod: PodObject, family: string): string {
  return pod.status.podIPs!.map(({ ip }) => ip).find((ip) => familyOf(ip) === family)!;
}

function url(address: string, path: string): string {
  return `http://${address.includes(":") ? `[${address}]` : address}${path}`;
}

function readyServers(cluster: Cluster): Promise<readonly PodObject[]> {
  return waitUntil("a server on each node", async () => {
    const pods = await cluster.pods("default", "app=servers");
    return pods.length === cluster.nodes.length && pods.every(isPodReady) ? pods : undefined;
  });
}

const SERVED_BY = [
  { proxy: "nftables", cni: "ptp" },
  { proxy: "millrace", cni: "bridge" },
] as const;

describe.each(SERVED_BY)(
  "a cluster whose Services $proxy serves, with pods on the CNI plugin $cni",
  ({ proxy, cni }) => {
    let cluster: Cluster;
    let pods: readonly PodObject[];

    beforeAll(async () => {
      cluster = await startCluster({ name: "test", proxy, cni, replace: true });
      await cluster.apply(manifest(serverOnEachNode(SERVERS), serviceOf(SERVERS)));
      pods = await readyServers(cluster);
      for (const node of NODES) await waitUntil(`the Service in force on ${node}`, () => answers(node, "servers"));
    });

    afterAll(() => cluster?.down());

    const podOn = (node: string) => pods.find(({ spec }) => spec.nodeName === node)!;
    const fetchFrom = (node: string, address: string, path = "/hostname") =>
      cluster.execPod("default", podOn(node).metadata.name, ["curl", "-s", "-m", "5", url(address, path)]);
    /** A proxy follows the API by a second or so. */
    const answers = async (node: string, address: string) =>
      (await fetchFrom(node, address)).status === 0 ? true : undefined;

    it("is of the version that it was built from, and has three nodes that are Ready", async () => {
      const { stdout } = await cluster.kubectl(["get", "nodes", "-o", "json"]);
      const nodes = (JSON.parse(stdout) as { items: readonly NodeObject[] }).items;
      const summary = nodes.map(({ metadata, spec, status }) => ({
        name: metadata.name,
        version: status.nodeInfo.kubeletVersion,
        ready: status.conditions.find(({ type }) => type === "Ready")?.status,
        podCIDRs: spec.podCIDRs,
      }));
      expect(summary).toEqual(
        NODES.map((name, i) => ({
          name,
          version: kubernetesVersion(),
          ready: "True",
          podCIDRs: [`10.244.${i + 1}.0/24`, `fd00:10:244:${i + 1}::/64`],
        })),
      );
    });

    it("gives pods addresses of their node's prefixes", () => {
      for (const [i, node] of NODES.entries()) {
        expect(addressOf(podOn(node), "IPv4")).toMatch(new RegExp(`^10\\.244\\.${i + 1}\\.`));
        expect(addressOf(podOn(node), "IPv6")).toMatch(new RegExp(`^fd00:10:244:${i + 1}::`));
      }
    });

    it.each(FAMILIES)("lets every pod reach every other and itself by its address, %s", async (family) => {
      for (const from of NODES) {
        for (const to of NODES) {
          const { stdout } = await fetchFrom(from, addressOf(podOn(to), family));
          expect([from, to, stdout]).toEqual([from, to, podOn(to).metadata.name]);
        }
      }
    });

    it.each(FAMILIES)(
      "lets nodes and a client outside reach pods, whose answers keep their source, %s",
      async (family) => {
        const address = addressOf(podOn("node2"), family);
        for (const member of ["node1", "node2", "client1"]) {
          const { stdout } = await cluster.exec(member, ["curl", "-s", "-m", "5", url(address, "/hostname")]);
          expect([member, stdout]).toEqual([member, podOn("node2").metadata.name]);
        }
      },
    );

    it.each(FAMILIES)("spreads connections to a cluster address over the pods of all nodes, %s", async (family) => {
      const { spec } = await cluster.api.ask<{ spec: { clusterIPs: string[] } }>(
        "/api/v1/namespaces/default/services/servers",
      );
      const address = spec.clusterIPs.find((ip) => familyOf(ip) === family)!;
      for (const from of NODES) {
        const seen = new Set<string>();
        for (let i = 0; i < 40 && seen.size < pods.length; i++) seen.add((await fetchFrom(from, address)).stdout);
        expect([...seen].sort()).toEqual(pods.map(({ metadata }) => metadata.name).sort());
      }
    });

    it("resolves names in pods of each node, through the Service kube-dns", async () => {
      for (const node of NODES) {
        const { metadata } = podOn(node);
        const resolver = await cluster.execPod("default", metadata.name, ["cat", "/etc/resolv.conf"]);
        for (const address of DNS_ADDRESSES) expect(resolver.stdout).toContain(`nameserver ${address}`);
        const { stdout } = await fetchFrom(node, "servers");
        expect(pods.map((pod) => pod.metadata.name)).toContain(stdout);
      }
    });

    it("runs programs of kubectl in pods, too", async () => {
      const { stdout } = await cluster.kubectl(["exec", podOn("node3").metadata.name, "--", "hostname"]);
      expect(stdout.trim()).toBe(podOn("node3").metadata.name);
    });

    it("keeps containers and their connections through a restart of kubelet and containerd", async () => {
      const pod = podOn("node1");
      const slow = url(addressOf(pod, "IPv4"), "/shell?cmd=sleep%204%3Becho%20served");
      const answer = cluster.exec("client1", ["curl", "-s", "-m", "20", slow]);
      await cluster.kubelet("node1").restart();
      await cluster.containerd("node1").restart();
      await cluster.node("node1").waitForContainerd();
      expect((await answer).stdout).toContain("served");
      const after = await cluster.pod("default", pod.metadata.name);
      expect(after.status.containerStatuses![0]!.containerID).toBe(pod.status.containerStatuses![0]!.containerID);
    });

    it("goes back to an older state of etcd", async () => {
      const path = "/api/v1/namespaces/default/configmaps";
      const create = (name: string) =>
        cluster.api.ask({ method: "POST", path, body: { apiVersion: "v1", kind: "ConfigMap", metadata: { name } } });
      await create("before");
      await cluster.etcd.snapshot();
      await create("after");
      await cluster.etcd.restore();
      const status = (name: string) => cluster.api.send({ path: `${path}/${name}` }).then((answer) => answer.status);
      await waitUntil("the API server to serve again", async () =>
        (await status("before")) === 200 ? true : undefined,
      );
      expect(await status("after")).toBe(404);
    });

    it("is one of its name: a second start is refused", async () => {
      await expect(startCluster({ name: "test", proxy: "none" })).rejects.toMatchObject({ code: "conflict" });
      expect(cluster.apiserver.pid).toBeDefined();
    });
  },
);

describe("a cluster that goes", () => {
  const paths = clusterPaths("test-gone");

  /** Processes in a cgroup of the cluster; not those that are dead and wait for their parent to ask after them. */
  function processes(): string[] {
    return readdirSync("/proc")
      .filter((entry) => /^\d+$/.test(entry))
      .filter((pid) => {
        try {
          if (/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"))) return false;
          return readFileSync(`/proc/${pid}/cgroup`, "utf8").includes(`/${basename(paths.cgroup)}/`);
        } catch {
          return false;
        }
      });
  }

  function mounts(): string[] {
    return readFileSync("/proc/self/mounts", "utf8")
      .split("\n")
      .filter((line) => line.includes(`${paths.state}/`));
  }

  it("leaves nothing, and two at once do not meet", async () => {
    const other = clusterPaths("test-gone-too");
    await tearDown(paths);
    await tearDown(other);
    const wishes = { proxy: "none", nodes: 1 } as const;
    await using first = await startCluster({ ...wishes, name: paths.name });
    await using second = await startCluster({ ...wishes, name: other.name });
    expect(processes().length).toBeGreaterThan(5);
    await first.down();
    expect({ traces: traces(paths), processes: processes(), mounts: mounts() }).toEqual({
      traces: [],
      processes: [],
      mounts: [],
    });
    expect((await second.api.send({ path: "/readyz" })).status).toBe(200);
  });

  it("leaves nothing when it did not come up", async () => {
    const starting = startCluster({ name: paths.name, proxy: "none", nodes: 1 });
    // As from another process, while it starts: what it needs is taken away under it.
    await waitUntil("its containerd", () => (existsSync(`${paths.pids}/node1-containerd`) ? true : undefined));
    await tearDown(paths);
    await expect(starting).rejects.toThrow();
    await tearDown(paths);
    expect({ traces: traces(paths), processes: processes() }).toEqual({ traces: [], processes: [] });
  });
});
