// All nodes at a glance: is it well, how far behind is it, what is dropped and why, who fills the flow tables.
import { dashboard, graph, of, quantile, rate, type Section, stat, table } from "./panels.ts";

const WELL: Section = {
  title: "Is it well?",
  panels: [
    stat({ title: "Agents", about: "Nodes whose agent is scraped.", width: 3 }, [
      `count(${of("millrace_build_info")})`,
      "",
    ]),
    stat(
      {
        ...{ title: "Unhealthy", width: 3, bad: 1 },
        about:
          "Agents that do not bring in force what they are asked to: what was in force before goes on. `millrace status` says why.",
      },
      [`count(${of("millrace_healthy")}) - sum(${of("millrace_healthy")})`, ""],
    ),
    stat(
      {
        ...{ title: "Not synced", width: 3, bad: 1 },
        about: "Agents that have not read all objects since their start.",
      },
      [`count(${of("millrace_source_synced")}) - sum(${of("millrace_source_synced")})`, ""],
    ),
    stat(
      {
        ...{ title: "Bypass on", width: 3, bad: 1 },
        about: "Nodes where `millrace bypass on` has turned all translation off.",
      },
      [`sum(${of("millrace_bypass")})`, ""],
    ),
    stat(
      {
        ...{ title: "Error notices", width: 3, bad: 1 },
        about: "What needs somebody now. The table below has the reasons.",
      },
      [`sum(${of("millrace_notices", 'severity="error"')}) or vector(0)`, ""],
    ),
    stat(
      {
        ...{ title: "Longest wait", width: 3, unit: "s", warn: 5, bad: 30 },
        about: "How long the oldest change that is not in force yet has waited, on the node that is farthest behind.",
      },
      [`max(${of("millrace_source_lag_seconds")})`, ""],
    ),
    stat(
      {
        ...{ title: "Dropped per second", width: 3, unit: "pps", warn: 1, bad: 100 },
        about: "Packets dropped by a verdict of ours, on all nodes. Below is which verdict.",
      },
      [`sum(${rate("millrace_packets_total", 'verdict=~"drop_.+"')})`, ""],
    ),
    stat(
      {
        ...{ title: "Fullest table", width: 3, unit: "percentunit", warn: 0.7, bad: 0.9 },
        about: "The map or flow table, of all nodes, with the least room left.",
      },
      [`max(${of("millrace_map_entries")} / ${of("millrace_map_capacity")})`, ""],
    ),
    table(
      {
        ...{ title: "Notices", width: 12, value: "notices" },
        about: "What is wrong or worth knowing, by reason. Each reason has a heading in docs/troubleshooting.md.",
      },
      `sum by (severity, reason, instance) (${of("millrace_notices")})`,
    ),
    table(
      {
        ...{ title: "Versions", width: 12, value: "agents" },
        about: "Agents by version, and by layout of their maps. Two layouts at once are an upgrade under way.",
      },
      `count by (version, layout) (${of("millrace_build_info")})`,
    ),
  ],
};

const BEHIND: Section = {
  title: "How far behind is it?",
  panels: [
    graph(
      {
        ...{ title: "A change until it is in force", width: 8, unit: "s", warn: 1, bad: 5 },
        about: "From the arrival of a change at the agent to the kernel's maps. Usual are milliseconds.",
      },
      [quantile(0.5, "millrace_change_duration_seconds"), "half"],
      [quantile(0.99, "millrace_change_duration_seconds"), "99 of 100"],
    ),
    graph(
      {
        ...{ title: "The same, by node", width: 8, unit: "s", warn: 1, bad: 5 },
        about: "99 of 100 changes are in force after so long. One node alone: look at its CPU.",
      },
      [quantile(0.99, "millrace_change_duration_seconds", ["instance"]), "{{instance}}"],
    ),
    graph(
      {
        ...{ title: "Changes that wait", width: 8, unit: "s", warn: 5, bad: 30 },
        about: "How long the oldest change that is not in force yet has waited.",
      },
      [of("millrace_source_lag_seconds"), "{{instance}}"],
    ),
    graph(
      {
        ...{ title: "From the Pod or Service to the kernel", width: 8, unit: "s", warn: 10, bad: 30 },
        about:
          "kube-proxy's network programming latency: the control plane's part is in it. Large while the panel before is small: the time is lost before the agent.",
      },
      [quantile(0.5, "millrace_network_programming_duration_seconds"), "half"],
      [quantile(0.99, "millrace_network_programming_duration_seconds"), "99 of 100"],
    ),
    graph(
      {
        ...{ title: "Changes", width: 8, unit: "cps" },
        about: "Changes of Services and EndpointSlices that come, each counted once on every node.",
      },
      [`max(${rate("kubeproxy_sync_proxy_rules_service_changes_total")})`, "Services"],
      [`max(${rate("kubeproxy_sync_proxy_rules_endpoint_changes_total")})`, "EndpointSlices"],
    ),
    graph(
      {
        ...{ title: "Applied to the kernel", width: 8, unit: "ops" },
        about: "Times that changes were applied, and times that the kernel refused one. Failures are tried again.",
      },
      [`sum(${rate("millrace_sync_proxy_rules_total")})`, "applied"],
      [`sum(${rate("millrace_sync_proxy_rules_failures_total")})`, "failed"],
      [`sum(${rate("millrace_sync_proxy_rules_operations_total")})`, "operations"],
    ),
  ],
};

