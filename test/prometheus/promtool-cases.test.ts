// The cases of rules.promtool.yaml, which promtool runs in `make test-prometheus`: every alert is in one that fires and in one that is silent.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { parse } from "yaml";
import { knownMetrics, readExpression } from "./promql.ts";
import { alertRules } from "./rules-file.ts";

interface Case {
  readonly name: string;
  readonly input_series: readonly { readonly series: string }[];
  readonly promql_expr_test?: readonly { readonly expr: string; readonly exp_samples?: readonly unknown[] }[];
}

const { tests } = parse(readFileSync(join(import.meta.dirname, "rules.promtool.yaml"), "utf8")) as {
  readonly tests: readonly Case[];
};

function alertsAsked(fires: boolean): string[] {
  const asked = tests.flatMap(({ promql_expr_test: questions = [] }) =>
    questions.filter(({ exp_samples: samples = [] }) => samples.length > 0 === fires).map(({ expr }) => expr),
  );
  return [...new Set(asked.flatMap((expr) => /alertname="(\w+)"/.exec(expr)?.[1] ?? []))].sort();
}

it.each([true, false])("every alert is in a case where it fires: %s", (fires) => {
  expect(alertsAsked(fires)).toEqual(alertRules.map(({ alert }) => alert).sort());
});

it.each(tests)("$name is told of series that there are, with their labels", ({ input_series: series }) => {
  const known = knownMetrics();
  for (const one of series) {
    const [selector] = readExpression(one.series).selectors;
    const labels = selector?.matchers.map(({ label }) => label).sort();
    expect(labels, one.series).toEqual([...(known.get(selector?.metric ?? "")?.labels ?? [])].sort());
  }
});
