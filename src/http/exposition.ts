// Prometheus' text exposition format, version 0.0.4, written from plain numbers. Pure. prom-client writes the same text, but
// only all of it at once, which at tens of thousands of series holds the event loop up for a quarter of a second.
import type { HistogramData } from "../lib/histogram.ts";

export type Labels = Readonly<Record<string, string>>;

export interface MetricDescription {
  readonly name: string;
  readonly type: "counter" | "gauge" | "histogram";
  readonly labels: readonly string[];
  readonly help: string;
}

export interface Sample {
  readonly labels?: Labels;
  /** Of a histogram its data, else a number. */
  readonly value: number | HistogramData;
}

/** The two lines that come before a metric's samples. */
export function metricHeader({ name, type, help }: MetricDescription): string {
  return `# HELP ${name} ${escapeHelp(help)}\n# TYPE ${name} ${type}\n`;
}

/** The line of a number, or the lines of a histogram. */
export function sampleText(name: string, { labels = {}, value }: Sample): string {
  if (typeof value === "number") return numberLine(name, labelText(labels), value);
  let reached = 0;
  const buckets = value.buckets.map((count, i) => {
    reached += count;
    const le = formatNumber(value.bounds[i] ?? Number.POSITIVE_INFINITY);
    return numberLine(`${name}_bucket`, labelText({ le, ...labels }), reached);
  });
  const own = labelText(labels);
  return `${buckets.join("")}${numberLine(`${name}_sum`, own, value.sumSeconds)}${numberLine(`${name}_count`, own, value.count)}`;
}

/** `labels` as of `labelText`. */
export function numberLine(name: string, labels: string, value: number): string {
  return `${name}${labels} ${formatNumber(value)}\n`;
}

/** {name="value",...}; "" without labels. */
export function labelText(labels: Labels): string {
  const parts = Object.entries(labels).map(([name, value]) => `${name}="${escapeLabel(value)}"`);
  return parts.length === 0 ? "" : `{${parts.join(",")}}`;
}

function escapeLabel(text: string): string {
  // Names of Kubernetes objects never need it: a look is cheaper than three replacements.
  return /[\\\n"]/.test(text) ? escapeHelp(text).replaceAll('"', '\\"') : text;
}

function escapeHelp(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
}

function formatNumber(value: number): string {
  if (Number.isFinite(value) || Number.isNaN(value)) return String(value);
  return value > 0 ? "+Inf" : "-Inf";
}
