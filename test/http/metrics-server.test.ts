import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { CONTROLLER_METRICS } from "../../src/http/controller-metrics.ts";
import { NO_LOCAL_ENDPOINTS } from "../../src/http/kubeproxy-metrics.ts";
import { createMetricsRegistry, METRICS } from "../../src/http/metrics.ts";
import { createMetricsServer } from "../../src/http/metrics-server.ts";
import { createProbeCounts } from "../../src/http/probe-counts.ts";
import { agentCounters, agentView, apiStats, serviceCounters, silentLog, syncStats } from "./view-fixture.ts";

const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const server of open.splice(0)) await server.close();
});

function metricsServer(view = agentView()) {
  const probes = createProbeCounts();
  for (const status of [200, 503, 200]) probes.count("healthz", status);
  probes.count("livez", 200);
  const server = createMetricsServer({ view, address: "127.0.0.1:0", log: silentLog, onNotice() {}, probes });
  open.push(server);
  return server;
}

describe("/metrics", () => {
  it.each([
    'millrace_build_info{version="1.2.3",layout="abc123"} 1',
    "millrace_healthy 1",
    'millrace_source_synced{kind="manifests"} 1',
    "millrace_sync_proxy_rules_total 9",
    "millrace_sync_proxy_rules_failures_total 1",
    "millrace_sync_proxy_rules_operations_total 70",
    "millrace_sync_proxy_rules_last_duration_seconds 0.00125",
    "millrace_sync_proxy_rules_last_timestamp_seconds 1700000060",
    'millrace_packets_total{hook="tc_ingress",verdict="drop_no_backend"} 11',
    'millrace_service_connections_total{namespace="default",service="web",port="http",protocol="TCP"} 5',
    'millrace_service_bytes_total{namespace="default",service="web",port="http",protocol="TCP"} 500',
    'millrace_flows{table="tcp_flows"} 2',
    'millrace_map_entries{map="frontends"} 3',
    'millrace_map_capacity{map="frontends"} 100',
    'millrace_map_memory_bytes{map="frontends"} 20480',
    "millrace_announced_addresses 1",
    'millrace_announced_address_info{address="192.168.122.111",device="eth0",namespace="default",service="web"} 1',
    'millrace_elected_address_info{address="192.168.122.112",namespace="default",service="db"} 1',
    'millrace_unannounced_addresses{reason="no-local-endpoint"} 2',
    'millrace_unannounced_addresses{reason="not-advertised"} 0',
    "millrace_source_ports_used_ratio 0.25",
    'millrace_announcer_peers{state="alive"} 1',
    "millrace_announcer_takeovers_total 2",
    "millrace_announcer_takeover_seconds_total 1.4",
    'millrace_notices{reason="no-pool",severity="warning"} 1',
    "millrace_load_balancers_pending 1",
    'millrace_service_backends{namespace="default",service="web",port="http",protocol="TCP"} 2',
    "# TYPE kubeproxy_sync_proxy_rules_duration_seconds histogram",
    'kubeproxy_sync_proxy_rules_duration_seconds_bucket{le="0.25",ip_family="IPv4"} 2',
    'kubeproxy_sync_proxy_rules_duration_seconds_bucket{le="1",ip_family="IPv6"} 3',
    'kubeproxy_sync_proxy_rules_duration_seconds_bucket{le="+Inf",ip_family="IPv4"} 3',
    'kubeproxy_sync_proxy_rules_duration_seconds_sum{ip_family="IPv4"} 0.75',
    'kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family="IPv4"} 1',
    'kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family="IPv4"} 2',
    'kubeproxy_network_programming_duration_seconds_bucket{le="1",ip_family="IPv4"} 0',
    'kubeproxy_network_programming_duration_seconds_bucket{le="+Inf",ip_family="IPv6"} 1',
    "kubeproxy_sync_proxy_rules_service_changes_pending 1",
    "kubeproxy_sync_proxy_rules_service_changes_total 12",
    "kubeproxy_sync_proxy_rules_endpoint_changes_pending 2",
    "kubeproxy_sync_proxy_rules_endpoint_changes_total 34",
    'kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"} 1700000060',
    'kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family="IPv4"} 1700000061',
    'kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy="external",ip_family="IPv4"} 0',
    'kubeproxy_proxy_healthz_total{code="200"} 2',
    'kubeproxy_proxy_healthz_total{code="503"} 1',
    'kubeproxy_proxy_livez_total{code="200"} 1',
    "millrace_network_programming_duration_seconds_count 1",
    "millrace_source_lag_seconds 0",
    'millrace_change_duration_seconds_bucket{le="1"} 1',
    "nodejs_eventloop_lag_seconds",
    "process_resident_memory_bytes",
  ])("has %s", async (line) => {
    const response = await metricsServer().app.inject("/metrics");
    expect(response.headers["content-type"]).toMatch(/^text\/plain; version=0\.0\.4/);
    expect(`\n${response.body}`).toContain(`\n${line}`);
  });

  it.each([
    'rest_client_requests_total{code="200",method="GET",host="192.168.122.11:6443"} 8',
    'rest_client_requests_total{code="<error>",method="GET",host="192.168.122.11:6443"} 1',
    'rest_client_request_duration_seconds_bucket{le="0.25",verb="GET",host="192.168.122.11:6443"} 1',
    'rest_client_request_duration_seconds_count{verb="GET",host="192.168.122.11:6443"} 2',
    'rest_client_exec_plugin_call_total{code="0",call_status="no_error"} 6',
    'rest_client_exec_plugin_call_total{code="1",call_status="plugin_execution_error"} 1',
    'millrace_api_connected{resource="services"} 1',
    'millrace_api_synced{resource="endpointslices"} 1',
    'millrace_api_last_event_timestamp_seconds{resource="services"} 1700000050',
    'millrace_api_lists_total{resource="services"} 1',
    'millrace_api_watches_total{resource="services"} 4',
    'millrace_api_relists_total{resource="endpointslices",reason="gone"} 2',
    'millrace_api_errors_total{resource="endpointslices",reason="throttled"} 3',
    'millrace_api_held_lists_total{resource="endpointslices"} 1',
    "millrace_api_client_certificate_expiry_timestamp_seconds 1700086400",
    "millrace_api_credential_reloads_total 5",
  ])("has %s when the objects come from the Kubernetes API, and else not", async (line) => {
    const { app } = metricsServer(agentView({ counters: () => agentCounters({ api: apiStats() }) }));
    expect((await app.inject("/metrics")).body.split("\n")).toContain(line);
    const [name] = /^\w+/.exec(line)!;
    expect((await metricsServer().app.inject("/metrics")).body).not.toMatch(new RegExp(`^${name}`, "m"));
  });

  it("does not take a resource that the server does not have for one that is not listened to", async () => {
    const { resources } = apiStats();
    const absent = { ...resources[0]!, resource: "ipaddresspools", connected: false, absent: true };
    const api = apiStats({ resources: [...resources, absent] });
    const { body } = await metricsServer(agentView({ counters: () => agentCounters({ api }) })).app.inject("/metrics");
    expect(body.match(/^millrace_api_connected.*$/gm)).toEqual([
      'millrace_api_connected{resource="services"} 1',
      'millrace_api_connected{resource="endpointslices"} 1',
    ]);
    expect(body).toContain('millrace_api_synced{resource="ipaddresspools"} 1');
  });

  it("tells how long a change has waited, while one does", async () => {
    const counters = () => agentCounters({ syncs: syncStats({ waitingSinceMs: Date.now() - 4000 }) });
    const { body } = await metricsServer(agentView({ counters })).app.inject("/metrics");
    const lag = Number(/^millrace_source_lag_seconds (.*)$/m.exec(body)?.[1]);
    expect(lag).toBeGreaterThanOrEqual(4);
    expect(lag).toBeLessThan(10);
  });

  it("counts what the kernel counted, not how often it was asked, and forgets what is gone", async () => {
    let [counters, services] = [agentCounters(), [serviceCounters()]];
    const { app } = metricsServer(agentView({ counters: () => counters, serviceCounters: () => services }));
    await app.inject("/metrics");
    expect((await app.inject("/metrics")).body).toContain("millrace_sync_proxy_rules_total 9\n");
    [counters, services] = [agentCounters({ notices: [] }), []];
    const { body } = await app.inject("/metrics");
    expect(body).not.toMatch(/^millrace_service_.*"web"/m);
    expect(body).not.toContain("no-pool");
  });

  it("counts ports whose policy Local finds nothing here, by policy and family", async () => {
    const [both, internal, none] = [
      { internal: true, external: true },
      { internal: true, external: false },
      { internal: false, external: false },
    ];
    const services = [
      serviceCounters({ withoutLocal: both }),
      serviceCounters({ withoutLocal: internal }),
      serviceCounters({ withoutLocal: none }),
      serviceCounters({ family: "IPv6", withoutLocal: internal }),
    ];
    const { body } = await metricsServer(agentView({ serviceCounters: () => services })).app.inject("/metrics");
    expect(body.match(/^kubeproxy_sync_proxy_rules_no_local_endpoints_total.*$/gm)).toEqual([
      'kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy="internal",ip_family="IPv4"} 2',
      'kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy="internal",ip_family="IPv6"} 1',
      'kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy="external",ip_family="IPv4"} 1',
      'kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy="external",ip_family="IPv6"} 0',
    ]);
  });

  it("adds the families of a dual-stack port", async () => {
    const services = [
      serviceCounters(),
      serviceCounters({ name: "db", refusals: { refuse: 9 } }),
      serviceCounters({ connections: 2, bytes: 1, refusals: { refuse: 3, drop_no_route: 4 } }),
    ];
    const { body } = await metricsServer(agentView({ serviceCounters: () => services })).app.inject("/metrics");
    const lines = body.split("\n").filter((line) => /^millrace_service_.*"web"/.test(line));
    expect(lines.map((line) => line.replace(/\{.*protocol="TCP"(?:,|(?=\}))/, "{"))).toEqual([
      "millrace_service_connections_total{} 7",
      "millrace_service_packets_total{} 100",
      "millrace_service_bytes_total{} 501",
      "millrace_service_backends{} 4",
      "millrace_service_refused_total{} 3",
      'millrace_service_dropped_total{reason="no_route"} 4',
    ]);
  });

  it("answers 500 when the kernel's counters cannot be read, not half a page", async () => {
    // biome-ignore lint/correctness/useYield: it fails before the first
    const serviceCounters = function* (): Generator<never> {
      throw new Error("could not look up a row of service_stats: EPERM");
    };
    const response = await metricsServer(agentView({ serviceCounters })).app.inject("/metrics");
    expect([response.statusCode, response.json().code]).toEqual([500, "internal"]);
  });

  it("lets the event loop turn while it reads and writes ten thousand Services", async () => {
    const services = Array.from({ length: 10_000 }, (_, i) => serviceCounters({ name: `web-${i}` }));
    let [turns, turnsToRead] = [0, 0];
    const turn = () => {
      turns++;
      next = setImmediate(turn);
    };
    let next = setImmediate(turn);
    function* slowly() {
      for (const one of services) {
        // As long as the kernel takes for a row.
        for (const end = performance.now() + 0.003; performance.now() < end; );
        yield one;
      }
      turnsToRead = turns;
    }
    const { app } = metricsServer(agentView({ serviceCounters: slowly }));
    const { body } = await app.inject("/metrics");
    clearImmediate(next);
    expect(body.match(/^millrace_service_bytes_total\{/gm)).toHaveLength(10_000);
    // 30 ms of work at the very least, in slices of 5 ms.
    expect(turnsToRead).toBeGreaterThanOrEqual(5);
    expect(turns).toBeGreaterThan(turnsToRead + 1);
  });
});

describe("the metrics", () => {
  it("begin as ours, kube-proxy's or client-go's do, end as their type asks, and have no label for a client", () => {
    for (const { name, type, labels, help } of METRICS) {
      expect(name).toMatch(/^(millrace|kubeproxy|rest_client)_[a-z_]+$/);
      expect(name.endsWith("_total"), name).toBe(type === "counter" || name === NO_LOCAL_ENDPOINTS.name);
      if (type === "histogram") expect(name).toMatch(/_seconds$/);
      expect(help).toMatch(/^[A-Z0-9].*\.$/);
      // The addresses in labels are LoadBalancer ones: as many as the announcer has rows for.
      const isOfAddresses = /^millrace_(announced|elected)_address_info$/.test(name);
      const ofClients = labels.filter((label) => /address|client|ip(?!_family)|pod/.test(label));
      expect(ofClients, name).toEqual(isOfAddresses ? ["address"] : []);
    }
    expect(new Set(METRICS.map(({ name }) => name)).size).toBe(METRICS.length);
  });

  it("carry the labels that they say, and no other", async () => {
    const services = [serviceCounters({ refusals: { refuse: 1, drop_no_route: 1 } })];
    const counters = () => agentCounters({ api: apiStats() });
    const { app } = metricsServer(agentView({ counters, serviceCounters: () => services }));
    const { body } = await app.inject("/metrics");
    for (const { name, type, labels } of METRICS) {
      const line = new RegExp(`^${name}${type === "histogram" ? "_count" : ""}(?:\\{(.*)\\})? `, "m").exec(body);
      expect(line, name).not.toBeNull();
      expect([...(line?.[1] ?? "").matchAll(/(\w+)="/g)].map((match) => match[1])).toEqual(labels);
    }
  });

  it("have names that fit their types", () => {
    const names = createMetricsRegistry()
      .processMetrics()
      .map(({ name }) => name);
    expect(names.filter((name) => name.startsWith("nodejs_active_"))).toEqual([]);
    for (const { name, type } of METRICS.filter((one) => one !== NO_LOCAL_ENDPOINTS))
      expect([name, name.endsWith("_total")]).toEqual([name, type === "counter"]);
  });

  it("are all documented, and docs/metrics.md names no other", () => {
    const page = readFileSync(resolve(import.meta.dirname, "../../docs/metrics.md"), "utf8");
    const described = [...METRICS, ...CONTROLLER_METRICS];
    const all = [...described, ...createMetricsRegistry().processMetrics()].map(({ name }) => name);
    expect([...page.matchAll(/^\| `(\w+)`/gm)].map((match) => match[1]).sort()).toEqual([...all].sort());
    for (const { name, help } of described) expect(page).toMatch(new RegExp(`\`${name}\`.*${help.slice(0, 20)}`));
  });
});

describe("/healthz of the metrics server", () => {
  it("says that it answers, as kube-proxy's does", async () => {
    const response = await metricsServer().app.inject("/healthz");
    expect([response.statusCode, response.body]).toEqual([200, "ok"]);
  });
});

describe("/proxyMode", () => {
  it("says what proxy this is, in plain text", async () => {
    const response = await metricsServer().app.inject("/proxyMode");
    expect([response.statusCode, response.headers["content-type"], response.body]).toEqual([
      200,
      "text/plain; charset=utf-8",
      "millrace",
    ]);
  });
});
