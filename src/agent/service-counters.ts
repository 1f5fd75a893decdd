// What the kernel counted of each Service port: one row of a per-CPU map each, and its refusals and drops, read when it is asked for.
import { readRefusalKey, readServiceCounters, SERVICE_COUNTERS } from "../datapath/layout.gen.ts";
import { HOOKS, isRefusal, type NamedValue, VERDICTS } from "../datapath/verdict-words.ts";
import { type BpfMap, possibleCpus } from "../libbpf/mod.ts";
import type { ServicePortView } from "../model/service-port-view.ts";
import type { DropView, ServiceCounters, VerdictCount } from "./view.ts";

/** Over all CPUs. */
export interface ServiceTotals {
  connections: number;
  packets: number;
  bytes: number;
}

/** Reads the row of a Service id in the map service_stats; zeros when there is none. */
export function createTotalsReader(
  stats: Pick<BpfMap, "valueBytes" | "lookupInto">,
  cpus: number = possibleCpus(),
): (serviceId: number) => ServiceTotals {
  const key = new Uint8Array(4);
  const row = new Uint8Array(stats.valueBytes);
  return (serviceId) => {
    const totals = { connections: 0, packets: 0, bytes: 0 };
    new DataView(key.buffer).setUint32(0, serviceId, true);
    if (!stats.lookupInto(key, row)) return totals;
    for (let cpu = 0; cpu < cpus; cpu++) {
      const counters = readServiceCounters(row, cpu * SERVICE_COUNTERS.size);
      totals.connections += Number(counters.connections + counters.socketConnections);
      totals.packets += Number(counters.packets);
      totals.bytes += Number(counters.bytes);
    }
    return totals;
  };
}

/** Refusals and drops of Service ports: service id → hook and verdict → count over all CPUs. Read whole, as they are few. */
export type Refusals = ReadonlyMap<number, readonly VerdictCount[]>;

export function readRefusals(map: Pick<BpfMap, "entries">): Refusals {
  const found = new Map<number, VerdictCount[]>();
  for (const [key, value] of map.entries()) {
    const { service, hook, verdict } = readRefusalKey(key);
    const counts = new BigUint64Array(value.buffer, value.byteOffset, value.byteLength / 8);
    let packets = 0;
    for (const count of counts) packets += Number(count);
    const rows = found.get(service) ?? [];
    rows.push({ hook: nameOf(HOOKS, hook), verdict: nameOf(VERDICTS, verdict), packets });
    found.set(service, rows);
  }
  return found;
}

const nameOf = (names: readonly NamedValue[], wanted: number): string =>
  names.find(({ value }) => value === wanted)?.name ?? String(wanted);

export type CountedPort = Pick<
  ServicePortView,
  "kind" | "serviceId" | "service" | "portName" | "port" | "protocol" | "family" | "backendCount" | "withoutLocal"
>;

/** Of Services, not of host ports. Reads at each step; `ports` may change between two. */
export function* serviceCounters(
  ports: Iterable<CountedPort>,
  totalsOf: (serviceId: number) => ServiceTotals,
  refusals: Refusals,
): Generator<ServiceCounters> {
  const seen = new Set<number>();
  for (const view of ports) {
    const { kind, serviceId, service, portName, port, protocol, family, backendCount, withoutLocal } = view;
    // What was deleted and came back since the iteration began comes a second time when it has the same id again.
    if (kind !== "service" || seen.has(serviceId)) continue;
    seen.add(serviceId);
    const [namespace = "", name = ""] = service.split("/");
    const refused: Record<string, number> = {};
    for (const { verdict, packets } of refusals.get(serviceId) ?? [])
      refused[verdict] = (refused[verdict] ?? 0) + packets;
    yield {
      namespace,
      name,
      port: portName === "" ? String(port) : portName,
      protocol,
      family,
      backends: backendCount,
      withoutLocal,
      refusals: refused,
      ...totalsOf(serviceId),
    };
  }
}

/** Each refusal and drop under its Service port; what is left of a hook's verdict is of none. By Service, hook and verdict. */
export function dropViews(
  verdicts: readonly VerdictCount[],
  refusals: Refusals,
  portOf: (serviceId: number) => CountedPort | undefined,
): DropView[] {
  const rest = new Map(
    verdicts
      .filter(({ verdict, packets }) => packets > 0 && isRefusal(verdict))
      .map((count) => [`${count.hook} ${count.verdict}`, count.packets]),
  );
  const views = new Map<string, DropView>();
  const add = (view: Omit<DropView, "meaning">): void => {
    if (view.packets <= 0) return;
    const key = [view.service, view.port, view.protocol, view.hook, view.verdict].join(" ");
    const packets = view.packets + (views.get(key)?.packets ?? 0);
    const meaning = VERDICTS.find(({ name }) => name === view.verdict)?.meaning ?? "";
    views.set(key, { ...view, packets, meaning });
  };
  for (const [serviceId, counts] of refusals) {
    const of = portOf(serviceId);
    if (of === undefined) continue;
    const port = of.portName === "" ? String(of.port) : of.portName;
    for (const { hook, verdict, packets } of counts) {
      add({ service: of.service, port, protocol: of.protocol, hook, verdict, packets });
      rest.set(`${hook} ${verdict}`, (rest.get(`${hook} ${verdict}`) ?? 0) - packets);
    }
  }
  for (const [key, packets] of rest) {
    const [hook = "", verdict = ""] = key.split(" ");
    add({ service: "", port: "", protocol: "", hook, verdict, packets });
  }
  return [...views].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, view]) => view);
}
