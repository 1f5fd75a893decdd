// Every metric of the agent, by name, with its help text: one table from which come /metrics and docs/metrics.md.
// No label holds a client's address or anything else without bound.
import { setImmediate as othersTurn } from "node:timers/promises";
import { collectDefaultMetrics, Registry } from "prom-client";
import type { AgentCounters, AgentStatus, AgentView } from "../agent/view.ts";
import { API_METRICS } from "./api-metrics.ts";
import { type MetricDescription, metricHeader, sampleText } from "./exposition.ts";
import { KUBEPROXY_METRICS, NO_LOCAL_ENDPOINTS, PROBE_METRICS, probeSamples } from "./kubeproxy-metrics.ts";
import { type MetricDefinition, numberMetric } from "./metric-definition.ts";
import { createProbeCounts, type ProbeCounts } from "./probe-counts.ts";
import { collectProcessMetrics } from "./process-metrics.ts";
import { readServiceSeries, SERVICE_METRICS, serviceText } from "./service-metrics.ts";

function mapMetric(suffix: string, what: "entries" | "used" | "bytes", help: string): MetricDefinition {
  return {
    name: `millrace_map_${suffix}`,
    type: "gauge",
    labels: ["map"],
    help,
    read: ({ maps }) => maps.map((map) => ({ labels: { map: map.map }, value: map[what] })),
  };
}

/** Of "namespace/name". */
function serviceLabels(key: string): { readonly namespace: string; readonly service: string } {
  const [namespace = "", service = ""] = key.split("/");
  return { namespace, service };
}

