// What a Service's own wishes cost a first packet: session affinity, source ranges, Maglev. In turns with first packets of Services
// that ask for none, on this node's uplink with backends here.
import type { Address } from "../src/lib/address.ts";
import type { Service } from "../src/model/objects.ts";
import { type BenchService, benchService, clusterEvents } from "./cluster.ts";
import { type Effort, timeAlternating } from "./measure.ts";
import type { BenchNode } from "./node.ts";
import { CLIENT, prepare, type Report, toFrontend } from "./packets.ts";

const PLACE = { program: "tc_uplink_ingress", device: "up0", from: "up0" } as const;
const PASSED = -1;
const RANGES = 16;

interface Way {
  readonly scenario: string;
  readonly fields: Partial<Service>;
  /** The client of the i-th packet. */
  client(one: BenchService, i: number): Address;
}

const known = (one: BenchService): Address => CLIENT[one.family];
const stranger = ({ family }: BenchService, i: number): Address =>
  family === "IPv4" ? `198.18.${i >> 8}.${i & 255}` : `fd00:cd::${(i + 1).toString(16)}`;

/** Half of the ranges of either family, the client's last. */
const sourceRanges = [
  ...Array.from({ length: RANGES - 1 }, (_, i) => [`198.51.${100 + i}.0/24`, `fd00:ce:${i + 1}::/48`]).flat(),
  "203.0.113.0/24",
  "fd00:cc::/32",
];

/** How much more than the first they may take is in report.ts. */
export const CLIENT_WAYS: readonly Way[] = [
  { scenario: "uplink ingress, whoever it is", fields: {}, client: known },
  { scenario: "uplink ingress, affinity of a known client", fields: { affinitySeconds: 10_800 }, client: known },
  { scenario: "uplink ingress, affinity of a new client", fields: { affinitySeconds: 10_800 }, client: stranger },
  { scenario: `uplink ingress, ${RANGES} source ranges`, fields: { sourceRanges }, client: known },
  { scenario: "uplink ingress, by Maglev, in turns", fields: { loadBalancing: "maglev" }, client: known },
];

/** Services of each way, family and protocol, with policy Local: the index has these in its bits. */
const indexOf = (way: number, kind: number): number => (way << 3) | 4 | kind;
const SERVICES = CLIENT_WAYS.length << 3;

export async function benchClients(node: BenchNode, effort: Effort, report: Report): Promise<void> {
  const model = node.model();
  model.update(clusterEvents(SERVICES, ({ index }) => CLIENT_WAYS[index >> 3]!.fields));
  await node.dataplane.apply(model.plan());
  const empty = node.dataplane.program("tc_empty");
  for (let kind = 0; kind < 4; kind++) {
    node.clearFlows();
    const lists = CLIENT_WAYS.map((way, at) => {
      const one = benchService(indexOf(at, kind));
      return Array.from({ length: effort.singles }, (_, i) =>
        prepare(node, PLACE, { ...toFrontend(one, way.client(one, i)), sourcePort: 1024 + i }, "S", 0),
      );
    });
    const timings = node.namespace.inside(() => timeAlternating(lists, empty, (retval) => retval === PASSED));
    for (const [at, timing] of timings.entries()) {
      const { family, protocol } = benchService(kind);
      if (timing.counted < effort.singles) throw new Error(`only ${timing.counted} of ${effort.singles} were served`);
      const { scenario } = CLIENT_WAYS[at]!;
      report({ scenario, context: "tc", kind: "new", protocol, family, services: SERVICES, flows: 0, ...timing });
    }
  }
  node.clearFlows();
}
