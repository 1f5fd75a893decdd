// kube-proxy's metrics and ours: each of its names is said something about, and what is said to be the same is, in type, labels and bounds.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { COUNTERPARTS, counterpartOf } from "../../scripts/kube-proxy-metrics.ts";
import { createSyncRecorder } from "../../src/agent/sync-stats.ts";
import { createMetricsServer } from "../../src/http/metrics-server.ts";
import { createProbeCounts } from "../../src/http/probe-counts.ts";
import { addressSpaceLimit, ipCounter } from "../../src/http/process-metrics.ts";
import { createClientStats } from "../../src/kube/client-stats.ts";
import { agentCounters, agentView, apiStats, silentLog } from "./view-fixture.ts";

const fixture = (name: string): string => readFileSync(resolve(import.meta.dirname, "kube-proxy", name), "utf8");
const registered = new Map(
  fixture("metrics-1.37.txt")
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => line.split(" ") as [string, string]),
);

/** A scrape with a sample of everything, and the bounds that an agent has. */
async function scrape(): Promise<string> {
  const probes = createProbeCounts();
  for (const probe of ["healthz", "livez"] as const) probes.count(probe, 200);
  const recorder = createSyncRecorder();
  const client = createClientStats();
  client.count("GET", "10.0.0.1:6443", "200", 0.01);
  const api = apiStats({ requests: client.requests(), durations: client.durations() });
  const view = agentView({ counters: () => agentCounters({ syncs: recorder.stats, api }) });
  const server = createMetricsServer({ view, address: "127.0.0.1:0", log: silentLog, onNotice() {}, probes });
  const { body } = await server.app.inject("/metrics");
  await server.close();
  return body;
}

interface Family {
  readonly type: string;
  readonly labels: ReadonlySet<string>;
  readonly bounds: readonly number[];
}

function familiesOf(text: string): Map<string, Family> {
  const found = new Map<string, { type: string; labels: Set<string>; bounds: number[] }>();
  for (const [, name = "", type = ""] of text.matchAll(/^# TYPE (\S+) (\S+)$/gm))
    found.set(name, { type, labels: new Set(), bounds: [] });
  for (const [, sample = "", labels = ""] of text.matchAll(/^([a-z]\w*)(?:\{(.*)\})? \S+$/gm)) {
    const family = found.get(sample) ?? found.get(sample.replace(/_(bucket|sum|count)$/, ""));
    for (const [, label = "", value = ""] of labels.matchAll(/(\w+)="([^"]*)"/g)) {
      if (label !== "le") family?.labels.add(label);
      else if (family?.bounds.includes(Number(value.replace("+Inf", "Infinity"))) === false)
        family.bounds.push(Number(value.replace("+Inf", "Infinity")));
    }
  }
  return found;
}

describe("what kube-proxy 1.37 registers", () => {
  it("is said something about, each of it, and nothing else is", () => {
    const untold = [...registered.keys()].filter((name) => counterpartOf(name) === undefined);
    expect(untold).toEqual([]);
    const used = new Set([...registered.keys()].map((name) => counterpartOf(name)));
    expect(COUNTERPARTS.filter((row) => !used.has(row)).map(({ theirs }) => theirs)).toEqual([]);
    for (const { theirs, note } of COUNTERPARTS) expect(note.length, theirs).toBeGreaterThan(5);
  });

  it("is here by the same type where it is said to be, and is not where it is not", async () => {
    const ours = familiesOf(await scrape());
    for (const [name, type] of registered) {
      const expected = counterpartOf(name)?.same === true ? type : undefined;
      expect([name, ours.get(name)?.type]).toEqual([name, expected]);
    }
  });

  it("has the same labels and bounds here", async () => {
    const [theirs, ours] = [familiesOf(fixture("scrape-1.37.txt")), familiesOf(await scrape())];
    const both = [...theirs].filter(([name]) => counterpartOf(name)?.same === true);
    expect(both.length).toBeGreaterThan(20);
    for (const [name, { labels, bounds }] of both) {
      expect([name, [...(ours.get(name)?.labels ?? [])].sort()]).toEqual([name, [...labels].sort()]);
      const own = ours.get(name)?.bounds ?? [];
      expect([name, own.length]).toEqual([name, bounds.length]);
      for (const [i, bound] of bounds.entries()) if (Number.isFinite(bound)) expect(own[i], name).toBeCloseTo(bound, 9);
    }
  });

  it("has network programming's bounds, which it shows once something was programmed", async () => {
    const { bounds } = familiesOf(await scrape()).get("kubeproxy_network_programming_duration_seconds")!;
    const linear = (first: number, step: number, count: number) =>
      Array.from({ length: count }, (_, i) => first + step * i);
    expect(bounds).toEqual([
      ...[...linear(0.25, 0.25, 2), ...linear(1, 1, 59), ...linear(60, 5, 12), ...linear(120, 30, 7)],
      Number.POSITIVE_INFINITY,
    ]);
  });
});

it("the process's traffic and limit are read from what the kernel says", () => {
  const netstat = "TcpExt: A B\nTcpExt: 1 2\nIpExt: InNoRoutes InOctets OutOctets\nIpExt: 3 4000 5000\n";
  expect([ipCounter(netstat, "InOctets"), ipCounter(netstat, "OutOctets"), ipCounter("", "InOctets")]).toEqual([
    4000, 5000, 0,
  ]);
  const limits = (soft: string) =>
    `Limit   Soft Limit  Hard Limit  Units\nMax address space         ${soft}   unlimited   bytes\n`;
  expect([addressSpaceLimit(limits("unlimited")), addressSpaceLimit(limits("1048576"))]).toEqual([2 ** 64, 1_048_576]);
});
