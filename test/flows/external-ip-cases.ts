// External IPs: where --external-ip-cidrs allows them, both policies, and who has an address that several claim.
import { endpoint, hostPort, node, type ServiceFields, service, slice } from "./builders.ts";
import {
  ENDPOINTS,
  ENDPOINTS_6,
  type FlowCase,
  HERE_TOO,
  HOST,
  HOST_6,
  NODE1,
  NODE2,
  OUTSIDE,
  OUTSIDE_6,
  POD,
  POD_6,
  tcp,
  udp,
} from "./flow-case.ts";

const EXTERNAL = "203.0.113.20";
const EXTERNAL_6 = "2001:db8:113::20";
const ALLOWED = ["203.0.113.0/24", "2001:db8:113::/64", "192.168.122.0/24", "10.96.0.0/16"];
const field = "externalIPs";
const pass = { verdict: "pass" } as const;
const everywhere = { kept: ["10.244.1.2:8080"], translated: ["10.244.2.2:8080"] };
const inside = { kept: ["10.244.1.2:8080", "10.244.2.2:8080"] };

const slices = [slice({ endpoints: ENDPOINTS }), slice({ name: "web-6", endpoints: ENDPOINTS_6 })];
const at = (externalIPs: readonly string[], given: ServiceFields = {}) => ({
  services: [service({ clusterIPs: ["10.96.0.10", "fd00:10:96::a"], externalIPs, ...given })],
  slices,
  externalIPRanges: ALLOWED,
});
const both = at([EXTERNAL, EXTERNAL_6]);
const local = at([EXTERNAL, EXTERNAL_6], { externalTrafficPolicy: "Local" });
const overUdp = {
  ...at([EXTERNAL, EXTERNAL_6], { ports: [{ protocol: "UDP", port: 53 }] }),
  slices: [slice({ ports: [{ protocol: "UDP", port: 5353 }], endpoints: ENDPOINTS })],
};

