// One Service: is it served, how much, from where, and what of it is refused or dropped.
import { dashboard, graph, of, rate, type Section, stat, table, type Variable } from "./panels.ts";

const ITS = `namespace=~"$namespace", service=~"$service"`;

const VARIABLES: readonly Variable[] = [
  {
    name: "namespace",
    label: "Namespace",
    query: `label_values(millrace_service_backends{job=~"$job"}, namespace)`,
    multi: false,
  },
  {
    name: "service",
    label: "Service",
    query: `label_values(millrace_service_backends{job=~"$job", namespace=~"$namespace"}, service)`,
    multi: false,
  },
];

const SERVED: Section = {
  title: "Is it served?",
  panels: [
    stat(
      {
        ...{ title: "Backends", width: 6 },
        about: "Of all its ports, on the node that has most: zones and policies may leave some out on others.",
      },
      [`max(sum by (instance) (${of("millrace_service_backends", ITS)}))`, ""],
    ),
    stat(
      {
        ...{ title: "Ports without a backend", width: 6, bad: 1 },
        about: "Requests to these are refused. `millrace backends --all` says why an endpoint is none.",
      },
      [`count(max by (port, protocol) (${of("millrace_service_backends", ITS)}) == 0) or vector(0)`, ""],
    ),
    stat({ ...{ title: "New connections", width: 6, unit: "cps" }, about: "Per second, on all nodes." }, [
      `sum(${rate("millrace_service_connections_total", ITS)})`,
      "",
    ]),
    stat(
      {
        ...{ title: "Refused", width: 6, unit: "reqps", bad: 1 },
        about: "Requests per second, as there is no endpoint.",
      },
      [`sum(${rate("millrace_service_refused_total", ITS)}) or vector(0)`, ""],
    ),
  ],
};

const TRAFFIC: Section = {
  title: "How much, and where?",
  panels: [
    graph(
      {
        ...{ title: "New connections by port", width: 12, unit: "cps" },
        about: "Connections and conversations that were given a backend.",
      },
      [`sum by (port, protocol) (${rate("millrace_service_connections_total", ITS)})`, "{{port}} {{protocol}}"],
    ),
    graph(
      {
        ...{ title: "New connections by node", width: 12, unit: "cps" },
        about: "Where clients come in. With policy Local a node that has none and no endpoint is as it should be.",
      },
      [`sum by (instance) (${rate("millrace_service_connections_total", ITS)})`, "{{instance}}"],
    ),
    graph(
      {
        ...{ title: "Packets by port", width: 12, unit: "pps" },
        about: "Translated packet by packet, both directions. What is translated at the socket is not counted.",
      },
      [`sum by (port, protocol) (${rate("millrace_service_packets_total", ITS)})`, "{{port}} {{protocol}}"],
    ),
    graph({ ...{ title: "Bytes by port", width: 12, unit: "Bps" }, about: "Of those packets." }, [
      `sum by (port, protocol) (${rate("millrace_service_bytes_total", ITS)})`,
      "{{port}} {{protocol}}",
    ]),
    graph(
      {
        ...{ title: "Backends by port", width: 12 },
        about: "The least and the most that a node has. A step down is a pod that went.",
      },
      [`min by (port, protocol) (${of("millrace_service_backends", ITS)})`, "{{port}} {{protocol}}, least"],
      [`max by (port, protocol) (${of("millrace_service_backends", ITS)})`, "{{port}} {{protocol}}, most"],
    ),
    graph(
      {
        ...{ title: "Bytes in a packet", width: 12, unit: "bytes" },
        about: "The mean. Near the MTU it moves data, near 60 bytes it is asked small questions, or scanned.",
      },
      [
        `sum by (port, protocol) (${rate("millrace_service_bytes_total", ITS)}) / sum by (port, protocol) (${rate("millrace_service_packets_total", ITS)})`,
        "{{port}} {{protocol}}",
      ],
    ),
  ],
};

const LOST: Section = {
  title: "What is refused or dropped?",
  panels: [
    graph(
      { ...{ title: "Refused by port", width: 12, unit: "reqps" }, about: "Requests to a port without an endpoint." },
      [`sum by (port, protocol) (${rate("millrace_service_refused_total", ITS)})`, "{{port}} {{protocol}}"],
    ),
    graph(
      {
        ...{ title: "Dropped by reason", width: 12, unit: "pps" },
        about: "The reason is a verdict of docs/troubleshooting.md, without its drop_.",
      },
      [`sum by (port, reason) (${rate("millrace_service_dropped_total", ITS)})`, "{{port}}: {{reason}}"],
    ),
    graph({ ...{ title: "Dropped by node", width: 12, unit: "pps" }, about: "On which node." }, [
      `sum by (instance, reason) (${rate("millrace_service_dropped_total", ITS)})`,
      "{{instance}}: {{reason}}",
    ]),
    table(
      {
        ...{ title: "All Service ports without a backend", width: 12, value: "backends" },
        about: "Of every namespace, whatever is chosen above. Headless Services and those without ports are not in it.",
      },
      `max by (namespace, service, port, protocol) (${of("millrace_service_backends")}) == 0`,
    ),
  ],
};

export const service = (): unknown =>
  dashboard(
    "millrace-service",
    "Millrace / Service",
    "One Service: is it served, how much, from where, and what of it is refused or dropped.",
    [SERVED, TRAFFIC, LOST],
    VARIABLES,
  );
