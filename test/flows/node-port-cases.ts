// Node ports and host ports: on the node's own addresses only, by policy, in both families and protocols.
import { ending, endpoint, hostPort, node, service, slice } from "./builders.ts";
import {
  type FlowCase,
  HERE,
  HERE_6,
  HOST,
  HOST_6,
  NODE1,
  NODE1_6,
  NODE2,
  OUTSIDE,
  OUTSIDE_6,
  POD,
  POD_6,
  THERE,
  THERE_6,
  tcp,
  udp,
} from "./flow-case.ts";

const PORT = 30080;
const nodePort = { type: "NodePort", ports: [{ nodePort: PORT }] } as const;
const endpoints = [endpoint(HERE), endpoint(THERE, "node2")];
const cluster = { services: [service(nodePort)], slices: [slice({ endpoints })] };
const local = { ...cluster, services: [service({ ...nodePort, externalTrafficPolicy: "Local" })] };

const udpPort = { type: "NodePort", ports: [{ protocol: "UDP", port: 53, nodePort: 30053 }] } as const;
const udpSlice = slice({ ports: [{ protocol: "UDP", port: 5353 }], endpoints });
const overUdp = { services: [service(udpPort)], slices: [udpSlice] };
const overUdpLocal = { services: [service({ ...udpPort, externalTrafficPolicy: "Local" })], slices: [udpSlice] };

const endpoints6 = [endpoint(HERE_6), endpoint(THERE_6, "node2")];
const dualOf = (policy: "Cluster" | "Local") => ({
  services: [service({ ...nodePort, externalTrafficPolicy: policy, clusterIPs: ["10.96.0.10", "fd00:10:96::a"] })],
  slices: [slice({ endpoints }), slice({ name: "web-6", endpoints: endpoints6 })],
});

