// What the kernel counted of each Service port: one row of a per-CPU map each, read when it is asked for.
import { readServiceCounters, SERVICE_COUNTERS } from "../datapath/layout.gen.ts";
import { type BpfMap, possibleCpus } from "../libbpf/mod.ts";
import type { ServicePortView } from "../model/service-port-view.ts";
import type { ServiceCounters } from "./view.ts";

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

export type CountedPort = Pick<ServicePortView, "kind" | "serviceId" | "service" | "portName" | "port" | "protocol">;

/** Of Services, not of host ports. Reads at each step; `ports` may change between two. */
export function* serviceCounters(
  ports: Iterable<CountedPort>,
  totalsOf: (serviceId: number) => ServiceTotals,
): Generator<ServiceCounters> {
  const seen = new Set<number>();
  for (const { kind, serviceId, service, portName, port, protocol } of ports) {
    // What was deleted and came back since the iteration began comes a second time when it has the same id again.
    if (kind !== "service" || seen.has(serviceId)) continue;
    seen.add(serviceId);
    const [namespace = "", name = ""] = service.split("/");
    yield { namespace, name, port: portName === "" ? String(port) : portName, protocol, ...totalsOf(serviceId) };
  }
}
