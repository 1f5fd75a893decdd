import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { parse } from "yaml";
import { readExpression } from "./promql.ts";
import { RULES_FILE } from "./rules-file.ts";
import { scaledExpression, scaledRules } from "./scaled-rules.ts";

it.each([
  ["rate(a_total[5m])", "rate(a_total[20000ms])"],
  ["b > 30 unless c < 4 * (c offset 1h)", "b > 30 unless c < 4 * (c offset 240000ms)"],
  ["sum(increase(a_total[1h30m])) / d", "sum(increase(a_total[360000ms])) / d"],
  ["millrace_source_lag_seconds > 30", "millrace_source_lag_seconds > 30"],
])("%s a fifteenth as long is %s", (expr, scaled) => {
  expect(scaledExpression(expr, 15)).toBe(scaled);
});

it("divides every wait and window of the rules, and leaves all else as it is", () => {
  const text = readFileSync(RULES_FILE, "utf8");
  const scaled = scaledRules(text, 15);
  const rules = (yaml: string): { expr: string; for?: string }[] =>
    (parse(yaml) as { groups: { rules: { expr: string; for?: string }[] }[] }).groups.flatMap((group) => group.rules);
  const [before, after] = [rules(text), rules(scaled)];
  expect(after).toHaveLength(before.length);
  for (const [at, rule] of after.entries()) {
    const same = ({ selectors, groupings }: ReturnType<typeof readExpression>): unknown => ({ selectors, groupings });
    expect(same(readExpression(rule.expr))).toEqual(same(readExpression(before[at]!.expr)));
    expect(rule.for?.endsWith("ms")).toBe(before[at]!.for === undefined ? undefined : true);
    expect(rule.expr).not.toMatch(/\[\d+[smh]\]|offset \d+[smh]\b/);
  }
});
