// What the fields of a Service mean, by real packets in one lab of two nodes and both families: a line for each field that no other
// lab test has.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { AgentStatus } from "../../src/agent/view.ts";
import { getJson } from "../../src/lab/lab-node.ts";
import { labPaths } from "../../src/lab/lab-paths.ts";
import { type LabSession, parseAnswer } from "../../src/lab/lab-session.ts";
import type { ProbeOrder } from "../../src/lab/probe.ts";
import { CheckFailure, eventually } from "../../src/lab/seed-story.ts";
import { fileNameOf, replaceFile } from "../../src/lab/state-directory.ts";
import { objectTitle, type ServiceObject } from "../../src/wire/kubernetes.ts";
import { describeKernel } from "../kernel/require-kernel.ts";
import { downLab, labName, upLab } from "./lab-fixture.ts";

const LAB = labName("fields");
const NODE1 = "192.168.122.11";
const NODE2 = "192.168.122.12";
const NODE1_6 = "fd00:192:168:122::11";
const NODE2_6 = "fd00:192:168:122::12";
const CLIENT = "192.168.122.51";
const EXTERNAL = "198.51.100.7";
const BOTH = ["far", "near"];
const REFUSED = ["ECONNREFUSED"];
const ZONE = "topology.kubernetes.io/zone";

/** Its ports have names that stand for other numbers in the other pod. */
const pod = (name: string, nodeName: string, port: number) => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, labels: { app: "web", name } },
  spec: {
    nodeName,
    containers: [
      {
        name: "server",
        ports: [
          { name: "http", containerPort: port },
          { name: "talk", containerPort: port, protocol: "UDP" },
        ],
      },
    ],
  },
});

const onHost = (name: string, hostIP: string) => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, labels: { app: name } },
  spec: {
    nodeName: "node1",
    containers: [{ name: "server", ports: [{ containerPort: 8081, hostPort: 8081, hostIP }] }],
  },
});

const TCP = { name: "http", port: 80, targetPort: "http" };
const UDP = { name: "talk", port: 80, targetPort: "talk", protocol: "UDP" };
const FAR = { app: "web", name: "far" };

const service = (name: string, spec: object, metadata: object = {}) => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name, namespace: "default", ...metadata },
  spec: { ipFamilyPolicy: "RequireDualStack", selector: { app: "web" }, ports: [TCP], ...spec },
});

const OBJECTS = [
  ...[1, 2].map((i) => ({
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: `node${i}`, labels: { [ZONE]: `zone${i}` } },
  })),
  pod("near", "node1", 8080),
  pod("far", "node2", 9090),
  onHost("hosted-lo", "127.0.0.1"),
  onHost("hosted", NODE1),
  {
    apiVersion: "metallb.io/v1beta1",
    kind: "IPAddressPool",
    metadata: { name: "pool", namespace: "metallb-system" },
    spec: { addresses: ["192.168.122.120-192.168.122.125", "fd00:192:168:122::120-fd00:192:168:122::125"] },
  },
  { apiVersion: "metallb.io/v1beta1", kind: "L2Advertisement", metadata: { name: "all", namespace: "metallb-system" } },
  service("ports", { ports: [TCP, { ...TCP, name: "again", port: 81 }, UDP] }),
  service("unnamed", { ports: [{ port: 82, targetPort: "http" }] }),
  service("local", {
    type: "LoadBalancer",
    selector: FAR,
    externalTrafficPolicy: "Local",
    internalTrafficPolicy: "Local",
    healthCheckNodePort: 32090,
    ports: [{ ...TCP, nodePort: 30090 }],
  }),
  service("everywhere", {
    type: "NodePort",
    ports: [
      { ...TCP, nodePort: 30091 },
      { ...UDP, nodePort: 30091 },
    ],
  }),
  service("mixed", { type: "LoadBalancer", allocateLoadBalancerNodePorts: false, ports: [TCP, UDP] }),
  service("limited", { type: "LoadBalancer", loadBalancerSourceRanges: ["10.244.0.0/16"] }),
  service("of-somebody", { type: "LoadBalancer", loadBalancerClass: "example.com/other" }),
  service("other-proxy", {}, { labels: { "service.kubernetes.io/service-proxy-name": "other" } }),
  service("external", { externalIPs: [EXTERNAL, "203.0.113.7"], ipFamilyPolicy: "SingleStack" }),
  service("same-node", { trafficDistribution: "PreferSameNode" }),
  service("by-cpus", {}, { annotations: { "service.kubernetes.io/topology-mode": "Auto" } }),
  service("sticky", { sessionAffinity: "ClientIP" }),
  service("ready", { selector: FAR }),
  service("not-ready-too", { selector: FAR, publishNotReadyAddresses: true }),
];

