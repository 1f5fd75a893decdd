// The controller's health, status and metrics over HTTP.
import { afterEach, expect, test } from "vitest";
import type { ControllerView } from "../../src/controller/controller.ts";
import { CONTROLLER_METRICS } from "../../src/http/controller-metrics.ts";
import { createControllerServers } from "../../src/http/controller-servers.ts";

const term: NonNullable<ControllerView["term"]> = {
  synced: true,
  counts: { services: 3, assigned: 2, pending: { "pool-exhausted": 1 } },
  pools: [{ name: "p", assigned: { IPv4: 2, IPv6: 0 }, available: { IPv4: 0, IPv6: 5 } }],
  refusals: [
    { key: "default/c", refusal: { refused: "pool-exhausted", field: "", message: "no free address is left in p" } },
  ],
  remarks: [],
  isConfigurationValid: true,
  problems: [],
  writesWaiting: 4,
  decisionMs: 12,
};

const view = (more: Partial<ControllerView> = {}): ControllerView => ({
  identity: "a",
  leads: true,
  holder: "a",
  term,
  waitsFor: [],
  problems: [],
  writes: [{ write: "service_status", outcome: "done", count: 7 }],
  eventsDropped: 0,
  ...more,
});

const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

async function serve(shown: ControllerView): Promise<(at: 0 | 1, path: string) => Promise<Response>> {
  const addresses = { healthzBindAddress: "127.0.0.1:0", metricsBindAddress: "127.0.0.1:0" };
  const servers = await createControllerServers(addresses, () => shown);
  open.push(servers);
  return (at, path) => fetch(`http://127.0.0.1:${servers.ports()[at]}${path}`);
}

test.each([
  ["a leader that has listed everything", view(), 200, []],
  ["one that waits for another", view({ leads: false, holder: "b", term: undefined }), 200, []],
  [
    "a leader that lists",
    view({ term: { ...term, synced: false }, problems: ["403"] }),
    503,
    ["not everything was listed yet", "403"],
  ],
  [
    "a leader that gives nothing while MetalLB runs",
    view({ term: undefined, waitsFor: ["Deployment metallb-system/controller"], problems: ["MetalLB runs"] }),
    200,
    [],
  ],
  [
    "one that knows of no leader",
    view({ leads: false, holder: "", term: undefined }),
    503,
    ["no controller is known to lead"],
  ],
])("/healthz of %s", async (_, shown, status, reasons) => {
  const ask = await serve(shown);
  const answer = await ask(0, "/healthz");
  expect([answer.status, await answer.json()]).toEqual([status, { healthy: status === 200, reasons }]);
  expect((await ask(0, "/livez")).status).toBe(200);
});

test("/status says which Services are without an address, and why", async () => {
  const ask = await serve(view());
  const { term: shown } = (await (await ask(0, "/status")).json()) as ControllerView;
  expect(shown?.refusals).toEqual(term.refusals);
  expect(shown?.pools).toEqual(term.pools);
});

test("/metrics has every metric of the table, and the process's own", async () => {
  const ask = await serve(view());
  const text = await (await ask(1, "/metrics")).text();
  for (const { name } of CONTROLLER_METRICS) expect(text).toContain(`# HELP ${name} `);
  expect(text).toContain('millrace_controller_services_pending{reason="pool-exhausted"} 1\n');
  expect(text).toContain('millrace_controller_pool_addresses_available{pool="p",family="IPv6"} 5\n');
  expect(text).toContain('millrace_controller_writes_total{write="service_status",outcome="done"} 7\n');
  expect(text).toContain("process_resident_memory_bytes ");
});
