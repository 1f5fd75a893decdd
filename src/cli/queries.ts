// What can be asked of an agent as a list: the path of the API, the columns of the answer, and what a record is called.
import type { BackendView, DropView, FlowView, ServiceView } from "../agent/view.ts";
import { hostAndPort } from "../lib/address.ts";
import { age, portList } from "../lib/text.ts";
import type { Column, Tone } from "./table.ts";

export interface ListQuery<T> {
  readonly path: string;
  readonly columns: readonly Column<T>[];
  /** For -o name; what identifies the record among those of other moments. */
  name(record: T): string;
  /** What --watch compares beside the columns that are shown. */
  readonly rate?: (record: T) => number;
}

const orNone = (text: string): string => (text === "" ? "<none>" : text);
const pairs = (record: Readonly<Record<string, string>>): string =>
  Object.entries(record)
    .map(([key, value]) => `${key}=${value}`)
    .join(",");

type Port = ServiceView["ports"][number];

/** One text for all ports, or one for each when they differ: "2/3", "http:2/3,dns:0/3". */
function perPort(ports: readonly Port[], text: (port: Port) => string): string {
  const texts = new Set(ports.map(text));
  if (texts.size <= 1) return [...texts][0] ?? "";
  return ports.map((port) => `${port.name === "" ? port.port : port.name}:${text(port)}`).join(",");
}

function clusterAddress({ type, clusterIPs }: ServiceView): string {
  if (clusterIPs.length > 0) return clusterIPs.join(",");
  return type === "ExternalName" ? "<none>" : "None";
}

function externalAddress({ type, externalIPs }: ServiceView): string {
  if (externalIPs.length > 0) return externalIPs.join(",");
  return type === "LoadBalancer" ? "<pending>" : "<none>";
}

function servedTone({ ports, type }: ServiceView): Tone | undefined {
  if (type === "ExternalName" || ports.length === 0) return undefined;
  if (ports.some(({ ready, backends }) => ready === 0 && backends === 0)) return "bad";
  return ports.some(({ ready, all }) => ready < all) ? "warning" : "good";
}

/** Every Service may be named with its namespace; in a list of one namespace that is left out. */
export function servicesQuery(oneNamespace: boolean): ListQuery<ServiceView> {
  const namespace: Column<ServiceView> = { title: "NAMESPACE", text: (service) => service.namespace };
  return {
    path: "/api/v1/services",
    name: (service) => `service/${service.namespace}/${service.name}`,
    columns: [
      ...(oneNamespace ? [] : [namespace]),
      { title: "NAME", text: (service) => service.name },
      { title: "TYPE", text: (service) => service.type },
      { title: "CLUSTER-IP", text: clusterAddress },
      {
        title: "EXTERNAL-IP",
        text: externalAddress,
        tone: ({ pending }) => (pending === "" ? undefined : "warning"),
      },
      { title: "PORT(S)", text: ({ ports }) => portList(ports) },
      {
        title: "BACKENDS",
        text: ({ ports }) => orNone(perPort(ports, ({ ready, all }) => `${ready}/${all}`)),
        tone: servedTone,
      },
      { title: "AGE", text: ({ ageMs }) => age(ageMs), restless: true },
      { title: "EXTERNAL-POLICY", text: (service) => service.externalTrafficPolicy, wide: true },
      { title: "INTERNAL-POLICY", text: (service) => service.internalTrafficPolicy, wide: true },
      { title: "AFFINITY", text: ({ affinitySeconds: s }) => (s === 0 ? orNone("") : `${s}s`), wide: true },
      { title: "SOURCE-RANGES", text: ({ sourceRanges }) => orNone(sourceRanges.join(",")), wide: true },
      { title: "TARGET", text: ({ ports }) => orNone(perPort(ports, (port) => String(port.targetPort))), wide: true },
      { title: "SELECTOR", text: ({ selector }) => orNone(pairs(selector)), wide: true },
      { title: "POOL", text: ({ pools }) => orNone(pools.join(",")), wide: true },
      { title: "ANNOUNCER", text: announcerText, wide: true },
      { title: "CONNECTIONS", text: ({ connections }) => String(connections), wide: true, restless: true },
      { title: "WHY", text: ({ why }) => why, sparse: true, tone: () => "bad" },
    ],
  };
}

