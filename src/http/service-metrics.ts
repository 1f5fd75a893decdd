// Metrics with a series for each Service port: tens of thousands of lines, read and written in slices of the event loop.
import type { ServiceCounters } from "../agent/view.ts";
import { createPortions } from "../lib/portions.ts";
import { labelText, type MetricDescription, metricHeader, numberLine, sampleText } from "./exposition.ts";
import { NO_LOCAL_ENDPOINTS, PortsWithoutLocal } from "./kubeproxy-metrics.ts";
import { typeOf } from "./metric-definition.ts";

/** Characters that are handed on at once: some hundred lines. */
const PIECE_LENGTH = 32 * 1024;

interface Counts {
  connections: number;
  packets: number;
  bytes: number;
  backends: number;
  /** By verdict. */
  readonly refusals: Record<string, number>;
}

interface ServiceMetric extends MetricDescription {
  /** Of one series of labels: values, with what each adds to the labels. */
  read(counts: Counts): readonly (readonly [added: string, value: number])[];
}

const LABELS = ["namespace", "service", "port", "protocol"];

function ofPort(suffix: string, count: Exclude<keyof Counts, "refusals">, help: string): ServiceMetric {
  return {
    name: `millrace_service_${suffix}`,
    type: typeOf(suffix),
    labels: LABELS,
    help,
    read: (counts) => [["", counts[count]]],
  };
}

const REFUSE = "refuse";

export const SERVICE_METRICS: readonly ServiceMetric[] = [
  ofPort(
    "connections_total",
    "connections",
    "Connections and conversations that were given a backend, by Service port.",
  ),
  ofPort(
    "packets_total",
    "packets",
    "Packets translated, by Service port; what is translated at the socket is not counted here.",
  ),
  ofPort("bytes_total", "bytes", "Bytes of the packets translated, by Service port."),
  ofPort("backends", "backends", "Backends that the kernel was given, by Service port."),
  {
    name: "millrace_service_refused_total",
    type: "counter",
    labels: LABELS,
    help: "Requests that were refused on their way to a Service port, as it has no endpoint; from the first one on.",
    read: ({ refusals }) => (refusals[REFUSE] === undefined ? [] : [["", refusals[REFUSE]]]),
  },
  {
    name: "millrace_service_dropped_total",
    type: "counter",
    labels: [...LABELS, "reason"],
    help: "Packets that were dropped on their way to a Service port, by verdict; from the first one on.",
    read: ({ refusals }) =>
      Object.entries(refusals)
        .filter(([verdict]) => verdict !== REFUSE)
        .map(([verdict, count]) => [`,reason="${verdict.replace(/^drop_/, "")}"`, count]),
  },
];

export interface ServiceSeries {
  /** Counts by the text of their labels. */
  readonly counts: ReadonlyMap<string, Counts>;
  readonly withoutLocal: PortsWithoutLocal;
}

/** Reads all of `counters`, which may ask the kernel at each step. The two families of a dual-stack port are one series. */
export async function readServiceSeries(counters: Iterable<ServiceCounters>): Promise<ServiceSeries> {
  const series = new Map<string, Counts>();
  const withoutLocal = new PortsWithoutLocal();
  const portions = createPortions();
  for (const one of counters) {
    const { namespace, name, port, protocol, connections, packets, bytes, backends, refusals } = one;
    withoutLocal.note(one.family, one.withoutLocal);
    const labels = labelText({ namespace, service: name, port, protocol });
    const known = series.get(labels);
    if (known === undefined) series.set(labels, { connections, packets, bytes, backends, refusals: { ...refusals } });
    else {
      known.connections += connections;
      known.packets += packets;
      known.bytes += bytes;
      known.backends += backends;
      for (const [verdict, count] of Object.entries(refusals))
        known.refusals[verdict] = (known.refusals[verdict] ?? 0) + count;
    }
    if (portions.isOver()) await portions.next();
  }
  return { counts: series, withoutLocal };
}

/** The text of SERVICE_METRICS in pieces, with turns of the event loop between them. */
export async function* serviceText({ counts: series, withoutLocal }: ServiceSeries): AsyncGenerator<string> {
  const portions = createPortions();
  let text = metricHeader(NO_LOCAL_ENDPOINTS);
  for (const sample of withoutLocal.samples()) text += sampleText(NO_LOCAL_ENDPOINTS.name, sample);
  for (const metric of SERVICE_METRICS) {
    text += metricHeader(metric);
    for (const [labels, counts] of series) {
      for (const [added, value] of metric.read(counts))
        text += numberLine(metric.name, added === "" ? labels : `${labels.slice(0, -1)}${added}}`, value);
      if (text.length < PIECE_LENGTH) continue;
      yield text;
      text = "";
      if (portions.isOver()) await portions.next();
    }
  }
  yield text;
}
