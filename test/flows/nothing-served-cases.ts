// Endpoints that do not count, addresses that are refused, Services that are skipped, and what nobody defined.
import { ending, endpoint, hostPort, node, notReady, service, slice } from "./builders.ts";
import {
  type FlowCase,
  HERE,
  HERE_6,
  HERE_TOO,
  HOST,
  NODE1,
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
const services = [service()];
const refuse = { verdict: "refuse" } as const;
const drop = { verdict: "drop" } as const;
const pass = { verdict: "pass" } as const;

/** Service "web" whose endpoints are these; a pod asks its cluster address. */
function asked(
  field: string,
  name: string,
  slices: readonly ReturnType<typeof slice>[],
  expect: FlowCase["expect"],
): FlowCase {
  return { name, field, given: { services, slices }, from: POD, to: tcp(VIP, 80), expect };
}

/** Beside one good endpoint there is one at a refused address. */
function refused(what: string, address: string): FlowCase {
  const good = endpoint(address.includes(":") ? HERE_6 : HERE);
  const six = address.includes(":");
  return {
    name: `an endpoint at ${what} is never used`,
    field: "endpoints",
    given: {
      services: [
        service({ clusterIPs: [VIP, VIP_6] }),
        service({
          name: "other",
          type: "LoadBalancer",
          clusterIPs: ["10.96.0.77"],
          ports: [
            { name: "a", port: 80 },
            { name: "b", port: 8080 },
          ],
          loadBalancerAddresses: [{ address: "192.168.122.111", ipMode: "VIP", fromPool: true }],
        }),
      ],
      slices: [slice({ endpoints: [good, endpoint(address)] })],
    },
    from: six ? POD_6 : POD,
    to: tcp(six ? VIP_6 : VIP, 80),
    expect: { kept: [six ? "[fd00:10:244:1::2]:8080" : "10.244.1.2:8080"] },
  };
}

export const ENDPOINT_CASES: readonly FlowCase[] = [
  asked("selector", "a Service without slices refuses", [], refuse),
  asked("selector", "a slice without endpoints refuses", [slice()], refuse),
  asked(
    "conditions.ready",
    "endpoints that are not ready refuse",
    [slice({ endpoints: [notReady(HERE), notReady(THERE, "node2")] })],
    refuse,
  ),
  asked(
    "conditions.ready",
    "ready endpoints alone are used",
    [slice({ endpoints: [endpoint(HERE), notReady(HERE_TOO)] })],
    {
      kept: ["10.244.1.2:8080"],
    },
  ),
  asked(
    "conditions.terminating",
    "terminating endpoints that serve are used when nothing is ready",
    [slice({ endpoints: [ending(HERE), ending(THERE, "node2"), notReady(HERE_TOO)] })],
    { kept: ["10.244.1.2:8080", "10.244.2.2:8080"] },
  ),
  asked(
    "conditions.terminating",
    "terminating endpoints are left when one is ready",
    [slice({ endpoints: [ending(HERE), endpoint(THERE, "node2")] })],
    { kept: ["10.244.2.2:8080"] },
  ),
  asked(
    "conditions.terminating",
    "terminating endpoints that do not serve refuse",
    [slice({ endpoints: [endpoint(HERE, "node1", { ready: false, terminating: true })] })],
    refuse,
  ),
  asked(
    "conditions.terminating",
    "an endpoint that is both ready and terminating counts as ready",
    [slice({ endpoints: [endpoint(HERE, "node1", { terminating: true }), ending(HERE_TOO)] })],
    { kept: ["10.244.1.2:8080"] },
  ),
  asked(
    "conditions.ready",
    "an endpoint in two slices is one backend, ready if it is ready in one",
    [
      slice({ name: "a", endpoints: [notReady(HERE), endpoint(HERE_TOO)] }),
      slice({ name: "b", endpoints: [endpoint(HERE), ending(HERE_TOO)] }),
    ],
    { kept: ["10.244.1.2:8080", "10.244.1.3:8080"] },
  ),
  asked(
    "targetPort",
    "one address at two ports is two backends",
    [
      slice({ name: "a", endpoints: [endpoint(HERE)] }),
      slice({ name: "b", ports: [{ port: 8081 }], endpoints: [endpoint(HERE)] }),
    ],
    { kept: ["10.244.1.2:8080", "10.244.1.2:8081"] },
  ),
  asked(
    "targetPort",
    "a port name that does not match gives no backend",
    [slice({ ports: [{ name: "http" }], endpoints: [endpoint(HERE)] })],
    refuse,
  ),
  asked(
    "targetPort",
    "a protocol that does not match gives no backend",
    [slice({ ports: [{ protocol: "UDP" }], endpoints: [endpoint(HERE)] })],
    refuse,
  ),
  asked("ipFamilies", "slices of another family give no backend", [slice({ endpoints: [endpoint(HERE_6)] })], refuse),
  asked(
    "selector",
    "slices of another Service give no backend",
    [slice({ service: "other", endpoints: [endpoint(HERE)] })],
    refuse,
  ),
  asked(
    "selector",
    "a Service of that name in another namespace gives no backend",
    [slice({ service: "elsewhere/web", endpoints: [endpoint(HERE)] })],
    refuse,
  ),
  refused("loopback", "127.0.0.1"),
  refused("a link-local address", "169.254.20.10"),
  refused("a multicast address", "224.0.0.9"),
  refused("the broadcast address", "255.255.255.255"),
  refused("the unspecified address", "0.0.0.0"),
  refused("IPv6 loopback", "::1"),
  refused("an IPv6 link-local address", "fe80::1"),
  refused("an IPv6 multicast address", "ff02::1"),
  refused("the Service's own cluster address", VIP),
  refused("another Service's cluster address", "10.96.0.77"),
  refused("another Service's LoadBalancer address and port", "192.168.122.111"),
  {
    name: "an endpoint at a LoadBalancer address, on a port that no Service answers at, is used",
    field: "endpoints",
    given: {
      services: [
        service(),
        service({
          name: "other",
          type: "LoadBalancer",
          clusterIPs: ["10.96.0.77"],
          loadBalancerAddresses: [{ address: "192.168.122.111", ipMode: "VIP", fromPool: false }],
        }),
      ],
      slices: [slice({ endpoints: [endpoint("192.168.122.111", "")] })],
    },
    from: POD,
    to: tcp(VIP, 80),
    expect: { kept: ["192.168.122.111:8080"] },
  },
  {
    name: "a host port whose pod has a Service's address is not served",
    field: "hostPort",
    given: { services, hostPorts: [hostPort({ podAddress: VIP })] },
    from: OUTSIDE,
    to: tcp(NODE1, 8080),
    expect: pass,
  },
];

export const UNDEFINED_CASES: readonly FlowCase[] = [
  {
    name: "a port nobody defined is refused at a cluster address",
    field: "clusterIPs",
    given: { services },
    from: POD,
    to: tcp(VIP, 81),
    expect: refuse,
  },
  {
    name: "a port nobody defined is refused to outside clients of a cluster address",
    field: "clusterIPs",
    given: { services },
    from: OUTSIDE,
    to: tcp(VIP, 81),
    expect: refuse,
  },
  {
    name: "a UDP port nobody defined is refused to a process of the node",
    field: "clusterIPs",
    given: { services },
    from: HOST,
    to: udp(VIP, 80),
    expect: refuse,
  },
  {
    name: "a port nobody defined is refused at an IPv6 cluster address",
    field: "clusterIPs",
    given: { services: [service({ clusterIPs: [VIP_6] })] },
    from: POD_6,
    to: tcp(VIP_6, 81),
    expect: refuse,
  },
  {
    name: "a free address of a Service range is dropped for a pod",
    field: "none",
    given: { services },
    from: POD,
    to: tcp("10.96.7.7", 80),
    expect: drop,
  },
  {
    name: "a free address of a Service range is dropped for a process of the node",
    field: "none",
    given: { services },
    from: HOST,
    to: udp("10.96.7.7", 53),
    expect: drop,
  },
  {
    name: "a free address of a Service range is dropped for a process of the node over TCP",
    field: "none",
    given: { services },
    from: HOST,
    to: tcp("10.96.7.7", 80),
    expect: drop,
  },
  {
    name: "a free address of an IPv6 Service range is dropped",
    field: "none",
    given: { services },
    from: POD_6,
    to: tcp("fd00:10:96::77", 80),
    expect: drop,
  },
  {
    name: "an address outside every Service range passes",
    field: "none",
    given: { services },
    from: POD,
    to: tcp("203.0.113.1", 80),
    expect: pass,
  },
  {
    name: "a pod's own address passes",
    field: "clusterIPs",
    given: { services, slices: [slice({ endpoints: [endpoint(HERE)] })] },
    from: POD,
    to: tcp(HERE, 8080),
    expect: pass,
  },
  {
    name: "a headless Service has nothing in the maps",
    field: "headless",
    given: {
      services: [service({ clusterIPs: [], headless: true })],
      slices: [slice({ endpoints: [endpoint(HERE)] })],
    },
    from: POD,
    to: tcp(HERE, 80),
    expect: pass,
  },
  {
    name: "an ExternalName Service serves nothing, whatever else it says",
    field: "externalName",
    given: {
      services: [service({ type: "ExternalName", externalName: "example.org" })],
      slices: [slice({ endpoints: [endpoint(HERE)] })],
    },
    from: POD,
    to: tcp(VIP, 80),
    expect: drop,
  },
  {
    name: "a Service of another proxy is left to that one",
    field: "service-proxy-name",
    given: { services: [service({ isForeign: true })], slices: [slice({ endpoints: [endpoint(HERE)] })] },
    from: POD,
    to: tcp(VIP, 80),
    expect: pass,
  },
  {
    name: "a port that nobody defined is left to another proxy too",
    field: "service-proxy-name",
    given: { services: [service({ isForeign: true })] },
    from: OUTSIDE,
    to: tcp(VIP, 81),
    expect: pass,
  },
  {
    name: "a process of the node reaches another proxy's Service as it would without us",
    field: "service-proxy-name",
    given: { services: [service({ isForeign: true, clusterIPs: [VIP, VIP_6] })] },
    from: HOST,
    to: udp(VIP, 53),
    expect: pass,
  },
  {
    name: "another proxy's cluster address is no LoadBalancer address of ours",
    field: "service-proxy-name",
    given: {
      services: [
        service({ isForeign: true }),
        service({
          name: "lb",
          type: "LoadBalancer",
          clusterIPs: ["10.96.0.77"],
          loadBalancerAddresses: [{ address: VIP, ipMode: "VIP", fromPool: true }],
        }),
      ],
      slices: [slice({ service: "lb", endpoints: [endpoint(HERE)] })],
    },
    from: POD,
    to: tcp(VIP, 80),
    expect: pass,
  },
  {
    name: "a cluster address that a device of the node has is left to that one",
    field: "clusterIPs",
    given: {
      services,
      slices: [slice({ endpoints: [endpoint(HERE)] })],
      networks: [{ address: VIP, length: 32 }],
    },
    from: POD,
    to: tcp(VIP, 80),
    expect: pass,
  },
  {
    name: "the node port of another proxy's Service is not served",
    field: "service-proxy-name",
    given: {
      services: [service({ isForeign: true, type: "NodePort", ports: [{ nodePort: 30080 }] })],
      slices: [slice({ endpoints: [endpoint(HERE)] })],
    },
    from: OUTSIDE,
    to: tcp(NODE1, 30080),
    expect: pass,
  },
  {
    name: "a cluster address that is a node's address is not served",
    field: "clusterIPs",
    given: {
      services: [service({ clusterIPs: ["192.168.122.12"] })],
      slices: [slice({ endpoints: [endpoint(HERE)] })],
    },
    from: POD,
    to: tcp("192.168.122.12", 80),
    expect: pass,
  },
  {
    name: "a cluster address on loopback is not served",
    field: "clusterIPs",
    given: { services: [service({ clusterIPs: ["127.0.0.1"] })], slices: [slice({ endpoints: [endpoint(HERE)] })] },
    from: POD,
    to: tcp("127.0.0.1", 80),
    expect: pass,
  },
  {
    name: "a LoadBalancer address that is link-local is not served",
    field: "status.loadBalancer",
    given: {
      services: [
        service({
          type: "LoadBalancer",
          clusterIPs: [VIP_6],
          loadBalancerAddresses: [{ address: "fe80::99", ipMode: "VIP", fromPool: true }],
        }),
      ],
      slices: [slice({ endpoints: [endpoint(HERE_6)] })],
    },
    from: OUTSIDE_6,
    to: tcp("fe80::99", 80),
    expect: pass,
  },
  {
    name: "the older of two Services has the cluster address",
    field: "precedence",
    given: {
      services: [service({ age: 2 }), service({ name: "old", age: 1 })],
      slices: [slice({ endpoints: [endpoint(HERE)] }), slice({ service: "old", endpoints: [endpoint(HERE_TOO)] })],
    },
    from: POD,
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.1.3:8080"] },
  },
  {
    name: "the loser of a cluster address has none of its ports there",
    field: "precedence",
    given: {
      services: [service({ age: 2, ports: [{ port: 81 }] }), service({ name: "old", age: 1 })],
      slices: [slice({ endpoints: [endpoint(HERE)] })],
    },
    from: POD,
    to: tcp(VIP, 81),
    expect: refuse,
  },
  {
    name: "Services of one age are told apart by name",
    field: "precedence",
    given: {
      services: [service({ name: "b" }), service({ name: "a" })],
      slices: [
        slice({ service: "b", endpoints: [endpoint(HERE)] }),
        slice({ service: "a", endpoints: [endpoint(HERE_TOO)] }),
      ],
    },
    from: POD,
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.1.3:8080"] },
  },
  {
    name: "a node that nobody described answers no node port",
    field: "nodePort",
    given: {
      services: [service({ type: "NodePort", ports: [{ nodePort: 30080 }] })],
      slices: [slice({ endpoints: [endpoint(HERE)] })],
      nodes: [node(2)],
    },
    from: OUTSIDE,
    to: tcp(NODE1, 30080),
    expect: pass,
  },
];