const AGENT_METRICS: readonly MetricDefinition[] = [
  {
    name: "millrace_build_info",
    type: "gauge",
    labels: ["version", "layout"],
    help: "Always 1. Version of the agent, and fingerprint of the struct layouts its maps are pinned under.",
    read: (_, { version, layout }) => [{ labels: { version, layout }, value: 1 }],
  },
  numberMetric(
    "millrace_healthy",
    "1 while what is asked of the agent comes into force, else 0: then /healthz answers 503, as it does while the node is going away.",
    (_, { healthy }) => (healthy ? 1 : 0),
  ),
  numberMetric(
    "millrace_bypass",
    "1 while all translation is turned off by `millrace bypass on`, else 0.",
    (_, { bypass }) => (bypass ? 1 : 0),
  ),
  {
    name: "millrace_source_synced",
    type: "gauge",
    labels: ["kind"],
    help: "1 once the source of objects has delivered all there is, else 0.",
    read: (_, { source }) => [{ labels: { kind: source.kind }, value: source.synced ? 1 : 0 }],
  },
  numberMetric(
    "millrace_source_last_event_timestamp_seconds",
    "When the last change of an object came, in seconds since the epoch; 0 before the first.",
    (_, { source }) => source.lastEventMs / 1000,
  ),
  numberMetric(
    "millrace_source_lag_seconds",
    "How long the oldest change of an object that is not in force yet has waited; 0 when there is none.",
    ({ syncs }) => (syncs.waitingSinceMs === 0 ? 0 : Math.max(0, Date.now() - syncs.waitingSinceMs) / 1000),
  ),
  {
    name: "millrace_change_duration_seconds",
    type: "histogram",
    labels: [],
    help: "From the arrival of a change of an object to its being in force; of changes in force at once the one that waited longest.",
    read: ({ syncs }) => [{ value: syncs.waits }],
  },
  {
    name: "millrace_network_programming_duration_seconds",
    type: "histogram",
    labels: [],
    help: "As kubeproxy_network_programming_duration_seconds, by finer bounds.",
    read: ({ syncs }) => [{ value: syncs.fineProgramming }],
  },
  numberMetric(
    "millrace_sync_proxy_rules_total",
    "Times that changes were applied to the kernel's maps, failed ones included.",
    ({ applies }) => applies.total,
  ),
  numberMetric(
    "millrace_sync_proxy_rules_failures_total",
    "Times that changes could not be applied; each is tried again.",
    ({ applies }) => applies.failed,
  ),
  numberMetric(
    "millrace_sync_proxy_rules_operations_total",
    "Single operations on the kernel's maps: rows, slots and backends that were put, switched or freed.",
    ({ applies }) => applies.operations,
  ),
  numberMetric(
    "millrace_sync_proxy_rules_last_duration_seconds",
    "How long the last change took, from the compiled difference to the kernel's maps.",
    ({ applies }) => applies.lastDurationSeconds,
  ),
  numberMetric(
    "millrace_sync_proxy_rules_last_timestamp_seconds",
    "When changes were last applied, in seconds since the epoch; 0 before the first.",
    (_, { lastApply }) => lastApply.atMs / 1000,
  ),
  {
    name: "millrace_packets_total",
    type: "counter",
    labels: ["hook", "verdict"],
    help: "Packets and socket calls by the hook that saw them and what was decided; every drop has its own verdict, and counts from 0.",
    read: ({ verdicts }) =>
      verdicts.map(({ hook, verdict, packets }) => ({ labels: { hook, verdict }, value: packets })),
  },
  {
    name: "millrace_flows",
    type: "gauge",
    labels: ["table"],
    help: "Entries in the flow tables; a translated flow has two.",
    read: ({ flows }) => flows.map(({ table, entries }) => ({ labels: { table }, value: entries })),
  },
  {
    name: "millrace_flow_entries_removed_total",
    type: "counter",
    labels: ["table", "reason"],
    help: 'Entries of flow tables that sweeps took out: "over" had ended or were idle for too long, "given-up" made room in a table that filled. What an LRU evicts by itself the kernel does not count: it begins where millrace_map_entries comes near millrace_map_capacity.',
    read: ({ flowsTaken }) =>
      flowsTaken.map(({ table, reason, entries }) => ({ labels: { table, reason }, value: entries })),
  },
  numberMetric(
    "millrace_source_ports_used_ratio",
    "Of the source ports that translated connections may have (--snat-port-range), the part in use toward the backend where most are: 0 to 1.",
    ({ sourcePortsUsed }) => sourcePortsUsed,
  ),
  mapMetric("entries", "used", "Entries in use, by map."),
  mapMetric("capacity", "entries", "Entries that the map has room for."),
  mapMetric("memory_bytes", "bytes", "Memory of the map in the kernel."),
  numberMetric(
    "millrace_announced_addresses",
    "LoadBalancer addresses for which this node answers ARP or NDP.",
    ({ announced }) => announced.length,
  ),
  {
    name: "millrace_announced_address_info",
    type: "gauge",
    labels: ["address", "device", "namespace", "service"],
    help: "1 for each LoadBalancer address that this node answers for: of each address there is one in the cluster.",
    read: ({ announced }) =>
      announced.map(({ address, device, service }) => ({
        labels: { address, device, ...serviceLabels(service) },
        value: 1,
      })),
  },
  {
    name: "millrace_elected_address_info",
    type: "gauge",
    labels: ["address", "namespace", "service"],
    help: "1 for each LoadBalancer address that this node ought to answer for, if it is well: of each that any node may answer for there is one in the cluster.",
    read: ({ elected }) =>
      elected.map(({ address, service }) => ({ labels: { address, ...serviceLabels(service) }, value: 1 })),
  },
  {
    name: "millrace_unannounced_addresses",
    type: "gauge",
    labels: ["reason"],
    help: "LoadBalancer addresses of pools that no node of the cluster may answer for, by reason.",
    read: ({ unannounced }) => unannounced.map(({ reason, addresses }) => ({ labels: { reason }, value: addresses })),
  },
  {
    name: "millrace_announcer_peers",
    type: "gauge",
    labels: ["state"],
    help: "Nodes that may announce the same LoadBalancer addresses, by what is known of their life.",
    read: ({ announcer }) => announcer.peers.map(({ state, nodes }) => ({ labels: { state }, value: nodes })),
  },
  numberMetric(
    "millrace_announcer_claims_total",
    "LoadBalancer addresses that this node began to answer for, after it asked whether they are free.",
    ({ announcer }) => announcer.claims,
  ),
  numberMetric(
    "millrace_announcer_takeovers_total",
    "Claims of addresses after a node that answered for them or ought to, and did not any more.",
    ({ announcer }) => announcer.takeovers,
  ),
  numberMetric(
    "millrace_announcer_takeover_seconds_total",
    "From the last sign of life of the node before to the claim, of all takeovers together.",
    ({ announcer }) => announcer.takeoverMs / 1000,
  ),
  numberMetric(
    "millrace_announcer_hand_backs_total",
    "Addresses that this node gave back to a better node after a minute of that one's health.",
    ({ announcer }) => announcer.handBacks,
  ),
  numberMetric(
    "millrace_announcer_yields_total",
    "Addresses that this node answered for, and left to another node that was heard to answer for them too.",
    ({ announcer }) => announcer.yields,
  ),
  numberMetric(
    "millrace_announcer_conflicts_total",
    "Checks of an address that found a machine that is no node.",
    ({ announcer }) => announcer.conflicts,
  ),
  {
    name: "millrace_notices",
    type: "gauge",
    labels: ["reason", "severity"],
    help: "What is wrong or worth knowing about objects and listeners now, by reason and severity; `millrace status` shows each.",
    read: ({ notices }) =>
      notices.map(({ reason, severity, count }) => ({ labels: { reason, severity }, value: count })),
  },
  numberMetric(
    "millrace_load_balancers_pending",
    "Services of type LoadBalancer that have no address.",
    ({ pendingLoadBalancers }) => pendingLoadBalancers,
  ),
];

