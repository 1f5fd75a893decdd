// Nanoseconds a packet at each hook, over what an empty program takes. Established flows are measured twice: by two flows that
// undo each other, which stay in the CPU's caches, and round all Services' flows in turn, which do not.

import { FLOW_PATH_VALUES } from "../src/datapath/layout.gen.ts";
import type { Address } from "../src/lib/address.ts";
import { type BpfProgram, hasFeature } from "../src/libbpf/mod.ts";
import { macBytes, packet } from "../test/kernel/datapath/packet.ts";
import { type BenchFamily, type BenchProtocol, type BenchService, benchService, clusterEvents } from "./cluster.ts";
import { type CycleStep, type Ends, putCycle } from "./flow-cycles.ts";
import {
  countedSince,
  type Effort,
  type Prepared,
  readVerdicts,
  type Timing,
  timeRepeated,
  timeSingles,
} from "./measure.ts";
import {
  type BenchDevice,
  type BenchNode,
  BRIDGE_MAC,
  NODE_ADDRESS,
  P5_MAC,
  POD_MAC,
  ROUTER_MAC,
  SNAT_COUNT,
  SNAT_FIRST,
  UPLINK_MAC,
} from "./node.ts";

export interface PacketResult extends Timing {
  /** "tc uplink ingress: established, local backend" */
  readonly scenario: string;
  readonly context: "tc" | "xdp";
  readonly kind: "not-ours" | "established" | "new";
  readonly protocol: BenchProtocol;
  readonly family: BenchFamily;
  readonly services: number;
  /** Flows in turn: 2 that undo each other, or two of each Service; 0 when no flow is known. */
  readonly flows: number;
}

type ProgramName = "tc_uplink_ingress" | "tc_uplink_egress" | "tc_pod_ingress" | "tc_pod_egress" | "xdp_uplink";

interface Place {
  readonly program: ProgramName;
  readonly device: BenchDevice;
  /** The device that the packet came in by, 0 for a packet of this node. */
  readonly from?: BenchDevice;
}

interface Established extends Place {
  readonly scenario: string;
  readonly path: number;
  readonly answer: boolean;
  /** The verdict of every packet. */
  readonly verdict: string;
  /** Each packet loses one of its time to live. */
  readonly routed: boolean;
  /** The two tuples between which one Service's packets alternate. */
  tuples(one: BenchService, endpoint: Address): readonly [Ends, Ends];
  readonly endpoint: 0 | 1;
}

export const CLIENT = { IPv4: "203.0.113.7", IPv6: "fd00:cc::7" } as const;
const POD = { IPv4: "10.129.0.2", IPv6: "fd00:10:1::2" } as const;
const CLIENT_PORT = 40_000;
const PROTO = { TCP: 6, UDP: 17 } as const;
/** Packets that are routed start with 255. */
const ROUTED_LIMIT = 250;

const tuple = (
  one: BenchService,
  source: Address,
  sourcePort: number,
  destination: Address,
  destinationPort: number,
): Ends => ({
  source,
  destination,
  sourcePort,
  destinationPort,
  proto: PROTO[one.protocol],
});

const turned = (given: Ends): Ends => ({
  source: given.destination,
  destination: given.source,
  sourcePort: given.destinationPort,
  destinationPort: given.sourcePort,
  proto: given.proto,
});

export const toFrontend = (one: BenchService, client: Address): Ends =>
  tuple(one, client, CLIENT_PORT, one.external, one.port);
const toBackend = (one: BenchService, client: Address, endpoint: Address): Ends =>
  tuple(one, client, CLIENT_PORT, endpoint, one.targetPort);
const fromNode = (one: BenchService, endpoint: Address): Ends =>
  tuple(one, NODE_ADDRESS[one.family], SNAT_FIRST + (one.index % SNAT_COUNT), endpoint, one.targetPort);

const fromOutside = (one: BenchService, endpoint: Address): readonly [Ends, Ends] => [
  toFrontend(one, CLIENT[one.family]),
  toBackend(one, CLIENT[one.family], endpoint),
];
const fromPod = (one: BenchService, endpoint: Address): readonly [Ends, Ends] => [
  toFrontend(one, POD[one.family]),
  toBackend(one, POD[one.family], endpoint),
];
const remote = (one: BenchService, endpoint: Address): readonly [Ends, Ends] => [
  toFrontend(one, CLIENT[one.family]),
  fromNode(one, endpoint),
];

