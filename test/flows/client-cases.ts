// What depends on who the client is: session affinity, and the source ranges of LoadBalancer addresses.
import { type Family, familyOf } from "../../src/lib/address.ts";
import type { RowProtocol } from "../../src/model/operations.ts";
import { endpoint, type ServiceFields, service, slice } from "./builders.ts";
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
} from "./flow-case.ts";

const FAMILIES = ["IPv4", "IPv6"] as const;
const PROTOCOLS = ["TCP", "UDP"] as const;

const PLACES = {
  IPv4: {
    vip: "192.168.122.111",
    cluster: "10.96.0.10",
    node: NODE1,
    outside: OUTSIDE,
    pod: POD,
    host: HOST,
    here: [HERE, HERE_TOO],
    there: [THERE, "10.244.2.3"],
    lan: "192.168.122.0/24",
    pods: "10.244.0.0/16",
    elsewhere: "198.51.100.0/24",
  },
  IPv6: {
    vip: "fd00:192:168:122::111",
    cluster: "fd00:10:96::a",
    node: NODE1_6,
    outside: OUTSIDE_6,
    pod: POD_6,
    host: HOST_6,
    here: [HERE_6, "fd00:10:244:1::3"],
    there: [THERE_6, "fd00:10:244:2::3"],
    lan: "fd00:192:168:122::/64",
    pods: "fd00:10:244::/32",
    elsewhere: "2001:db8::/32",
  },
} as const;

const at = (address: string): string => (familyOf(address) === "IPv6" ? `[${address}]:8080` : `${address}:8080`);

/** A Service of both families with these endpoints, at every kind of address. */
function given(protocol: RowProtocol, backends: readonly string[], fields: ServiceFields): FlowCase["given"] {
  const { vip, cluster } = PLACES.IPv4;
  const bothFamilies = Map.groupBy(backends, familyOf);
  return {
    services: [
      service({
        type: "LoadBalancer",
        clusterIPs: [cluster, PLACES.IPv6.cluster],
        ports: [{ protocol, nodePort: 30080 }],
        loadBalancerAddresses: [vip, PLACES.IPv6.vip].map((address) => ({ address, ipMode: "VIP", fromPool: true })),
        ...fields,
      }),
    ],
    slices: [...bothFamilies].map(([family, addresses]) =>
      slice({
        name: `web-${family}`,
        ports: [{ protocol }],
        endpoints: addresses.map((address) =>
          endpoint(address, /(?:244\.2\.|244:2:)/.test(address) ? "node2" : "node1"),
        ),
      }),
    ),
  };
}

const perProtocol = (
  make: (family: Family, protocol: RowProtocol, words: string) => readonly FlowCase[],
): readonly FlowCase[] =>
  FAMILIES.flatMap((family) =>
    PROTOCOLS.flatMap((protocol) => make(family, protocol, `over ${protocol} and ${family}`)),
  );

export const AFFINITY_CASES: readonly FlowCase[] = perProtocol((family, protocol, words) => {
  const { vip, cluster, node, outside, pod, host, here, there } = PLACES[family];
  const affinitySeconds = 10_800;
  const onHere = given(protocol, here, { affinitySeconds });
  const onThere = given(protocol, there, { affinitySeconds });
  const kept = here.map(at);
  const elsewhere = there.map(at);
  return [
    {
      name: `a client outside keeps its backend on this node ${words}`,
      field: "sessionAffinity",
      given: onHere,
      from: outside,
      to: { address: vip, port: 80, protocol },
      expect: { kept, sticks: true },
    },
    {
      name: `a client outside keeps its backend on another node, by a node port, ${words}`,
      field: "sessionAffinity, nodePort",
      given: onThere,
      from: outside,
      to: { address: node, port: 30080, protocol },
      expect: { translated: elsewhere, sticks: true },
    },
    {
      name: `a pod keeps its backend ${words}`,
      field: "sessionAffinity",
      given: onThere,
      from: pod,
      to: { address: cluster, port: 80, protocol },
      expect: { kept: elsewhere, sticks: true },
    },
    {
      name: `a process of the host keeps its backend ${words}`,
      field: "sessionAffinity",
      given: onHere,
      from: host,
      to: { address: cluster, port: 80, protocol },
      expect: { kept, sticks: true },
    },
  ];
});

export const SOURCE_RANGE_CASES: readonly FlowCase[] = [
  ...perProtocol((family, protocol, words) => {
    const { vip, cluster, node, outside, pod, host, here, there, lan, pods, elsewhere } = PLACES[family];
    const to = { address: vip, port: 80, protocol };
    const onHere = (sourceRanges: readonly string[]) => given(protocol, here, { sourceRanges });
    const onThere = (sourceRanges: readonly string[]) => given(protocol, there, { sourceRanges });
    const kept = here.map(at);
    return [
      {
        name: `a client in a source range reaches a backend on this node ${words}`,
        field: "loadBalancerSourceRanges",
        given: onHere([elsewhere, lan]),
        from: outside,
        to,
        expect: { kept },
      },
      {
        name: `a client in a source range reaches a backend on another node ${words}`,
        field: "loadBalancerSourceRanges",
        given: onThere([lan]),
        from: outside,
        to,
        expect: { translated: there.map(at) },
      },
      {
        name: `a client outside of the source ranges is dropped ${words}`,
        field: "loadBalancerSourceRanges",
        given: onHere([elsewhere, pods]),
        from: outside,
        to,
        expect: { verdict: "drop" },
      },
      {
        name: `a pod in a source range is served, by its packets, ${words}`,
        field: "loadBalancerSourceRanges",
        given: onHere([pods]),
        from: pod,
        to,
        leftToPackets: true,
        expect: { kept },
      },
      {
        name: `a pod outside of the source ranges is dropped ${words}`,
        field: "loadBalancerSourceRanges",
        given: onHere([lan]),
        from: pod,
        to,
        expect: { verdict: "drop" },
      },
      {
        name: `a process of a node in a source range is served ${words}`,
        field: "loadBalancerSourceRanges",
        given: onHere([lan]),
        from: host,
        to,
        expect: { kept },
      },
      {
        name: `a process of a node outside of the source ranges is dropped ${words}`,
        field: "loadBalancerSourceRanges",
        given: onHere([pods]),
        from: host,
        to,
        expect: { verdict: "drop" },
      },
      {
        name: `source ranges do not filter node ports ${words}`,
        field: "loadBalancerSourceRanges, nodePort",
        given: onHere([elsewhere]),
        from: outside,
        to: { address: node, port: 30080, protocol },
        expect: { kept },
      },
      {
        name: `source ranges do not filter cluster addresses ${words}`,
        field: "loadBalancerSourceRanges",
        given: onHere([elsewhere]),
        from: pod,
        to: { address: cluster, port: 80, protocol },
        expect: { kept },
      },
      {
        name: `a source range of the other family opens nothing ${words}`,
        field: "loadBalancerSourceRanges",
        given: onHere([family === "IPv4" ? "::/0" : "0.0.0.0/0"]),
        from: outside,
        to,
        expect: { verdict: "drop" },
      },
      {
        name: `a Service without endpoints drops whom its source ranges do not let in ${words}`,
        field: "loadBalancerSourceRanges",
        given: given(protocol, [], { sourceRanges: [elsewhere] }),
        from: outside,
        to,
        expect: { verdict: "drop" },
      },
      {
        name: `source ranges of which none can be read close the address ${words}`,
        field: "loadBalancerSourceRanges",
        given: onHere(["192.0.2.0", "lan"]),
        from: outside,
        to,
        expect: { verdict: "drop" },
      },
    ];
  }),
];
