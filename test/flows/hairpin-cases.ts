// Pods that are backends of what they ask, by every kind of address: toward themselves their source is translated, toward others it is
// kept. With either policy Local, and with affinity. The cluster address without either is with the other cases of that address.
import { endpoint, type ServiceFields, service, slice } from "./builders.ts";
import { ENDPOINTS, ENDPOINTS_6, type FlowCase, HERE, HERE_6, NODE1, tcp } from "./flow-case.ts";

const LB = "192.168.122.111";
const EXTERNAL = "203.0.113.20";
const EXTERNAL_6 = "2001:db8:113::20";

const SELF = { kind: "pod", address: HERE } as const;
const SELF_6 = { kind: "pod", address: HERE_6 } as const;
const toBoth = { kept: ["10.244.2.2:8080"], translated: ["10.244.1.2:8080"] };
const toBoth6 = { kept: ["[fd00:10:244:2::2]:8080"], translated: ["[fd00:10:244:1::2]:8080"] };
const toSelf = { translated: ["10.244.1.2:8080"] };

/** At a cluster address, a node port and a LoadBalancer address. */
const at = (fields: ServiceFields = {}, endpoints = ENDPOINTS): FlowCase["given"] => ({
  services: [
    service({
      type: "LoadBalancer",
      ports: [{ nodePort: 30080 }],
      loadBalancerAddresses: [{ address: LB, ipMode: "VIP", fromPool: true }],
      ...fields,
    }),
  ],
  slices: [slice({ endpoints })],
});
const external = (fields: ServiceFields = {}): FlowCase["given"] => ({
  services: [service({ clusterIPs: ["10.96.0.10", "fd00:10:96::a"], externalIPs: [EXTERNAL, EXTERNAL_6], ...fields })],
  slices: [slice({ endpoints: ENDPOINTS }), slice({ name: "web-6", endpoints: ENDPOINTS_6 })],
  externalIPRanges: ["203.0.113.0/24", "2001:db8:113::/64"],
});

const localOutside = { externalTrafficPolicy: "Local" } as const;
const sticky = { affinitySeconds: 10_800 } as const;
const alone = [endpoint(HERE)];

/** By one way: as one of two backends, also with policy Local, then with affinity, and as the only one. */
function casesAt(words: string, field: string, to: FlowCase["to"]): readonly FlowCase[] {
  return [
    {
      name: `a pod that is one of two backends, by ${words}, is translated toward itself only`,
      field,
      given: at(),
      from: SELF,
      to,
      expect: toBoth,
    },
    {
      name: `a pod that is the only backend reaches itself by ${words}, with policy Local and affinity`,
      field: `${field}, externalTrafficPolicy, sessionAffinity`,
      given: at({ ...localOutside, ...sticky }, alone),
      from: SELF,
      to,
      expect: { ...toSelf, sticks: true },
    },
    {
      name: `external policy Local does not touch a pod that is a backend and asks by ${words}`,
      field: `${field}, externalTrafficPolicy`,
      given: at(localOutside),
      from: SELF,
      to,
      expect: toBoth,
    },
    {
      name: `a pod that is one of two backends keeps the one that it reached by ${words}, itself or the other`,
      field: `${field}, sessionAffinity`,
      given: at(sticky),
      from: SELF,
      to,
      expect: { ...toBoth, sticks: true },
    },
  ];
}

export const HAIRPIN_CASES: readonly FlowCase[] = [
  ...casesAt("its node's node port", "nodePort", tcp(NODE1, 30080)),
  ...casesAt("a LoadBalancer address", "status.loadBalancer", tcp(LB, 80)),
  ...[
    [EXTERNAL, SELF, toBoth, "an external IP"] as const,
    [EXTERNAL_6, SELF_6, toBoth6, "an IPv6 external IP"] as const,
  ].flatMap(([address, from, expect, words]): FlowCase[] => [
    {
      name: `a pod that is one of two backends, by ${words}, is translated toward itself only`,
      field: "externalIPs",
      given: external(),
      from,
      to: tcp(address, 80),
      expect,
    },
    {
      name: `external policy Local does not touch a pod that is a backend and asks by ${words}`,
      field: "externalIPs, externalTrafficPolicy",
      given: external(localOutside),
      from,
      to: tcp(address, 80),
      expect,
    },
    {
      name: `a pod that is one of two backends keeps the one that it reached by ${words}, itself or the other`,
      field: "externalIPs, sessionAffinity",
      given: external(sticky),
      from,
      to: tcp(address, 80),
      expect: { ...expect, sticks: true },
    },
  ]),
  {
    name: "internal policy Local leads a pod that is the backend of its node to itself",
    field: "clusterIPs, internalTrafficPolicy",
    given: at({ internalTrafficPolicy: "Local" }),
    from: SELF,
    to: tcp("10.96.0.10", 80),
    expect: toSelf,
  },
  {
    name: "internal policy Local and affinity keep a pod that is the backend of its node at itself",
    field: "clusterIPs, internalTrafficPolicy, sessionAffinity",
    given: at({ internalTrafficPolicy: "Local", ...sticky }),
    from: SELF,
    to: tcp("10.96.0.10", 80),
    expect: { ...toSelf, sticks: true },
  },
  {
    name: "a pod that is one of two backends of a cluster address keeps the one that it reached, itself or the other",
    field: "clusterIPs, sessionAffinity",
    given: at(sticky),
    from: SELF,
    to: tcp("10.96.0.10", 80),
    expect: { ...toBoth, sticks: true },
  },
];
