// Every metric of the controller, by name, with its help text: one table from which come its /metrics and docs/metrics.md.
import type { ControllerView } from "../controller/controller.ts";
import { type MetricDescription, metricHeader, type Sample, sampleText } from "./exposition.ts";
import { typeOf } from "./metric-definition.ts";

interface ControllerMetric extends MetricDescription {
  read(view: ControllerView): readonly Sample[];
}

function metric(
  name: string,
  labels: readonly string[],
  help: string,
  read: (view: ControllerView) => readonly Sample[],
): ControllerMetric {
  return { name, type: typeOf(name), labels, help, read };
}

const FAMILIES = ["IPv4", "IPv6"] as const;

function poolMetric(suffix: "assigned" | "available", help: string): ControllerMetric {
  return metric(`millrace_controller_pool_addresses_${suffix}`, ["pool", "family"], help, ({ term }) =>
    (term?.pools ?? []).flatMap((one) =>
      FAMILIES.map((family) => ({ labels: { pool: one.name, family }, value: one[suffix][family] })),
    ),
  );
}

export const CONTROLLER_METRICS: readonly ControllerMetric[] = [
  metric("millrace_controller_leads", [], "1 while this process leads, else 0.", ({ leads }) => [
    { value: leads ? 1 : 0 },
  ]),
  metric(
    "millrace_controller_synced",
    [],
    "1 once a leader has listed everything to the end, and gives addresses; else 0.",
    ({ term }) => [{ value: term?.synced ? 1 : 0 }],
  ),
  metric(
    "millrace_controller_waits_for_metallb",
    [],
    "1 while a leader gives no address since MetalLB runs, else 0.",
    ({ waitsFor }) => [{ value: waitsFor.length > 0 ? 1 : 0 }],
  ),
  metric(
    "millrace_controller_configuration_valid",
    [],
    "1 while the pools there are, are in force; 0 while an older configuration is.",
    ({ term }) => (term === undefined ? [] : [{ value: term.isConfigurationValid ? 1 : 0 }]),
  ),
  metric("millrace_controller_services", [], "Services of type LoadBalancer that are ours.", ({ term }) => [
    { value: term?.counts.services ?? 0 },
  ]),
  metric(
    "millrace_controller_services_pending",
    ["reason"],
    "Services that are ours and have no address, by reason.",
    ({ term }) => Object.entries(term?.counts.pending ?? {}).map(([reason, value]) => ({ labels: { reason }, value })),
  ),
  poolMetric("assigned", "Addresses of the pool that Services have, each once."),
  poolMetric("available", "Addresses of the pool that are free."),
  metric(
    "millrace_controller_writes_total",
    ["write", "outcome"],
    "Writes to the API, and reads of single objects, by what became of them.",
    ({ writes }) => writes.map(({ write, outcome, count }) => ({ labels: { write, outcome }, value: count })),
  ),
  metric("millrace_controller_writes_waiting", [], "Services whose addresses wait to be written.", ({ term }) => [
    { value: term?.writesWaiting ?? 0 },
  ]),
  metric("millrace_controller_decision_seconds", [], "How long the last decision took.", ({ term }) => [
    { value: (term?.decisionMs ?? 0) / 1000 },
  ]),
  metric("millrace_controller_events_dropped_total", [], "Events that were not written.", ({ eventsDropped }) => [
    { value: eventsDropped },
  ]),
];

/** The text of the controller's own metrics. */
export function controllerMetricsText(view: ControllerView): string {
  return CONTROLLER_METRICS.map(
    (one) =>
      `${metricHeader(one)}${one
        .read(view)
        .map((sample) => sampleText(one.name, sample))
        .join("")}`,
  ).join("");
}
