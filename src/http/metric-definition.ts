// A metric that is made at each scrape from what the agent counted and what it says of itself.
import type { AgentCounters, AgentStatus } from "../agent/view.ts";
import type { MetricDescription, Sample } from "./exposition.ts";

export interface MetricDefinition extends MetricDescription {
  read(counters: AgentCounters, status: AgentStatus): readonly Sample[];
}
