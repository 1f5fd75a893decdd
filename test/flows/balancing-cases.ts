// Maglev tables and weights: who is served does not change, but for what is drained.
import { endpoint, service, slice } from "./builders.ts";
import {
  ENDPOINTS_6,
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
  THERE_6,
  tcp,
  udp,
} from "./flow-case.ts";

const VIP = "10.96.0.10";
const VIP_6 = "fd00:10:96::a";

const endpoints = [endpoint(HERE), endpoint(HERE_TOO), endpoint(THERE, "node2")];
const slices = [slice({ endpoints })];
const slices6 = [slice({ endpoints: ENDPOINTS_6 })];
const maglev = { services: [service({ loadBalancing: "maglev" })], slices };
const local = {
  services: [
    service({
      ...{ loadBalancing: "maglev", type: "NodePort", externalTrafficPolicy: "Local" },
      ports: [{ nodePort: 30080 }],
    }),
  ],
  slices,
};
const maglev6 = { services: [service({ loadBalancing: "maglev", clusterIPs: [VIP_6] })], slices: slices6 };
const drained = { services: [service()], slices: [slice({ endpoints, weights: `${HERE}=0,${THERE}=3` })] };
const allDrained = {
  services: [service()],
  slices: [slice({ endpoints, weights: JSON.stringify({ [HERE]: 0, [HERE_TOO]: 0, [THERE]: 0 }) })],
};
const drainedUdp6 = {
  services: [service({ clusterIPs: [VIP_6], loadBalancing: "maglev", ports: [{ protocol: "UDP", port: 53 }] })],
  slices: [slice({ ...slices6[0]!, ports: [{ protocol: "UDP", port: 53 }], weights: `${HERE_6}=0` })],
};
const localDrained = {
  ...local,
  slices: [slice({ endpoints, weights: `${HERE}=0,${HERE_TOO}=0` })],
};
const strange = {
  services: [service({ loadBalancing: "round-robin" })],
  slices: [slice({ endpoints, weights: `${HERE}=much` })],
};
const all = [`${HERE}:8080`, `${HERE_TOO}:8080`, `${THERE}:8080`];

export const BALANCING_CASES: readonly FlowCase[] = [
  {
    name: "by Maglev a pod reaches every backend",
    field: "millrace.io/load-balancing",
    given: maglev,
    from: POD,
    to: tcp(VIP, 80),
    expect: { kept: all },
  },
  {
    name: "by Maglev a client outside reaches every backend",
    field: "millrace.io/load-balancing",
    given: maglev,
    from: OUTSIDE,
    to: tcp(VIP, 80),
    expect: { kept: [`${HERE}:8080`, `${HERE_TOO}:8080`], translated: [`${THERE}:8080`] },
  },
  {
    name: "by Maglev a process of the host reaches every backend",
    field: "millrace.io/load-balancing",
    given: maglev,
    from: HOST,
    to: tcp(VIP, 80),
    expect: { kept: all },
  },
  {
    name: "by Maglev a pod reaches every backend over IPv6",
    field: "millrace.io/load-balancing",
    given: maglev6,
    from: POD_6,
    to: tcp(VIP_6, 80),
    expect: { kept: [`[${HERE_6}]:8080`, `[${THERE_6}]:8080`] },
  },
  {
    name: "by Maglev and with external policy Local a client outside reaches the backends of this node",
    field: "millrace.io/load-balancing, externalTrafficPolicy",
    given: local,
    from: OUTSIDE,
    to: tcp(NODE1, 30080),
    expect: { kept: [`${HERE}:8080`, `${HERE_TOO}:8080`] },
  },
  {
    name: "by Maglev and with external policy Local a pod reaches every backend",
    field: "millrace.io/load-balancing, externalTrafficPolicy",
    given: local,
    from: POD,
    to: tcp(NODE1, 30080),
    expect: { kept: all },
  },
  {
    name: "a drained endpoint gets no flow of a pod",
    field: "millrace.io/weights",
    given: drained,
    from: POD,
    to: tcp(VIP, 80),
    expect: { kept: [`${HERE_TOO}:8080`, `${THERE}:8080`] },
  },
  {
    name: "a drained endpoint gets no flow of a client outside",
    field: "millrace.io/weights",
    given: drained,
    from: OUTSIDE,
    to: tcp(VIP, 80),
    expect: { kept: [`${HERE_TOO}:8080`], translated: [`${THERE}:8080`] },
  },
  {
    name: "a drained endpoint gets no flow of a process of the host",
    field: "millrace.io/weights",
    given: drained,
    from: HOST,
    to: tcp(VIP, 80),
    expect: { kept: [`${HERE_TOO}:8080`, `${THERE}:8080`] },
  },
  {
    name: "a drained endpoint gets no UDP flow over IPv6, by Maglev either",
    field: "millrace.io/load-balancing, millrace.io/weights",
    given: drainedUdp6,
    from: OUTSIDE_6,
    to: udp(VIP_6, 53),
    expect: { translated: [`[${THERE_6}]:53`] },
  },
  {
    name: "a Service whose endpoints are all drained is refused",
    field: "millrace.io/weights",
    given: allDrained,
    from: POD,
    to: tcp(VIP, 80),
    expect: { verdict: "refuse" },
  },
  {
    name: "with external policy Local and all of this node's endpoints drained a client outside is dropped",
    field: "millrace.io/weights, externalTrafficPolicy",
    given: localDrained,
    from: OUTSIDE,
    to: tcp(NODE1, 30080),
    expect: { verdict: "drop" },
  },
  {
    name: "malformed weights and an unknown way of balancing leave every endpoint as it would be without",
    field: "millrace.io/load-balancing, millrace.io/weights",
    given: strange,
    from: POD,
    to: tcp(VIP, 80),
    expect: { kept: all },
  },
];
