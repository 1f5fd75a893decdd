// What kube-proxy's metrics are here: the table in docs/metrics.md. A test compares it with what kube-proxy 1.37 registers and with ours.

export interface Counterpart {
  /** A name, or a beginning with "*": all that begin so. */
  readonly theirs: string;
  /** The same name is here, with the same type, labels and bounds. */
  readonly same: boolean;
  /** What is different about it; or why there is none, and what tells the like. */
  readonly note: string;
}

const same = (theirs: string, note = "As there."): Counterpart => ({ theirs, same: true, note });
const none = (theirs: string, note: string): Counterpart => ({ theirs, same: false, note });

const NO_RULES = "there are no rules of iptables";
const NO_NFTABLES =
  "there are no rules of nftables; `millrace_sync_proxy_rules_failures_total` counts changes that could not be applied";
const NO_CONNTRACK =
  "stale flows are in our own tables: `millrace_flow_entries_removed_total`; entries of conntrack are kube-proxy's alone, while there are some";
const ON_LOOPBACK = "node ports on loopback are translated at the socket: `millrace_service_connections_total`";
const WINDOWS = "it is for Windows";
const NO_LIMITER = "no request waits for a limit of the client; writes wait in a queue of their own";
const NO_SIZES = "sizes are not counted";
const NO_POOLS =
  "connections are shared by credentials; `millrace_api_credential_reloads_total` counts those that were taken anew";
const NOT_ITS_OWN = "it comes from a library of Kubernetes' own and counts nothing of a proxy";

export const COUNTERPARTS: readonly Counterpart[] = [
  same(
    "kubeproxy_sync_proxy_rules_duration_seconds",
    "One sync brings both families in force: both have the same numbers.",
  ),
  same(
    "kubeproxy_sync_full_proxy_rules_duration_seconds",
    "Likewise. Full is what compares all objects: at the start and after a failure.",
  ),
  same("kubeproxy_sync_partial_proxy_rules_duration_seconds", "Likewise."),
  same(
    "kubeproxy_network_programming_duration_seconds",
    "Likewise. Nearly all of it is below the first bound: `millrace_network_programming_duration_seconds` has finer ones.",
  ),
  same("kubeproxy_sync_proxy_rules_last_timestamp_seconds", "Likewise."),
  same("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", "Likewise."),
  same("kubeproxy_sync_proxy_rules_service_changes_pending"),
  same("kubeproxy_sync_proxy_rules_service_changes_total"),
  same("kubeproxy_sync_proxy_rules_endpoint_changes_pending"),
  same("kubeproxy_sync_proxy_rules_endpoint_changes_total"),
  same(
    "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
    "As there, a gauge in spite of its name; of each family's own Service ports.",
  ),
  same("kubeproxy_proxy_healthz_total"),
  same("kubeproxy_proxy_livez_total"),
  none("kubeproxy_iptables_ct_state_invalid_dropped_packets_total", "no packet is dropped for a state of conntrack"),
  none("kubeproxy_iptables_localhost_nodeports_accepted_packets_total", ON_LOOPBACK),
  none("kubeproxy_sync_proxy_rules_iptables_*", NO_RULES),
  none("kubeproxy_sync_proxy_rules_nftables_*", NO_NFTABLES),
  none("kubeproxy_nftables_localhost_*", ON_LOOPBACK),
  none("kubeproxy_conntrack_reconciler_*", NO_CONNTRACK),
  none("kubeproxy_sync_proxy_rules_winkernel_*", WINDOWS),
  same("rest_client_requests_total"),
  same(
    "rest_client_request_duration_seconds",
    "As there, until the head of the answer; client-go leaves watches out, here they are among GET.",
  ),
  same("rest_client_exec_plugin_call_total"),
  none(
    "rest_client_exec_plugin_ttl_seconds",
    "`millrace_api_client_certificate_expiry_timestamp_seconds` is the moment itself, of files too",
  ),
  none("rest_client_exec_plugin_certificate_rotation_age", "`millrace_api_credential_reloads_total` counts rotations"),
  none("rest_client_rate_limiter_duration_seconds", NO_LIMITER),
  none("rest_client_dns_resolution_duration_seconds", "it is part of the request's duration"),
  none("rest_client_request_size_bytes", NO_SIZES),
  none("rest_client_response_size_bytes", NO_SIZES),
  none("rest_client_request_retries_total", "`millrace_api_errors_total` counts what is tried again"),
  none("rest_client_transport_*", NO_POOLS),
  same("process_cpu_seconds_total"),
  same("process_resident_memory_bytes"),
  same("process_virtual_memory_bytes"),
  same("process_virtual_memory_max_bytes"),
  same("process_start_time_seconds"),
  same("process_open_fds"),
  same("process_max_fds"),
  same("process_network_receive_bytes_total", "As there: of the network namespace, not of the process."),
  same("process_network_transmit_bytes_total", "Likewise."),
  none(
    "go_*",
    "this is no Go program: it has one thread for its work and no `go_goroutines`; `nodejs_eventloop_lag_*` tells whether that keeps up, `nodejs_heap_*` and `nodejs_gc_*` its memory",
  ),
  none(
    "kubernetes_build_info",
    "alerts compare its version with other components' (KubeVersionMismatch); `millrace_build_info` has ours",
  ),
  none("kubernetes_feature_enabled", "there are no feature gates; `millrace status` names what this kernel lacks"),
  none("registered_metrics_total", "no metric is hidden or disabled"),
  none("hidden_metrics_total", "no metric is hidden"),
  none("disabled_metrics_total", "no metric is disabled"),
  none("cardinality_enforcement_unexpected_categorizations_total", "no label is bounded at run time"),
  none("apiserver_*", NOT_ITS_OWN),
  none("aggregator_*", NOT_ITS_OWN),
];

/** The row of a name of kube-proxy's; undefined: nothing is said of it. */
export function counterpartOf(name: string): Counterpart | undefined {
  return COUNTERPARTS.find(({ theirs }) =>
    theirs.endsWith("*") ? name.startsWith(theirs.slice(0, -1)) : theirs === name,
  );
}

/** A section of docs/metrics.md. */
export function counterpartsSection(): string {
  const rows = COUNTERPARTS.map(({ theirs, same: isSame, note }) => {
    const sentence = note.replace(/^[a-z]/, (letter) => letter.toUpperCase()).replace(/([^.])$/, "$1.");
    return `| ${isSame ? "yes" : "no"} | \`${theirs}\` | ${sentence} |`;
  });
  return `## kube-proxy's and ours

What kube-proxy 1.37 registers, and what is here: of "yes" name, type, labels and bounds are the same, so that dashboards and alerts for kube-proxy
go on, also while some nodes have the one proxy and some the other. \`/proxyMode\` beside \`/metrics\` says \`millrace\`, and \`/healthz\` there \`ok\`.

| here | kube-proxy's | meaning here, or why not |
|---|---|---|
${rows.join("\n")}
`;
}
