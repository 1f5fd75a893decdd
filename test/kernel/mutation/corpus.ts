// Packets that mean something, of every kind that the programs know, on a node whose tables hold frontends of every kind and
// conversations on every way: what is mutated. And the backends that the model allows for each frontend.
import { type Address, addressBytes } from "../../../src/lib/address.ts";
import { endpoint, hostPort, service, slice } from "../../flows/builders.ts";
import type { FlowCase } from "../../flows/flow-case.ts";
import { mapsOf } from "../../flows/reference.ts";
import { answer, FAMILIES, type Family, frame, send, type Transport, V4, V6 } from "../datapath/conversation.ts";
import { cut } from "../datapath/fragments.ts";
import { packet, parsePacket, withPartialChecksum } from "../datapath/packet.ts";
import { macOf, type TestNode } from "../datapath/test-node.ts";
import { talkBy, WAYS } from "../datapath/ways.ts";
import type { Place } from "./runner.ts";

export interface Seed {
  readonly place: Place;
  readonly packet: Uint8Array;
}

type Backend = (typeof WAYS)[number]["backend"];
const PROTOCOLS = ["TCP", "UDP", "SCTP"] as const;
/** Number of the cluster address that only this backend serves, and of those with something else behind them. */
const LAST = { here: 20, there: 21, many: 22, nobody: 23, elsewhere: 24 } as const;

const vipOf = (family: Family, last: number): Address => (family === V4 ? `10.96.0.${last}` : `fd00:10:96::${last}`);

const PORTS = [
  { name: "t", protocol: "TCP", port: 80, target: 8080 },
  { name: "u", protocol: "UDP", port: 53, target: 5353 },
  { name: "s", protocol: "SCTP", port: 3868, target: 13868 },
] as const;

function serviceOf(
  name: keyof typeof LAST,
  backends: readonly (Backend | "hereToo" | "ptp" | "far")[],
  given: Omit<Parameters<typeof service>[0] & object, "ports"> = {},
): { services: ReturnType<typeof service>[]; slices: ReturnType<typeof slice>[] } {
  const ports = PORTS.map(({ target, ...one }, i) => ({ ...one, nodePort: 30000 + LAST[name] * 10 + i }));
  return {
    services: [
      service({
        name,
        type: "LoadBalancer",
        clusterIPs: FAMILIES.map((one) => vipOf(one, LAST[name])),
        ports,
        ...given,
      }),
    ],
    slices: FAMILIES.map((family) =>
      slice({
        service: name,
        name: `${name}-${family.name}`,
        family: family.name,
        ports: PORTS.map(({ name: port, protocol, target }) => ({ name: port, protocol, port: target })),
        endpoints: backends.map((one) => endpoint(family[one], one === "there" || one === "far" ? "node2" : "node1")),
      }),
    ),
  };
}

/** What the node serves. */
export function objectsServed(): FlowCase["given"] {
  const all = [
    serviceOf("here", ["here"]),
    serviceOf("there", ["there"]),
    serviceOf("many", ["here", "hereToo", "there", "ptp", "far"], {
      loadBalancerAddresses: [V4, V6].map(({ lb }) => ({ address: lb, ipMode: "VIP", fromPool: true })),
    }),
    serviceOf("nobody", []),
    serviceOf("elsewhere", ["there"], { externalTrafficPolicy: "Local" }),
  ];
  return {
    services: all.flatMap(({ services }) => services),
    slices: all.flatMap(({ slices }) => slices),
    hostPorts: [hostPort({ podAddress: V4.here })],
  };
}

const wire = (address: Address): string => {
  const bytes = addressBytes(address);
  return Buffer.from(address.includes(":") ? bytes : bytes.subarray(12)).toString("latin1");
};

/** Text of an end as the judge has it: the address's bytes, and the port. */
export const endKey = (protocol: number, address: string, port: number): string => `${protocol} ${port} ${address}`;

/** By a frontend's end: the ends of backends that clients may be sent to, outside and on this node. */
export interface Allowed {
  readonly outside: ReadonlyMap<string, ReadonlySet<string>>;
  readonly inside: ReadonlyMap<string, ReadonlySet<string>>;
}

