// Connections that must not notice what becomes of the programs around them: kubelets and containerds started anew, agents
// killed, started again, replaced by a build with other programs and another layout and back; a node drained and back.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { patience } from "../../src/lib/patience.ts";
import { pause, show } from "../lab/traffic/test-lab.ts";
import { newFlowField, otherPrograms } from "../lab/traffic/variants.ts";
import type { Cluster } from "./cluster.ts";
import { type OtherAgents, otherAgents, startAgents, upgradeAgents } from "./load/agents.ts";
import { agentStatus, clusterIP, inForce, podsReady } from "./load/ask-cluster.ts";
import { ClusterLoad } from "./load/cluster-load.ts";
import {
  expectIntact,
  expectLossesCounted,
  expectNewAnswered,
  type Overflows,
  receiveOverflows,
} from "./load/expect-traffic.ts";
import { loadPod, TRAFFIC_PORTS, trafficService } from "./load/load-pods.ts";
import {
  type Flow,
  type FlowReport,
  type NewReport,
  NumberedTraffic,
  type Outcome,
  printTraffic,
} from "./load/numbered-traffic.ts";
import { throughOfEnvironment } from "./node-proxy.ts";
import { startCluster } from "./start-cluster.ts";
import { waitUntil } from "./wait-until.ts";
import { manifest } from "./workloads.ts";

const NODES = ["node1", "node2", "node3"];
const all = { all: "pods" };
/** The pod on the node that is drained. */
const LEAVING = loadPod({ name: "leaving", node: "node3", labels: all });

const OBJECTS = manifest(
  loadPod({ name: "near", node: "node1", labels: all }),
  loadPod({ name: "far", node: "node2", labels: all }),
  LEAVING,
  loadPod({ name: "caller", node: "node1" }),
  trafficService({ name: "near", selector: { app: "near" }, firstNodePort: 30100 }),
  trafficService({ name: "far", selector: { app: "far" }, firstNodePort: 30200 }),
  trafficService({ name: "leaving", selector: { app: "leaving" } }),
  trafficService({ name: "all", selector: all }),
);

/** Streams through the Service of all three pods: some are answered by the one that leaves. */
const SPREAD = 6;

interface Step {
  readonly name: string;
  readonly ms: number;
}