const SMALL_METRICS = [...AGENT_METRICS, ...KUBEPROXY_METRICS, ...API_METRICS];

export const METRICS: readonly MetricDescription[] = [
  ...AGENT_METRICS,
  ...KUBEPROXY_METRICS,
  NO_LOCAL_ENDPOINTS,
  ...PROBE_METRICS,
  ...API_METRICS,
  ...SERVICE_METRICS,
];

export interface MetricsRegistry {
  /**
   * The text of /metrics in pieces, with turns of the event loop between them. What can fail to be read has been read when
   * this resolves.
   */
  render(view: Pick<AgentView, "counters" | "serviceCounters" | "status">): Promise<AsyncGenerator<string>>;
  readonly contentType: string;
  /** The process's own metrics alone. */
  processText(): Promise<string>;
  /** Names of the metrics of the process itself (CPU, memory, event loop lag), in order. */
  processMetrics(): readonly { readonly name: string; readonly help: string }[];
}

/**
 * The process's metrics have a registry of their own: two agents in one process (tests) don't meet. `probes`: how the health server
 * answered.
 */
export function createMetricsRegistry(probes = createProbeCounts()): MetricsRegistry {
  const registry = new Registry();
  // The event loop's lag is sampled by a timer: every 50 ms costs an idle agent next to nothing.
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: 50 });
  collectProcessMetrics(registry);
  // Gauges with the names of counters, which linters of metrics refuse.
  for (const what of ["handles", "requests", "resources"]) {
    registry.removeSingleMetric(`nodejs_active_${what}`);
    registry.removeSingleMetric(`nodejs_active_${what}_total`);
  }
  return {
    contentType: registry.contentType,
    processText: () => registry.metrics(),
    processMetrics: () => registry.getMetricsAsArray().map(({ name, help }) => ({ name, help })),
    async render(view) {
      const series = await readServiceSeries(view.serviceCounters());
      await othersTurn();
      const ofProcess = await registry.metrics();
      await othersTurn();
      const small = smallText(view.counters(), view.status()) + probeText(probes);
      return (async function* () {
        yield small;
        yield* serviceText(series);
        yield ofProcess;
      })();
    },
  };
}

function probeText(probes: ProbeCounts): string {
  return PROBE_METRICS.map((metric) => {
    const samples = probeSamples(metric.probe, probes).map((sample) => sampleText(metric.name, sample));
    return `${metricHeader(metric)}${samples.join("")}`;
  }).join("");
}

function smallText(counters: AgentCounters, status: AgentStatus): string {
  return SMALL_METRICS.map((metric) => {
    const samples = metric.read(counters, status).map((sample) => sampleText(metric.name, sample));
    return `${metricHeader(metric)}${samples.join("")}`;
  }).join("");
}
