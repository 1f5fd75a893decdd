// Every metric of the agent, by name, with its help text: one table from which come /metrics and docs/metrics.md.
// No label holds a client's address or anything else without bound.
import { Counter, collectDefaultMetrics, Gauge, Registry } from "prom-client";
import type { AgentCounters, AgentStatus } from "../agent/view.ts";

type Labels = Readonly<Record<string, string>>;
interface Sample {
  readonly labels?: Labels;
  readonly value: number;
}

export interface MetricDefinition {
  readonly name: string;
  readonly type: "counter" | "gauge";
  readonly labels: readonly string[];
  readonly help: string;
  read(counters: AgentCounters, status: AgentStatus): readonly Sample[];
}

const one = (value: number): readonly Sample[] => [{ value }];

/** A counter of one Service port. */
function serviceMetric(what: "connections" | "packets" | "bytes", help: string): MetricDefinition {
  return {
    name: `millrace_service_${what}_total`,
    type: "counter",
    labels: ["namespace", "service", "port", "protocol"],
    help,
    read: ({ services }) =>
      services.map(({ namespace, name, port, protocol, ...counts }) => ({
        labels: { namespace, service: name, port, protocol },
        value: counts[what],
      })),
  };
}

function mapMetric(suffix: string, what: "entries" | "used" | "bytes", help: string): MetricDefinition {
  return {
    name: `millrace_map_${suffix}`,
    type: "gauge",
    labels: ["map"],
    help,
    read: ({ maps }) => maps.map((map) => ({ labels: { map: map.map }, value: map[what] })),
  };
}

export const METRICS: readonly MetricDefinition[] = [
  {
    name: "millrace_build_info",
    type: "gauge",
    labels: ["version", "layout"],
    help: "Always 1. Version of the agent, and fingerprint of the struct layouts its maps are pinned under.",
    read: (_, { version, layout }) => [{ labels: { version, layout }, value: 1 }],
  },
  {
    name: "millrace_healthy",
    type: "gauge",
    labels: [],
    help: "1 when /healthz answers 200, else 0.",
    read: (_, { healthy }) => one(healthy ? 1 : 0),
  },
  {
    name: "millrace_source_synced",
    type: "gauge",
    labels: ["kind"],
    help: "1 once the source of objects has delivered all there is, else 0.",
    read: (_, { source }) => [{ labels: { kind: source.kind }, value: source.synced ? 1 : 0 }],
  },
  {
    name: "millrace_source_last_event_timestamp_seconds",
    type: "gauge",
    labels: [],
    help: "When the last change of an object came, in seconds since the epoch; 0 before the first.",
    read: (_, { source }) => one(source.lastEventMs / 1000),
  },
  {
    name: "millrace_sync_proxy_rules_total",
    type: "counter",
    labels: [],
    help: "Times that changes were applied to the kernel's maps, failed ones included.",
    read: ({ applies }) => one(applies.total),
  },
  {
    name: "millrace_sync_proxy_rules_failures_total",
    type: "counter",
    labels: [],
    help: "Times that changes could not be applied; each is tried again.",
    read: ({ applies }) => one(applies.failed),
  },
  {
    name: "millrace_sync_proxy_rules_operations_total",
    type: "counter",
    labels: [],
    help: "Single operations on the kernel's maps: rows, slots and backends that were put, switched or freed.",
    read: ({ applies }) => one(applies.operations),
  },
  {
    name: "millrace_sync_proxy_rules_last_duration_seconds",
    type: "gauge",
    labels: [],
    help: "How long the last change took, from the compiled difference to the kernel's maps.",
    read: ({ applies }) => one(applies.lastDurationSeconds),
  },
  {
    name: "millrace_sync_proxy_rules_last_timestamp_seconds",
    type: "gauge",
    labels: [],
    help: "When changes were last applied, in seconds since the epoch; 0 before the first.",
    read: (_, { lastApply }) => one(lastApply.atMs / 1000),
  },
  {
    name: "millrace_packets_total",
    type: "counter",
    labels: ["hook", "verdict"],
    help: "Packets and socket calls by the hook that saw them and what was decided; every drop has its own verdict.",
    read: ({ verdicts }) =>
      verdicts.map(({ hook, verdict, packets }) => ({ labels: { hook, verdict }, value: packets })),
  },
  serviceMetric("connections", "Connections and conversations that were given a backend, by Service port."),
  serviceMetric(
    "packets",
    "Packets translated, by Service port; what is translated at the socket is not counted here.",
  ),
  serviceMetric("bytes", "Bytes of the packets translated, by Service port."),
  {
    name: "millrace_flows",
    type: "gauge",
    labels: ["table"],
    help: "Entries in the flow tables; a translated flow has two.",
    read: ({ flows }) => flows.map(({ table, entries }) => ({ labels: { table }, value: entries })),
  },
  mapMetric("entries", "used", "Entries in use, by map."),
  mapMetric("capacity", "entries", "Entries that the map has room for."),
  mapMetric("memory_bytes", "bytes", "Memory of the map in the kernel."),
  {
    name: "millrace_announced_addresses",
    type: "gauge",
    labels: [],
    help: "LoadBalancer addresses for which this node answers ARP or NDP.",
    read: ({ announcedAddresses }) => one(announcedAddresses),
  },
  {
    name: "millrace_notices",
    type: "gauge",
    labels: ["reason"],
    help: "What is wrong or worth knowing about objects and listeners now, by reason; `millrace status` shows each.",
    read: ({ notices }) => notices.map(({ reason, count }) => ({ labels: { reason }, value: count })),
  },
];

export interface MetricsRegistry {
  /** The text of /metrics for these numbers. */
  render(counters: AgentCounters, status: AgentStatus): Promise<string>;
  readonly contentType: string;
  /** Names of the metrics of the process itself (CPU, memory, event loop lag), in order. */
  processMetrics(): readonly { readonly name: string; readonly help: string }[];
}

/** A registry of its own: two agents in one process (tests) don't meet. */
export function createMetricsRegistry(): MetricsRegistry {
  const registry = new Registry();
  // The event loop's lag is sampled by a timer: every 50 ms costs an idle agent next to nothing.
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: 50 });
  const own = new Set(METRICS.map(({ name }) => name));
  const instruments = METRICS.map((definition) => {
    const { name, help, labels } = definition;
    const settings = { name, help, labelNames: [...labels], registers: [registry] };
    return { definition, metric: definition.type === "counter" ? new Counter(settings) : new Gauge(settings) };
  });
  return {
    contentType: registry.contentType,
    processMetrics: () =>
      registry.getMetricsAsArray().flatMap(({ name, help }) => (own.has(name) ? [] : [{ name, help }])),
    render(counters, status) {
      for (const { definition, metric } of instruments) {
        // What is gone (a Service, a reason) leaves with the reset. The kernel is the one who counts.
        metric.reset();
        for (const { labels, value } of definition.read(counters, status)) metric.inc({ ...labels }, value);
      }
      return registry.metrics();
    },
  };
}
