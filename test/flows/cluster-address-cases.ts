// ClusterIP: who is served by which window, from where, in both families and protocols.
import { ending, endpoint, service, slice } from "./builders.ts";
import {
  ENDPOINTS,
  ENDPOINTS_6,
  type FlowCase,
  HERE,
  HERE_TOO,
  HOST,
  HOST_6,
  OUTSIDE,
  OUTSIDE_6,
  POD,
  POD_6,
  THERE,
  tcp,
  udp,
} from "./flow-case.ts";

const VIP = "10.96.0.10";
const VIP_6 = "fd00:10:96::a";

const cluster = { services: [service()], slices: [slice({ endpoints: ENDPOINTS })] };
const local = { ...cluster, services: [service({ internalTrafficPolicy: "Local" })] };
const external = { ...cluster, services: [service({ externalTrafficPolicy: "Local" })] };

const udpPort = [{ protocol: "UDP", port: 53 }] as const;
const udpSlicePort = [{ protocol: "UDP", port: 5353 }] as const;
const overUdp = {
  services: [service({ ports: udpPort })],
  slices: [slice({ ports: udpSlicePort, endpoints: ENDPOINTS })],
};

const dual = {
  services: [service({ clusterIPs: [VIP, VIP_6] })],
  slices: [slice({ endpoints: ENDPOINTS }), slice({ name: "web-6", endpoints: ENDPOINTS_6 })],
};
const dualUdp = {
  services: [service({ clusterIPs: [VIP, VIP_6], ports: udpPort, internalTrafficPolicy: "Local" })],
  slices: [
    slice({ ports: udpSlicePort, endpoints: ENDPOINTS }),
    slice({ name: "web-6", ports: udpSlicePort, endpoints: ENDPOINTS_6 }),
  ],
};