const NUMBERS = { TCP: 6, UDP: 17, SCTP: 132 } as const;

/** What the model of the datapath allows. */
export function allowedBackends(given: FlowCase["given"]): Allowed {
  const { maps } = mapsOf(given);
  const allowed = { outside: new Map<string, Set<string>>(), inside: new Map<string, Set<string>>() };
  const own = (address: Address): readonly Address[] =>
    address === "0.0.0.0" ? [V4.node] : address === "::" ? [V6.node] : [address];
  for (const { key, row: index } of maps.frontends.values()) {
    const row = maps.rows.get(index)!;
    const protocol = NUMBERS[key.protocol];
    for (const side of ["outside", "inside"] as const) {
      const { internal, external, cluster } = row.windows;
      const window = row.kind === "cluster-ip" ? internal : side === "outside" ? external : cluster;
      const backends = new Set<string>();
      for (let i = 0; i < window.count; i++) {
        const { address, port } = maps.backends.get(maps.slot(window.first + i).backend)!;
        backends.add(endKey(protocol, wire(address), port));
      }
      for (const address of own(key.address)) allowed[side].set(endKey(protocol, wire(address), key.port), backends);
    }
  }
  return allowed;
}

const TRANSPORTS: readonly Transport[] = ["TCP", "UDP", "UDP without checksum", "SCTP"];
const UPLINK_IN: Place = { program: "tc_uplink_ingress", device: "up0" };
const UPLINK_OUT: Place = { program: "tc_uplink_egress", device: "up0" };
const FORWARDED: Place = { ...UPLINK_OUT, from: "cni0" };
const POD_IN: Place = { program: "tc_pod_ingress", device: "pod99" };
const POD_OUT: Place = { program: "tc_pod_egress", device: "pod99" };
const XDP: Place = { program: "xdp_uplink", device: "up0" };
const L3_IN: Place = { program: "tc_uplink_in_l3", device: "up0" };
const L3_OUT: Place = { program: "tc_uplink_out_l3", device: "up0" };

/** Everywhere that a packet can be put: what is mutated goes to the wrong one as well. */
export const PLACES: readonly Place[] = [
  UPLINK_IN,
  UPLINK_OUT,
  FORWARDED,
  POD_IN,
  { program: "tc_pod_ingress", device: "pod2" },
  { program: "tc_pod_ingress", device: "p5" },
  POD_OUT,
  { program: "tc_pod_egress", device: "pod2" },
  XDP,
  L3_IN,
  L3_OUT,
  { ...L3_OUT, from: "cni0" },
  { ...UPLINK_IN, gsoSize: 500 },
  { ...POD_IN, gsoSize: 1300 },
];

export const hasLink = ({ program }: Place): boolean => !program.endsWith("_l3");

/** An ICMP error that quotes the packet, from its destination to its source. */
function errorAbout(
  about: Uint8Array,
  family: Family,
  [type, code, rest]: readonly [number, number, number],
): Uint8Array {
  const { eth, source, destination } = parsePacket(about, { cut: true });
  return packet()
    .eth(eth!.destination, eth!.source)
    .ip(destination, source)
    .icmp(type, code, rest)
    .payload(about.slice(14, 14 + family.header + 28))
    .bytes();
}