const ESTABLISHED: readonly Established[] = [
  {
    scenario: "uplink ingress, backend here",
    program: "tc_uplink_ingress",
    device: "up0",
    from: "up0",
    path: FLOW_PATH_VALUES.PATH_OUTSIDE_LOCAL,
    answer: false,
    verdict: "HOOK_UPLINK_INGRESS VERDICT_PASS",
    routed: false,
    tuples: fromOutside,
    endpoint: 0,
  },
  {
    scenario: "uplink egress, its answer",
    program: "tc_uplink_egress",
    device: "up0",
    from: "cni0",
    path: FLOW_PATH_VALUES.PATH_OUTSIDE_LOCAL,
    answer: true,
    verdict: "HOOK_UPLINK_EGRESS VERDICT_PASS",
    routed: false,
    tuples: (one, endpoint) => {
      const [frontend, backend] = fromOutside(one, endpoint);
      return [turned(backend), turned(frontend)];
    },
    endpoint: 0,
  },
  {
    scenario: "pod ingress, pod on a route",
    program: "tc_pod_ingress",
    device: "p5",
    from: "p5",
    path: FLOW_PATH_VALUES.PATH_POD,
    answer: false,
    verdict: "HOOK_POD_INGRESS VERDICT_PASS",
    routed: false,
    tuples: fromPod,
    endpoint: 1,
  },
  {
    scenario: "pod egress, its answer",
    program: "tc_pod_egress",
    device: "p5",
    from: "up0",
    path: FLOW_PATH_VALUES.PATH_POD,
    answer: true,
    verdict: "HOOK_POD_EGRESS VERDICT_PASS",
    routed: false,
    tuples: (one, endpoint) => {
      const [frontend, backend] = fromPod(one, endpoint);
      return [turned(backend), turned(frontend)];
    },
    endpoint: 1,
  },
  {
    scenario: "pod ingress, pod on a bridge (routed)",
    program: "tc_pod_ingress",
    device: "pod2",
    from: "pod2",
    path: FLOW_PATH_VALUES.PATH_POD,
    answer: false,
    verdict: "HOOK_POD_INGRESS VERDICT_PASS",
    routed: false,
    tuples: fromPod,
    endpoint: 1,
  },
  {
    scenario: "uplink ingress, backend elsewhere (routed)",
    program: "tc_uplink_ingress",
    device: "up0",
    from: "up0",
    path: FLOW_PATH_VALUES.PATH_OUTSIDE_REMOTE,
    answer: false,
    verdict: "HOOK_UPLINK_INGRESS VERDICT_FORWARD",
    routed: true,
    tuples: remote,
    endpoint: 1,
  },
  {
    scenario: "backend elsewhere (routed)",
    program: "xdp_uplink",
    device: "up0",
    path: FLOW_PATH_VALUES.PATH_OUTSIDE_REMOTE,
    answer: false,
    verdict: "HOOK_XDP VERDICT_FORWARD",
    routed: true,
    tuples: remote,
    endpoint: 1,
  },
];

function contextOf(node: BenchNode, place: Place, length: number): Uint8Array {
  const xdp = place.program === "xdp_uplink";
  const context = new Uint8Array(xdp ? 24 : 192);
  const view = new DataView(context.buffer);
  if (xdp) {
    view.setUint32(4, length, true);
    view.setUint32(12, node.ifindex(place.device), true);
  } else {
    view.setUint32(36, place.from === undefined ? 0 : node.ifindex(place.from), true);
    view.setUint32(40, node.ifindex(place.device), true);
  }
  return context;
}

function bytesOf(place: Place, given: Ends, flags: string, payload: number): Uint8Array {
  const to = { up0: UPLINK_MAC, pod2: BRIDGE_MAC, cni0: BRIDGE_MAC, p5: P5_MAC }[place.device];
  const start = packet()
    .eth(place.device === "up0" ? ROUTER_MAC : POD_MAC, to)
    .ip(given.source, given.destination, { ttl: 255 })
    .payload(payload);
  return given.proto === PROTO.TCP
    ? start.tcp(given.sourcePort, given.destinationPort, { flags, ack: 1 }).bytes()
    : start.udp(given.sourcePort, given.destinationPort).bytes();
}

export function prepare(node: BenchNode, place: Place, given: Ends, flags = "A", payload = 64): Prepared {
  const bytes = bytesOf(place, given, flags, payload);
  return {
    program: node.dataplane.program(place.program),
    packet: bytes,
    context: contextOf(node, place, bytes.length),
  };
}

const contextName = (place: Place): "tc" | "xdp" => (place.program === "xdp_uplink" ? "xdp" : "tc");