export const EXTERNAL_IP_CASES: readonly FlowCase[] = [
  {
    name: "an outside client reaches every backend by an external IP",
    field,
    given: both,
    from: OUTSIDE,
    to: tcp(EXTERNAL, 80),
    expect: everywhere,
  },
  {
    name: "an outside client reaches every backend by an external IP over UDP",
    field,
    given: overUdp,
    from: OUTSIDE,
    to: udp(EXTERNAL, 53),
    expect: { kept: ["10.244.1.2:5353"], translated: ["10.244.2.2:5353"] },
  },
  {
    name: "a pod reaches every backend by an external IP",
    field,
    given: both,
    from: POD,
    to: tcp(EXTERNAL, 80),
    expect: inside,
  },
  {
    name: "a process of the node reaches every backend by an external IP",
    field,
    given: both,
    from: HOST,
    to: tcp(EXTERNAL, 80),
    expect: inside,
  },
  {
    name: "an outside client reaches IPv6 backends by an IPv6 external IP",
    field,
    given: both,
    from: OUTSIDE_6,
    to: tcp(EXTERNAL_6, 80),
    expect: { kept: ["[fd00:10:244:1::2]:8080"], translated: ["[fd00:10:244:2::2]:8080"] },
  },
  {
    name: "a pod reaches IPv6 backends by an IPv6 external IP",
    field,
    given: both,
    from: POD_6,
    to: tcp(EXTERNAL_6, 80),
    expect: { kept: ["[fd00:10:244:1::2]:8080", "[fd00:10:244:2::2]:8080"] },
  },
  {
    name: "a process of the node reaches IPv6 backends by an IPv6 external IP",
    field,
    given: both,
    from: HOST_6,
    to: tcp(EXTERNAL_6, 80),
    expect: { kept: ["[fd00:10:244:1::2]:8080", "[fd00:10:244:2::2]:8080"] },
  },
  {
    name: "policy Local keeps outside clients of an external IP on the node",
    field: `${field}, externalTrafficPolicy`,
    given: local,
    from: OUTSIDE,
    to: tcp(EXTERNAL, 80),
    expect: { kept: ["10.244.1.2:8080"] },
  },
  {
    name: "policy Local drops outside clients of an external IP on a node without endpoint",
    field: `${field}, externalTrafficPolicy`,
    given: { ...local, thisNode: "node3" },
    from: OUTSIDE,
    to: tcp(EXTERNAL, 80),
    expect: { verdict: "drop" },
  },
  {
    name: "policy Local does not touch pods that ask an external IP",
    field: `${field}, externalTrafficPolicy`,
    given: local,
    from: POD,
    to: tcp(EXTERNAL, 80),
    expect: inside,
  },
  {
    name: "an external IP without endpoint refuses",
    field,
    given: { services: both.services, externalIPRanges: ALLOWED },
    from: OUTSIDE,
    to: tcp(EXTERNAL, 80),
    expect: { verdict: "refuse" },
  },
  {
    name: "a port nobody defined at an external IP is not refused",
    field,
    given: both,
    from: OUTSIDE,
    to: tcp(EXTERNAL, 81),
    expect: pass,
  },
  {
    name: "an external IP outside the allowed ranges is nobody's",
    field,
    given: { ...both, externalIPRanges: ["198.51.100.0/24"] },
    from: POD,
    to: tcp(EXTERNAL, 80),
    expect: pass,
  },
  {
    name: "external IPs are nobody's unless they are allowed",
    field,
    given: { services: both.services, slices },
    from: HOST,
    to: tcp(EXTERNAL, 80),
    expect: pass,
  },
  {
    name: "an external IP that is another node's takes nothing from that one",
    field,
    given: at([NODE2]),
    from: POD,
    to: tcp(NODE2, 80),
    expect: pass,
  },
  {
    name: "an external IP that is this node's takes nothing from it",
    field,
    given: at([NODE1]),
    from: OUTSIDE,
    to: tcp(NODE1, 80),
    expect: pass,
  },
  {
    name: "an external IP that a device of the node has is the device's",
    field,
    given: { ...both, networks: [{ address: EXTERNAL, length: 32 }] },
    from: OUTSIDE,
    to: tcp(EXTERNAL, 80),
    expect: pass,
  },
  {
    name: "an external IP of a family that the Service lacks is not served",
    field: `${field}, ipFamilies`,
    given: at([EXTERNAL_6], { clusterIPs: ["10.96.0.10"] }),
    from: OUTSIDE_6,
    to: tcp(EXTERNAL_6, 80),
    expect: pass,
  },
  {
    name: "a headless Service has no external IP",
    field: `${field}, headless`,
    given: at([EXTERNAL], { clusterIPs: [], headless: true }),
    from: POD,
    to: tcp(EXTERNAL, 80),
    expect: pass,
  },
  {
    name: "another proxy's Service has no external IP here",
    field: `${field}, service-proxy-name`,
    given: at([EXTERNAL], { isForeign: true }),
    from: POD,
    to: tcp(EXTERNAL, 80),
    expect: pass,
  },
  {
    name: "a Service of type NodePort answers at its external IP beside its node port",
    field,
    given: at([EXTERNAL], { type: "NodePort", ports: [{ nodePort: 30080 }] }),
    from: OUTSIDE,
    to: tcp(EXTERNAL, 80),
    expect: everywhere,
  },
  {
    name: "an older external IP gives way to a LoadBalancer address",
    field: "precedence",
    given: {
      ...both,
      services: [
        ...both.services,
        service({
          name: "balanced",
          age: 2,
          type: "LoadBalancer",
          clusterIPs: ["10.96.0.11"],
          loadBalancerAddresses: [{ address: EXTERNAL, ipMode: "VIP", fromPool: false }],
        }),
      ],
      slices: [...slices, slice({ service: "balanced", endpoints: [endpoint(HERE_TOO)] })],
    },
    from: POD,
    to: tcp(EXTERNAL, 80),
    expect: { kept: ["10.244.1.3:8080"] },
  },
  {
    name: "an older external IP gives way to a cluster address, with all ports",
    field: "precedence",
    given: {
      ...at(["10.96.0.12"], { ports: [{ port: 81 }] }),
      services: [
        ...at(["10.96.0.12"], { ports: [{ port: 81 }] }).services,
        service({ name: "inner", age: 2, clusterIPs: ["10.96.0.12"] }),
      ],
    },
    from: POD,
    to: tcp("10.96.0.12", 81),
    expect: { verdict: "refuse" },
  },
  {
    name: "the older of two Services has the port of an external IP",
    field: "precedence",
    given: {
      ...both,
      services: [
        service({ name: "older", age: 0, clusterIPs: ["10.96.0.11"], externalIPs: [EXTERNAL] }),
        ...both.services,
      ],
      slices: [...slices, slice({ service: "older", endpoints: [endpoint(HERE_TOO)] })],
    },
    from: POD,
    to: tcp(EXTERNAL, 80),
    expect: { kept: ["10.244.1.3:8080"] },
  },
  {
    name: "two Services share an external IP by port",
    field: "precedence",
    given: {
      ...both,
      services: [
        ...both.services,
        service({ name: "other", age: 2, clusterIPs: ["10.96.0.11"], externalIPs: [EXTERNAL], ports: [{ port: 81 }] }),
      ],
      slices: [...slices, slice({ service: "other", endpoints: [endpoint(HERE_TOO)] })],
    },
    from: OUTSIDE,
    to: tcp(EXTERNAL, 81),
    expect: { kept: ["10.244.1.3:8080"] },
  },
  {
    name: "an external IP that is also the Service's LoadBalancer address is served once, as that",
    field,
    given: at([EXTERNAL], {
      type: "LoadBalancer",
      loadBalancerAddresses: [{ address: EXTERNAL, ipMode: "VIP", fromPool: true }],
    }),
    from: OUTSIDE,
    to: tcp(EXTERNAL, 81),
    expect: { verdict: "refuse" },
  },
  {
    name: "a host port that names an external IP gives way to it",
    field: `${field}, hostIP`,
    given: {
      ...both,
      hostPorts: [hostPort({ hostAddress: EXTERNAL, hostPort: 80, podPort: 9999 })],
      nodes: [node(1), node(2)],
    },
    from: OUTSIDE,
    to: tcp(EXTERNAL, 80),
    expect: everywhere,
  },
];
