// The API server away, its store away, started anew, gone back to an older state, unheard behind a firewall: connections,
// those that run and new ones, go on, nothing is taken away, and in the end the agents serve what the API says.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { patience } from "../../src/lib/patience.ts";
import { pause, show } from "../lab/traffic/test-lab.ts";
import type { ApiAnswer } from "./api-client.ts";
import { writeKubeconfig } from "./certificates.ts";
import type { Cluster } from "./cluster.ts";
import type { Component } from "./component.ts";
import {
  agentStatus,
  clusterIP,
  inForce,
  metric,
  podsReady,
  type ServiceObject,
  servedBy,
} from "./load/ask-cluster.ts";
import { ClusterLoad } from "./load/cluster-load.ts";
import { expectIntact, expectLossesCounted, expectNewAnswered, receiveOverflows } from "./load/expect-traffic.ts";
import { loadPod, TRAFFIC_PORTS, trafficService } from "./load/load-pods.ts";
import { type Flow, NumberedTraffic, printTraffic } from "./load/numbered-traffic.ts";
import { startCluster } from "./start-cluster.ts";
import { waitUntil } from "./wait-until.ts";
import { manifest } from "./workloads.ts";

const NODES = ["node1", "node2", "node3"];
const OUTAGE_MS = 60_000;
const STORE_OUTAGE_MS = 15_000;
/** An agent that failed for a minute waits up to 30 s before it tries again, as client-go does, and once more when the API server is not ready. */
const FOLLOWED = { timeoutMs: 90_000 };
const API = "192.168.122.2:6443";

const service = (name: string): object => trafficService({ name, selector: { app: "far" } });
const OBJECTS = manifest(
  loadPod({ name: "near", node: "node1" }),
  loadPod({ name: "far", node: "node2" }),
  loadPod({ name: "caller", node: "node1" }),
  trafficService({ name: "near", selector: { app: "near" }, firstNodePort: 30100 }),
  trafficService({ name: "far", selector: { app: "far" }, firstNodePort: 30200 }),
  ...["first", "second", "third", "elder"].map(service),
);