export const NODE_PORT_CASES: readonly FlowCase[] = [
  {
    name: "an outside client reaches every backend by a node port, translated toward other nodes",
    given: cluster,
    from: OUTSIDE,
    to: tcp(NODE1, PORT),
    expect: { kept: ["10.244.1.2:8080"], translated: ["10.244.2.2:8080"] },
  },
  {
    name: "an outside client reaches every backend by a UDP node port",
    given: overUdp,
    from: OUTSIDE,
    to: udp(NODE1, 30053),
    expect: { kept: ["10.244.1.2:5353"], translated: ["10.244.2.2:5353"] },
  },
  {
    name: "a node without a pod of the Service serves its node port",
    given: { ...cluster, thisNode: "node3" },
    from: OUTSIDE,
    to: tcp("192.168.122.13", PORT),
    expect: { translated: ["10.244.1.2:8080", "10.244.2.2:8080"] },
  },
  {
    name: "a pod reaches the node port of its node",
    given: cluster,
    from: POD,
    to: tcp(NODE1, PORT),
    expect: { kept: ["10.244.1.2:8080", "10.244.2.2:8080"] },
  },
  {
    name: "a process reaches the node port of its node",
    given: cluster,
    from: HOST,
    to: tcp(NODE1, PORT),
    expect: { kept: ["10.244.1.2:8080", "10.244.2.2:8080"] },
  },
  {
    name: "a process reaches a UDP node port of its node",
    given: overUdp,
    from: HOST,
    to: udp(NODE1, 30053),
    expect: { kept: ["10.244.1.2:5353", "10.244.2.2:5353"] },
  },
  {
    name: "another node's node port is that node's to translate",
    given: cluster,
    from: POD,
    to: tcp(NODE2, PORT),
    expect: { verdict: "pass" },
  },
  {
    name: "another node's node port is not translated for a process either",
    given: cluster,
    from: HOST,
    to: tcp(NODE2, PORT),
    expect: { verdict: "pass" },
  },
  {
    name: "a packet for another node's node port that passes through is not touched",
    given: cluster,
    from: OUTSIDE,
    to: tcp(NODE2, PORT),
    expect: { verdict: "pass" },
  },
  {
    name: "external policy Local keeps outside clients on the node, untranslated",
    given: local,
    from: OUTSIDE,
    to: tcp(NODE1, PORT),
    expect: { kept: ["10.244.1.2:8080"] },
  },
  {
    name: "external policy Local keeps outside clients over UDP on the node",
    given: overUdpLocal,
    from: OUTSIDE,
    to: udp(NODE1, 30053),
    expect: { kept: ["10.244.1.2:5353"] },
  },
  {
    name: "external policy Local drops on a node without endpoint",
    given: { ...local, thisNode: "node3" },
    from: OUTSIDE,
    to: tcp("192.168.122.13", PORT),
    expect: { verdict: "drop" },
  },
  {
    name: "external policy Local drops UDP on a node without endpoint",
    given: { ...overUdpLocal, thisNode: "node3" },
    from: OUTSIDE,
    to: udp("192.168.122.13", 30053),
    expect: { verdict: "drop" },
  },
  {
    name: "external policy Local refuses when there is no endpoint anywhere",
    given: { services: local.services },
    from: OUTSIDE,
    to: tcp(NODE1, PORT),
    expect: { verdict: "refuse" },
  },
  {
    name: "external policy Local does not touch pods",
    given: local,
    from: POD,
    to: tcp(NODE1, PORT),
    expect: { kept: ["10.244.1.2:8080", "10.244.2.2:8080"] },
  },
  {
    name: "external policy Local does not touch a process on a node without endpoint",
    given: { ...local, thisNode: "node3" },
    from: { kind: "host", address: "192.168.122.13" },
    to: tcp("192.168.122.13", PORT),
    expect: { kept: ["10.244.1.2:8080", "10.244.2.2:8080"] },
  },
  {
    name: "internal policy Local does not touch node ports",
    given: { ...cluster, services: [service({ ...nodePort, internalTrafficPolicy: "Local" })] },
    from: POD,
    to: tcp(NODE1, PORT),
    expect: { kept: ["10.244.1.2:8080", "10.244.2.2:8080"] },
  },
  {
    name: "a terminating local endpoint serves outside clients of policy Local next to ready ones elsewhere",
    given: { ...local, slices: [slice({ endpoints: [ending(HERE), endpoint(THERE, "node2")] })] },
    from: OUTSIDE,
    to: tcp(NODE1, PORT),
    expect: { kept: ["10.244.1.2:8080"] },
  },
  {
    name: "pods use the ready endpoints elsewhere while policy Local keeps a terminating one",
    given: { ...local, slices: [slice({ endpoints: [ending(HERE), endpoint(THERE, "node2")] })] },
    from: POD,
    to: tcp(NODE1, PORT),
    expect: { kept: ["10.244.2.2:8080"] },
  },
  {
    name: "an IPv6 node port leads to IPv6 backends",
    given: dualOf("Cluster"),
    from: OUTSIDE_6,
    to: tcp(NODE1_6, PORT),
    expect: { kept: ["[fd00:10:244:1::2]:8080"], translated: ["[fd00:10:244:2::2]:8080"] },
  },
  {
    name: "the IPv4 node port of a dual-stack Service leads to IPv4 backends",
    given: dualOf("Cluster"),
    from: OUTSIDE,
    to: tcp(NODE1, PORT),
    expect: { kept: ["10.244.1.2:8080"], translated: ["10.244.2.2:8080"] },
  },
  {
    name: "external policy Local holds for IPv6",
    given: dualOf("Local"),
    from: OUTSIDE_6,
    to: tcp(NODE1_6, PORT),
    expect: { kept: ["[fd00:10:244:1::2]:8080"] },
  },
  {
    name: "pods reach every backend of an IPv6 node port with policy Local",
    given: dualOf("Local"),
    from: POD_6,
    to: tcp(NODE1_6, PORT),
    expect: { kept: ["[fd00:10:244:1::2]:8080", "[fd00:10:244:2::2]:8080"] },
  },
  {
    name: "a process reaches every backend of an IPv6 node port",
    given: dualOf("Cluster"),
    from: HOST_6,
    to: tcp(NODE1_6, PORT),
    expect: { kept: ["[fd00:10:244:1::2]:8080", "[fd00:10:244:2::2]:8080"] },
  },
  {
    name: "a Service of IPv4 only leaves the node's IPv6 address alone",
    given: cluster,
    from: OUTSIDE_6,
    to: tcp(NODE1_6, PORT),
    expect: { verdict: "pass" },
  },
  {
    name: "a process of the host reaches a node port on loopback",
    given: cluster,
    from: { kind: "host", address: "127.0.0.1" },
    to: tcp("127.0.0.1", PORT),
    expect: { kept: ["10.244.1.2:8080", "10.244.2.2:8080"] },
  },
  {
    name: "a node port does not answer on a pod's address",
    given: cluster,
    from: POD,
    to: tcp("10.244.1.1", PORT),
    expect: { verdict: "pass" },
  },
  {
    name: "a node port does not answer at the cluster address",
    given: cluster,
    from: POD,
    to: tcp("10.96.0.10", PORT),
    expect: { verdict: "refuse" },
  },
  {
    name: "a port of the node that nobody defined is the node's own",
    given: cluster,
    from: OUTSIDE,
    to: tcp(NODE1, 22),
    expect: { verdict: "pass" },
  },
  {
    name: "a node answers on each of its InternalIPs",
    given: {
      ...cluster,
      nodes: [node(1, { internalAddresses: ["192.168.122.11", "10.9.9.1"] }), node(2)],
    },
    from: OUTSIDE,
    to: tcp("10.9.9.1", PORT),
    expect: { kept: ["10.244.1.2:8080"], translated: ["10.244.2.2:8080"] },
  },
  {
    name: "a node port without endpoint refuses",
    given: { services: cluster.services },
    from: OUTSIDE,
    to: tcp(NODE1, PORT),
    expect: { verdict: "refuse" },
  },
  {
    name: "the type ClusterIP takes the node port away",
    given: { ...cluster, services: [service({ ...nodePort, type: "ClusterIP" })] },
    from: OUTSIDE,
    to: tcp(NODE1, PORT),
    expect: { verdict: "pass" },
  },
  {
    name: "the older of two Services has the node port",
    given: {
      services: [
        service({ ...nodePort, age: 2 }),
        service({ ...nodePort, name: "old", age: 1, clusterIPs: ["10.96.0.11"] }),
      ],
      slices: [
        slice({ endpoints: [endpoint(HERE)] }),
        slice({ service: "old", endpoints: [endpoint(THERE, "node2")] }),
      ],
    },
    from: OUTSIDE,
    to: tcp(NODE1, PORT),
    expect: { translated: ["10.244.2.2:8080"] },
  },
];

