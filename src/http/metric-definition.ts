// A metric that is made at each scrape from what the agent counted and what it says of itself.
import type { AgentCounters, AgentStatus } from "../agent/view.ts";
import type { MetricDescription, Sample } from "./exposition.ts";

export interface MetricDefinition extends MetricDescription {
  read(counters: AgentCounters, status: AgentStatus): readonly Sample[];
}

/** What the convention of names says: a counter's ends in "_total". */
export function typeOf(name: string): "counter" | "gauge" {
  return name.endsWith("_total") ? "counter" : "gauge";
}

/** A number without labels. */
export function numberMetric(
  name: string,
  help: string,
  value: (counters: AgentCounters, status: AgentStatus) => number,
): MetricDefinition {
  return {
    name,
    type: typeOf(name),
    labels: [],
    help,
    read: (counters, status) => [{ value: value(counters, status) }],
  };
}