const PACKETS: Section = {
  title: "What is dropped, and why?",
  panels: [
    graph(
      {
        ...{ title: "Drops by verdict", width: 12, unit: "pps", stacked: true },
        about: "Each verdict has a heading in docs/troubleshooting.md that says what it means.",
      },
      [`sum by (verdict) (${rate("millrace_packets_total", 'verdict=~"drop_.+"')})`, "{{verdict}}"],
    ),
    graph(
      {
        ...{ title: "Drops by node", width: 12, unit: "pps", stacked: true },
        about: "One node alone: look at what is special about it.",
      },
      [`sum by (instance) (${rate("millrace_packets_total", 'verdict=~"drop_.+"')})`, "{{instance}}"],
    ),
    graph(
      {
        ...{ title: "Services with the most drops", width: 12, unit: "pps" },
        about: "Packets on their way to a Service port that were dropped, and why.",
      },
      [
        `topk(10, sum by (namespace, service, port, reason) (${rate("millrace_service_dropped_total")}))`,
        "{{namespace}}/{{service}} {{port}}: {{reason}}",
      ],
    ),
    graph(
      {
        ...{ title: "Services with the most refusals", width: 12, unit: "reqps" },
        about: "Requests that were refused, as the Service port has no endpoint.",
      },
      [
        `topk(10, sum by (namespace, service, port) (${rate("millrace_service_refused_total")}))`,
        "{{namespace}}/{{service}} {{port}}",
      ],
    ),
    graph(
      {
        ...{ title: "All else that was decided", width: 12, unit: "pps", stacked: true },
        about: "Packets and socket calls by verdict, without drops.",
      },
      [`sum by (verdict) (${rate("millrace_packets_total", 'verdict!~"drop_.+"')})`, "{{verdict}}"],
    ),
    graph(
      {
        ...{ title: "By hook", width: 12, unit: "pps", stacked: true },
        about: "Where packets and socket calls met a program.",
      },
      [`sum by (hook) (${rate("millrace_packets_total")})`, "{{hook}}"],
    ),
  ],
};

const FLOWS: Section = {
  title: "Who fills the flow tables?",
  panels: [
    graph(
      {
        ...{ title: "How full the flow tables are", width: 8, unit: "percentunit", max: 1, warn: 0.7, bad: 0.95 },
        about:
          "From 80 % on no client gets more than its share, from 90 % on the idlest flows are given up, at 95 % new ones are dropped.",
      },
      [
        `${of("millrace_map_entries", 'map=~".+_flows|openings"')} / ${of("millrace_map_capacity", 'map=~".+_flows|openings"')}`,
        "{{instance}} {{map}}",
      ],
    ),
    graph(
      {
        ...{ title: "Services with the most new connections", width: 8, unit: "cps" },
        about: "Who makes flows. Clients are in no metric: `millrace flows` on the node shows them.",
      },
      [
        `topk(10, sum by (namespace, service) (${rate("millrace_service_connections_total")}))`,
        "{{namespace}}/{{service}}",
      ],
    ),
    graph(
      {
        ...{ title: "Refused for want of room", width: 8, unit: "pps", bad: 1 },
        about: "Packets of new connections that were dropped as a table is full, or their client has its share of it.",
      },
      [
        `sum by (instance, verdict) (${rate("millrace_packets_total", 'verdict=~"drop_table_full|drop_client_share"')})`,
        "{{instance}} {{verdict}}",
      ],
    ),
    graph({ ...{ title: "Entries", width: 8, stacked: true }, about: "A translated flow has two entries." }, [
      `sum by (table) (${of("millrace_flows")})`,
      "{{table}}",
    ]),
    graph(
      {
        ...{ title: "Entries taken out", width: 8, unit: "ops" },
        about: "over: the flow ended, or was idle for too long. given-up: it made room in a table that filled.",
      },
      [`sum by (table, reason) (${rate("millrace_flow_entries_removed_total")})`, "{{table}} {{reason}}"],
    ),
    graph(
      {
        ...{ title: "Source ports in use", width: 8, unit: "percentunit", max: 1, warn: 0.8, bad: 0.95 },
        about: "Toward the backend where most are. `millrace status` names it from 80 % on.",
      },
      [of("millrace_source_ports_used_ratio"), "{{instance}}"],
    ),
  ],
};

