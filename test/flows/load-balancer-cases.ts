// LoadBalancer addresses: ours and others', both policies, ports nobody defined, addresses that collide.
import { ending, endpoint, hostPort, type ServiceFields, service, slice } from "./builders.ts";
import {
  ENDPOINTS,
  ENDPOINTS_6,
  type FlowCase,
  HERE,
  HERE_TOO,
  HOST,
  NODE1,
  NODE2,
  OUTSIDE,
  OUTSIDE_6,
  POD,
  POD_6,
  THERE,
  tcp,
  udp,
} from "./flow-case.ts";

const VIP = "192.168.122.111";
const VIP_6 = "fd00:192:168:122::111";
const STATUS = "203.0.113.9";

type LoadBalancerAddress = NonNullable<ServiceFields["loadBalancerAddresses"]>[number];

const vip = (address: string, given: Partial<LoadBalancerAddress> = {}): LoadBalancerAddress => ({
  address,
  ipMode: "VIP",
  fromPool: true,
  ...given,
});
const balanced = (given: Parameters<typeof service>[0] = {}, addresses: readonly LoadBalancerAddress[] = [vip(VIP)]) =>
  service({ type: "LoadBalancer", ports: [{ nodePort: 30080 }], loadBalancerAddresses: addresses, ...given });

const slices = [slice({ endpoints: ENDPOINTS })];
const cluster = { services: [balanced()], slices };
const local = { services: [balanced({ externalTrafficPolicy: "Local" })], slices };
const status = { services: [balanced({}, [vip(STATUS, { fromPool: false })])], slices };

const udpPorts = [{ protocol: "UDP", port: 53, nodePort: 30053 }] as const;
const overUdp = (policy: "Cluster" | "Local") => ({
  services: [balanced({ ports: udpPorts, externalTrafficPolicy: policy })],
  slices: [
    slice({
      ports: [{ protocol: "UDP", port: 5353 }],
      endpoints: ENDPOINTS,
    }),
  ],
});

const dual = (policy: "Cluster" | "Local") => ({
  services: [
    balanced({ clusterIPs: ["10.96.0.10", "fd00:10:96::a"], externalTrafficPolicy: policy }, [vip(VIP), vip(VIP_6)]),
  ],
  slices: [...slices, slice({ name: "web-6", endpoints: ENDPOINTS_6 })],
});

