import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { createMetricsRegistry, METRICS } from "../../src/http/metrics.ts";
import { createMetricsServer } from "../../src/http/metrics-server.ts";
import { agentCounters, agentStatus, agentView, silentLog } from "./view-fixture.ts";

const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const server of open.splice(0)) await server.close();
});

function metricsServer(view = agentView()) {
  const server = createMetricsServer({ view, address: "127.0.0.1:0", log: silentLog, onNotice() {} });
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
    'millrace_notices{reason="no-pool"} 1',
    "nodejs_eventloop_lag_seconds",
    "process_resident_memory_bytes",
  ])("has %s", async (line) => {
    const response = await metricsServer().app.inject("/metrics");
    expect(response.headers["content-type"]).toMatch(/^text\/plain; version=0\.0\.4/);
    expect(`\n${response.body}`).toContain(`\n${line}`);
  });

  it("counts what the kernel counted, not how often it was asked, and forgets what is gone", async () => {
    let counters = agentCounters();
    const { app } = metricsServer(agentView({ counters: () => counters }));
    await app.inject("/metrics");
    expect((await app.inject("/metrics")).body).toContain("millrace_sync_proxy_rules_total 9\n");
    counters = agentCounters({ services: [], notices: [] });
    const { body } = await app.inject("/metrics");
    expect(body).not.toContain('service="web"');
    expect(body).not.toContain("no-pool");
  });

  it("serves ten thousand Services within a second", async () => {
    const [service] = agentCounters().services;
    const services = Array.from({ length: 10_000 }, (_, i) => ({ ...service!, name: `web-${i}` }));
    const { app } = metricsServer(agentView({ counters: () => agentCounters({ services }) }));
    const start = performance.now();
    expect((await app.inject("/metrics")).body).toContain('service="web-9999"');
    expect(performance.now() - start).toBeLessThan(1000);
  });
});

describe("the metrics", () => {
  it("begin with millrace_, end as their type asks, and have no label for an address", () => {
    for (const { name, type, labels, help } of METRICS) {
      expect(name).toMatch(/^millrace_[a-z_]+$/);
      expect(name.endsWith("_total"), name).toBe(type === "counter");
      expect(help).toMatch(/^[A-Z0-9].*\.$/);
      expect(labels.filter((label) => /address|client|ip|pod/.test(label))).toEqual([]);
    }
    expect(new Set(METRICS.map(({ name }) => name)).size).toBe(METRICS.length);
  });

  it("are all documented, and docs/metrics.md names no other", async () => {
    const page = readFileSync(resolve(import.meta.dirname, "../../docs/metrics.md"), "utf8");
    const registry = createMetricsRegistry();
    await registry.render(agentCounters(), agentStatus());
    const all = [...METRICS, ...registry.processMetrics()].map(({ name }) => name);
    expect([...page.matchAll(/^\| `(\w+)`/gm)].map((match) => match[1]).sort()).toEqual([...all].sort());
    for (const { name, help } of METRICS) expect(page).toMatch(new RegExp(`\`${name}\`.*${help.slice(0, 20)}`));
  });
});
