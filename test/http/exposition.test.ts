import { Counter, Gauge, Histogram as PromHistogram, Registry } from "prom-client";
import { describe, expect, it } from "vitest";
import { type MetricDescription, metricHeader, type Sample, sampleText } from "../../src/http/exposition.ts";
import { Histogram } from "../../src/lib/histogram.ts";

const text = (metric: MetricDescription, samples: readonly Sample[]): string =>
  `${metricHeader(metric)}${samples.map((sample) => sampleText(metric.name, sample)).join("")}`;

const base = { name: "some_metric", help: "Some metric.", labels: ["a", "b"] };

describe("the text of metrics is prom-client's for the same data", () => {
  it.each([
    ["plain names", { a: "default", b: "web" }, 5],
    ["a quote", { a: 'say "hello"', b: '"' }, 1.5],
    ["backslashes", { a: "C:\\new\\", b: "\\" }, 0],
    ["line breaks", { a: "one\ntwo", b: "\r\n" }, -1],
    ["a quote, a backslash and a line break at once", { a: '\\"\n', b: '\n\\"' }, 1e21],
    ["other characters", { a: "é 中 {}=,", b: "" }, 1.25e-7],
    ["no number below infinity", { a: "x", b: "y" }, Number.POSITIVE_INFINITY],
    ["no number above its negative", { a: "x", b: "y" }, Number.NEGATIVE_INFINITY],
    ["large counts", { a: "x", b: "y" }, Number.MAX_SAFE_INTEGER],
  ])("%s", async (_, labels, value) => {
    const registry = new Registry();
    new Gauge({ ...base, labelNames: base.labels, registers: [registry] }).set(labels, value);
    expect(text({ ...base, type: "gauge" }, [{ labels, value }])).toBe(await registry.metrics());
  });

  it("counters without labels, and a help text that needs escapes", async () => {
    const registry = new Registry();
    const settings = { name: "all_total", help: 'Back\\slash,\nnew line, "quotes".' };
    new Counter({ ...settings, registers: [registry] }).inc(7);
    expect(text({ ...settings, type: "counter", labels: [] }, [{ value: 7 }])).toBe(await registry.metrics());
  });

  it.each([
    ["without labels", {}],
    ["with labels", { a: "x", b: '"y"' }],
  ])("histograms %s, with values on, between and above the bounds", async (_, labels: Record<string, string>) => {
    const registry = new Registry();
    const bounds = [0.001, 0.25, 1, 60];
    const labelNames = Object.keys(labels);
    const theirs = new PromHistogram({ ...base, labelNames, buckets: bounds, registers: [registry] });
    const ours = new Histogram(bounds);
    for (const seconds of [0, 0.001, 0.0011, 0.25, 0.5, 1, 60, 61, 3600]) {
      theirs.observe(labels, seconds);
      ours.observe(seconds);
    }
    const metric: MetricDescription = { ...base, type: "histogram", labels: labelNames };
    expect(text(metric, [{ labels, value: ours }])).toBe(await registry.metrics());
  });

  it("a metric without samples", async () => {
    const registry = new Registry();
    new Gauge({ ...base, labelNames: base.labels, registers: [registry] });
    expect(text({ ...base, type: "gauge" }, [])).toBe(await registry.metrics());
  });
});
