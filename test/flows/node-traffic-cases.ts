// What a node's own packets and answers must not meet: addresses of nodes in Service ranges, answers, others' frames.
import { endpoint, hostPort, node, service, slice } from "./builders.ts";
import {
  ENDPOINTS,
  type FlowCase,
  HERE_6,
  HOST,
  NODE1,
  NODE2,
  OUTSIDE,
  OUTSIDE_6,
  POD,
  tcp,
  udp,
} from "./flow-case.ts";

const VIP = "10.96.0.10";
const VIP_6 = "fd00:10:96::a";
const drop = { verdict: "drop" } as const;
const pass = { verdict: "pass" } as const;

const slices = [slice({ endpoints: ENDPOINTS })];
const inside = { services: [service()], slices, clusterIPsInside: true };
const nodePort = { services: [service({ type: "NodePort", ports: [{ nodePort: 30080 }] })], slices };
/** A Service range covers the nodes' own network. */
const covered = {
  nodes: [node(1, { internalAddresses: ["10.96.5.11"] }), node(2, { internalAddresses: ["10.96.6.12"] })],
  networks: [{ address: "10.96.5.11", length: 24 }],
};

export const NODE_TRAFFIC_CASES: readonly FlowCase[] = [
  {
    name: "another node's address in a Service range is no free Service address",
    field: "none",
    given: covered,
    from: { kind: "host", address: "10.96.5.11" },
    to: tcp("10.96.6.12", 22),
    expect: pass,
  },
  {
    name: "this node's address in a Service range is no free Service address",
    field: "none",
    given: covered,
    from: { kind: "outside", address: "10.96.6.12" },
    to: tcp("10.96.5.11", 22),
    expect: pass,
  },
  {
    name: "a neighbour in a network of this node that lies in a Service range is reached",
    field: "none",
    given: covered,
    from: { kind: "host", address: "10.96.5.11" },
    to: udp("10.96.5.200", 123),
    expect: pass,
  },
  {
    name: "beside a network of this node a Service range goes on to be dropped",
    field: "none",
    given: covered,
    from: POD,
    to: tcp("10.96.7.7", 80),
    expect: drop,
  },
  {
    name: "a network of this node around a Service range keeps its neighbours",
    field: "none",
    given: { networks: [{ address: "10.1.2.3", length: 8 }] },
    from: HOST,
    to: tcp("10.96.7.7", 80),
    expect: pass,
  },
  {
    name: "a neighbour in an IPv6 network of this node around a Service range is reached",
    field: "none",
    given: { networks: [{ address: "fd00:10:96::11", length: 64 }] },
    from: { kind: "pod", address: "fd00:10:244:1::99" },
    to: tcp("fd00:10:96::77", 80),
    expect: pass,
  },
  {
    name: "an address of a device of this node in a Service range is no free Service address",
    field: "none",
    given: { networks: [{ address: "10.96.0.53", length: 32 }] },
    from: POD,
    to: udp("10.96.0.53", 53),
    expect: pass,
  },
  {
    name: "a cluster address that a device of this node has is the device's",
    field: "clusterIPs",
    given: { services: [service()], slices, networks: [{ address: VIP, length: 32 }] },
    from: POD,
    to: tcp(VIP, 80),
    expect: pass,
  },
  {
    name: "an undefined port of a LoadBalancer address that a device of this node has is not refused",
    field: "status.loadBalancer",
    given: {
      services: [
        service({
          type: "LoadBalancer",
          loadBalancerAddresses: [{ address: "192.168.122.111", ipMode: "VIP", fromPool: true }],
        }),
      ],
      slices,
      networks: [{ address: "192.168.122.111", length: 32 }],
    },
    from: OUTSIDE,
    to: tcp("192.168.122.111", 22),
    expect: pass,
  },
  {
    name: "a host port at another node's address takes nothing that goes there",
    field: "hostIP",
    given: {
      hostPorts: [hostPort({ hostAddress: NODE2 })],
    },
    from: POD,
    to: tcp(NODE2, 8080),
    expect: pass,
  },
  {
    name: "a packet to no address at all is nobody's, whatever node ports there are",
    field: "none",
    given: nodePort,
    from: OUTSIDE,
    to: tcp("0.0.0.0", 30080),
    expect: pass,
  },
  {
    name: "a packet to no IPv6 address at all is nobody's",
    field: "none",
    given: {
      services: [service({ type: "NodePort", clusterIPs: [VIP_6], ports: [{ nodePort: 30080 }] })],
      slices: [slice({ endpoints: [endpoint(HERE_6)] })],
    },
    from: OUTSIDE_6,
    to: tcp("::", 30080),
    expect: pass,
  },
  {
    name: "an answer to the node's own connection from a node port's number is no request",
    field: "none",
    given: nodePort,
    from: OUTSIDE,
    to: tcp(NODE1, 30080),
    packet: "syn-ack",
    expect: pass,
  },
  {
    name: "an answer to a pod from a cluster address opens nothing",
    field: "none",
    given: { services: [service()], slices },
    from: POD,
    to: tcp(VIP, 80),
    packet: "syn-ack",
    expect: drop,
  },
  {
    name: "a frame for another machine is let by",
    field: "none",
    given: nodePort,
    from: OUTSIDE,
    to: tcp(NODE1, 30080),
    packet: "another-mac",
    expect: pass,
  },
  {
    name: "a frame for another machine is not refused either",
    field: "none",
    given: { services: [service()] },
    from: OUTSIDE,
    to: tcp(VIP, 80),
    packet: "another-mac",
    expect: pass,
  },
  {
    name: "with cluster addresses for inside, a client outside is not served there",
    field: "clusterIPs",
    given: inside,
    from: OUTSIDE,
    to: tcp(VIP, 80),
    expect: drop,
  },
  {
    name: "with cluster addresses for inside, a pod is served there",
    field: "clusterIPs",
    given: inside,
    from: POD,
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.1.2:8080", "10.244.2.2:8080"] },
  },
  {
    name: "with cluster addresses for inside, a client outside is served on node ports",
    field: "clusterIPs",
    given: { ...nodePort, clusterIPsInside: true },
    from: OUTSIDE,
    to: tcp(NODE1, 30080),
    expect: { kept: ["10.244.1.2:8080"], translated: ["10.244.2.2:8080"] },
  },
];