describe("connections while programs around them come and go", () => {
  let cluster: Cluster;
  let variant: OtherAgents | undefined;
  let outcome: Outcome;
  let flows: readonly Flow[] = [];
  let left: readonly string[] = [];
  let spreadBack: readonly string[] = [];
  const layouts: string[] = [];
  let overflows: Overflows = {};
  const steps: Step[] = [];

  async function makeFlows(): Promise<{ outside: Flow[]; pod: Flow[]; node: Flow[] }> {
    const [near = "", far = "", leaving = "", spread = ""] = await Promise.all(
      ["near", "far", "leaving", "all"].map((name) => clusterIP(cluster, name)),
    );
    const far6 = await clusterIP(cluster, "far", "IPv6");
    const [node1 = "", node1v6 = ""] = cluster.node("node1").addresses;
    const [node3 = ""] = cluster.node("node3").addresses;
    const { udp, stream, short } = TRAFFIC_PORTS;
    const flow = (name: string, kind: Flow["kind"], host: string, port: number): Flow => ({ name, kind, host, port });
    return {
      outside: [
        flow("outside-near-udp", "udp", node1, 30100),
        flow("outside-far-udp", "udp", node1, 30200),
        flow("outside-near-tcp", "tcp", node1, 30101),
        flow("outside-far-tcp", "tcp", node1, 30201),
        flow("outside-far-tcp6", "tcp", node1v6, 30201),
        flow("outside-far-tcp-by-node3", "tcp", node3, 30201),
        flow("outside-near-new-tcp", "new-tcp", node1, 30102),
        flow("outside-far-new-tcp", "new-tcp", node3, 30202),
        flow("outside-far-new-udp", "new-udp", node1, 30200),
      ],
      pod: [
        flow("pod-near-udp", "udp", near, udp),
        flow("pod-far-udp", "udp", far, udp),
        flow("pod-near-udp-connected", "udp-connected", near, udp),
        flow("pod-near-tcp", "tcp", near, stream),
        flow("pod-far-tcp", "tcp", far, stream),
        flow("pod-far-tcp6", "tcp", far6, stream),
        flow("pod-near-new-tcp", "new-tcp", near, short),
        flow("pod-far-new-tcp", "new-tcp", far, short),
        flow("pod-far-new-udp", "new-udp", far, udp),
        flow("pod-leaving-tcp", "tcp", leaving, stream),
        ...Array.from({ length: SPREAD }, (_, i) => flow(`pod-all-tcp-${i + 1}`, "tcp", spread, stream)),
      ],
      node: [
        flow("node-near-tcp", "tcp", near, stream),
        flow("node-far-tcp", "tcp", far, stream),
        flow("node-far-udp", "udp", far, udp),
        flow("node-far-new-tcp", "new-tcp", far, short),
      ],
    };
  }

  const onEach = (body: (node: string) => Promise<unknown>): Promise<unknown> => Promise.all(NODES.map(body));

  const keepLayout = async (): Promise<void> => void layouts.push((await agentStatus(cluster, "node1")).layout);

  const killAgents = (): Promise<unknown> => onEach((node) => cluster.agent(node).kill());

  async function kubeletServes(node: string): Promise<void> {
    await waitUntil(`the kubelet of ${node} to be healthy`, async () => {
      const { stdout } = await cluster.exec(node, ["curl", "-s", "-m", "1", "http://127.0.0.1:10248/healthz"]);
      return stdout === "ok" ? true : undefined;
    });
  }

  async function kubectl(...args: readonly string[]): Promise<void> {
    const { status, stderr } = await cluster.kubectl(args, { timeoutMs: 90_000 });
    if (status !== 0) throw new Error(`kubectl ${args.join(" ")}: ${stderr}`);
  }

  beforeAll(async () => {
    variant = await otherAgents([...otherPrograms, ...newFlowField], throughOfEnvironment());
    cluster = await startCluster({ name: "res", replace: true });
    await cluster.apply(OBJECTS);
    await podsReady(cluster, ["near", "far", "leaving", "caller"]);
    await keepLayout();
    await using load = new ClusterLoad(cluster);
    const traffic = new NumberedTraffic(load);
    for (const pod of ["near", "far", "leaving"]) await traffic.answerIn(pod);
    for (const node of NODES) await inForce(cluster, node);
    const made = await makeFlows();
    flows = Object.values(made).flat();
    await traffic.fromMember("client1", made.outside);
    await traffic.fromPod("caller", made.pod);
    await traffic.fromMember("node1", made.node);

    async function step(name: string, body: () => Promise<unknown>): Promise<void> {
      traffic.mark(name);
      const began = Date.now();
      await body();
      steps.push({ name, ms: Date.now() - began });
      await pause(1500);
    }

    await step("undisturbed", () => pause(2000));
    await step("kubelets restarted", async () => {
      await onEach((node) => cluster.kubelet(node).restart());
      await onEach(kubeletServes);
    });
    await step("containerds restarted", async () => {
      await onEach((node) => cluster.containerd(node).restart());
      await onEach((node) => cluster.node(node).waitForContainerd());
    });
    await step("agents killed", () => killAgents().then(() => pause(3000)));
    await step("agents started again", () => startAgents(cluster).then(keepLayout));
    await step("agents upgraded", () => upgradeAgents(cluster, variant).then(keepLayout));
    await step("the first build again", () => upgradeAgents(cluster, undefined).then(keepLayout));
    left = await traffic.flowsOf("leaving");
    await step("node3 drained", () =>
      kubectl("drain", "node3", "--ignore-daemonsets", "--force", "--delete-emptydir-data", "--timeout=60s"),
    );
    await traffic.forget("leaving");
    await step("node3 back", async () => {
      await kubectl("uncordon", "node3");
      await cluster.apply(manifest(LEAVING));
      await podsReady(cluster, ["leaving"]);
      await traffic.answerIn("leaving");
    });
    spreadBack = await askAll(load);
    outcome = await traffic.stop();
    overflows = await receiveOverflows(cluster, ["near", "far"]);
    show("\nwhat happened", Object.fromEntries(steps.map(({ name, ms }) => [name, { "took ms": ms }])));
    printTraffic("numbered datagrams and lines, and new connections", flows, outcome);
  }, patience(600_000));

  /** Who answers new connections through the Service of all pods. */
  async function askAll(load: ClusterLoad): Promise<string[]> {
    const host = await clusterIP(cluster, "all");
    const flow: Flow = { name: "again", kind: "new-tcp", host, port: TRAFFIC_PORTS.short, rate: 30 };
    const client = await load.inPod("caller", "client", { flows: [flow] });
    await pause(2000);
    const { again } = await client.report<NewReport>();
    return Object.keys(again!.byServer).sort();
  }

  afterAll(async () => {
    variant?.remove();
    await cluster?.down();
  });

  it("every numbered line and datagram arrives, each way, once, from one address, but where the backend itself left", () => {
    const staying = flows.filter(({ name }) => !left.includes(name));
    expect(staying.length).toBeGreaterThan(20);
    expectIntact(staying, outcome);
  });

  it("no datagram to a backend is lost, but those that its own full socket counts", () => {
    expectLossesCounted(flows, outcome, overflows);
  });

  it("the streams of the drained node's pod ended with it", () => {
    expect(left).toContain("pod-leaving-tcp");
    for (const name of left) {
      const { sent, received } = outcome.clients[name] as FlowReport;
      expect.soft(received, name).toBeLessThan(sent - 300);
    }
  });

  it("new connections work all the while", () => {
    expectNewAnswered(
      flows,
      outcome,
      steps.map(({ name }) => name),
    );
  });

  it("a node that is back takes new connections", () => {
    expect(spreadBack).toEqual(["far", "leaving", "near"]);
  });

  it("the upgrade was one: to another layout and back", () => {
    const [first, again, upgraded, back] = layouts;
    expect([again, back]).toEqual([first, first]);
    expect(upgraded).toBe(variant!.layout);
    expect(upgraded).not.toBe(first);
  });
});
