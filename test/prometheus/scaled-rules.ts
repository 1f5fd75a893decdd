// The rules with every duration divided: windows, offsets and waits, and nothing else. With them an alert that waits for ten minutes
// is seen to fire and to clear within one.
import { parser } from "@prometheus-io/lezer-promql";
import { parse, stringify } from "yaml";

const UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

function milliseconds(text: string): number {
  const parts = [...text.matchAll(/(\d+)(ms|[smhd])/g)];
  if (parts.map(([part]) => part).join("") !== text || parts.length === 0) throw new Error(`no duration: ${text}`);
  return parts.reduce((sum, [, number, unit]) => sum + Number(number) * UNITS_MS[unit!]!, 0);
}

const divided = (text: string, by: number): string => `${Math.max(1, Math.round(milliseconds(text) / by))}ms`;

/** The expression with its windows and offsets divided. */
export function scaledExpression(expr: string, by: number): string {
  let scaled = "";
  let at = 0;
  parser.parse(expr).iterate({
    enter({ name, from, to }) {
      if (name !== "NumberDurationLiteralInDurationContext") return;
      scaled += expr.slice(at, from) + divided(expr.slice(from, to), by);
      at = to;
    },
  });
  return scaled + expr.slice(at);
}

interface Rule {
  expr: string;
  for?: string;
}

/** The text of a rules file likewise; every group is evaluated each second. */
export function scaledRules(text: string, by: number): string {
  const file = parse(text) as { groups: { interval?: string; rules: Rule[] }[] };
  for (const group of file.groups) {
    group.interval = "1s";
    for (const rule of group.rules) {
      rule.expr = scaledExpression(rule.expr, by);
      if (rule.for !== undefined) rule.for = divided(rule.for, by);
    }
  }
  return stringify(file);
}