describeKernel("the fields of a Service, in a lab", () => {
  let lab: LabSession;
  const addresses = new Map<string, readonly string[]>();

  beforeAll(async () => {
    lab = upLab(LAB, [
      "--nodes",
      "2",
      "--ipv6",
      "--agent-flag",
      "--external-ip-cidrs",
      "--agent-flag",
      "198.51.100.0/24",
    ]);
    await lab.apply(lab.manifest(OBJECTS));
    for (const { metadata, spec } of await lab.objects<ServiceObject>("Service"))
      addresses.set(metadata.name, spec.clusterIPs ?? []);
  });
  afterAll(() => {
    lab?.close();
    downLab(LAB);
  });

  /** The pods that answer, and errors: often enough that each has its turn. */
  async function ask(from: string, host: string, port: number, given: Partial<ProbeOrder> = {}): Promise<string[]> {
    const { pods, errors } = await lab.probe(from, { via: "tcp", host, port, count: 20, timeoutMs: 1000, ...given });
    return [...pods, ...errors];
  }
  const once = { count: 1 } as const;
  const both = { count: 60, until: BOTH } as const;
  const each = <T, R>(list: readonly T[], does: (one: T) => Promise<R>): Promise<R[]> => Promise.all(list.map(does));
  const of = (name: string): readonly string[] => addresses.get(name) ?? [];
  const balancer = async (name: string): Promise<readonly string[]> =>
    ((await lab.service(`default/${name}`)).status?.loadBalancer?.ingress ?? []).flatMap(({ ip }) => ip ?? []);
  const notices = async (node: string): Promise<AgentStatus["notices"]> => {
    const { socket } = (await lab.status()).nodes.find(({ name }) => name === node)!;
    return ((await getJson(socket, "/api/v1/status", 5000)) as AgentStatus).notices;
  };

  it("several ports, two protocols of one number, target ports by a name that differs per pod, in both families", async () => {
    expect(of("ports")).toHaveLength(2);
    for (const host of of("ports")) {
      const asks = [{ port: 80 }, { port: 81 }, { port: 80, via: "udp" as const }];
      const found = await each(asks, ({ port, ...given }) => ask("node1", host, port, { ...both, ...given }));
      expect(found, host).toEqual([BOTH, BOTH, BOTH]);
    }
    expect(await each(of("unnamed"), (host) => ask("near", host, 82, both))).toEqual([BOTH, BOTH]);
    expect(await each(of("ports"), (host) => ask("near", host, 82, once)), "no such port").toEqual([REFUSED, REFUSED]);
  });

  it("an IPv6 socket reaches an IPv4 Service by its mapped address", async () => {
    expect(await each(["near", "node2"], (from) => ask(from, `::ffff:${of("ports")[0]}`, 80, both))).toEqual([
      BOTH,
      BOTH,
    ]);
  });

  it("traffic policies Local: clients outside by node, clients inside by node, and neither for a node's clients of a node port", async () => {
    const outside = await lab.probe("client1", { via: "tcp", host: NODE2, port: 30090, count: 5 });
    const clients = outside.answers.map(({ text }) => parseAnswer(text)?.client.split(":")[0]);
    expect([outside.pods, new Set(clients)]).toEqual([["far"], new Set([CLIENT])]);
    expect(await ask("client1", NODE2_6, 30090)).toEqual(["far"]);
    const dropped = await each([NODE1, NODE1_6], (host) => ask("client1", host, 30090, once));
    expect(dropped).toEqual([["ETIMEDOUT"], ["ETIMEDOUT"]]);
    expect(await each(of("local"), (host) => ask("node2", host, 80))).toEqual([["far"], ["far"]]);
    const elsewhere = await each(of("local"), (host) =>
      lab.probe("near", { via: "tcp", host, port: 80, timeoutMs: 700 }),
    );
    expect(elsewhere.map(({ pods, errors }) => [pods.length, errors.length])).toEqual([
      [0, 1],
      [0, 1],
    ]);
    expect(await each([NODE1, NODE1_6], (host) => ask("node1", host, 30090))).toEqual([["far"], ["far"]]);
  });

  it("a health check node port tells the endpoints of its node", async () => {
    const bodies = await each([NODE1, NODE2, NODE1_6, NODE2_6], async (host) => {
      const { answers } = await lab.probe("client1", { via: "tcp", host, port: 32090, path: "/healthz" });
      return Number(/"localEndpoints": ?(\d+)/.exec(answers[0]!.text)?.[1]);
    });
    expect(bodies).toEqual([0, 1, 0, 1]);
  });

  it("node ports on every InternalIP, and on loopback for processes of the node, over TCP and UDP", async () => {
    for (const via of ["tcp", "udp"] as const) {
      const at = (from: string, hosts: readonly string[]) =>
        each(hosts, (host) => ask(from, host, 30091, { ...both, via }));
      expect(await at("client1", [NODE1, NODE2_6]), via).toEqual([BOTH, BOTH]);
      expect(await at("node1", ["127.0.0.1", "::1"]), via).toEqual([BOTH, BOTH]);
    }
    expect(await ask("near", "127.0.0.1", 30091, once), "a pod's loopback is its own").toEqual(REFUSED);
  });

  it("protocols mixed at one LoadBalancer address, without node ports", async () => {
    const { spec } = await lab.service("default/mixed");
    expect(spec.ports?.map(({ nodePort = 0 }) => nodePort)).toEqual([0, 0]);
    const hosts = await balancer("mixed");
    expect(hosts).toHaveLength(2);
    for (const via of ["tcp", "udp"] as const)
      expect(await each(hosts, (host) => ask("node1", host, 80, { ...both, via })), via).toEqual([BOTH, BOTH]);
    // It has to be announced first.
    await eventually(10_000, async () => {
      const found = await ask("client1", hosts[0]!, 80, both);
      if (found.join() !== BOTH.join()) throw new CheckFailure(`answered by ${found.join()}`);
    });
  });

  it("source ranges of one family leave the other closed, and its ClusterIPs open", async () => {
    const [v4 = "", v6 = ""] = (await balancer("limited")).toSorted();
    expect([await ask("near", v4, 80, both), await ask("near", v6, 80, once)]).toEqual([BOTH, ["ETIMEDOUT"]]);
    expect(await ask("node1", v4, 80, once), "a node is outside of the range").toEqual(["ETIMEDOUT"]);
    expect(await each(of("limited"), (host) => ask("node1", host, 80, both))).toEqual([BOTH, BOTH]);
  });

  it("another class gets no address from us; what somebody gave is served, but not with ipMode Proxy", async () => {
    expect(await balancer("of-somebody")).toEqual([]);
    const object = await lab.service("default/of-somebody");
    const ingress = [
      { ip: "192.168.122.130", ipMode: "VIP" },
      { ip: "192.168.122.131", ipMode: "Proxy" },
    ];
    const given = { ...object, status: { loadBalancer: { ingress } } };
    const { stateDir } = labPaths(LAB);
    const file = fileNameOf(objectTitle(object));
    const before = readFileSync(join(stateDir, file), "utf8");
    replaceFile(stateDir, file, JSON.stringify(given));
    try {
      await eventually(5000, async () => {
        const found = await ask("near", "192.168.122.130", 80, both);
        if (found.join() !== BOTH.join()) throw new CheckFailure(`answered by ${found.join()}`);
      });
      const { pods } = await lab.probe("near", { via: "tcp", host: "192.168.122.131", port: 80, timeoutMs: 700 });
      expect(pods).toEqual([]);
    } finally {
      replaceFile(stateDir, file, before);
    }
  });

  it("external IPs as far as they are allowed, and the older of two Services; the other takes over", async () => {
    const elder = await ask("near", EXTERNAL, 80, both);
    const outside = await lab.probe("near", { via: "tcp", host: "203.0.113.7", port: 80, timeoutMs: 700 });
    expect([elder, outside.pods]).toEqual([BOTH, []]);
    const rival = lab.manifest([
      service("rival", { externalIPs: [EXTERNAL], ipFamilyPolicy: "SingleStack", selector: FAR }),
    ]);
    await lab.apply(rival);
    expect(await ask("near", EXTERNAL, 80, both)).toEqual(BOTH);
    const told = (await notices("node1")).map(({ object, reason }) => `${object} ${reason}`);
    expect(told).toEqual(
      expect.arrayContaining([
        "Service default/external external-ip-not-allowed",
        "Service default/rival address-in-use",
      ]),
    );
    await lab.delete(lab.manifest([service("external", {})]));
    expect(await ask("near", EXTERNAL, 80)).toEqual(["far"]);
    await lab.delete(rival);
  });

  it("a Service of another proxy is left to that", async () => {
    const found = await each(of("other-proxy"), (host) =>
      lab.probe("near", { via: "tcp", host, port: 80, timeoutMs: 700 }),
    );
    expect(found.map(({ pods }) => pods)).toEqual([[], []]);
  });

  it("trafficDistribution by node, and topology-mode by the CPUs of zones", async () => {
    for (const name of ["same-node", "by-cpus"]) {
      expect(await each(of(name), (host) => ask("near", host, 80)), name).toEqual([["near"], ["near"]]);
      expect(await each(of(name), (host) => ask("node2", host, 80)), name).toEqual([["far"], ["far"]]);
    }
  });

  it("session affinity keeps a client at its backend, in either family", async () => {
    for (const host of of("sticky")) expect(await ask("node1", host, 80), host).toHaveLength(1);
  });

  it("publishNotReadyAddresses serves who is not ready, without it nobody is left", async () => {
    await lab.ready("far", false);
    expect(await each(of("not-ready-too"), (host) => ask("near", host, 80))).toEqual([["far"], ["far"]]);
    await eventually(5000, async () => {
      const found = await each(of("ready"), (host) => ask("near", host, 80, once));
      if (found.some((one) => one.join() !== REFUSED.join())) throw new CheckFailure(`answered by ${found.join()}`);
    });
    await lab.ready("far", true);
  });

  it("host ports by hostIP: the node's address, and loopback for its processes; a third that wants one is told", async () => {
    expect(await ask("client1", NODE1, 8081)).toEqual(["hosted"]);
    expect(await ask("node1", "127.0.0.1", 8081)).toEqual(["hosted-lo"]);
    const rival = lab.manifest([onHost("hosted-too", NODE1)]);
    const { notices: said } = (await lab.apply(rival)) as { notices?: readonly { message: string }[] };
    const told = [...(said ?? []), ...(await notices("node1")), ...(await lab.notices())].map((one) =>
      JSON.stringify(one),
    );
    expect(told.filter((one) => one.includes("hosted-too") && one.includes("8081")).length).toBeGreaterThan(0);
    expect(await ask("client1", NODE1, 8081)).toEqual(["hosted"]);
    await lab.delete(rival);
  });
});
