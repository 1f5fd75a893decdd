// kube-proxy's own metrics, by its names and with its meaning, so that dashboards and alerts made for it go on. Its label
// ip_family, new in late versions, is left out: one sync here brings both families in force, and twice the same numbers would
// double every sum.
import type { AgentCounters } from "../agent/view.ts";
import type { HistogramData } from "../lib/histogram.ts";
import { type MetricDefinition, numberMetric } from "./metric-definition.ts";

type Syncs = AgentCounters["syncs"];

function durations(what: string, help: string, data: (syncs: Syncs) => HistogramData): MetricDefinition {
  return {
    name: `kubeproxy_${what}_duration_seconds`,
    type: "histogram",
    labels: [],
    help,
    read: ({ syncs }) => [{ value: data(syncs) }],
  };
}

function ofSyncs(what: string, help: string, value: (syncs: Syncs) => number): MetricDefinition {
  return numberMetric(`kubeproxy_sync_proxy_rules_${what}`, help, ({ syncs }) => value(syncs));
}

export const KUBEPROXY_METRICS: readonly MetricDefinition[] = [
  durations(
    "sync_proxy_rules",
    "How long it took to bring changes in force, from the start of planning, for both IP families together.",
    ({ all }) => all,
  ),
  durations(
    "sync_full_proxy_rules",
    "As kubeproxy_sync_proxy_rules_duration_seconds, only where all objects were planned: at the start and after a failure.",
    ({ full }) => full,
  ),
  durations(
    "sync_partial_proxy_rules",
    "As kubeproxy_sync_proxy_rules_duration_seconds, only where what had changed was planned.",
    ({ partial }) => partial,
  ),
  durations(
    "network_programming",
    "From the change of a Pod or Service, by the control plane's clock, until it was in force on this node, by this node's.",
    ({ networkProgramming }) => networkProgramming,
  ),
  ofSyncs("service_changes_pending", "Changes of Services that are not in force yet.", (s) => s.services.pending),
  ofSyncs("service_changes_total", "Changes of Services that came.", (s) => s.services.total),
  ofSyncs(
    "endpoint_changes_pending",
    "Changes of EndpointSlices that are not in force yet.",
    (s) => s.endpoints.pending,
  ),
  ofSyncs("endpoint_changes_total", "Changes of EndpointSlices that came.", (s) => s.endpoints.total),
  ofSyncs(
    "last_timestamp_seconds",
    "When changes were last in force, in seconds since the epoch; 0 before the first.",
    (s) => s.lastSyncedMs / 1000,
  ),
  ofSyncs(
    "last_queued_timestamp_seconds",
    "When changes last came, in seconds since the epoch; 0 before the first. Much later than the last sync: it hangs.",
    (s) => s.lastQueuedMs / 1000,
  ),
];