function emptyOf(node: BenchNode, place: Place): BpfProgram {
  return node.dataplane.program(place.program === "xdp_uplink" ? "xdp_pass" : "tc_empty");
}

/** Measures, and throws when any packet got another verdict. */
function timed(node: BenchNode, what: string, verdict: string, body: () => Timing): Timing {
  const before = readVerdicts(node.dataplane);
  const timing = node.namespace.inside(body);
  const counted = countedSince(before, readVerdicts(node.dataplane));
  const others = counted.filter(([name]) => name !== verdict);
  if (counted.length === 0 || others.length > 0) {
    const text = counted.map(([name, count]) => `${name} ${count}`).join(", ") || "nothing";
    throw new Error(`${what}: every packet was to be counted as ${verdict}, but these were: ${text}`);
  }
  return timing;
}

const KINDS: readonly (readonly [BenchFamily, BenchProtocol])[] = [
  ["IPv4", "TCP"],
  ["IPv4", "UDP"],
  ["IPv6", "TCP"],
  ["IPv6", "UDP"],
];

export type Report = (result: PacketResult) => void;

function servicesOf(
  services: number,
  family: BenchFamily,
  protocol: BenchProtocol,
  policy?: BenchService["policy"],
): BenchService[] {
  const found: BenchService[] = [];
  for (let index = 0; index < services; index++) {
    const one = benchService(index);
    if (one.family === family && one.protocol === protocol && (policy ?? one.policy) === one.policy) found.push(one);
  }
  return found;
}

/** Packets that pay for the rest: of pods that have nothing to do with Services, where others do. */
function notOurs(node: BenchNode, backends: Backends, services: number, effort: Effort, report: Report): void {
  const places: readonly (Place & { readonly scenario: string; readonly hook: string })[] = [
    {
      scenario: "uplink ingress",
      program: "tc_uplink_ingress",
      device: "up0",
      from: "up0",
      hook: "HOOK_UPLINK_INGRESS",
    },
    { scenario: "uplink egress", program: "tc_uplink_egress", device: "up0", from: "cni0", hook: "HOOK_UPLINK_EGRESS" },
    { scenario: "pod ingress", program: "tc_pod_ingress", device: "p5", from: "p5", hook: "HOOK_POD_INGRESS" },
    { scenario: "pod egress", program: "tc_pod_egress", device: "p5", from: "up0", hook: "HOOK_POD_EGRESS" },
    { scenario: "uplink", program: "xdp_uplink", device: "up0", hook: "HOOK_XDP" },
  ];
  // Devices have translated flows, and so the tables; the packets are of other pods.
  for (const one of ESTABLISHED) {
    for (const [family, protocol] of KINDS) {
      const steps = stepsOf(backends, one, servicesOf(services, family, protocol).slice(0, 100));
      putCycle(node.dataplane, steps, one.path, one.answer);
    }
  }
  for (const place of places) {
    for (const [family, protocol] of KINDS) {
      const one = { ...benchService(0), family, protocol };
      const given = tuple(one, CLIENT[family], CLIENT_PORT, POD[family], 9000);
      const timing = timed(node, place.scenario, `${place.hook} VERDICT_NEXT`, () =>
        timeRepeated(prepare(node, place, given), emptyOf(node, place), effort),
      );
      const { scenario } = place;
      report({
        scenario,
        context: contextName(place),
        kind: "not-ours",
        protocol,
        family,
        services,
        flows: 0,
        ...timing,
      });
    }
  }
  node.clearFlows();
}

type Backends = ReadonlyMap<
  string,
  { readonly index: number; readonly generation: number; readonly serviceId: number }
>;

/** By address: an endpoint of bench/cluster.ts serves one Service. */
function backendsOf(node: BenchNode): Backends {
  const found = node.dataplane.readState().backends;
  return new Map([...found].map(([index, one]) => [one.address, { index, ...one }]));
}

/** What packets of these Services alternate between, two tuples of each. */
function stepsOf(backends: Backends, one: Established, list: readonly BenchService[]): CycleStep[] {
  return list.flatMap((service): CycleStep[] => {
    const endpoint = service.endpoints[one.endpoint]!;
    const { index, generation, serviceId } = backends.get(endpoint)!;
    return one.tuples(service, endpoint).map((key) => ({ key, backend: index, generation, service: serviceId }));
  });
}

/** XDP asks for no route: its flows have a hop that leads back to where the frame came in, and never ages. */
const XDP_HOP = { mac: macBytes(UPLINK_MAC), hz: 1_000_000_000 } as const;

