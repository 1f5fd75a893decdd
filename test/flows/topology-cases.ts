// Endpoints that are meant for zones or nodes: at every kind of frontend, for every client, beside both policies.
import type { Endpoint } from "../../src/model/objects.ts";
import { ending, endpoint, node, type ServiceFields, service, slice } from "./builders.ts";
import {
  type FlowCase,
  HERE,
  HERE_6,
  HERE_TOO,
  HOST,
  HOST_6,
  NODE1,
  NODE1_6,
  OUTSIDE,
  OUTSIDE_6,
  POD,
  POD_6,
  THERE,
  THERE_6,
  tcp,
  udp,
} from "./flow-case.ts";
import { fromEverywhere } from "./from-everywhere.ts";

const VIP = "10.96.0.10";
const VIP_6 = "fd00:10:96::a";
const BALANCED = "192.168.122.111";
const zoned = (number: number, zone: string) => node(number, { labels: { "topology.kubernetes.io/zone": zone } });
/** node1 and node2 are in zone a, node3 is in b. */
const nodes = [zoned(1, "a"), zoned(2, "a"), zoned(3, "b")];
const meant = (one: Endpoint, zone: string, byNode = false): Endpoint => ({
  ...one,
  hints: { zones: [zone], nodes: byNode ? [one.nodeName] : [] },
});

const FAR = "10.244.3.2";
const FAR_6 = "fd00:10:244:3::2";
const endpoints = [
  meant(endpoint(HERE), "a"),
  meant(endpoint(THERE, "node2"), "a"),
  meant(endpoint(FAR, "node3"), "b"),
];
const endpoints6 = [
  meant(endpoint(HERE_6), "a"),
  meant(endpoint(THERE_6, "node2"), "a"),
  meant(endpoint(FAR_6, "node3"), "b"),
];
const of = (given: ServiceFields = {}, list: readonly Endpoint[] = endpoints) => ({
  nodes,
  services: [
    service({
      type: "LoadBalancer",
      clusterIPs: [VIP, VIP_6],
      ports: [{ nodePort: 30080 }],
      loadBalancerAddresses: [{ address: BALANCED, ipMode: "VIP", fromPool: true }],
      ...given,
    }),
  ],
  slices: [slice({ endpoints: list }), slice({ name: "web-6", endpoints: endpoints6 })],
});
const zone = of();
const byNode = of({}, [
  meant(endpoint(HERE), "a", true),
  meant(endpoint(THERE, "node2"), "a", true),
  meant(endpoint(FAR, "node3"), "b", true),
]);
const both = ["10.244.1.2:8080", "10.244.2.2:8080"];
const both6 = ["[fd00:10:244:1::2]:8080", "[fd00:10:244:2::2]:8080"];
const ZONE = "hints.forZones";
const NODE = "hints.forNodes";