const pod = { hostPorts: [hostPort()] };

export const HOST_PORT_CASES: readonly FlowCase[] = [
  {
    name: "an outside client reaches a host port and keeps its address",
    given: pod,
    from: OUTSIDE,
    to: tcp(NODE1, 8080),
    expect: { kept: ["10.244.1.2:80"] },
  },
  {
    name: "a pod reaches a host port of its node",
    given: pod,
    from: POD,
    to: tcp(NODE1, 8080),
    expect: { kept: ["10.244.1.2:80"] },
  },
  {
    name: "a process reaches a host port of its node",
    given: pod,
    from: HOST,
    to: tcp(NODE1, 8080),
    expect: { kept: ["10.244.1.2:80"] },
  },
  {
    name: "a pod reaches its own host port with a translated source",
    given: pod,
    from: { kind: "pod", address: HERE },
    to: tcp(NODE1, 8080),
    expect: { translated: ["10.244.1.2:80"] },
  },
  {
    name: "a process of the host reaches a host port on loopback",
    given: pod,
    from: { kind: "host", address: "127.0.0.1" },
    to: tcp("127.0.0.1", 8080),
    expect: { kept: ["10.244.1.2:80"] },
  },
  {
    name: "a pod's own loopback is not ours",
    given: pod,
    from: POD,
    to: tcp("127.0.0.1", 8080),
    expect: { verdict: "pass" },
  },
  {
    name: "a UDP host port serves UDP",
    given: { hostPorts: [hostPort({ protocol: "UDP", podPort: 53 })] },
    from: OUTSIDE,
    to: udp(NODE1, 8080),
    expect: { kept: ["10.244.1.2:53"] },
  },
  {
    name: "a UDP host port leaves TCP alone",
    given: { hostPorts: [hostPort({ protocol: "UDP" })] },
    from: OUTSIDE,
    to: tcp(NODE1, 8080),
    expect: { verdict: "pass" },
  },
  {
    name: "an IPv6 host port leads to the pod's IPv6 address",
    given: { hostPorts: [hostPort({ podAddress: HERE_6 })] },
    from: OUTSIDE_6,
    to: tcp(NODE1_6, 8080),
    expect: { kept: ["[fd00:10:244:1::2]:80"] },
  },
  {
    name: "an IPv6 host port serves UDP from a pod",
    given: { hostPorts: [hostPort({ podAddress: HERE_6, protocol: "UDP" })] },
    from: POD_6,
    to: udp(NODE1_6, 8080),
    expect: { kept: ["[fd00:10:244:1::2]:80"] },
  },
  {
    name: "a host port of another node's pod is not served here",
    given: { hostPorts: [hostPort({ node: "node2", podAddress: THERE })] },
    from: OUTSIDE,
    to: tcp(NODE1, 8080),
    expect: { verdict: "pass" },
  },
  {
    name: "a host port with an address answers there",
    given: { hostPorts: [hostPort({ hostAddress: NODE1 })] },
    from: OUTSIDE,
    to: tcp(NODE1, 8080),
    expect: { kept: ["10.244.1.2:80"] },
  },
  {
    name: "a host port with an address does not answer at another one",
    given: {
      hostPorts: [hostPort({ hostAddress: NODE1 })],
      nodes: [node(1, { internalAddresses: [NODE1, "10.9.9.1"] })],
    },
    from: OUTSIDE,
    to: tcp("10.9.9.1", 8080),
    expect: { verdict: "pass" },
  },
  {
    name: "a node port wins over a host port",
    given: { ...cluster, hostPorts: [hostPort({ hostPort: PORT, age: 0, podPort: 9999 })] },
    from: OUTSIDE,
    to: tcp(NODE1, PORT),
    expect: { kept: ["10.244.1.2:8080"], translated: ["10.244.2.2:8080"] },
  },
  {
    name: "a node port wins over a host port that names the node's address",
    given: { ...cluster, hostPorts: [hostPort({ hostPort: PORT, hostAddress: NODE1, podPort: 9999 })] },
    from: OUTSIDE,
    to: tcp(NODE1, PORT),
    expect: { kept: ["10.244.1.2:8080"], translated: ["10.244.2.2:8080"] },
  },
  {
    name: "the older pod has a host port",
    given: {
      hostPorts: [hostPort({ pod: "default/b", age: 2, podAddress: "10.244.1.7" }), hostPort({ age: 1 })],
    },
    from: OUTSIDE,
    to: tcp(NODE1, 8080),
    expect: { kept: ["10.244.1.2:80"] },
  },
];
