// SCTP, which is served by packet on every path: each kind of frontend from every client, in both families, with the target port that
// was asked for and with another one. Data only.
import { endpointText } from "../fakes/fake-maps.ts";
import { endpoint, hostPort, service, slice } from "./builders.ts";
import {
  type FlowCase,
  HERE,
  HERE_6,
  HOST,
  HOST_6,
  NODE1,
  NODE1_6,
  OUTSIDE,
  OUTSIDE_6,
  POD,
  POD_6,
  sctp,
  THERE,
  THERE_6,
  tcp,
} from "./flow-case.ts";

const FAMILIES = [
  {
    family: "IPv4",
    vip: "10.96.0.10",
    lb: "192.168.122.111",
    node: NODE1,
    clients: { outside: OUTSIDE, pod: POD, host: HOST },
    here: HERE,
    there: THERE,
  },
  {
    family: "IPv6",
    vip: "fd00:10:96::a",
    lb: "fd00:192:168:122::111",
    node: NODE1_6,
    clients: { outside: OUTSIDE_6, pod: POD_6, host: HOST_6 },
    here: HERE_6,
    there: THERE_6,
  },
] as const;

const PORT = 3868;
const NODE_PORT = 30868;

type Fields = Partial<Omit<Parameters<typeof service>[0] & object, "ports">>;

function casesOf({ family, vip, lb, node, clients, here, there }: (typeof FAMILIES)[number]): FlowCase[] {
  const given = (target: number, backends: readonly string[], fields: Fields = {}): FlowCase["given"] => ({
    services: [
      service({
        type: "LoadBalancer",
        clusterIPs: [vip],
        loadBalancerAddresses: [{ address: lb, ipMode: "VIP", fromPool: true }],
        ports: [{ name: "s", protocol: "SCTP", port: PORT, nodePort: NODE_PORT, targetPort: target }],
        ...fields,
      }),
    ],
    slices: [
      slice({
        family,
        ports: [{ name: "s", protocol: "SCTP", port: target }],
        endpoints: backends.map((one) => endpoint(one, one === there ? "node2" : "node1")),
      }),
    ],
  });
  const frontends = [
    ["a cluster address", vip, PORT],
    ["a LoadBalancer address", lb, PORT],
    ["a node port", node, NODE_PORT],
  ] as const;
  const cases: FlowCase[] = [];
  for (const [what, address, port] of frontends) {
    for (const client of [clients.outside, clients.pod, clients.host]) {
      for (const [where, backend] of [
        ["here", here],
        ["there", there],
      ] as const) {
        for (const target of [port, 13868]) {
          const serves = endpointText(backend, target);
          const isTranslated = client.kind === "outside" && backend === there;
          const ports = target === port ? "the same port" : "another port";
          cases.push({
            name: `SCTP over ${family} to ${what} from ${client.kind} reaches ${ports} of a pod ${where}`,
            field: "protocol",
            given: given(target, [backend]),
            from: client,
            to: sctp(address, port),
            expect: isTranslated ? { translated: [serves] } : { kept: [serves] },
          });
        }
      }
    }
  }
  const refused = (client: FlowCase["from"]): FlowCase => ({
    name: `SCTP over ${family} from ${client.kind} is refused where there is no endpoint`,
    field: "protocol",
    given: given(PORT, []),
    from: client,
    to: sctp(vip, PORT),
    expect: { verdict: "refuse" },
  });
  const local = (client: FlowCase["from"]): FlowCase => ({
    name: `SCTP over ${family} from ${client.kind} to a node port with external policy Local and no endpoint here`,
    field: "externalTrafficPolicy",
    given: given(PORT, [there], { externalTrafficPolicy: "Local" }),
    from: client,
    to: sctp(node, NODE_PORT),
    expect: client.kind === "outside" ? { verdict: "drop" } : { kept: [endpointText(there, PORT)] },
  });
  return [
    ...cases,
    ...[clients.outside, clients.pod, clients.host].flatMap((client) => [refused(client), local(client)]),
    {
      name: `SCTP over ${family} from a pod that is its own backend`,
      field: "protocol",
      given: given(13868, [here]),
      from: { kind: "pod", address: here },
      to: sctp(vip, PORT),
      expect: { translated: [endpointText(here, 13868)] },
    },
    {
      name: `SCTP over ${family} to a host port`,
      field: "hostPort",
      given: { hostPorts: [hostPort({ protocol: "SCTP", hostPort: PORT, podAddress: here, podPort: 13868 })] },
      from: clients.outside,
      to: sctp(node, PORT),
      expect: { kept: [endpointText(here, 13868)] },
    },
    {
      name: `SCTP over ${family} to a port of which only TCP is served is refused on a cluster address`,
      field: "protocol",
      given: {
        services: [service({ clusterIPs: [vip] })],
        slices: [slice({ endpoints: [endpoint(here)] })],
      },
      from: clients.pod,
      to: sctp(vip, 80),
      expect: { verdict: "refuse" },
    },
    {
      name: `TCP over ${family} beside SCTP on one port number`,
      field: "protocol",
      given: {
        services: [
          service({
            clusterIPs: [vip],
            ports: [
              { name: "s", protocol: "SCTP", port: 80 },
              { name: "t", port: 80 },
            ],
          }),
        ],
        slices: [
          slice({
            family,
            ports: [{ name: "t" }, { name: "s", protocol: "SCTP", port: 9090 }],
            endpoints: [endpoint(here)],
          }),
        ],
      },
      from: clients.pod,
      to: tcp(vip, 80),
      expect: { kept: [endpointText(here, 8080)] },
    },
    {
      name: `an INIT ACK of SCTP over ${family} to a node port goes on to whoever opened the association`,
      field: "none",
      given: given(PORT, [here]),
      from: clients.outside,
      to: sctp(node, NODE_PORT),
      packet: "syn-ack",
      expect: { verdict: "pass" },
    },
    {
      name: `an INIT ACK of SCTP over ${family} to a cluster address opens nothing`,
      field: "none",
      given: given(PORT, [here]),
      from: clients.outside,
      to: sctp(vip, PORT),
      packet: "syn-ack",
      expect: { verdict: "drop" },
    },
  ];
}

export const SCTP_CASES: readonly FlowCase[] = FAMILIES.flatMap(casesOf);
