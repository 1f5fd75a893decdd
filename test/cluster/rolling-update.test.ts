// A Deployment is replaced, pod by pod, while requests come from everywhere at full speed: none fails. Its pods serve on for
// 5 s after SIGTERM; in that time every node has to have heard that they go.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { patience } from "../../src/lib/patience.ts";
import { pause, show } from "../lab/traffic/test-lab.ts";
import type { Cluster } from "./cluster.ts";
import { isPodReady, type PodObject } from "./cluster-pod.ts";
import { AGNHOST_IMAGE } from "./images.ts";
import { clusterIP, inForce, podsReady } from "./load/ask-cluster.ts";
import { ClusterLoad } from "./load/cluster-load.ts";
import { loadPod } from "./load/load-pods.ts";
import type { RequestReport, RequestTarget } from "./load/requests.ts";
import { startCluster } from "./start-cluster.ts";
import { waitUntil } from "./wait-until.ts";
import { manifest, serviceOf } from "./workloads.ts";

const REPLICAS = 4;
const UPDATES = 2;
const NODE_PORT = 30080;
const NODES = ["node1", "node2", "node3"];

const DEPLOYMENT = {
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name: "web", namespace: "default" },
  spec: {
    replicas: REPLICAS,
    selector: { matchLabels: { app: "web" } },
    strategy: { rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
    template: {
      metadata: { labels: { app: "web" } },
      spec: {
        terminationGracePeriodSeconds: 30,
        containers: [
          {
            name: "server",
            image: AGNHOST_IMAGE,
            imagePullPolicy: "IfNotPresent",
            args: ["netexec", "--http-port=80", "--udp-port=80", "--delay-shutdown=5"],
            readinessProbe: { httpGet: { path: "/hostname", port: 80 }, periodSeconds: 1 },
          },
        ],
      },
    },
  },
};

const OBJECTS = manifest(
  DEPLOYMENT,
  serviceOf({ name: "web" }, { type: "NodePort", ports: [{ port: 80, nodePort: NODE_PORT }] }),
  serviceOf({ name: "nobody" }),
  loadPod({ name: "caller", node: "node1" }),
  loadPod({ name: "other-caller", node: "node1" }),
);

describe("a rolling update under load", () => {
  let cluster: Cluster;
  const reports: Record<string, RequestReport> = {};
  let refusals: RequestReport;
  let before: readonly string[] = [];
  let after: readonly string[] = [];

  const webPods = (): Promise<readonly PodObject[]> => cluster.pods("default", "app=web");
  const names = (pods: readonly PodObject[]): string[] => pods.map(({ metadata }) => metadata.name).sort();

  /** The pods when all are ready and none of older ones is left. */
  function settled(): Promise<string[]> {
    return waitUntil(`${REPLICAS} pods, ready`, async () => {
      const pods = await webPods();
      return pods.length === REPLICAS && pods.every(isPodReady) ? names(pods) : undefined;
    });
  }

  async function update(): Promise<void> {
    for (const order of [["restart"], ["status", "--timeout=150s"]]) {
      const { status, stderr } = await cluster.kubectl(["rollout", order[0]!, "deployment/web", ...order.slice(1)]);
      expect([stderr, status]).toEqual(["", 0]);
    }
  }

  beforeAll(async () => {
    cluster = await startCluster({ name: "res", replace: true });
    await cluster.apply(OBJECTS);
    before = await settled();
    await podsReady(cluster, ["caller", "other-caller"]);
    for (const node of NODES) await inForce(cluster, node);
    await using load = new ClusterLoad(cluster);
    const [address, address6] = [await clusterIP(cluster, "web"), await clusterIP(cluster, "web", "IPv6")];
    const target = (name: string, host: string, port: number): RequestTarget => ({ name, host, port, workers: 2 });
    const clusterAddress = (from: string): RequestTarget[] => [
      target(`${from}, cluster address, IPv4`, address, 80),
      target(`${from}, cluster address, IPv6`, address6, 80),
    ];
    const nodePort = (from: string, node: string): RequestTarget[] =>
      cluster
        .node(node)
        .addresses.map((host, i) => target(`${from}, node port of ${node}, IPv${i === 0 ? 4 : 6}`, host, NODE_PORT));
    const programs = [
      await load.inPod("caller", "requests", { targets: clusterAddress("pod") }),
      await load.inPod("other-caller", "requests", { targets: nodePort("pod", "node2") }),
      await load.on("node2", "requests", { targets: [...clusterAddress("node2"), ...nodePort("node2", "node2")] }),
      await load.on("client1", "requests", {
        targets: [...nodePort("outside", "node1"), ...nodePort("outside", "node3")],
      }),
    ];
    const began = Date.now();
    await pause(2000);
    for (let i = 0; i < UPDATES; i++) await update();
    after = await settled();
    await pause(2000);
    const seconds = (Date.now() - began) / 1000;
    for (const program of programs) program.say("stop");
    await pause(1000);
    for (const program of programs) Object.assign(reports, await program.report<RequestReport>());
    refusals = await askNobody(load);
    print(seconds);
  }, patience(300_000));

  afterAll(() => cluster?.down());

  async function askNobody(load: ClusterLoad): Promise<RequestReport> {
    const targets = [{ name: "nobody", host: await clusterIP(cluster, "nobody"), port: 80, workers: 1 }];
    const program = await load.inPod("caller", "requests", { targets });
    await pause(300);
    return (await program.report<RequestReport>())["nobody"]!;
  }

  function print(seconds: number): void {
    const rows = Object.entries(reports).map(([name, { asked, answered, failed, servers, slowestMs }]) => [
      name,
      {
        asked,
        "a second": Math.round(asked / seconds),
        answered,
        ...failed,
        servers: Object.keys(servers).length,
        "slowest ms": slowestMs,
      },
    ]);
    show(`\n${UPDATES} updates of ${REPLICAS} pods in ${seconds.toFixed(1)} s`, Object.fromEntries(rows));
    const total = Object.values(reports).reduce((sum, { asked }) => sum + asked, 0);
    process.stdout.write(`requests in all: ${total}, ${Math.round(total / seconds)} a second\n`);
  }

  it("replaces every pod", () => {
    expect(before).toHaveLength(REPLICAS);
    expect(after).toHaveLength(REPLICAS);
    expect(after.filter((name) => before.includes(name))).toEqual([]);
  });

  it("fails no request: none refused, none reset, none without an answer in time", () => {
    expect(Object.keys(reports)).toHaveLength(12);
    for (const [name, { asked, answered, failed, errors }] of Object.entries(reports)) {
      const trouble = { failed, errors, answered };
      const none = { failed: { refused: 0, reset: 0, timedOut: 0, other: 0 }, errors: [], answered: asked };
      expect.soft(trouble, name).toEqual(none);
    }
  });

  it("has load on every way, and on pods of every update", () => {
    for (const [name, { answered, servers }] of Object.entries(reports)) {
      expect.soft(answered, name).toBeGreaterThan(500);
      expect.soft(Object.keys(servers).length, name).toBe(REPLICAS * (UPDATES + 1));
    }
  });

  it("would count a refusal: a Service without endpoints refuses", () => {
    expect(refusals.failed.refused).toBeGreaterThan(3);
    expect(refusals.answered).toBe(0);
  });
});