export const CLUSTER_ADDRESS_CASES: readonly FlowCase[] = [
  {
    name: "a pod reaches every backend of a cluster address over TCP",
    field: "clusterIPs",
    given: cluster,
    from: POD,
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.1.2:8080", "10.244.2.2:8080"] },
  },
  {
    name: "a pod reaches every backend of a cluster address over UDP",
    field: "clusterIPs",
    given: overUdp,
    from: POD,
    to: udp(VIP, 53),
    expect: { kept: ["10.244.1.2:5353", "10.244.2.2:5353"] },
  },
  {
    name: "a process of the node reaches every backend of a cluster address over TCP",
    field: "clusterIPs",
    given: cluster,
    from: HOST,
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.1.2:8080", "10.244.2.2:8080"] },
  },
  {
    name: "a process of the node reaches every backend of a cluster address over UDP",
    field: "clusterIPs",
    given: overUdp,
    from: HOST,
    to: udp(VIP, 53),
    expect: { kept: ["10.244.1.2:5353", "10.244.2.2:5353"] },
  },
  {
    name: "an outside client of a cluster address keeps its address only toward local backends",
    field: "clusterIPs",
    given: cluster,
    from: OUTSIDE,
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.1.2:8080"], translated: ["10.244.2.2:8080"] },
  },
  {
    name: "an outside client of a cluster address over UDP keeps its address only toward local backends",
    field: "clusterIPs",
    given: overUdp,
    from: OUTSIDE,
    to: udp(VIP, 53),
    expect: { kept: ["10.244.1.2:5353"], translated: ["10.244.2.2:5353"] },
  },
  {
    name: "a pod that is itself a backend reaches itself with a translated source",
    field: "clusterIPs",
    given: { services: [service()], slices: [slice({ endpoints: [endpoint(HERE)] })] },
    from: { kind: "pod", address: HERE },
    to: tcp(VIP, 80),
    expect: { translated: ["10.244.1.2:8080"] },
  },
  {
    name: "a pod that is one of two backends is translated toward itself only",
    field: "clusterIPs",
    given: cluster,
    from: { kind: "pod", address: HERE },
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.2.2:8080"], translated: ["10.244.1.2:8080"] },
  },
  {
    name: "a pod reaches IPv6 backends by the IPv6 cluster address",
    field: "clusterIPs",
    given: dual,
    from: POD_6,
    to: tcp(VIP_6, 80),
    expect: { kept: ["[fd00:10:244:1::2]:8080", "[fd00:10:244:2::2]:8080"] },
  },
  {
    name: "the IPv4 address of a dual-stack Service leads to IPv4 backends only",
    field: "ipFamilies",
    given: dual,
    from: POD,
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.1.2:8080", "10.244.2.2:8080"] },
  },
  {
    name: "an outside client of an IPv6 cluster address keeps its address only toward local backends",
    field: "clusterIPs",
    given: dual,
    from: OUTSIDE_6,
    to: tcp(VIP_6, 80),
    expect: { kept: ["[fd00:10:244:1::2]:8080"], translated: ["[fd00:10:244:2::2]:8080"] },
  },
  {
    name: "a process of the node reaches IPv6 backends",
    field: "clusterIPs",
    given: dual,
    from: HOST_6,
    to: tcp(VIP_6, 80),
    expect: { kept: ["[fd00:10:244:1::2]:8080", "[fd00:10:244:2::2]:8080"] },
  },
  {
    name: "internal policy Local serves a pod on its own node over IPv6 and UDP",
    field: "internalTrafficPolicy",
    given: dualUdp,
    from: POD_6,
    to: udp(VIP_6, 53),
    expect: { kept: ["[fd00:10:244:1::2]:5353"] },
  },
  {
    name: "internal policy Local keeps pods on their node",
    field: "internalTrafficPolicy",
    given: local,
    from: POD,
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.1.2:8080"] },
  },
  {
    name: "internal policy Local keeps processes on their node",
    field: "internalTrafficPolicy",
    given: local,
    from: HOST,
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.1.2:8080"] },
  },
  {
    name: "internal policy Local holds for outside clients of the cluster address",
    field: "internalTrafficPolicy",
    given: local,
    from: OUTSIDE,
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.1.2:8080"] },
  },
  {
    name: "internal policy Local drops a pod's packet on a node without endpoint",
    field: "internalTrafficPolicy",
    given: { ...local, thisNode: "node3" },
    from: { kind: "pod", address: "10.244.3.99" },
    to: tcp(VIP, 80),
    expect: { verdict: "drop" },
  },
  {
    name: "internal policy Local refuses when there is no endpoint anywhere",
    field: "internalTrafficPolicy",
    given: { services: local.services },
    from: POD,
    to: tcp(VIP, 80),
    expect: { verdict: "refuse" },
  },
  {
    name: "internal policy Local uses a terminating local endpoint while ready ones are elsewhere",
    field: "internalTrafficPolicy",
    given: { services: local.services, slices: [slice({ endpoints: [ending(HERE), endpoint(THERE, "node2")] })] },
    from: POD,
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.1.2:8080"] },
  },
  {
    name: "external policy Local does not touch the cluster address",
    field: "externalTrafficPolicy",
    given: external,
    from: POD,
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.1.2:8080", "10.244.2.2:8080"] },
  },
  {
    name: "external policy Local does not touch outside clients of the cluster address",
    field: "externalTrafficPolicy",
    given: { ...external, thisNode: "node3" },
    from: OUTSIDE,
    to: tcp(VIP, 80),
    expect: { translated: ["10.244.1.2:8080", "10.244.2.2:8080"] },
  },
  {
    name: "a backend on the node's own network is local",
    field: "clusterIPs",
    given: { services: [service()], slices: [slice({ endpoints: [endpoint("192.168.122.11", "node1")] })] },
    from: OUTSIDE,
    to: tcp(VIP, 80),
    expect: { kept: ["192.168.122.11:8080"] },
  },
  {
    name: "a backend on another node's network is remote",
    field: "clusterIPs",
    given: { services: [service()], slices: [slice({ endpoints: [endpoint("192.168.122.12", "node2")] })] },
    from: OUTSIDE,
    to: tcp(VIP, 80),
    expect: { translated: ["192.168.122.12:8080"] },
  },
  {
    name: "a backend that no node claims is remote",
    field: "clusterIPs",
    given: { services: [service()], slices: [slice({ endpoints: [endpoint("192.168.122.77", "")] })] },
    from: OUTSIDE,
    to: tcp(VIP, 80),
    expect: { translated: ["192.168.122.77:8080"] },
  },
  {
    name: "each port of a Service has its own backends",
    field: "ports",
    given: {
      services: [
        service({
          ports: [
            { name: "a", port: 80 },
            { name: "b", port: 81 },
          ],
        }),
      ],
      slices: [
        slice({ ports: [{ name: "a" }], endpoints: [endpoint(HERE)] }),
        slice({ name: "other", ports: [{ name: "b", port: 9090 }], endpoints: [endpoint(HERE_TOO)] }),
      ],
    },
    from: POD,
    to: tcp(VIP, 81),
    expect: { kept: ["10.244.1.3:9090"] },
  },
  {
    name: "TCP and UDP at one port number are different ports",
    field: "protocol",
    given: {
      services: [
        service({
          ports: [
            { name: "dns", port: 53, protocol: "UDP" },
            { name: "dns-tcp", port: 53, protocol: "TCP" },
          ],
        }),
      ],
      slices: [
        slice({ ports: [{ name: "dns", protocol: "UDP", port: 5353 }], endpoints: [endpoint(HERE)] }),
        slice({ name: "t", ports: [{ name: "dns-tcp", port: 5354 }], endpoints: [endpoint(HERE_TOO)] }),
      ],
    },
    from: POD,
    to: tcp(VIP, 53),
    expect: { kept: ["10.244.1.3:5354"] },
  },
];
