// "Never cost a node its own traffic", in a lab: connections as SSH's, to ports of nodes that nobody asked for and from nodes to
// the outside, stay up while every example and manifests that are out to break them are applied and taken away, one after another.
import { readdirSync, rmSync } from "node:fs";
import { isIPv6 } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { labPaths } from "../../src/lab/lab-paths.ts";
import type { LabStatus } from "../../src/lab/lab-status.ts";
import { fileNameOf, replaceFile } from "../../src/lab/state-directory.ts";
import { type KubernetesObject, objectTitle } from "../../src/wire/kubernetes.ts";
import { describeKernel } from "../kernel/require-kernel.ts";
import { labName } from "./lab-fixture.ts";
import type { Flow } from "./traffic/client.ts";
import { MOVED, SSH, SshLike } from "./traffic/ssh-like.ts";
import { ROOT, TestLab, until } from "./traffic/test-lab.ts";

const EXAMPLES = join(ROOT, "deploy/examples");

const NODE1 = ["192.168.122.11", "fd00:192:168:122::11"];
const NODE2 = ["192.168.122.12", "fd00:192:168:122::12"];
const NODES = [...NODE1, ...NODE2];
const CLIENT = ["192.168.122.51", "fd00:192:168:122::51"];
const ROUTER = ["192.168.122.1", "fd00:192:168:122::1"];
/** Behind the router, but by IPv6 on the LAN. */
const OUTSIDE = ["203.0.113.9", "fd00:192:168:122::201"];

const backends = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: nginx-deployment}}
  template:
    metadata: {labels: {app: nginx-deployment}}
    spec: {containers: [{name: web, ports: [{containerPort: 80}]}]}
