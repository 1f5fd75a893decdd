// The dashboards of deploy/grafana ask for metrics and labels that there are, and say what each panel is for.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { DASHBOARDS } from "../../scripts/dashboards.ts";
import { faultsOf, filledIn, knownMetrics, readExpression } from "./promql.ts";
import { ROOT } from "./rules-file.ts";

const known = knownMetrics();

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly datasource?: { readonly uid: string };
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly fieldConfig?: { readonly defaults: { readonly unit?: string } };
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[];
}

interface Variable {
  readonly name: string;
  readonly type: string;
  readonly query: string;
}

interface Dashboard {
  readonly uid: string;
  readonly title: string;
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly Variable[] };
}

const dashboards = DASHBOARDS.map((file) => ({
  file,
  dashboard: JSON.parse(readFileSync(join(ROOT, file), "utf8")) as Dashboard,
}));

it("there is no file in deploy/grafana that is not generated", () => {
  expect(
    readdirSync(join(ROOT, "deploy/grafana"))
      .map((name) => `deploy/grafana/${name}`)
      .sort(),
  ).toEqual([...DASHBOARDS].sort());
  expect(new Set(dashboards.map(({ dashboard }) => dashboard.uid)).size).toBe(DASHBOARDS.length);
});

describe.each(dashboards)("$file", ({ dashboard }) => {
  const panels = dashboard.panels.filter(({ type }) => type !== "row");
  const variables = dashboard.templating.list;

  it("chooses a data source, jobs and agents, and uses no variable that it has not", () => {
    const names = variables.map(({ name }) => name);
    expect(names.slice(0, 3)).toEqual(["datasource", "job", "instance"]);
    const used = new Set(JSON.stringify(dashboard.panels).match(/\$(?!__)\w+/g));
    expect([...used].filter((name) => !names.includes(name.slice(1)))).toEqual([]);
  });

  it.each(variables.filter(({ type }) => type === "query"))(
    "the variable $name reads a label that there is",
    ({ query }) => {
      const [, selector = "", label = ""] = /^label_values\((.+), (\w+)\)$/.exec(query) ?? [];
      expect(faultsOf(filledIn(selector), known)).toEqual([]);
      const [{ metric } = { metric: "" }] = readExpression(filledIn(selector)).selectors;
      expect(known.get(metric)?.labels).toContain(label);
    },
  );

  it.each(panels)(
    "$title says what it answers, has a unit, and asks for metrics and labels that there are",
    (panel) => {
      expect(panel.description).toMatch(/^\S.*[.]$/);
      expect(panel.fieldConfig?.defaults.unit).toBeTruthy();
      expect(panel.datasource?.uid).toBe("$datasource");
      expect(panel.targets?.length).toBeGreaterThan(0);
      for (const { expr, legendFormat } of panel.targets ?? []) {
        expect(faultsOf(filledIn(expr), known), expr).toEqual([]);
        const { selectors, groupings } = readExpression(filledIn(expr));
        const labels = new Set([...groupings, ...selectors.flatMap(({ metric }) => known.get(metric)?.labels ?? [])]);
        const told = [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map(([, label = ""]) => label);
        expect(told.filter((label) => !labels.has(label))).toEqual([]);
      }
    },
  );

  it("has panels that do not lie upon each other, each with a number and a title of its own", () => {
    expect(new Set(dashboard.panels.map(({ id }) => id)).size).toBe(dashboard.panels.length);
    expect(new Set(panels.map(({ title }) => title)).size).toBe(panels.length);
    const cells = new Set<string>();
    for (const { title, gridPos } of dashboard.panels) {
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          expect(x, title).toBeLessThan(24);
          expect(cells.has(`${x} ${y}`), `${title} at ${x} ${y}`).toBe(false);
          cells.add(`${x} ${y}`);
        }
      }
    }
  });
});

describe("a reader of PromQL", () => {
  const labelled = new Map([
    ["a_total", { type: "counter", labels: ["x", "job"] }],
    ["g", { type: "gauge", labels: ["y"] }],
  ] as const);
  it.each([
    ['sum by (x) (rate(a_total{job=~".+"}[5m]))', []],
    ["rate(b_total[5m])", ["there is no metric b_total"]],
    ['a_total{z="1"}', ["a_total has no label z"]],
    ["sum by (z) (g)", ["no metric has the label z"]],
    ["increase(g[5m])", ["g is no counter"]],
    ["g unless on (q) a_total", ["no metric has the label q"]],
  ])("finds what is wrong with %s", (expr, faults) => {
    expect(faultsOf(expr, labelled)).toEqual(faults);
  });

  it("refuses what is no PromQL", () => {
    expect(() => faultsOf("sum by (x (g)", labelled)).toThrow(/no PromQL/);
  });
});
