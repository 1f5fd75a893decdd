// The agent's answers as text: JSON as it came, or tables. Pure; the words are those of agent/view.ts.
import { BYPASS_TEXT } from "../agent/bypass-notice.ts";
import type { AgentStatus, BackendView, FlowView, ServiceView } from "../agent/view.ts";
import { age, bytes, portList, printable, table } from "../lib/text.ts";

type Output = { readonly output: "table" | "wide" | "json" };

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

const orNone = (texts: readonly string[]): string => (texts.length === 0 ? "<none>" : texts.join(","));

export function renderServices(all: readonly ServiceView[], choice: Output & { readonly namespace?: string }): string {
  const services = all.filter(({ namespace }) => choice.namespace === undefined || namespace === choice.namespace);
  if (choice.output === "json") return json(services);
  const wide = choice.output === "wide";
  const header = ["NAMESPACE", "NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"];
  if (wide) header.push("ANNOUNCER", "BACKENDS", "PENDING");
  const rows = services.map((service) => {
    const row = [
      service.namespace,
      service.name,
      service.type,
      clusterAddress(service),
      externalAddress(service),
      portList(service.ports),
      age(service.ageMs),
    ];
    if (wide) row.push(service.announcer || "<none>", backendCounts(service), service.pending || "<none>");
    return row;
  });
  return table(header, rows);
}

function clusterAddress({ type, clusterIPs }: ServiceView): string {
  if (clusterIPs.length > 0) return clusterIPs.join(",");
  return type === "ExternalName" ? "<none>" : "None";
}

function externalAddress({ type, externalIPs }: ServiceView): string {
  if (externalIPs.length > 0) return externalIPs.join(",");
  return type === "LoadBalancer" ? "<pending>" : "<none>";
}

/** One number, or one for each port when they differ: "3", "http:3,metrics:0". */
function backendCounts({ ports }: ServiceView): string {
  const counts = new Set(ports.map(({ backends }) => backends));
  if (counts.size <= 1) return String(ports[0]?.backends ?? 0);
  return ports.map(({ name, port, backends }) => `${name || port}:${backends}`).join(",");
}

export function renderBackends(backends: readonly BackendView[], { output }: Output): string {
  if (output === "json") return json(backends);
  return table(
    ["SERVICE", "PORT", "BACKEND", "NODE", "LOCAL", "STATE", "INDEX"],
    backends.map((backend) => [
      backend.service,
      `${backend.port === "" ? "" : `${backend.port}/`}${backend.protocol}`,
      endpoint(backend.address, backend.backendPort),
      backend.node || "<none>",
      backend.local ? "yes" : "no",
      backend.state,
      `${backend.index}.${backend.generation}`,
    ]),
  );
}

function endpoint(address: string, port: number): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

export function renderFlows(flows: readonly FlowView[], { output }: Output): string {
  if (output === "json") return json(flows);
  return table(
    ["PROTOCOL", "CLIENT", "FRONTEND", "BACKEND", "SEEN-AS", "SERVICE", "STATE", "IDLE"],
    flows.map((flow) => [
      flow.protocol,
      flow.client,
      flow.frontend,
      flow.backend,
      flow.sourceTranslation || "<same>",
      flow.service || "<none>",
      flow.state,
      age(flow.idleMs),
    ]),
  );
}

