// The rules of deploy/prometheus/rules.yaml as tests read them.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { parse } from "yaml";

export const ROOT = resolve(import.meta.dirname, "../..");
export const RULES_FILE = resolve(ROOT, "deploy/prometheus/rules.yaml");

export interface AlertRule {
  readonly alert: string;
  readonly expr: string;
  readonly for?: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface RecordingRule {
  readonly record: string;
  readonly expr: string;
}

interface RulesFile {
  readonly groups: readonly { readonly name: string; readonly rules: readonly (AlertRule | RecordingRule)[] }[];
}

const { groups } = parse(readFileSync(RULES_FILE, "utf8")) as RulesFile;
const rules = groups.flatMap((group) => group.rules);

export const alertRules = rules.filter((rule): rule is AlertRule => "alert" in rule);
export const recordingRules = rules.filter((rule): rule is RecordingRule => "record" in rule);
