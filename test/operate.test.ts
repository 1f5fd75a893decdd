// What operators are given is true: alert rules name metrics, labels and verdicts that there are, and docs/api.md every path
// of the API with every parameter.
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { VERDICT_VALUES } from "../src/datapath/layout.gen.ts";
import { METRICS } from "../src/http/metrics.ts";

const ROOT = resolve(import.meta.dirname, "..");
const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}
const rules = (parse(read("deploy/alerts.yaml")) as { groups: { rules: Rule[] }[] }).groups.flatMap(
  (group) => group.rules,
);

describe("deploy/alerts.yaml", () => {
  it("has rules, each with a name of its own, a severity and a summary", () => {
    expect(rules.length).toBeGreaterThan(5);
    expect(new Set(rules.map(({ alert }) => alert)).size).toBe(rules.length);
    for (const { labels, annotations } of rules) {
      expect(["warning", "critical"]).toContain(labels["severity"]);
      expect(annotations["summary"]).toMatch(/\{\{ \$labels\.instance \}\}/);
    }
  });

  it.each(rules)("$alert asks for metrics and labels that there are", ({ expr, annotations }) => {
    const names = [...expr.matchAll(/\bmillrace_[a-z_]+/g)].map(([name]) => name);
    expect(names.length).toBeGreaterThan(0);
    const found = names.map((name) => METRICS.find((metric) => metric.name === name));
    expect(names.filter((_, at) => found[at] === undefined)).toEqual([]);
    const labels = new Set(["instance", ...found.flatMap((metric) => metric?.labels ?? [])]);
    const asked = [
      ...[...expr.matchAll(/(\w+)[!=]~?"/g)].map(([, label = ""]) => label),
      ...[...expr.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, list = ""]) => list.split(", ")),
      ...Object.values(annotations).flatMap((text) =>
        [...text.matchAll(/\$labels\.(\w+)/g)].map(([, label = ""]) => label),
      ),
    ];
    expect(asked.filter((label) => !labels.has(label))).toEqual([]);
    if (/\b(?:rate|increase)\(/.test(expr)) expect(names.every((name) => name.endsWith("_total"))).toBe(true);
  });

  it("names verdicts that there are", () => {
    const known = new Set(Object.keys(VERDICT_VALUES).map((name) => name.toLowerCase()));
    const named = rules.flatMap(({ expr }) => [...expr.matchAll(/drop_[a-z_]+[a-z]/g)].map(([name]) => name));
    expect(named.length).toBeGreaterThan(3);
    expect(named.filter((name) => !known.has(name))).toEqual([]);
  });
});

describe("docs/api.md", () => {
  const source = read("src/http/api-server.ts");
  const page = read("docs/api.md");

  it("has a heading for each path", () => {
    const paths = [...source.matchAll(/app\.get\("(\/api\/v1\/[a-z]+)"/g)].map(([, path = ""]) => path);
    expect(paths.length).toBeGreaterThan(3);
    expect(paths.filter((path) => !page.includes(`\n## GET ${path}\n`))).toEqual([]);
  });

  it("names each parameter", () => {
    const lists = [...source.matchAll(/readQuery\(request, \[([^\]]*)\]/g)].map(([, list = ""]) => list);
    const parameters = new Set(
      lists.flatMap((list) => [...list.matchAll(/"([a-z-]+)"/g)].map(([, name = ""]) => name)),
    );
    expect(parameters.size).toBeGreaterThan(2);
    expect([...parameters].filter((name) => !page.includes(`\`${name}\``))).toEqual([]);
  });

  it("names each field of the status", () => {
    const body = /export interface AgentStatus \{\n([\s\S]*?)^\}/m.exec(read("src/agent/view.ts"))?.[1] ?? "";
    const fields = [...body.matchAll(/^ {2}readonly (\w+)\??:/gm)].map(([, field = ""]) => field);
    expect(fields.length).toBeGreaterThan(10);
    expect(fields.filter((field) => !page.includes(`\`${field}\``))).toEqual([]);
  });
});
