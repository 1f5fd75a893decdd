// What nobody serves gets an answer, or is dropped by name, on every path: each client, family and protocol.
import type { Address } from "../../src/lib/address.ts";
import type { Service } from "../../src/model/objects.ts";
import type { RowProtocol } from "../../src/model/operations.ts";
import { endpoint, service, slice } from "./builders.ts";
import {
  type FlowCase,
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
} from "./flow-case.ts";

interface Family {
  readonly name: "IPv4" | "IPv6";
  readonly clusterIP: Address;
  readonly loadBalancer: Address;
  readonly node: Address;
  readonly free: Address;
  readonly elsewhere: Address;
  readonly clients: readonly FlowCase["from"][];
}

const FAMILIES: readonly Family[] = [
  {
    name: "IPv4",
    clusterIP: "10.96.0.10",
    loadBalancer: "192.168.122.111",
    node: NODE1,
    free: "10.96.7.7",
    elsewhere: THERE,
    clients: [OUTSIDE, POD, HOST],
  },
  {
    name: "IPv6",
    clusterIP: "fd00:10:96::a",
    loadBalancer: "fd00:192:168:122::111",
    node: NODE1_6,
    free: "fd00:10:96::77",
    elsewhere: THERE_6,
    clients: [OUTSIDE_6, POD_6, HOST_6],
  },
];

const WHO = { outside: "a client outside", pod: "a pod", host: "a process of the node" } as const;

/** Of both protocols at each kind of frontend. */
function balanced(policy: "Cluster" | "Local"): readonly Service[] {
  return [
    service({
      type: "LoadBalancer",
      clusterIPs: FAMILIES.map(({ clusterIP }) => clusterIP),
      loadBalancerAddresses: FAMILIES.map(({ loadBalancer }) => ({
        address: loadBalancer,
        ipMode: "VIP",
        fromPool: true,
      })),
      ports: [
        { name: "t", protocol: "TCP", port: 80, nodePort: 30080 },
        { name: "u", protocol: "UDP", port: 80, nodePort: 30080 },
      ],
      externalTrafficPolicy: policy,
      internalTrafficPolicy: policy,
    }),
  ];
}

const ports = [
  { name: "t", protocol: "TCP" },
  { name: "u", protocol: "UDP" },
] as const;

function casesOf(family: Family, protocol: RowProtocol): FlowCase[] {
  const nothing = { services: balanced("Cluster") };
  const elsewhere = {
    services: balanced("Local"),
    slices: FAMILIES.map((one) =>
      slice({ name: `web-${one.name}`, ports, endpoints: [endpoint(one.elsewhere, "node2")] }),
    ),
  };
  const places = [
    ["a cluster address", family.clusterIP, 80, "clusterIPs"],
    ["a LoadBalancer address", family.loadBalancer, 80, "status.loadBalancer"],
    ["a node port", family.node, 30080, "nodePort"],
  ] as const;
  return family.clients.flatMap((from) => {
    const who = `${WHO[from.kind]} over ${family.name} and ${protocol}`;
    const to = (address: Address, port: number): FlowCase["to"] => ({ address, port, protocol });
    const found: FlowCase[] = places.map(([place, address, port, field]) => ({
      name: `without any endpoint ${place} refuses ${who}`,
      field,
      given: nothing,
      from,
      to: to(address, port),
      expect: { verdict: "refuse" },
    }));
    for (const [place, address, port, field] of places) {
      if (port !== 80) continue;
      found.push({
        name: `a port that nobody defined at ${place} refuses ${who}`,
        field,
        given: nothing,
        from,
        to: to(address, 81),
        expect: { verdict: "refuse" },
      });
    }
    // The policy of a cluster address is everybody's; the other one is that of clients outside.
    for (const [place, address, port, field] of places.slice(0, from.kind === "outside" ? 3 : 1)) {
      found.push({
        name: `policy Local with endpoints elsewhere drops at ${place}, by name, what comes from ${who}`,
        field: `${field}, ${field === "clusterIPs" ? "internalTrafficPolicy" : "externalTrafficPolicy"}`,
        given: elsewhere,
        from,
        to: to(address, port),
        expect: { verdict: "drop" },
        counted: "DROP_NO_LOCAL_BACKEND",
      });
    }
    found.push({
      name: `an address of the Service range that no Service has drops, by name, what comes from ${who}`,
      field: "none",
      given: nothing,
      from,
      to: to(family.free, 80),
      expect: { verdict: "drop" },
      counted: "DROP_FREE_SERVICE_ADDRESS",
    });
    if (protocol === "UDP") return found;
    for (const [place, address, verdict, field] of [
      ["a cluster address", family.clusterIP, "echo", "clusterIPs"],
      ["a LoadBalancer address", family.loadBalancer, "echo", "status.loadBalancer"],
      ["an address of the node", family.node, "pass", "none"],
      ["a free Service address", family.free, "drop", "none"],
    ] as const) {
      const answered = { echo: "is answered", pass: "is the node's to answer", drop: "is dropped" }[verdict];
      found.push({
        name: `an echo request to ${place} ${answered}, from ${WHO[from.kind]} over ${family.name}`,
        field,
        given: nothing,
        from,
        to: to(address, 0),
        packet: "echo",
        expect: { verdict },
      });
    }
    return found;
  });
}

export const UNANSWERED_CASES: readonly FlowCase[] = FAMILIES.flatMap((family) =>
  (["TCP", "UDP"] as const).flatMap((protocol) => casesOf(family, protocol)),
);
