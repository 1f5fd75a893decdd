// Metrics with a series for each Service port: tens of thousands of lines, read and written in slices of the event loop.
import type { ServiceCounters } from "../agent/view.ts";
import { createPortions } from "../lib/portions.ts";
import { labelText, type MetricDescription, metricHeader, numberLine } from "./exposition.ts";

/** Characters that are handed on at once: some hundred lines. */
const PIECE_LENGTH = 32 * 1024;

type Count = "connections" | "packets" | "bytes";

interface ServiceMetric extends MetricDescription {
  readonly count: Count;
}

function serviceMetric(count: Count, help: string): ServiceMetric {
  const labels = ["namespace", "service", "port", "protocol"];
  return { name: `millrace_service_${count}_total`, type: "counter", labels, help, count };
}

export const SERVICE_METRICS: readonly ServiceMetric[] = [
  serviceMetric("connections", "Connections and conversations that were given a backend, by Service port."),
  serviceMetric(
    "packets",
    "Packets translated, by Service port; what is translated at the socket is not counted here.",
  ),
  serviceMetric("bytes", "Bytes of the packets translated, by Service port."),
];

/** Counts by the text of their labels. */
export type ServiceSeries = ReadonlyMap<string, Readonly<Record<Count, number>>>;

/** Reads all of `counters`, which may ask the kernel at each step. The two families of a dual-stack port are one series. */
export async function readServiceSeries(counters: Iterable<ServiceCounters>): Promise<ServiceSeries> {
  const series = new Map<string, Record<Count, number>>();
  const portions = createPortions();
  for (const { namespace, name, port, protocol, connections, packets, bytes } of counters) {
    const labels = labelText({ namespace, service: name, port, protocol });
    const known = series.get(labels);
    if (known === undefined) series.set(labels, { connections, packets, bytes });
    else {
      known.connections += connections;
      known.packets += packets;
      known.bytes += bytes;
    }
    if (portions.isOver()) await portions.next();
  }
  return series;
}

/** The text of SERVICE_METRICS in pieces, with turns of the event loop between them. */
export async function* serviceText(series: ServiceSeries): AsyncGenerator<string> {
  const portions = createPortions();
  let text = "";
  for (const metric of SERVICE_METRICS) {
    text += metricHeader(metric);
    for (const [labels, counts] of series) {
      text += numberLine(metric.name, labels, counts[metric.count]);
      if (text.length < PIECE_LENGTH) continue;
      yield text;
      text = "";
      if (portions.isOver()) await portions.next();
    }
  }
  yield text;
}
