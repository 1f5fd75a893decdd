// A report of `millrace doctor`, for people and for programs. Pure.
import { printable } from "../../lib/text.ts";
import { type Finding, GROUPS, type Group, groupOf, type Level } from "./finding.ts";

/** What `-o json` shows. */
export interface Report {
  readonly version: string;
  readonly node: string;
  /** The worst level of all. */
  readonly level: Level;
  readonly counts: Readonly<Record<Level, number>>;
  readonly findings: readonly (Finding & { readonly group: Group })[];
}

const LEVELS: readonly Level[] = ["error", "warning", "ok"];

export function reportOf(findings: readonly Finding[], version: string, node: string): Report {
  const counts = { ok: 0, warning: 0, error: 0 };
  for (const { level } of findings) counts[level]++;
  return {
    version,
    node,
    level: LEVELS.find((level) => counts[level] > 0) ?? "ok",
    counts,
    findings: findings.map((finding) => ({ group: groupOf(finding.check), ...finding })),
  };
}

/** How a line of text is coloured and broken. */
export interface Style {
  tone(text: string, level: Level): string;
  /** `text` broken so that each line but the first stands behind `indent`. */
  wrap(text: string, indent: string): string;
}

const MARKS: Readonly<Record<Level, string>> = { ok: "ok", warning: "warning", error: "error" };

/** Groups with their lines; `quiet`: without those that are ok. The last line sums up. */
export function reportText(report: Report, { tone, wrap }: Style, quiet = false): string {
  const shown = report.findings.filter(({ level }) => !quiet || level !== "ok");
  const parts = (Object.keys(GROUPS) as Group[]).flatMap((group) => {
    const lines = shown.filter((finding) => finding.group === group);
    return lines.length === 0 ? [] : `${GROUPS[group]}\n${lines.map((line) => lineOf(line, tone, wrap)).join("")}`;
  });
  return [...parts, summary(report)].join("\n");
}

function lineOf({ check, level, says, do: todo }: Finding, tone: Style["tone"], wrap: Style["wrap"]): string {
  const name = check.slice(check.indexOf(".") + 1);
  const indent = " ".repeat(10);
  const text = wrap(printable(`${name}: ${says}`), indent);
  const advice = todo === "" ? "" : `${indent}${wrap(printable(`-> ${todo}`), `${indent}   `)}\n`;
  return `  ${tone(MARKS[level].padEnd(8), level)}${text}\n${advice}`;
}

function summary({ counts }: Report): string {
  const count = (level: Level, one: string, many: string): string =>
    `${counts[level]} ${counts[level] === 1 ? one : many}`;
  return `${count("error", "error", "errors")}, ${count("warning", "warning", "warnings")}, ${counts.ok} ok\n`;
}