/** Opens a conversation on every way, and returns what its ends send: each packet at its place. */
export function converse(node: TestNode): Seed[] {
  node.clearFlows();
  const seeds: Seed[] = [];
  const add = (place: Place, ...packets: readonly Uint8Array[]): void => {
    for (const one of packets) seeds.push({ place, packet: one });
  };
  for (const family of FAMILIES) {
    const errors =
      family === V4
        ? ([
            [3, 3, 0],
            [3, 4, 1400],
            [11, 0, 0],
            [12, 0, 0],
            [5, 1, 0],
          ] as const)
        : ([
            [1, 4, 0],
            [2, 0, 1400],
            [3, 0, 0],
            [4, 0, 0],
          ] as const);
    for (const way of WAYS) {
      const backend = way.backend === "there" ? "there" : "here";
      for (const [i, transport] of TRANSPORTS.entries()) {
        if (family === V6 && transport === "UDP without checksum") continue;
        const at = { ...family, vip: vipOf(family, LAST[backend]) };
        const talk = talkBy({ ...way, frontend: "vip" }, node, at, transport, 40000 + i);
        const translated = talk.establish();
        const answered = answer(translated, { flags: "A", payload: 40 });
        const asked = send(talk.start, transport, talk.client, talk.frontend, { flags: "PA", payload: 60, ack: 7001 });
        const last = send(talk.start, transport, talk.client, talk.frontend, { flags: "PA", payload: 10, ttl: 1 });
        add(way.request, talk.first, asked, last);
        add(way.reply, answer(translated), answered);
        if (transport !== "UDP without checksum" && transport !== "SCTP") add(way.request, withPartialChecksum(asked));
        if (way.path === "OUTSIDE_REMOTE") add(XDP, asked, answered);
        const pieces = cut(send(talk.start, transport, talk.client, talk.frontend, { payload: 900, flags: "PA" }), {
          size: 400,
        });
        add(way.request, ...pieces);
        for (const error of errors) {
          add(way.reply, errorAbout(translated, family, error));
          add(way.request, errorAbout(way.request.program === "tc_pod_ingress" ? asked : answered, family, error));
        }
      }
    }
    for (const protocol of PROTOCOLS) seeds.push(...requestsOf(family, protocol));
    const many = vipOf(family, LAST.many);
    add(
      UPLINK_IN,
      frame()
        .ip(family.client, many)
        .icmp(family === V4 ? 8 : 128, 0, 7)
        .payload(56)
        .bytes(),
    );
    const pod = packet()
      .eth(macOf("pod", 99), macOf("pod", 1))
      .ip(family.pod, many)
      .icmp(family === V4 ? 8 : 128, 0, 7);
    add(POD_IN, pod.payload(56).bytes());
  }
  const whoHas = { operation: "request", senderMac: macOf("lan", 51), sender: V4.client, target: V4.lb } as const;
  add(UPLINK_IN, packet().eth(macOf("lan", 51), "ff:ff:ff:ff:ff:ff").arp(whoHas).bytes());
  add(UPLINK_IN, frame().ip(V6.client, V6.lb, { ttl: 255 }).neighbour(135, V6.lb, macOf("lan", 51)).bytes());
  return seeds;
}

/** First packets to every kind of frontend, and to addresses without one, from every client. */
function requestsOf(family: Family, protocol: (typeof PROTOCOLS)[number]): Seed[] {
  const seeds: Seed[] = [];
  const { port } = PORTS.find((one) => one.protocol === protocol)!;
  const ends = Object.values(LAST).flatMap((last) => [
    { address: vipOf(family, last), port },
    { address: family.node, port: 30000 + last * 10 + PROTOCOLS.indexOf(protocol) },
  ]);
  const far = family === V4 ? "8.0.0.51" : "fd00:0:86dd::51";
  ends.push(
    { address: family.lb, port },
    { address: family.free, port },
    { address: family.lb, port: 9 },
    { address: family.node, port: 22 },
  );
  for (const [n, to] of ends.entries()) {
    const from = (address: Address) => ({ address, port: 41000 + n });
    const more = { payload: 30 };
    const outside = send(frame(), protocol, from(family.client), to, more);
    const bare = send(frame(), protocol, from(far), to, more);
    seeds.push(
      { place: UPLINK_IN, packet: outside },
      { place: XDP, packet: outside },
      {
        place: POD_IN,
        packet: send(packet().eth(macOf("pod", 99), macOf("pod", 1)), protocol, from(family.pod), to, more),
      },
      {
        place: UPLINK_OUT,
        packet: send(frame(macOf("lan", 11), macOf("lan", 1)), protocol, from(family.node), to, more),
      },
      // A test run tells such a device's protocol by two bytes of the source address.
      { place: L3_IN, packet: bare.slice(14) },
      { place: L3_OUT, packet: bare.slice(14) },
    );
  }
  return seeds;
}
