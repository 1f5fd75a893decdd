// kube-proxy's own metrics, by its names, types, labels and bounds and with its meaning, so that dashboards and alerts made for it go on.
// One sync here brings both families in force, so each family has the same numbers (docs/decisions/0039-as-kube-proxy.md).
import type { AgentCounters } from "../agent/view.ts";
import type { Family } from "../lib/address.ts";
import type { HistogramData } from "../lib/histogram.ts";
import { ipFamilies } from "../lib/ip-families.ts";
import type { MetricDescription, Sample } from "./exposition.ts";
import { type MetricDefinition, numberMetric } from "./metric-definition.ts";
import type { Probe, ProbeCounts } from "./probe-counts.ts";

type Syncs = AgentCounters["syncs"];

/** As kube-proxy, which has one that is called so and is a gauge. */
export const NO_LOCAL_ENDPOINTS: MetricDescription = {
  name: "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
  type: "gauge",
  labels: ["traffic_policy", "ip_family"],
  help: "Service ports of which a policy Local has no endpoint on this node, though there are some elsewhere: those clients are dropped.",
};

function ofEachFamily(value: Sample["value"]): Sample[] {
  return ipFamilies().map((family) => ({ labels: { ip_family: family }, value }));
}

function durations(what: string, help: string, data: (syncs: Syncs) => HistogramData): MetricDefinition {
  return {
    name: `kubeproxy_${what}_duration_seconds`,
    type: "histogram",
    labels: ["ip_family"],
    help,
    read: ({ syncs }) => ofEachFamily(data(syncs)),
  };
}

function ofSyncs(what: string, help: string, value: (syncs: Syncs) => number): MetricDefinition {
  return numberMetric(`kubeproxy_sync_proxy_rules_${what}`, help, ({ syncs }) => value(syncs));
}

function timestamp(what: string, help: string, ms: (syncs: Syncs) => number): MetricDefinition {
  const name = `kubeproxy_sync_proxy_rules_${what}_timestamp_seconds`;
  return { name, type: "gauge", labels: ["ip_family"], help, read: ({ syncs }) => ofEachFamily(ms(syncs) / 1000) };
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
  timestamp(
    "last",
    "When changes were last in force, in seconds since the epoch; 0 before the first.",
    (s) => s.lastSyncedMs,
  ),
  timestamp(
    "last_queued",
    "When changes last came, in seconds since the epoch; 0 before the first. Much later than the last sync: it hangs.",
    (s) => s.lastQueuedMs,
  ),
];

function ofProbe(probe: Probe): MetricDescription & { readonly probe: Probe } {
  return {
    probe,
    name: `kubeproxy_proxy_${probe}_total`,
    type: "counter",
    labels: ["code"],
    help: `Answers at /${probe} of --healthz-bind-address, by HTTP status; from the first one on.`,
  };
}

export const PROBE_METRICS = [ofProbe("healthz"), ofProbe("livez")] as const;

export function probeSamples(probe: Probe, counts: ProbeCounts): Sample[] {
  return counts.of(probe).map(({ status, answers }) => ({ labels: { code: String(status) }, value: answers }));
}

/** Service ports whose policy Local finds nothing here, by policy and family. */
export class PortsWithoutLocal {
  readonly #counts = new Map<string, number>();

  note(family: Family, { internal, external }: { readonly internal: boolean; readonly external: boolean }): void {
    if (internal) this.#add("internal", family);
    if (external) this.#add("external", family);
  }

  #add(policy: string, family: Family): void {
    const key = `${policy} ${family}`;
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
  }

  samples(): Sample[] {
    return ["internal", "external"].flatMap((policy) =>
      ipFamilies().map((family) => ({
        labels: { traffic_policy: policy, ip_family: family },
        value: this.#counts.get(`${policy} ${family}`) ?? 0,
      })),
    );
  }
}
