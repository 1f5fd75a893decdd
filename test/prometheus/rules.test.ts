// The rules ask for metrics, labels and verdicts that there are, and each alert has a page that says what to do.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { VERDICT_VALUES } from "../../src/datapath/layout.gen.ts";
import { faultsOf, knownMetrics, readExpression } from "./promql.ts";
import { alertRules, ROOT, recordingRules } from "./rules-file.ts";

const known = new Map(knownMetrics());
for (const { record, expr } of recordingRules) {
  const { groupings } = readExpression(expr);
  known.set(record, { type: "gauge", labels: groupings.filter((label) => label !== "le") });
}

describe("recording rules", () => {
  it.each(recordingRules)("$record asks for metrics and labels that there are", ({ record, expr }) => {
    expect(faultsOf(expr, known)).toEqual([]);
    expect(record).toMatch(/^[a-z_]+:[a-z0-9_]+:[a-z0-9_]+$/);
  });

  it("are each used by an alert", () => {
    const used = new Set(alertRules.flatMap(({ expr }) => readExpression(expr).selectors.map(({ metric }) => metric)));
    expect(recordingRules.map(({ record }) => record).filter((record) => !used.has(record))).toEqual([]);
  });
});

describe("alerts", () => {
  it("have each a name of its own", () => {
    expect(alertRules.length).toBeGreaterThan(15);
    expect(new Set(alertRules.map(({ alert }) => alert)).size).toBe(alertRules.length);
  });

  it.each(alertRules)("$alert has a severity, a summary and a description", ({ alert, labels, annotations }) => {
    expect(alert).toMatch(/^Millrace[A-Z][A-Za-z0-9]+$/);
    expect(["warning", "critical"]).toContain(labels["severity"]);
    for (const what of ["summary", "description"]) expect(annotations[what], what).toMatch(/^\S.{10,}/);
  });

  it.each(alertRules)("$alert asks for metrics and labels that there are", ({ expr, annotations }) => {
    expect(faultsOf(expr, known)).toEqual([]);
    const has = new Set(readExpression(expr).selectors.flatMap(({ metric }) => known.get(metric)?.labels ?? []));
    const told = Object.values(annotations).flatMap((text) =>
      [...text.matchAll(/\$labels\.(\w+)/g)].map(([, label = ""]) => label),
    );
    expect(told.filter((label) => !has.has(label))).toEqual([]);
  });

  it("name verdicts that there are", () => {
    const verdicts = new Set(Object.keys(VERDICT_VALUES).map((name) => name.toLowerCase()));
    const named = [...alertRules, ...recordingRules].flatMap(({ expr }) =>
      readExpression(expr).selectors.flatMap(({ matchers }) =>
        matchers.flatMap(({ value }) => value.match(/drop_[a-z_]+/g) ?? []),
      ),
    );
    expect(named.length).toBeGreaterThan(3);
    expect(named.filter((name) => name !== "drop_" && !verdicts.has(name))).toEqual([]);
  });

  it.each(alertRules)("$alert names its page", ({ alert, annotations }) => {
    expect(annotations["runbook_url"]).toBe(`docs/runbooks/${alert}.md`);
  });
});

describe("docs/runbooks", () => {
  const pages = readdirSync(join(ROOT, "docs/runbooks")).filter((name) => name !== "README.md");
  const read = (name: string): string => readFileSync(join(ROOT, "docs/runbooks", name), "utf8");

  it("has a page for each alert, and no other", () => {
    expect(pages.sort()).toEqual(alertRules.map(({ alert }) => `${alert}.md`).sort());
  });

  it.each(pages)("%s says what it means, what to look at, and how it clears", (name) => {
    const text = read(name);
    expect([...text.matchAll(/^#+ (.+)$/gm)].map(([, heading]) => heading)).toEqual([
      name.replace(/\.md$/, ""),
      "What it means",
      "What to look at",
      "How it clears",
    ]);
    expect(text).toMatch(/^```sh\n(?:.+\n)+```$/m);
  });

  it("has an index that leads to each", () => {
    const index = read("README.md");
    expect(pages.filter((name) => !index.includes(`(${name})`))).toEqual([]);
  });
});
