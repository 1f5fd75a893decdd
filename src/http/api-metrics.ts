// Metrics of the talk with the Kubernetes API: client-go's names where it has one (rest_client_*), our own for each resource.
// Without samples where the objects come from elsewhere.
import type { ApiStats } from "../model/source.ts";
import type { MetricDescription, Sample } from "./exposition.ts";
import { type MetricDefinition, typeOf } from "./metric-definition.ts";

type Resource = ApiStats["resources"][number];

function apiMetric(description: MetricDescription, samples: (api: ApiStats) => readonly Sample[]): MetricDefinition {
  return { ...description, read: ({ api }) => (api === undefined ? [] : samples(api)) };
}

/** One number of each resource, but of those of which `value` is undefined. */
function resourceMetric(
  suffix: string,
  help: string,
  value: (resource: Resource) => number | undefined,
): MetricDefinition {
  return apiMetric(
    { name: `millrace_api_${suffix}`, type: typeOf(suffix), labels: ["resource"], help },
    ({ resources }) =>
      resources.flatMap((one) => {
        const found = value(one);
        return found === undefined ? [] : [{ labels: { resource: one.resource }, value: found }];
      }),
  );
}

/** One number of each resource and reason. */
function reasonMetric(
  suffix: string,
  help: string,
  counts: (resource: Resource) => Readonly<Record<string, number>>,
): MetricDefinition {
  const description = {
    name: `millrace_api_${suffix}`,
    type: "counter",
    labels: ["resource", "reason"],
    help,
  } as const;
  return apiMetric(description, ({ resources }) =>
    resources.flatMap((one) =>
      Object.entries(counts(one)).map(([reason, value]) => ({ labels: { resource: one.resource, reason }, value })),
    ),
  );
}

export const API_METRICS: readonly MetricDefinition[] = [
  apiMetric(
    {
      name: "rest_client_requests_total",
      type: "counter",
      labels: ["code", "method", "host"],
      help: "Requests to the Kubernetes API, by status (<error>: no answer came), method and server.",
    },
    ({ requests }) =>
      requests.map(({ code, method, host, count }) => ({ labels: { code, method, host }, value: count })),
  ),
  apiMetric(
    {
      name: "rest_client_request_duration_seconds",
      type: "histogram",
      labels: ["verb", "host"],
      help: "How long the Kubernetes API took until the head of its answer, by method and server; lists and watches are GET.",
    },
    ({ durations }) => durations.map(({ verb, host, ...data }) => ({ labels: { verb, host }, value: data })),
  ),
  apiMetric(
    {
      name: "rest_client_exec_plugin_call_total",
      type: "counter",
      labels: ["code", "call_status"],
      help: "Calls of the kubeconfig's exec plugin, by how they ended; the code is 0 for success and 1 for any failure.",
    },
    ({ execPluginCalls }) =>
      Object.entries(execPluginCalls).map(([status, value]) => ({
        labels: { code: status === "no_error" ? "0" : "1", call_status: status },
        value,
      })),
  ),
  resourceMetric(
    "connected",
    "1 while changes of the resource are listened to, else 0. Absent for a resource that the API server does not have.",
    ({ connected, absent }) => (absent ? undefined : Number(connected)),
  ),
  resourceMetric("synced", "1 once the resource has been listed, else 0.", ({ synced }) => Number(synced)),
  resourceMetric(
    "last_event_timestamp_seconds",
    "When the last event or bookmark came, in seconds since the epoch; 0 before the first.",
    ({ lastEventMs }) => lastEventMs / 1000,
  ),
  resourceMetric("lists_total", "Lists that were read.", ({ lists }) => lists),
  resourceMetric("watches_total", "Watches that were begun or resumed.", ({ watches }) => watches),
  reasonMetric("relists_total", "Lists that were read again, by reason.", ({ relists }) => relists),
  reasonMetric("errors_total", "What went wrong, by reason; each is tried again.", ({ errors }) => errors),
  resourceMetric(
    "held_lists_total",
    "Lists that would have taken most away and waited for a second one.",
    ({ heldLists }) => heldLists,
  ),
  apiMetric(
    {
      name: "millrace_api_client_certificate_expiry_timestamp_seconds",
      type: "gauge",
      labels: [],
      help: "When the client certificate ends, in seconds since the epoch; absent without one.",
    },
    ({ certificateExpiresAt }) => (certificateExpiresAt === undefined ? [] : [{ value: certificateExpiresAt }]),
  ),
  apiMetric(
    {
      name: "millrace_api_credential_reloads_total",
      type: "counter",
      labels: [],
      help: "Times that changed credentials were taken.",
    },
    ({ reloads }) => [{ value: reloads }],
  ),
];