`;

// --- manifests ----------------------------------------------------------------------------------------------------------

const tcpPorts = (...numbers: readonly number[]): object[] =>
  numbers.map((port) => ({ name: `t${port}`, port, targetPort: 80 }));

const service = (name: string, spec: object, status?: object): KubernetesObject => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name, namespace: "default" },
  spec: { ipFamilyPolicy: "PreferDualStack", selector: { app: "nginx-deployment" }, ports: tcpPorts(80, 443), ...spec },
  ...(status === undefined ? {} : { status }),
});

/** Another controller's LoadBalancer, with this status. */
const balanced = (addresses: readonly string[], ports: readonly number[]): KubernetesObject[] => [
  service(
    "balanced",
    { type: "LoadBalancer", loadBalancerClass: "example.com/other", ports: tcpPorts(...ports) },
    { loadBalancer: { ingress: addresses.map((ip) => ({ ip, ipMode: "VIP" })) } },
  ),
];

const slice = (name: string, of: string, addresses: readonly string[], ports: readonly number[]): KubernetesObject => ({
  apiVersion: "discovery.k8s.io/v1",
  kind: "EndpointSlice",
  metadata: { name, namespace: "default", labels: { "kubernetes.io/service-name": of } },
  addressType: isIPv6(addresses[0]!) ? "IPv6" : "IPv4",
  ports: ports.map((port) => ({ name: `t${port}`, port, protocol: "TCP" })),
  endpoints: addresses.map((address) => ({ addresses: [address], conditions: { ready: true } })),
});

const pool = (...addresses: readonly string[]): KubernetesObject[] => [
  {
    apiVersion: "metallb.io/v1beta1",
    kind: "IPAddressPool",
    metadata: { name: "greedy", namespace: "metallb-system" },
    spec: { addresses },
  },
  {
    apiVersion: "metallb.io/v1beta1",
    kind: "L2Advertisement",
    metadata: { name: "greedy", namespace: "metallb-system" },
  },
];

const fromPool = (name: string, wish: string): KubernetesObject =>
  service(name, {
    type: "LoadBalancer",
    ipFamilyPolicy: "SingleStack",
    ipFamilies: [isIPv6(wish) ? "IPv6" : "IPv4"],
    ports: tcpPorts(SSH, MOVED),
    ...(wish.length > 2 ? { loadBalancerIP: wish } : {}),
  });

const owner = (node: string, hostPorts: readonly object[]): KubernetesObject => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: `owner-${node}`, namespace: "default" },
  spec: {
    nodeName: node,
    containers: hostPorts.map((one, i) => ({
      name: `c${i}`,
      image: "any",
      ports: [{ containerPort: 8000 + i, ...one }],
    })),
  },
});

interface Hostile {
  readonly name: string;
  readonly objects: readonly KubernetesObject[];
  /** The lab's allocator would refuse it: it reaches the agents as it is. */
  readonly asItIs?: boolean;
  /** Is asked all the while, for flows of its own; whether it answers is not looked at. */
  readonly asks?: readonly Flow[];
}

const ASKED_PORT = 30500;

const HOSTILE: readonly Hostile[] = [
  { name: "a LoadBalancer status that names every node", objects: balanced(NODES, [80, 443]) },
  { name: "a LoadBalancer status that names the router", objects: balanced(ROUTER, [80, SSH, MOVED]) },
  { name: "a LoadBalancer status that names the outside", objects: balanced([...CLIENT, ...OUTSIDE], [80]) },
  {
    name: "external addresses that are the nodes', the router's and the outside's",
    objects: [service("external", { externalIPs: [...NODES, ...ROUTER, ...CLIENT, ...OUTSIDE] })],
  },
  {
    name: "cluster addresses that are the nodes'",
    asItIs: true,
    objects: [NODE1, NODE2].flatMap((clusterIPs, i) => [
      service(`taken${i}`, {
        type: "ClusterIP",
        clusterIP: clusterIPs[0],
        clusterIPs,
        ipFamilies: ["IPv4", "IPv6"],
        ports: tcpPorts(80, SSH, MOVED),
      }),
      slice(`taken${i}-4`, `taken${i}`, ["10.244.1.2"], [80, SSH, MOVED]),
      slice(`taken${i}-6`, `taken${i}`, ["fd00:10:244:1::2"], [80, SSH, MOVED]),
    ]),
  },
  {
    name: "endpoints that are nodes, the client and the outside, and are asked",
    objects: [
      service("endpoints", {
        type: "NodePort",
        selector: undefined,
        ports: [
          { name: `t${SSH}`, port: SSH, nodePort: ASKED_PORT + 1 },
          { name: `t${MOVED}`, port: MOVED, nodePort: ASKED_PORT },
        ],
      }),
      slice(
        "endpoints-4",
        "endpoints",
        [NODE1, NODE2, CLIENT, OUTSIDE].map(([v4]) => v4!),
        [SSH, MOVED],
      ),
      slice(
        "endpoints-6",
        "endpoints",
        [NODE1, NODE2, CLIENT, OUTSIDE].map(([, v6]) => v6!),
        [SSH, MOVED],
      ),
    ],
    asks: NODES.map((host) => ({ name: `asks-${host}`, kind: "new-tcp", host, port: ASKED_PORT, rate: 20 })),
  },
  {
    name: "host ports of the same numbers, of UDP and at another node's address",
    objects: [
      ["node1", NODE2],
      ["node2", NODE1],
    ].map(([node, others]) =>
      owner(node as string, [
        { hostPort: SSH, protocol: "UDP" },
        { hostPort: MOVED, protocol: "UDP" },
        ...[...(others as string[])].flatMap((hostIP) => [
          { hostPort: SSH, hostIP },
          { hostPort: MOVED, hostIP },
        ]),
      ]),
    ),
  },
  {
    name: "a node port of the same number, of UDP",
    objects: [
      service("datagrams", {
        type: "NodePort",
        ports: [
          { name: "u", protocol: "UDP", port: SSH, targetPort: 80, nodePort: MOVED },
          // At another port: one number is asked for in both protocols when the ports are the same.
          { name: "t", port: MOVED, targetPort: 80 },
        ],
      }),
    ],
  },
  {
    name: "a pool of the nodes' own addresses, and Services that want them for SSH's ports",
    objects: [
      ...pool("192.168.122.11-192.168.122.12", "fd00:192:168:122::11-fd00:192:168:122::12"),
      ...NODES.map((address, i) => fromPool(`wants-${i}`, address)),
      fromPool("wants-any", ""),
      fromPool("wants-any6", "::"),
    ],
  },
  {
    name: "a pool over the nodes' whole network, and Services that want theirs, the router's and free ones",
    objects: [
      ...pool("192.168.122.0/24", "fd00:192:168:122::/64"),
      ...[...NODES, ...ROUTER, "192.168.122.200", "fd00:192:168:122::200"].map((address, i) =>
        fromPool(`wants-${i}`, address),
      ),
    ],
  },
];

// --- ways ------------------------------------------------------------------------------------------------------------

const SERVERS = ["node1", "node2", "elsewhere"];
const WAYS = { node1: [...NODE2, ...OUTSIDE], node2: NODE1, client1: NODES };

// --- labs ---------------------------------------------------------------------------------------------------------------

const examples: readonly Hostile[] = readdirSync(EXAMPLES)
  .toSorted()
  .map((name) => ({ name, objects: [] }));

interface LabCase {
  readonly name: string;
  readonly flags: readonly string[];
  readonly cases: readonly Hostile[];
  /** Addresses of the Service range that nobody has, beside the nodes' own network. */
  readonly free?: readonly string[];
}

const LABS: readonly LabCase[] = [
  { name: "Services beside the nodes' network", flags: ["--cni", "bridge"], cases: [...examples, ...HOSTILE] },
  {
    name: "a Service range over the nodes' network",
    flags: [
      ...["--cni", "ptp", "--agent-flag", "--service-cluster-ip-range"],
      ...["--agent-flag", "192.168.0.0/16,fd00:192:168::/48"],
    ],
    cases: HOSTILE,
    free: ["192.168.200.7", "fd00:192:168:200::7"],
  },
];

describeKernel("connections as SSH's", () => {
  describe.each(LABS)("$name", ({ flags, cases, free = [] }) => {
    const lab = new TestLab(labName("ssh"));
    let traffic: SshLike;

    beforeAll(async () => {
      await lab.up(backends, "--nodes", "2", "--ipv6", ...flags);
      await lab.lab("host", "elsewhere", "--address", OUTSIDE[0]!);
      traffic = await SshLike.start(lab, SERVERS, WAYS);
      await traffic.goOn();
    });
    afterAll(() => lab.down());

    /** Puts the objects where the agents read, or takes them away. */
    async function write(objects: readonly KubernetesObject[], present: boolean): Promise<void> {
      const { stateDir } = labPaths(lab.name);
      const digests = await Promise.all(["node1", "node2"].map(async (node) => (await lab.status(node)).source.digest));
      for (const object of objects) {
        const file = fileNameOf(objectTitle(object));
        if (present) replaceFile(stateDir, file, JSON.stringify(object));
        else rmSync(join(stateDir, file), { force: true });
      }
      for (const [i, node] of ["node1", "node2"].entries())
        await until(
          `${node} to see it`,
          async () => (await lab.status(node)).source.digest !== digests[i] || undefined,
        );
      for (const node of ["node1", "node2"]) await lab.inForce(node);
    }

    it.each(cases)("stay up with $name", async ({ name, objects, asItIs = false, asks = [] }) => {
      const file =
        objects.length === 0
          ? join(EXAMPLES, name)
          : lab.file("hostile.json", JSON.stringify({ apiVersion: "v1", kind: "List", items: objects }));
      const put = (): Promise<unknown> => (asItIs ? write(objects, true) : lab.order("apply", { files: [file] }));
      const takeAway = (): Promise<unknown> =>
        asItIs ? write(objects, false) : lab.order("delete", { files: [file] });
      traffic.mark(`applying ${name}`);
      try {
        await put();
        const asking = asks.length === 0 ? undefined : await lab.program("client1", "client.ts", { flows: asks });
        await traffic.goOn();
        await asking?.end();
      } finally {
        traffic.mark(`taking away ${name}`);
        await takeAway();
      }
      await traffic.goOn();
    });

    if (free.length > 0) {
      it("stay up where free addresses of the range are dropped", async () => {
        for (const address of free) {
          const before = lab.verdicts("node1").DROP_FREE_SERVICE_ADDRESS ?? 0;
          await lab.exec("node1", "ping", "-c1", "-W1", address);
          expect(lab.verdicts("node1").DROP_FREE_SERVICE_ADDRESS, address).toBeGreaterThan(before);
        }
        await traffic.goOn();
      });
    }

    it("have been kept, and made, on every way all the while", async () => {
      const { kept, answered } = await traffic.sums();
      expect(kept).toBe(Object.values(WAYS).flat().length);
      expect(answered).toBeGreaterThan(kept * cases.length);
      expect((await lab.order<LabStatus>("status", {})).nodes.map(({ agent }) => agent)).toEqual([
        "running",
        "running",
      ]);
    });
  });
});