export function renderStatus(status: AgentStatus, { output }: Output, nowMs: number = Date.now()): string {
  if (output === "json") return json(status);
  const parts = [facts(status, nowMs)];
  const section = (title: string, header: readonly string[], rows: readonly (readonly string[])[]) => {
    if (rows.length > 0) parts.push(`${title}:\n${table(header, rows, "  ")}`);
  };
  section(
    "Kubernetes API",
    ["RESOURCE", "STATE", "LAST-EVENT", "RELISTS", "HELD-LISTS", "ERRORS"],
    (status.source.api?.resources ?? []).map((resource) => [
      resource.resource,
      resourceState(resource),
      since(resource.lastEventMs, nowMs),
      reasonCounts(resource.relists),
      String(resource.heldLists),
      reasonCounts(resource.errors),
    ]),
  );
  section(
    "Devices",
    ["NAME", "INDEX", "ROLE", "PROGRAMS"],
    status.devices.map(({ name, ifindex, role, programs }) => [name, String(ifindex), role, orNone(programs)]),
  );
  section(
    "Not in force",
    ["WHAT", "SINCE", "NEXT-TRY", "ERROR"],
    status.effects
      .filter(({ ok }) => !ok)
      .map(({ name, sinceMs, nextTryMs, error }) => [
        name,
        since(sinceMs, nowMs),
        nextTryMs > nowMs ? `in ${age(nextTryMs - nowMs)}` : "now",
        error,
      ]),
  );
  section(
    "Announced addresses",
    ["ADDRESS", "DEVICE", "SERVICE"],
    status.announced.map(({ address, device, service }) => [address, device, service]),
  );
  section(
    "Maps",
    ["MAP", "USED", "ENTRIES", "MEMORY"],
    status.capacity.map((map) => [map.map, String(map.used), String(map.entries), bytes(map.bytes)]),
  );
  section(
    "Missing on this kernel",
    ["FEATURE", "NEEDS", "INSTEAD"],
    status.degraded.map(({ feature, needs, instead }) => [feature, needs, instead]),
  );
  section(
    "Notices",
    ["SEVERITY", "REASON", "OBJECT", "FIELD", "FILE", "MESSAGE"],
    status.notices.map((notice) => [
      notice.severity,
      notice.reason,
      notice.object,
      notice.field || "-",
      notice.file || "-",
      notice.message,
    ]),
  );
  return parts.join("\n");
}

function since(ms: number, nowMs: number): string {
  return ms === 0 ? "never" : `${age(nowMs - ms)} ago`;
}

type Api = NonNullable<AgentStatus["source"]["api"]>;

function resourceState({ connected, synced }: Api["resources"][number]): string {
  if (connected) return synced ? "watching" : "listing";
  return synced ? "disconnected" : "connecting";
}

/** gone:2,silent:1 */
function reasonCounts(counts: Readonly<Record<string, number>>): string {
  const seen = Object.entries(counts).filter(([, count]) => count > 0);
  return orNone(seen.map(([reason, count]) => `${reason}:${count}`));
}

/** The server, and the client certificate's end where there is one. */
function apiFacts({ server, certificateExpiresAt }: Api, nowMs: number): string {
  const answering = server === "" ? "no server has answered yet" : `server ${server}`;
  if (certificateExpiresAt === undefined) return answering;
  const endsMs = certificateExpiresAt * 1000;
  const end = endsMs > nowMs ? `ends in ${age(endsMs - nowMs)}` : `ended ${since(endsMs, nowMs)}`;
  return `${answering}, client certificate ${end}`;
}

function facts(status: AgentStatus, nowMs: number): string {
  const { source, lastApply } = status;
  const pending = status.appliedDigest === source.digest ? "" : "; a newer state is not in force yet";
  const applied = `${lastApply.operations} operations in ${lastApply.durationMs.toFixed(1)} ms, ${since(lastApply.atMs, nowMs)}`;
  const lines: [string, string][] = [
    ...(status.bypass ? [["BYPASS", `ON: ${BYPASS_TEXT}`] satisfies [string, string]] : []),
    ["Node", `${status.node}, Millrace ${status.version}, up ${age(nowMs - status.startedMs)}`],
    ["Health", status.healthy ? "healthy" : `not healthy: ${status.unhealthy.join("; ")}`],
    [
      "Source",
      `${source.kind}, ${source.synced ? "synced" : "not synced"}, last change ${since(source.lastEventMs, nowMs)}`,
    ],
    ...(source.api === undefined ? [] : [["API", apiFacts(source.api, nowMs)] satisfies [string, string]]),
    ["Applied", `${applied}${pending}${lastApply.error === "" ? "" : `; failed: ${lastApply.error}`}`],
    ["Datapath", `sockets ${status.sockets}, XDP ${status.xdp}, attached by ${status.attach}`],
    ["Layout", status.layout],
  ];
  return lines.map(([name, text]) => `${`${name}:`.padEnd(10)}${printable(text)}\n`).join("");
}
