// kube-proxy hands over to Millrace and takes back, in each of its modes, under load: agents start beside it, it ends, its rules go; it
// comes back, agents end, their flows are drained. Connections that were opened before any step must not notice, nor new ones.
import { resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { millraceCommand } from "../../src/lab/programs.ts";
import { pause, show } from "../lab/traffic/test-lab.ts";
import type { Cluster } from "./cluster.ts";
import { agentStatus, clusterIP, inForce, podsReady } from "./load/ask-cluster.ts";
import { ClusterLoad } from "./load/cluster-load.ts";
import { expectIntact, expectLossesCounted, expectNewAnswered, receiveOverflows } from "./load/expect-traffic.ts";
import { loadPod, TRAFFIC_PORTS, trafficService } from "./load/load-pods.ts";
import {
  compareSides,
  type Flow,
  type FlowReport,
  NumberedTraffic,
  type Outcome,
  printTraffic,
} from "./load/numbered-traffic.ts";
import type { NodeProxy } from "./node-proxy.ts";
import { prepareProxies, proxyOf, waitForProxy } from "./proxy.ts";
import { startCluster } from "./start-cluster.ts";
import { manifest } from "./workloads.ts";

const NODES = ["node1", "node2", "node3"];
const DIST = resolve(import.meta.dirname, "../../dist");
/** kube-proxy has the ports that both have by default. */
const METRICS = "127.0.0.1:20249";
const AGENT_FLAGS = [`--metrics-bind-address=${METRICS}`, "--healthz-bind-address=0.0.0.0:20256"];
const PLACES = ["--pin-dir=/sys/fs/bpf/millrace", "--state-dir=/var/lib/millrace"];
const DRAIN_MS = 60_000;
/** Lines, datagrams and new connections a second of each flow: two processors carry the three nodes, the clients and three proxies that start. */
const RATE = 20;
const NEW_RATE = 5;

const OBJECTS = manifest(
  loadPod({ name: "near", node: "node1" }),
  loadPod({ name: "far", node: "node2" }),
  loadPod({ name: "caller", node: "node1" }),
  trafficService({ name: "near", selector: { app: "near" }, firstNodePort: 30100 }),
  trafficService({ name: "far", selector: { app: "far" }, firstNodePort: 30200 }),
);

interface Step {
  readonly name: string;
  readonly ms: number;
  readonly did?: string;
}

/** A socket that sends without being connected: at each change of the proxy its conversation may come from another port. */
const moves = ({ name, kind }: Flow): boolean => kind === "udp" && !name.includes("outside");

describe.each(["nftables", "iptables"] as const)("kube-proxy (%s) and Millrace in turn", (mode) => {
  let cluster: Cluster;
  let agents: ReadonlyMap<string, NodeProxy>;
  let outcome: Outcome;
  let ours: Outcome;
  let flows: readonly Flow[] = [];
  let ourFlows: readonly Flow[] = [];
  let overflows: Readonly<Record<string, number>> = {};
  const steps: Step[] = [];
  const passed: number[] = [];
  const drained: { cut: Record<string, number>; waitedSeconds: number; removed: string[] }[] = [];
  let left: string[] = [];

  const onEach = <T>(body: (node: string) => Promise<T>): Promise<T[]> => Promise.all(NODES.map(body));

  async function makeFlows(prefix: string): Promise<{ outside: Flow[]; pod: Flow[]; node: Flow[] }> {
    const [near = "", far = ""] = await Promise.all(["near", "far"].map((name) => clusterIP(cluster, name)));
    const far6 = await clusterIP(cluster, "far", "IPv6");
    const [node1 = "", node1v6 = ""] = cluster.node("node1").addresses;
    const [node3 = ""] = cluster.node("node3").addresses;
    const { udp, stream } = TRAFFIC_PORTS;
    const flow = (name: string, kind: Flow["kind"], host: string, port: number): Flow => ({
      name: `${prefix}-${name}`,
      kind,
      host,
      port,
      rate: RATE,
    });
    return {
      outside: [
        flow("outside-near-udp", "udp", node1, 30100),
        flow("outside-far-udp", "udp", node1, 30200),
        flow("outside-near-tcp", "tcp", node1, 30101),
        flow("outside-far-tcp", "tcp", node1, 30201),
        flow("outside-far-tcp6", "tcp", node1v6, 30201),
        flow("outside-far-tcp-by-node3", "tcp", node3, 30201),
      ],
      pod: [
        flow("pod-near-udp", "udp", near, udp),
        flow("pod-far-udp-connected", "udp-connected", far, udp),
        flow("pod-near-tcp", "tcp", near, stream),
        flow("pod-far-tcp", "tcp", far, stream),
        flow("pod-far-tcp6", "tcp", far6, stream),
      ],
      node: [
        flow("node-near-tcp", "tcp", near, stream),
        flow("node-far-tcp", "tcp", far, stream),
        flow("node-far-udp-connected", "udp-connected", far, udp),
      ],
    };
  }

  async function newFlows(): Promise<{ outside: Flow[]; pod: Flow[]; node: Flow[] }> {
    const [near = "", far = ""] = await Promise.all(["near", "far"].map((name) => clusterIP(cluster, name)));
    const [node1 = ""] = cluster.node("node1").addresses;
    const [node3 = ""] = cluster.node("node3").addresses;
    const { udp, short } = TRAFFIC_PORTS;
    const flow = (name: string, kind: Flow["kind"], host: string, port: number): Flow => ({
      name,
      kind,
      host,
      port,
      rate: NEW_RATE,
    });
    return {
      outside: [
        flow("outside-near-new-tcp", "new-tcp", node1, 30102),
        flow("outside-far-new-tcp", "new-tcp", node3, 30202),
        flow("outside-far-new-udp", "new-udp", node1, 30200),
      ],
      pod: [
        flow("pod-near-new-tcp", "new-tcp", near, short),
        flow("pod-far-new-tcp", "new-tcp", far, short),
        flow("pod-far-new-udp", "new-udp", far, udp),
      ],
      node: [flow("node-far-new-tcp", "new-tcp", far, short)],
    };
  }

  /** Runs `millrace` on a node; what it says as JSON. @throws Error when it fails */
  async function millrace<T>(node: string, ...args: readonly string[]): Promise<T> {
    const command = millraceCommand([...args, ...PLACES, "-o", "json"], DIST);
    const { status, stdout, stderr } = await cluster.exec(node, command, { timeoutMs: DRAIN_MS + 30_000 });
    if (status !== 0) throw new Error(`millrace ${args.join(" ")} on ${node}: ${stderr}`);
    return JSON.parse(stdout) as T;
  }

  async function packetsOfOtherProxy(node: string): Promise<number> {
    const { stdout } = await cluster.exec(node, ["curl", "-s", "-m", "5", `http://${METRICS}/metrics`]);
    return stdout
      .split("\n")
      .filter((line) => line.includes('verdict="other_proxy"'))
      .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
  }

  beforeAll(async () => {
    cluster = await startCluster({ name: "tko", proxy: mode, replace: true });
    const { nodes, control, api } = cluster;
    const settings = { proxy: "millrace", through: "process", agentFlags: AGENT_FLAGS, dist: "" } as const;
    await prepareProxies(nodes, settings, control.authority, api);
    agents = new Map(nodes.map((node) => [node.name, proxyOf(node, settings, () => api)!]));
    await cluster.apply(OBJECTS);
    await podsReady(cluster, ["near", "far", "caller"]);
    await pause(2000);
    await using load = new ClusterLoad(cluster);
    const traffic = new NumberedTraffic(load);
    const secondLoad = new ClusterLoad(cluster);
    const second = new NumberedTraffic(secondLoad);
    for (const pod of ["near", "far"]) await traffic.answerIn(pod, RATE);
    const held = await makeFlows("theirs");
    const fresh = await newFlows();
    flows = [...Object.values(held), ...Object.values(fresh)].flat();
    await traffic.fromMember("client1", [...held.outside, ...fresh.outside]);
    await traffic.fromPod("caller", [...held.pod, ...fresh.pod]);
    await traffic.fromMember("node1", [...held.node, ...fresh.node]);

    async function step(name: string, body: () => Promise<unknown>): Promise<void> {
      traffic.mark(name);
      const began = Date.now();
      const did = await body();
      steps.push({ name, ms: Date.now() - began, ...(typeof did === "string" ? { did } : {}) });
      await pause(2500);
    }

    await step("kube-proxy alone", () => pause(2500));
    await step("agents start beside it", async () => {
      const began = Date.now();
      await onEach((node) => agents.get(node)!.start());
      await onEach((node) => inForce(cluster, node, began));
    });
    await step("kube-proxy stops", () => onEach((node) => cluster.agent(node).stop()));
    await step("its rules go", async () => {
      const answers = await onEach((node) =>
        millrace<{ removed: string[]; left: string[] }>(node, "cleanup", "--kube-proxy"),
      );
      left = answers.flatMap((answer) => answer.left);
      return answers[0]!.removed.join("; ");
    });
    passed.push(...(await onEach(packetsOfOtherProxy)));
    const made = await makeFlows("ours");
    ourFlows = Object.values(made).flat();
    await second.fromMember("client1", made.outside);
    await second.fromPod("caller", made.pod);
    await second.fromMember("node1", made.node);
    await step("Millrace alone", () => pause(2000));
    await step("kube-proxy starts", async () => {
      await onEach((node) => cluster.agent(node).start());
      await onEach((node) => waitForProxy(cluster.node(node), cluster.agent(node)));
      await pause(1000);
    });
    await step("agents stop", () => onEach((node) => agents.get(node)!.stop()));
    let drains: Promise<unknown> = Promise.resolve();
    await step("draining", async () => {
      drains = onEach(async (node) => {
        drained.push(await millrace(node, "cleanup", "--drain", `--drain-timeout=${DRAIN_MS / 1000}s`));
      });
      drains.catch(() => {});
      await pause(6000);
    });
    ours = await second.stop();
    // Its connections end with it.
    await secondLoad[Symbol.asyncDispose]();
    await step("drained", () => drains);
    outcome = await traffic.stop();
    // What the servers of both have heard is one list.
    ours = { clients: ours.clients, servers: outcome.servers };
    overflows = await receiveOverflows(cluster, ["near", "far"]);
    show(
      `\nwhat happened (${mode})`,
      Object.fromEntries(steps.map(({ name, ms, did = "" }) => [name, { "took ms": ms, did }])),
    );
    const lines = drained.map(({ cut, waitedSeconds }) => ({ "waited, s": waitedSeconds, "cut UDP": cut["UDP"] ?? 0 }));
    show(`drains (${mode})`, Object.fromEntries(lines.map((line, i) => [`${i + 1}`, line])));
    printTraffic(`opened by kube-proxy (${mode}), and new connections`, flows, outcome);
    printTraffic("opened by Millrace, until it was drained", ourFlows, ours);
  }, 600_000);

  afterAll(async () => {
    await Promise.all([...(agents ?? new Map()).values()].map((agent) => agent.kill()));
    await cluster?.down();
  });

  it("connections that kube-proxy opened live on through all steps", () => {
    expectIntact(
      flows.filter((flow) => !moves(flow)),
      outcome,
      500,
    );
    expect(passed.reduce((sum, count) => sum + count, 0)).toBeGreaterThan(500);
  });

  it("connections that Millrace opened live on until they end, and are waited for", () => {
    for (const flow of ourFlows.filter((one) => !moves(one))) {
      // What its pod says goes on after the client has stopped.
      const { found } = compareSides(flow, ours);
      const { sent } = ours.clients[flow.name] as FlowReport;
      const client = { errors: [], missing: [], duplicates: 0, peers: 1, outOfOrder: 0 };
      const backend = { missing: [], duplicates: 0, peers: 1, outOfOrder: 0 };
      expect.soft(sent, `${flow.name}: traffic`).toBeGreaterThan(100);
      expect.soft(found, flow.name).toMatchObject({ backends: 1, client, backend, arrived: sent });
    }
    expect(drained).toHaveLength(NODES.length);
    // Of UDP the time given cuts what is idle for less than its lifetime, and what the pods go on saying to a client that has gone.
    for (const { cut } of drained) expect(cut).toMatchObject({ TCP: 0, SCTP: 0 });
    // node1 has flows for as long as the second set of traffic lasts.
    expect(Math.max(...drained.map(({ waitedSeconds }) => waitedSeconds))).toBeGreaterThan(5);
  });

  it("sockets that are not connected get every answer, under one name", () => {
    for (const [list, result] of [
      [flows, outcome],
      [ourFlows, ours],
    ] as const) {
      for (const flow of list.filter(moves)) {
        const { found } = compareSides(flow, result);
        expect.soft(found, flow.name).toMatchObject({ client: { errors: [], missing: [], duplicates: 0, peers: 1 } });
      }
    }
  });

  it("new connections work all the while", () => {
    expectNewAnswered(
      flows,
      outcome,
      steps.map(({ name }) => name),
    );
    expectLossesCounted(
      [...flows, ...ourFlows],
      { ...outcome, clients: { ...outcome.clients, ...ours.clients } },
      overflows,
    );
  });

  it("nothing is left of either when it has gone", async () => {
    expect(steps.find(({ name }) => name === "its rules go")?.did).toMatch(
      mode === "nftables" ? /nftables table ip6? kube-proxy/ : /chains/,
    );
    expect(left.every((text) => text.startsWith("nftables tables millrace-nat"))).toBe(true);
    for (const node of NODES) {
      const { stdout } = await cluster.exec(node, ["sh", "-c", "ls /sys/fs/bpf/millrace 2>&1; nft list tables"]);
      expect(stdout).not.toMatch(/maps-|millrace-nat/);
      await expect(agentStatus(cluster, node)).rejects.toThrow();
    }
  });
});