function established(node: BenchNode, backends: Backends, services: number, effort: Effort, report: Report): void {
  const settings = node.dataplane.readSettings();
  for (const one of ESTABLISHED) {
    for (const [family, protocol] of KINDS) {
      const all = servicesOf(services, family, protocol);
      // Routed packets live too short to come round all flows.
      for (const list of services > 10 && !one.routed ? [all.slice(0, 1), all] : [all.slice(0, 1)]) {
        const steps = stepsOf(backends, one, list);
        node.clearFlows();
        const xdp = one.program === "xdp_uplink";
        const hop = xdp ? { ifindex: node.ifindex("up0"), mac: XDP_HOP.mac } : undefined;
        putCycle(node.dataplane, steps, one.path, one.answer, hop);
        node.dataplane.writeSettings(xdp ? { ...settings, hz: XDP_HOP.hz } : settings);
        const limit = one.routed ? ROUTED_LIMIT : undefined;
        const timing = timed(node, one.scenario, one.verdict, () =>
          timeRepeated(prepare(node, one, steps[0]!.key), emptyOf(node, one), effort, limit),
        );
        const flows = steps.length;
        report({
          scenario: one.scenario,
          context: contextName(one),
          kind: "established",
          protocol,
          family,
          services,
          flows,
          ...timing,
        });
      }
    }
  }
  node.dataplane.writeSettings(settings);
  node.clearFlows();
}

const REDIRECTED = 7;
const UNSPEC = -1;

function opened(node: BenchNode, services: number, effort: Effort, report: Report, how = ""): void {
  const places: readonly (Place & {
    scenario: string;
    policy: BenchService["policy"];
    action: number;
    /** By the node port; of TCP in its middle. */
    askedAbout?: true;
  })[] = [
    {
      scenario: "uplink ingress, backend here",
      program: "tc_uplink_ingress",
      device: "up0",
      from: "up0",
      policy: "Local",
      action: UNSPEC,
    },
    {
      scenario: `uplink ingress, node port, backend here; sockets${hasFeature("ct_lookup") ? " and conntrack" : ""} asked`,
      program: "tc_uplink_ingress",
      device: "up0",
      from: "up0",
      policy: "Local",
      action: UNSPEC,
      askedAbout: true,
    },
    {
      scenario: "uplink ingress, backend elsewhere",
      program: "tc_uplink_ingress",
      device: "up0",
      from: "up0",
      policy: "Cluster",
      action: REDIRECTED,
    },
    { scenario: "pod ingress", program: "tc_pod_ingress", device: "p5", from: "p5", policy: "Cluster", action: UNSPEC },
  ];
  for (const place of places) {
    for (const [family, protocol] of KINDS) {
      const { askedAbout = false } = place;
      const list = servicesOf(askedAbout ? 8 : services, family, protocol, place.policy);
      const client = place.device === "up0" ? CLIENT[family] : POD[family];
      const runs = Array.from({ length: effort.singles }, (_, i) => {
        const one = list[(i * 7) % list.length]!;
        const [address, port] = askedAbout ? [NODE_ADDRESS[family], one.nodePort] : [one.external, one.port];
        return prepare(node, place, tuple(one, client, 1024 + i, address, port), askedAbout ? "A" : "S", 0);
      });
      node.clearFlows();
      const timing = node.namespace.inside(() =>
        timeSingles(runs, emptyOf(node, place), (retval) => retval === place.action),
      );
      const entries = node.dataplane.map("openings").countRows();
      if (entries < timing.counted * 2) {
        throw new Error(`${place.scenario}: ${timing.counted} new flows left only ${entries} entries`);
      }
      report({
        scenario: `${place.scenario}${how}`,
        context: contextName(place),
        kind: "new",
        protocol,
        family,
        services,
        flows: 0,
        ...timing,
      });
    }
  }
  node.clearFlows();
}

/** Every scenario on a node that holds `services` Services of cluster.ts. */
export function benchPackets(node: BenchNode, services: number, effort: Effort, report: Report): void {
  const backends = backendsOf(node);
  notOurs(node, backends, services, effort, report);
  established(node, backends, services, effort, report);
  opened(node, services, effort, report);
}

/** New flows of a node whose few Services are balanced by Maglev. */
export async function benchMaglev(node: BenchNode, services: number, effort: Effort, report: Report): Promise<void> {
  const model = node.model();
  model.update(clusterEvents(services, () => ({ loadBalancing: "maglev" })));
  await node.dataplane.apply(model.plan());
  opened(node, services, effort, report, ", by Maglev");
  model.update(clusterEvents(services));
  await node.dataplane.apply(model.plan());
}