/** The node, or why there is none. */
function announcerText({ announcer, unannounced }: ServiceView): string {
  return unannounced === "" ? orNone(announcer) : `<none: ${unannounced}>`;
}

const BACKEND_TONES: Readonly<Record<BackendView["state"], Tone>> = {
  ready: "good",
  serving: "good",
  terminating: "warning",
  unused: "warning",
  gone: "dim",
  "not-ready": "bad",
  none: "bad",
};

export const BACKENDS: ListQuery<BackendView> = {
  path: "/api/v1/backends",
  name: ({ service, port, protocol, address, backendPort }) =>
    `backend/${service}:${port}/${protocol}/${address === "" ? "none" : hostAndPort(address, backendPort)}`,
  columns: [
    { title: "SERVICE", text: ({ service }) => service },
    { title: "PORT", text: ({ port, protocol }) => `${port === "" ? "" : `${port}/`}${protocol}` },
    {
      title: "BACKEND",
      text: ({ address, backendPort }) => (address === "" ? "<none>" : hostAndPort(address, backendPort)),
    },
    { title: "NODE", text: ({ node }) => orNone(node) },
    { title: "LOCAL", text: ({ address, local }) => (address === "" ? "-" : local ? "yes" : "no") },
    { title: "STATE", text: ({ state }) => state, tone: ({ state }) => BACKEND_TONES[state] },
    {
      title: "INDEX",
      text: ({ index, generation }) => (index < 0 ? "-" : `${index}.${generation}`),
      wide: true,
    },
    { title: "WHY", text: ({ why }) => why, sparse: true },
  ],
};

const FLOW_TONES: Readonly<Record<string, Tone>> = {
  established: "good",
  "syn-sent": "warning",
  unanswered: "warning",
  reset: "bad",
  closed: "dim",
  closing: "dim",
  retired: "dim",
};

export const FLOWS: ListQuery<FlowView> = {
  path: "/api/v1/flows",
  name: ({ protocol, client, frontend, backend }) => `flow/${protocol}/${client}/${frontend}/${backend}`,
  columns: [
    { title: "PATH", text: ({ path }) => path },
    { title: "PROTOCOL", text: ({ protocol }) => protocol },
    { title: "CLIENT", text: ({ client }) => client },
    { title: "FRONTEND", text: ({ frontend }) => frontend },
    { title: "BACKEND", text: ({ backend }) => backend },
    { title: "SEEN-AS", text: ({ sourceTranslation }) => (sourceTranslation === "" ? "<same>" : sourceTranslation) },
    { title: "SERVICE", text: ({ service }) => orNone(service) },
    { title: "STATE", text: ({ state }) => state, tone: ({ state }) => FLOW_TONES[state] },
    { title: "IDLE", text: ({ idleMs }) => (idleMs === undefined ? "-" : age(idleMs)), restless: true },
    { title: "TABLE", text: ({ table }) => table, wide: true },
  ],
};

export const DROPS: ListQuery<DropView> = {
  path: "/api/v1/drops",
  name: ({ service, port, protocol, hook, verdict }) =>
    `drop/${service === "" ? "-" : `${service}:${port}/${protocol}`}/${hook}/${verdict}`,
  rate: ({ packets }) => packets,
  columns: [
    { title: "SERVICE", text: ({ service, port }) => (service === "" ? "<none>" : `${service}:${port}`) },
    { title: "HOOK", text: ({ hook }) => hook },
    { title: "VERDICT", text: ({ verdict }) => verdict, tone: () => "bad" },
    { title: "COUNT", text: ({ packets }) => String(packets) },
    { title: "MEANING", text: ({ meaning }) => meaning },
  ],
};