const API: Section = {
  title: "The Kubernetes API (without data where manifests are read)",
  panels: [
    graph(
      {
        ...{ title: "Agents that watch each resource", width: 8 },
        about: "Fewer than there are agents: those do not hear of changes. What they know stays in force.",
      },
      [`sum by (resource) (${of("millrace_api_connected")})`, "{{resource}}"],
    ),
    graph({ ...{ title: "Requests", width: 8, unit: "reqps" }, about: "By status. <error>: no answer came." }, [
      `sum by (code, method) (${rate("rest_client_requests_total")})`,
      "{{method}} {{code}}",
    ]),
    graph(
      {
        ...{ title: "Until the head of the answer", width: 8, unit: "s", warn: 1, bad: 5 },
        about: "99 of 100 requests are answered after so long.",
      },
      [quantile(0.99, "rest_client_request_duration_seconds", ["verb"]), "{{verb}}"],
    ),
    graph(
      {
        ...{ title: "Lists and watches", width: 12, unit: "ops" },
        about: "Many lists are a sign of watches that cannot go on.",
      },
      [`sum by (resource) (${rate("millrace_api_lists_total")})`, "list {{resource}}"],
      [`sum by (resource) (${rate("millrace_api_watches_total")})`, "watch {{resource}}"],
    ),
    graph(
      {
        ...{ title: "Time since the last event or bookmark", width: 12, unit: "s", warn: 120, bad: 600 },
        about: "Of the resource that was heard of last the longest ago; servers send a bookmark about once a minute.",
      },
      [`time() - min by (instance) (${of("millrace_api_last_event_timestamp_seconds")} > 0)`, "{{instance}}"],
    ),
  ],
};

const PROCESS: Section = {
  title: "What does it cost?",
  panels: [
    graph(
      {
        ...{ title: "CPU of the agents", width: 6, unit: "percentunit" },
        about: "Of one CPU. The programs in the kernel are not in it.",
      },
      [rate("process_cpu_seconds_total"), "{{instance}}"],
    ),
    graph({ ...{ title: "Memory of the agents", width: 6, unit: "bytes" }, about: "Resident." }, [
      of("process_resident_memory_bytes"),
      "{{instance}}",
    ]),
    graph({ ...{ title: "Memory of the maps", width: 6, unit: "bytes" }, about: "In the kernel, by node." }, [
      `sum by (instance) (${of("millrace_map_memory_bytes")})`,
      "{{instance}}",
    ]),
    graph(
      {
        ...{ title: "Lag of the event loop", width: 6, unit: "s", warn: 0.1, bad: 1 },
        about: "99 of 100 turns begin at most so late. More than a tenth of a second: the agent gets too little CPU.",
      },
      [of("nodejs_eventloop_lag_p99_seconds"), "{{instance}}"],
    ),
    graph(
      {
        ...{ title: "How full the other maps are", width: 24, unit: "percentunit", max: 1, warn: 0.7, bad: 0.9 },
        about:
          "The fullest node of each map. A full one serves fewer backends, or a Service not at all: raise its --max- setting.",
      },
      [
        `max by (map) (${of("millrace_map_entries", 'map!~".+_flows|openings"')} / ${of("millrace_map_capacity", 'map!~".+_flows|openings"')})`,
        "{{map}}",
      ],
    ),
  ],
};

export const overview = (): unknown =>
  dashboard(
    "millrace-overview",
    "Millrace / Overview",
    "All nodes: is it well, how far behind, what is dropped and why, who fills the flow tables.",
    [WELL, BEHIND, PACKETS, FLOWS, API, PROCESS],
  );