export const LOAD_BALANCER_CASES: readonly FlowCase[] = [
  {
    name: "an outside client reaches every backend by a LoadBalancer address",
    field: "status.loadBalancer",
    given: cluster,
    from: OUTSIDE,
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.1.2:8080"], translated: ["10.244.2.2:8080"] },
  },
  {
    name: "an outside client reaches every backend by a LoadBalancer address over UDP",
    field: "status.loadBalancer",
    given: overUdp("Cluster"),
    from: OUTSIDE,
    to: udp(VIP, 53),
    expect: { kept: ["10.244.1.2:5353"], translated: ["10.244.2.2:5353"] },
  },
  {
    name: "a pod reaches every backend by a LoadBalancer address",
    field: "status.loadBalancer",
    given: cluster,
    from: POD,
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.1.2:8080", "10.244.2.2:8080"] },
  },
  {
    name: "a process of the node reaches every backend by a LoadBalancer address",
    field: "status.loadBalancer",
    given: cluster,
    from: HOST,
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.1.2:8080", "10.244.2.2:8080"] },
  },
  {
    name: "a LoadBalancer Service answers on its node port",
    field: "nodePort",
    given: cluster,
    from: OUTSIDE,
    to: tcp(NODE1, 30080),
    expect: { kept: ["10.244.1.2:8080"], translated: ["10.244.2.2:8080"] },
  },
  {
    name: "a LoadBalancer Service answers at its cluster address",
    field: "status.loadBalancer",
    given: cluster,
    from: POD,
    to: tcp("10.96.0.10", 80),
    expect: { kept: ["10.244.1.2:8080", "10.244.2.2:8080"] },
  },
  {
    name: "a LoadBalancer Service without address answers on its node port",
    field: "nodePort",
    given: { services: [balanced({}, [])], slices },
    from: OUTSIDE,
    to: tcp(NODE1, 30080),
    expect: { kept: ["10.244.1.2:8080"], translated: ["10.244.2.2:8080"] },
  },
  {
    name: "policy Local at a LoadBalancer address keeps outside clients on the node",
    field: "externalTrafficPolicy",
    given: local,
    from: OUTSIDE,
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.1.2:8080"] },
  },
  {
    name: "policy Local at a LoadBalancer address keeps UDP clients on the node",
    field: "externalTrafficPolicy",
    given: overUdp("Local"),
    from: OUTSIDE,
    to: udp(VIP, 53),
    expect: { kept: ["10.244.1.2:5353"] },
  },
  {
    name: "policy Local at a LoadBalancer address drops on a node without endpoint",
    field: "externalTrafficPolicy",
    given: { ...local, thisNode: "node3" },
    from: OUTSIDE,
    to: tcp(VIP, 80),
    expect: { verdict: "drop" },
  },
  {
    name: "policy Local at a LoadBalancer address does not touch pods of a node without endpoint",
    field: "externalTrafficPolicy",
    given: { ...local, thisNode: "node3" },
    from: { kind: "pod", address: "10.244.3.99" },
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.1.2:8080", "10.244.2.2:8080"] },
  },
  {
    name: "internal policy Local does not touch LoadBalancer addresses",
    field: "internalTrafficPolicy",
    given: { services: [balanced({ internalTrafficPolicy: "Local" })], slices, thisNode: "node3" },
    from: { kind: "host", address: "192.168.122.13" },
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.1.2:8080", "10.244.2.2:8080"] },
  },
  {
    name: "policy Local at a LoadBalancer address uses what terminates here",
    field: "externalTrafficPolicy",
    given: { ...local, slices: [slice({ endpoints: [ending(HERE), endpoint(THERE, "node2")] })] },
    from: OUTSIDE,
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.1.2:8080"] },
  },
  {
    name: "an IPv6 LoadBalancer address leads to IPv6 backends",
    field: "status.loadBalancer",
    given: dual("Cluster"),
    from: OUTSIDE_6,
    to: tcp(VIP_6, 80),
    expect: { kept: ["[fd00:10:244:1::2]:8080"], translated: ["[fd00:10:244:2::2]:8080"] },
  },
  {
    name: "policy Local holds at an IPv6 LoadBalancer address",
    field: "externalTrafficPolicy",
    given: dual("Local"),
    from: OUTSIDE_6,
    to: tcp(VIP_6, 80),
    expect: { kept: ["[fd00:10:244:1::2]:8080"] },
  },
  {
    name: "a pod reaches every backend by an IPv6 LoadBalancer address",
    field: "status.loadBalancer",
    given: dual("Local"),
    from: POD_6,
    to: tcp(VIP_6, 80),
    expect: { kept: ["[fd00:10:244:1::2]:8080", "[fd00:10:244:2::2]:8080"] },
  },
  {
    name: "an address of a family that the Service lacks is not served",
    field: "ipFamilies",
    given: { services: [balanced({}, [vip(VIP), vip(VIP_6)])], slices },
    from: OUTSIDE_6,
    to: tcp(VIP_6, 80),
    expect: { verdict: "pass" },
  },
  {
    name: "a port nobody defined is refused at an address of our pools",
    field: "status.loadBalancer",
    given: cluster,
    from: OUTSIDE,
    to: tcp(VIP, 81),
    expect: { verdict: "refuse" },
  },
  {
    name: "a UDP port nobody defined is refused at an address of our pools",
    field: "status.loadBalancer",
    given: cluster,
    from: POD,
    to: udp(VIP, 80),
    expect: { verdict: "refuse" },
  },
  {
    name: "an address that is not from our pools is served",
    field: "status.loadBalancer",
    given: status,
    from: OUTSIDE,
    to: tcp(STATUS, 80),
    expect: { kept: ["10.244.1.2:8080"], translated: ["10.244.2.2:8080"] },
  },
  {
    name: "a port nobody defined is not refused at an address that is not from our pools",
    field: "status.loadBalancer",
    given: status,
    from: OUTSIDE,
    to: tcp(STATUS, 81),
    expect: { verdict: "pass" },
  },
  {
    name: "another loadBalancerClass's status address is served",
    field: "loadBalancerClass",
    given: {
      services: [balanced({ loadBalancerClass: "example.org/lb" }, [vip(STATUS, { fromPool: false })])],
      slices,
    },
    from: POD,
    to: tcp(STATUS, 80),
    expect: { kept: ["10.244.1.2:8080", "10.244.2.2:8080"] },
  },
  {
    name: "ipMode Proxy makes no frontend",
    field: "ipMode",
    given: { services: [balanced({}, [vip(STATUS, { ipMode: "Proxy", fromPool: false })])], slices },
    from: POD,
    to: tcp(STATUS, 80),
    expect: { verdict: "pass" },
  },
  {
    name: "ipMode Proxy leaves node port and cluster address",
    field: "ipMode",
    given: { services: [balanced({}, [vip(STATUS, { ipMode: "Proxy", fromPool: false })])], slices },
    from: OUTSIDE,
    to: tcp(NODE1, 30080),
    expect: { kept: ["10.244.1.2:8080"], translated: ["10.244.2.2:8080"] },
  },
  {
    name: "a status address that is this node's is served at its exact port",
    field: "status.loadBalancer",
    given: { services: [balanced({}, [vip(NODE1, { fromPool: false })])], slices },
    from: OUTSIDE,
    to: tcp(NODE1, 80),
    expect: { kept: ["10.244.1.2:8080"], translated: ["10.244.2.2:8080"] },
  },
  {
    name: "other ports of a status address that is this node's are the node's own",
    field: "status.loadBalancer",
    given: { services: [balanced({}, [vip(NODE1)])], slices },
    from: OUTSIDE,
    to: tcp(NODE1, 22),
    expect: { verdict: "pass" },
  },
  {
    name: "other ports of a pool address that is another node's are not refused",
    field: "status.loadBalancer",
    given: { services: [balanced({}, [vip(NODE2)])], slices },
    from: POD,
    to: tcp(NODE2, 22),
    expect: { verdict: "pass" },
  },
  {
    name: "the exact port of a status address wins over a host port on every address",
    field: "hostPort",
    given: {
      services: [balanced({}, [vip(NODE1, { fromPool: false })])],
      slices,
      hostPorts: [hostPort({ hostPort: 80, podPort: 9999 })],
    },
    from: POD,
    to: tcp(NODE1, 80),
    expect: { kept: ["10.244.1.2:8080", "10.244.2.2:8080"] },
  },
  {
    name: "two Services share a LoadBalancer address by port",
    field: "precedence",
    given: {
      services: [
        balanced(),
        balanced({ name: "other", age: 2, clusterIPs: ["10.96.0.11"], ports: [{ port: 81, nodePort: 30081 }] }),
      ],
      slices: [...slices, slice({ service: "other", endpoints: [endpoint(HERE_TOO)] })],
    },
    from: OUTSIDE,
    to: tcp(VIP, 81),
    expect: { kept: ["10.244.1.3:8080"] },
  },
  {
    name: "the older of two Services has a port of a LoadBalancer address",
    field: "precedence",
    given: {
      services: [
        balanced({ age: 2 }),
        balanced({ name: "old", age: 1, clusterIPs: ["10.96.0.11"], ports: [{ nodePort: 30081 }] }),
      ],
      slices: [...slices, slice({ service: "old", endpoints: [endpoint(HERE_TOO)] })],
    },
    from: OUTSIDE,
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.1.3:8080"] },
  },
  {
    name: "a cluster address wins over an older LoadBalancer address",
    field: "precedence",
    given: {
      services: [
        balanced({ age: 1, clusterIPs: ["10.96.0.20"] }, [vip("10.96.0.10")]),
        service({ name: "inner", age: 2 }),
      ],
      slices: [...slices, slice({ service: "inner", endpoints: [endpoint(HERE_TOO)] })],
    },
    from: POD,
    to: tcp("10.96.0.10", 80),
    expect: { kept: ["10.244.1.3:8080"] },
  },
];
