// The least that must work on a real cluster without kube-proxy, in half a minute: one Service by its address, its name and
// its node port, in both families, from a pod, a node and outside, also while an agent is away and after it has come back.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { familyOf } from "../../src/lib/address.ts";
import type { KubernetesObject, ServiceObject } from "../../src/wire/kubernetes.ts";
import type { Cluster } from "./cluster.ts";
import { RealCluster } from "./examples/real-cluster.ts";
import { waitForProxy } from "./proxy.ts";
import { startCluster } from "./start-cluster.ts";
import { serverOnEachNode, serviceOf } from "./workloads.ts";

const NAME = "smoke";
const NODE_PORT = 30080;
const SERVER = { name: NAME };

interface Flow {
  readonly name: string;
  /** A pod is named by its node. */
  readonly from: "pod" | "node1" | "client1";
  /** The Service's own address, a node's address, or a name. */
  readonly to: "cluster address" | "node1" | "node2" | "name";
}

const FLOWS: readonly Flow[] = [
  { name: "a pod reaches it by its address", from: "pod", to: "cluster address" },
  { name: "a pod reaches it by its name", from: "pod", to: "name" },
  { name: "a pod reaches it by the node port of another node", from: "pod", to: "node2" },
  { name: "a node reaches it by its address", from: "node1", to: "cluster address" },
  { name: "a node reaches it by its own node port", from: "node1", to: "node1" },
  { name: "a client outside reaches it by the node port of a node", from: "client1", to: "node1" },
  { name: "a client outside reaches it by the node port of another node", from: "client1", to: "node2" },
];

describe.sequential("one Service on a cluster of Kubernetes' own parts", () => {
  let cluster: Cluster;
  let real: RealCluster;
  let service: ServiceObject;
  let pods: readonly string[];
  let client: string;

  beforeAll(async () => {
    cluster = await startCluster({ name: NAME, proxy: "millrace", nodes: 2, replace: true });
    real = new RealCluster(cluster);
    const ports = [{ port: 80, targetPort: 80, nodePort: NODE_PORT }];
    const objects = [serverOnEachNode(SERVER), serviceOf(SERVER, { type: "NodePort", ports })];
    expect(await real.apply(objects as KubernetesObject[])).toEqual([]);
    service = await real.service(NAME);
    const running = await real.pods();
    pods = running.map(({ metadata }) => metadata.name).sort();
    client = running.find(({ spec }) => spec.nodeName === "node1")!.metadata.name;
  });

  afterAll(() => cluster?.down());

  function addressesOf(to: Flow["to"]): readonly string[] {
    if (to === "name") return [`${NAME}.default.svc.cluster.local`];
    return to === "cluster address" ? service.spec.clusterIPs! : cluster.node(to).addresses;
  }

  async function allAnswer({ from, to }: Pick<Flow, "from" | "to">): Promise<void> {
    const port = to === "node1" || to === "node2" ? NODE_PORT : 80;
    for (const host of addressesOf(to)) {
      const order = { via: "tcp", host, port, count: 40, until: pods, untilError: true } as const;
      const probe = await real.probe(from === "pod" ? client : from, order);
      expect({ host, pods: probe.pods, errors: probe.errors }).toEqual({ host, pods, errors: [] });
    }
  }

  it("has an address of each family, and a pod on each node", () => {
    expect(service.spec.clusterIPs!.map((address) => familyOf(address)).sort()).toEqual(["IPv4", "IPv6"]);
    expect(pods).toHaveLength(cluster.nodes.length);
  });

  it.each(FLOWS)("$name", (flow) => allAnswer(flow));

  it("resolves in pods to its addresses", async () => {
    const { answers } = await real.probe(client, { via: "lookup", host: NAME });
    expect(answers.map(({ text }) => text.split(",").sort())).toEqual([[...service.spec.clusterIPs!].sort()]);
  });

  it("goes on while an agent is away, and follows the API when it is back", async () => {
    const agent = cluster.agent("node1");
    await agent.kill();
    for (const from of ["pod", "node1"] as const) await allAnswer({ from, to: "cluster address" });
    await allAnswer({ from: "client1", to: "node1" });
    await agent.start();
    await waitForProxy(cluster.node("node1"), agent);
    await allAnswer({ from: "pod", to: "cluster address" });
    await cluster.api.ask({ method: "DELETE", path: `/api/v1/namespaces/default/services/${NAME}` });
    await real.settle();
    const [host = ""] = service.spec.clusterIPs!;
    const { pods: left } = await real.probe(client, { via: "tcp", host, port: 80, count: 2, timeoutMs: 500 });
    expect(left).toEqual([]);
  });
});