export const TOPOLOGY_CASES: readonly FlowCase[] = [
  ...fromEverywhere({
    field: NODE,
    finds: "the endpoint that is meant for the node",
    given: {
      nodes,
      services: [service()],
      slices: [slice({ endpoints: [meant(endpoint(HERE), "a", true), meant(endpoint(THERE, "node2"), "a", true)] })],
    },
    to: tcp(VIP, 80),
    outside: { kept: ["10.244.1.2:8080"] },
    inside: { kept: ["10.244.1.2:8080"] },
  }),
  {
    name: "a drained endpoint, though the only one of the zone, does not keep clients from those of others",
    field: "hints.forZones, millrace.io/weights",
    given: {
      nodes,
      services: [service()],
      slices: [
        slice({
          endpoints: [meant(endpoint(HERE), "a"), meant(endpoint(FAR, "node3"), "b")],
          weights: `${HERE}=0`,
        }),
      ],
    },
    from: POD,
    to: tcp(VIP, 80),
    expect: { kept: [`${FAR}:8080`] },
  },
  {
    name: "a pod stays in its zone",
    field: ZONE,
    given: zone,
    from: POD,
    to: tcp(VIP, 80),
    expect: { kept: both },
  },
  {
    name: "a process of the node stays in its zone",
    field: ZONE,
    given: zone,
    from: HOST,
    to: tcp(VIP, 80),
    expect: { kept: both },
  },
  {
    name: "an outside client of a cluster address is served in the zone of the node that it came to",
    field: ZONE,
    given: zone,
    from: OUTSIDE,
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.1.2:8080"], translated: ["10.244.2.2:8080"] },
  },
  {
    name: "an outside client of a node port is served in the node's zone",
    field: ZONE,
    given: zone,
    from: OUTSIDE,
    to: tcp(NODE1, 30080),
    expect: { kept: ["10.244.1.2:8080"], translated: ["10.244.2.2:8080"] },
  },
  {
    name: "an outside client of a LoadBalancer address is served in the node's zone",
    field: ZONE,
    given: zone,
    from: OUTSIDE,
    to: tcp(BALANCED, 80),
    expect: { kept: ["10.244.1.2:8080"], translated: ["10.244.2.2:8080"] },
  },
  {
    name: "an outside client on a node of another zone is served there",
    field: ZONE,
    given: { ...zone, thisNode: "node3" },
    from: OUTSIDE,
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.3.2:8080"] },
  },
  {
    name: "a pod stays in its zone over IPv6",
    field: ZONE,
    given: zone,
    from: POD_6,
    to: tcp(VIP_6, 80),
    expect: { kept: both6 },
  },
  {
    name: "a process of the node stays in its zone over IPv6",
    field: ZONE,
    given: zone,
    from: HOST_6,
    to: tcp(VIP_6, 80),
    expect: { kept: both6 },
  },
  {
    name: "an outside client of an IPv6 node port is served in the node's zone",
    field: ZONE,
    given: zone,
    from: OUTSIDE_6,
    to: tcp(NODE1_6, 30080),
    expect: { kept: ["[fd00:10:244:1::2]:8080"], translated: ["[fd00:10:244:2::2]:8080"] },
  },
  {
    name: "a pod stays in its zone over UDP",
    field: ZONE,
    given: {
      nodes,
      services: [service({ ports: [{ protocol: "UDP", port: 53 }] })],
      slices: [slice({ ports: [{ protocol: "UDP", port: 5353 }], endpoints })],
    },
    from: POD,
    to: udp(VIP, 53),
    expect: { kept: ["10.244.1.2:5353", "10.244.2.2:5353"] },
  },
  {
    name: "a zone without endpoints uses all",
    field: ZONE,
    given: of({}, [meant(endpoint(HERE), "b"), meant(endpoint(THERE, "node2"), "c")]),
    from: POD,
    to: tcp(VIP, 80),
    expect: { kept: both },
  },
  {
    name: "one ready endpoint without a hint: all are used",
    field: ZONE,
    given: of({}, [meant(endpoint(HERE), "b"), endpoint(THERE, "node2")]),
    from: POD,
    to: tcp(VIP, 80),
    expect: { kept: both },
  },
  {
    name: "a node without zone uses all",
    field: ZONE,
    given: { ...zone, nodes: [node(1), node(2), node(3)] },
    from: POD,
    to: tcp(VIP, 80),
    expect: { kept: [...both, "10.244.3.2:8080"] },
  },
  {
    name: "external policy Local uses a pod of the node that is meant for another zone",
    field: `${ZONE}, externalTrafficPolicy`,
    given: of({ externalTrafficPolicy: "Local" }, [meant(endpoint(HERE), "b"), meant(endpoint(THERE, "node2"), "a")]),
    from: OUTSIDE,
    to: tcp(NODE1, 30080),
    expect: { kept: ["10.244.1.2:8080"] },
  },
  {
    name: "beside external policy Local pods stay in their zone",
    field: `${ZONE}, externalTrafficPolicy`,
    given: of({ externalTrafficPolicy: "Local" }, [meant(endpoint(HERE), "b"), meant(endpoint(THERE, "node2"), "a")]),
    from: POD,
    to: tcp(NODE1, 30080),
    expect: { kept: ["10.244.2.2:8080"] },
  },
  {
    name: "internal policy Local uses a pod of the node that is meant for another zone",
    field: `${ZONE}, internalTrafficPolicy`,
    given: of({ internalTrafficPolicy: "Local" }, [meant(endpoint(HERE), "b"), meant(endpoint(THERE, "node2"), "a")]),
    from: POD,
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.1.2:8080"] },
  },
  {
    name: "a terminating endpoint of the zone gives way to a ready one of another zone",
    field: `${ZONE}, conditions.terminating`,
    given: of({}, [meant(ending(HERE), "a"), meant(endpoint(FAR, "node3"), "b")]),
    from: POD,
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.3.2:8080"] },
  },
  {
    name: "when nothing is ready terminating endpoints of every zone serve",
    field: `${ZONE}, conditions.terminating`,
    given: of({}, [meant(ending(HERE), "a"), meant(ending(FAR, "node3"), "b")]),
    from: POD,
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.1.2:8080", "10.244.3.2:8080"] },
  },
  {
    name: "a pod stays on its node when endpoints are meant for nodes",
    field: NODE,
    given: byNode,
    from: POD,
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.1.2:8080"] },
  },
  {
    name: "a process stays on its node when endpoints are meant for nodes",
    field: NODE,
    given: byNode,
    from: HOST,
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.1.2:8080"] },
  },
  {
    name: "an outside client of a node port stays on the node when endpoints are meant for nodes",
    field: NODE,
    given: byNode,
    from: OUTSIDE,
    to: tcp(NODE1, 30080),
    expect: { kept: ["10.244.1.2:8080"] },
  },
  {
    name: "a node that no endpoint is meant for uses those of its zone",
    field: NODE,
    given: of({}, [meant(endpoint(THERE, "node2"), "a", true), meant(endpoint(FAR, "node3"), "b", true)]),
    from: POD,
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.2.2:8080"] },
  },
  {
    name: "one endpoint that is meant for no node: those of the zone are used",
    field: NODE,
    given: of({}, [
      meant(endpoint(HERE), "a", true),
      meant(endpoint(HERE_TOO), "a"),
      meant(endpoint(FAR, "node3"), "b", true),
    ]),
    from: POD,
    to: tcp(VIP, 80),
    expect: { kept: ["10.244.1.2:8080", "10.244.1.3:8080"] },
  },
];