describe("connections while the API is away", () => {
  let cluster: Cluster;
  /**
   * They end with the API, as those do that lose their lease, and come back with it: those that outlast it take every Node for
   * lost whose reports they missed, and its endpoints with it, whoever serves them.
   */
  let controllers: Component;
  let load: ClusterLoad;
  let traffic: NumberedTraffic;
  let flows: readonly Flow[] = [];
  const followed: Record<string, { "followed after ms": number }> = {};
  const marks: string[] = [];

  function mark(text: string): void {
    marks.push(text);
    traffic.mark(text);
  }

  async function makeFlows(): Promise<{ outside: Flow[]; pod: Flow[] }> {
    const [near, far] = [await clusterIP(cluster, "near"), await clusterIP(cluster, "far")];
    const [node1 = ""] = cluster.node("node1").addresses;
    const [node3 = ""] = cluster.node("node3").addresses;
    const flow = (name: string, kind: Flow["kind"], host: string, port: number): Flow => ({ name, kind, host, port });
    return {
      outside: [
        flow("outside-near-udp", "udp", node1, 30100),
        flow("outside-far-udp", "udp", node3, 30200),
        flow("outside-near-tcp", "tcp", node1, 30101),
        flow("outside-far-tcp", "tcp", node1, 30201),
        flow("outside-near-new-tcp", "new-tcp", node1, 30102),
        flow("outside-far-new-tcp", "new-tcp", node3, 30202),
      ],
      pod: [
        flow("pod-near-udp", "udp", near, TRAFFIC_PORTS.udp),
        flow("pod-far-udp-connected", "udp-connected", far, TRAFFIC_PORTS.udp),
        flow("pod-near-tcp", "tcp", near, TRAFFIC_PORTS.stream),
        flow("pod-far-tcp", "tcp", far, TRAFFIC_PORTS.stream),
        flow("pod-near-new-tcp", "new-tcp", near, TRAFFIC_PORTS.short),
        flow("pod-far-new-tcp", "new-tcp", far, TRAFFIC_PORTS.short),
        flow("pod-far-new-udp", "new-udp", far, TRAFFIC_PORTS.udp),
      ],
    };
  }

  const path = (name = ""): string => `/api/v1/namespaces/default/services${name === "" ? "" : `/${name}`}`;
  const create = (name: string): Promise<unknown> =>
    cluster.api.ask({ method: "POST", path: path(), body: service(name) });
  const remove = (name: string): Promise<unknown> => cluster.api.ask({ method: "DELETE", path: path(name) });

  /** What agents ought to serve, as the API has it, in the words of `servedBy`. */
  async function wanted(): Promise<string[]> {
    const { items } = await cluster.api.ask<{ items: readonly ServiceObject[] }>("/api/v1/services");
    return items
      .filter(({ spec }) => spec.clusterIPs?.[0] !== "None")
      .map(({ metadata, spec }) => `${metadata.namespace}/${metadata.name} ${spec.clusterIPs!.join()}`)
      .sort();
  }

  async function apiServes(): Promise<void> {
    const serves = async () => {
      const answer: ApiAnswer = await cluster.api.send({ path: "/readyz" });
      return answer.status === 200 ? true : undefined;
    };
    await waitUntil("the API server to serve", serves, { from: cluster.apiserver });
  }

  /** Waits until agents serve what the API has now; prints how long it took. */
  async function follow(what: string, nodes: readonly string[] = NODES): Promise<void> {
    const began = Date.now();
    const services = await wanted();
    for (const node of nodes) {
      await waitUntil(
        `${node} to serve what the API says after ${what}`,
        async () => {
          const served = await servedBy(cluster, node);
          if (served.join("\n") !== services.join("\n")) throw new Error(`it serves ${served.join("; ")}`);
          return true;
        },
        FOLLOWED,
      );
    }
    followed[what] = { "followed after ms": Date.now() - began };
  }

  /** What a new connection from the caller to a Service comes to: the name of the pod that answers, or "". */
  async function asked(address: string): Promise<string> {
    const script = `echo hello 1 | nc -w 2 ${address} ${TRAFFIC_PORTS.short}`;
    const { stdout } = await cluster.execPod("default", "caller", ["timeout", "4", "sh", "-c", script]);
    return stdout.trim().split(" ")[2] ?? "";
  }

  /** Waits until new connections to a Service reach its pod: its endpoints come after it. */
  async function answersFar(name: string): Promise<void> {
    const address = await clusterIP(cluster, name);
    await waitUntil(`${name} to answer`, async () => ((await asked(address)) === "far" ? true : undefined));
  }

  const notices = async (node: string): Promise<string[]> =>
    (await agentStatus(cluster, node)).notices.map(({ reason, message }) => `${reason}: ${message}`);

  /** How an agent's talk with the API goes. */
  async function connected(node: string): Promise<{ connected: boolean; server: string }> {
    const { api } = (await agentStatus(cluster, node)).source;
    return {
      connected: api?.resources.every((one) => one.connected || one.absent) === true,
      server: api?.server ?? "",
    };
  }

  async function nft(...lines: readonly string[]): Promise<void> {
    const { status, stderr } = await cluster.exec("control", ["nft", "-f", "-"], { input: lines.join("\n") });
    expect([stderr, status]).toEqual(["", 0]);
  }

  beforeAll(async () => {
    cluster = await startCluster({ name: "res", replace: true });
    controllers = cluster.control.controllers;
    await cluster.apply(OBJECTS);
    await podsReady(cluster, ["near", "far", "caller"]);
    for (const node of NODES) await inForce(cluster, node);
    load = new ClusterLoad(cluster);
    traffic = new NumberedTraffic(load);
    for (const pod of ["near", "far"]) await traffic.answerIn(pod);
    await follow("the start");
    const { outside, pod } = await makeFlows();
    flows = [...outside, ...pod];
    await traffic.fromMember("client1", outside);
    await traffic.fromPod("caller", pod);
    mark("undisturbed");
    await pause(2000);
  }, patience(300_000));

  afterAll(async () => {
    await load?.[Symbol.asyncDispose]();
    await cluster?.down();
  });

  it("an API server that is away for a minute is told of, and nothing is removed", async () => {
    const before = await servedBy(cluster, "node3");
    const failures = await metric(cluster, "node3", "rest_client_requests_total", 'code="<error>"');
    mark("API server away");
    await controllers.stop();
    await cluster.apiserver.stop();
    await pause(OUTAGE_MS);
    const gone = `${API} (kubeconfig): it refuses connections`;
    for (const node of NODES) {
      expect(await servedBy(cluster, node)).toEqual(before);
      expect(await notices(node)).toContainEqual(expect.stringMatching(/^unreachable: could not reach /));
      expect((await notices(node)).join()).toContain(gone);
      expect(cluster.agent(node).log).toContain(gone);
      expect(await metric(cluster, node, "millrace_api_connected")).toBe(0);
      expect((await agentStatus(cluster, node)).source.synced).toBe(true);
    }
    expect(await metric(cluster, "node3", "rest_client_requests_total", 'code="<error>"')).toBeGreaterThan(
      failures + 5,
    );
    expect(await metric(cluster, "node3", "millrace_api_errors_total", 'reason="unreachable"')).toBeGreaterThan(5);
  });

  it("Services that change as soon as it is back are followed", async () => {
    mark("API server back");
    await cluster.apiserver.start();
    await apiServes();
    await controllers.start();
    await Promise.all([create("late"), remove("first")]);
    await follow("a minute's outage");
    await answersFar("late");
    for (const node of NODES) {
      await waitUntil("no notice of the outage", async () =>
        (await notices(node)).some((text) => text.startsWith("unreachable")) ? undefined : true,
      );
      await waitUntil(
        `${node} to listen to all four`,
        async () => ((await metric(cluster, node, "millrace_api_connected")) === 4 ? true : undefined),
        FOLLOWED,
      );
    }
  });

  it("an etcd that is away is borne, and what changes after it is followed", async () => {
    const before = await servedBy(cluster, "node1");
    mark("etcd away");
    await controllers.stop();
    await cluster.etcd.stop();
    await pause(STORE_OUTAGE_MS);
    for (const node of NODES) expect(await servedBy(cluster, node)).toEqual(before);
    await cluster.etcd.start();
    await apiServes();
    await controllers.start();
    await Promise.all([create("later"), remove("second")]);
    await follow("etcd's outage");
    await answersFar("later");
  });

  it("an API server that is started anew is followed", async () => {
    mark("API server started anew");
    await controllers.stop();
    await cluster.apiserver.restart();
    await apiServes();
    await controllers.start();
    await Promise.all([create("latest"), remove("third")]);
    await follow("a restart of the API server");
    await answersFar("latest");
  });

  it("an etcd that went back to an older state is what is served in the end", async () => {
    const elder = await clusterIP(cluster, "elder");
    await cluster.etcd.snapshot("older");
    await Promise.all([create("young"), create("younger"), remove("elder")]);
    const young = await clusterIP(cluster, "young");
    await follow("changes that are to be undone");
    await answersFar("young");
    expect(await asked(elder)).toBe("");
    mark("etcd restored");
    await controllers.stop();
    await cluster.etcd.restore("older");
    await apiServes();
    await controllers.start();
    const services = (await wanted()).join();
    expect([services.includes("/elder "), services.includes("/young ")]).toEqual([true, false]);
    await follow("going back to an older state");
    await answersFar("elder");
    expect(await asked(young)).toBe("");
    await create("after");
    await follow("a change in the older state");
  });

  it("an API server whose packets are dropped is found, left for another way, and found again", async () => {
    // node2 asks it at its IPv6 address, and knows its IPv4 address from default/kubernetes.
    const node2 = cluster.node("node2");
    const file = `${node2.files}/lib/cluster/millrace.kubeconfig`;
    const token = { tokenFile: "/var/lib/cluster/millrace.token" };
    writeKubeconfig(file, cluster.control.authority, token, "https://[fd00:192:168:122::2]:6443");
    const began = Date.now();
    await cluster.agent("node2").restart();
    await inForce(cluster, "node2", began);
    await waitUntil("node2 to read by IPv6", async () =>
      (await connected("node2")).server === "[fd00:192:168:122::2]:6443" ? true : undefined,
    );
    mark("API server behind a firewall");
    const [node1v4, node1v6] = cluster.node("node1").addresses;
    const drop = (...matches: readonly string[]) => matches.map((match) => `${match} drop`);
    await nft(
      "table inet hole {",
      "chain in { type filter hook input priority 0;",
      ...drop(`tcp dport 6443 ip saddr ${node1v4}`, `tcp dport 6443 ip6 saddr { ${node1v6}, ${node2.addresses[1]} }`),
      "}",
      "chain out { type filter hook output priority 0;",
      ...drop(`tcp sport 6443 ip daddr ${node1v4}`, `tcp sport 6443 ip6 daddr { ${node1v6}, ${node2.addresses[1]} }`),
      "}",
      "}",
    );
    await create("unheard");
    const hole = Date.now();
    await waitUntil("node1 to know that nobody answers", async () =>
      (await connected("node1")).connected ? undefined : true,
    );
    followed["node1 found a firewall"] = { "followed after ms": Date.now() - hole };
    // The first that it says may be that the server fell silent; what it then tries fails otherwise.
    await waitUntil("node1 to say that it cannot reach it", async () =>
      (await notices("node1")).some((text) => /^(unreachable|timeout): could not re/.test(text)) ? true : undefined,
    );
    await follow("node2 found a firewall, and another way", ["node2", "node3"]);
    await waitUntil("node2 to read all by the other way", async () => {
      const { connected: isConnected, server } = await connected("node2");
      return isConnected && server === API ? true : undefined;
    });
    expect((await servedBy(cluster, "node1")).join()).not.toContain("/unheard ");
    await nft("delete table inet hole");
    await follow("the firewall let node1 through");
    await answersFar("unheard");
  });

  it("no connection noticed any of it: none that ran, none that was new", async () => {
    const overflows = await receiveOverflows(cluster, ["near", "far"]);
    const outcome = await traffic.stop();
    show("\nhow soon the agents served what the API said", followed);
    printTraffic("numbered datagrams and lines, and new connections", flows, outcome);
    expectIntact(flows, outcome);
    expectLossesCounted(flows, outcome, overflows);
    expectNewAnswered(flows, outcome, marks);
  });
});
