// The agent's answers about itself: status, Services, backends, flows and counters, made from the model and the maps when they
// are asked for. Changes nothing.
import type { Dataplane } from "../datapath/dataplane.ts";
import { type FlowRecord, listFlows } from "../datapath/flow-table.ts";
import { FINGERPRINT, HOOK_VALUES, VERDICT_VALUES } from "../datapath/layout.gen.ts";
import { announcerOf } from "../l2/eligibility.ts";
import { VERSION } from "../lib/version.ts";
import { possibleCpus } from "../libbpf/mod.ts";
import type { Model } from "../model/model.ts";
import { type Notice, type ObjectKey, PENDING_REASONS, type Service } from "../model/objects.ts";
import type { Source } from "../model/source.ts";
import type { Announcer } from "./announcer.ts";
import type { AgentOptions } from "./options.ts";
import type { Reconciler } from "./reconciler.ts";
import { createTotalsReader, type ServiceTotals, serviceCounters } from "./service-counters.ts";
import type { SyncStats } from "./sync-stats.ts";
import type {
  AgentCounters,
  AgentStatus,
  AgentView,
  BackendView,
  FlowFilter,
  FlowView,
  HealthView,
  ServiceView,
  VerdictCount,
} from "./view.ts";

export interface ViewParts {
  readonly options: AgentOptions;
  readonly startedMs: number;
  readonly hz: number;
  readonly degraded: AgentStatus["degraded"];
  readonly flowEntries: () => Readonly<Record<string, number>>;
  readonly reconciler: Pick<Reconciler, "desired" | "maps" | "statuses">;
  readonly syncs: { readonly stats: SyncStats };
  readonly model: Model;
  readonly source: Source;
  readonly dataplane: Dataplane;
  readonly announcer: Announcer;
  readonly attachments: {
    readonly mode: "tcx" | "clsact";
    devices(): readonly { name: string; ifindex: number; programs: readonly string[] }[];
  };
  /** All that is to be told now. */
  readonly notices: () => readonly Notice[];
}

const VERDICT_NAMES = Object.entries(VERDICT_VALUES)
  .filter(([name]) => name !== "VERDICT_MAX")
  .map(([name, value]) => ({ name: name.replace(/^VERDICT_/, "").toLowerCase(), value }));
const HOOK_NAMES = Object.entries(HOOK_VALUES)
  .filter(([name]) => name !== "HOOK_NONE" && name !== "HOOK_MAX")
  .map(([name, value]) => ({ name: name.replace(/^HOOK_/, "").toLowerCase(), value }));

const uint32 = (value: number): Uint8Array => {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
};

/** Counters by verdict and hook, without those that are zero. */
export function readVerdicts(dataplane: Dataplane): VerdictCount[] {
  const counts: VerdictCount[] = [];
  const map = dataplane.map("verdicts");
  const cpus = possibleCpus();
  const bytes = new Uint8Array(map.valueBytes);
  const view = new DataView(bytes.buffer);
  for (const hook of HOOK_NAMES) {
    for (const verdict of VERDICT_NAMES) {
      if (!map.lookupInto(uint32(hook.value * VERDICT_VALUES.VERDICT_MAX + verdict.value), bytes)) continue;
      let packets = 0;
      for (let cpu = 0; cpu < cpus; cpu++) packets += Number(view.getBigUint64(cpu * 8, true));
      if (packets > 0) counts.push({ hook: hook.name, verdict: verdict.name, packets });
    }
  }
  return counts;
}

const hostAndPort = (address: string, port: number): string =>
  address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;

export function createAgentView(parts: ViewParts): AgentView {
  const { options, reconciler, syncs, model, source, dataplane, announcer, attachments, notices } = parts;
  const { state } = reconciler.maps;
  const totalsOf = createTotalsReader(dataplane.map("service_stats"));

  function capacity(): AgentStatus["capacity"] {
    const usage = model.usage();
    const used: Readonly<Record<string, number>> = {
      frontends: usage.frontends,
      rows: usage.rows,
      slots: usage.slots,
      backends: usage.backends,
      service_stats: usage.services,
      ...parts.flowEntries(),
    };
    return Object.entries(used).map(([name, count]) => {
      const map = dataplane.map(name);
      return { map: name, entries: map.maxEntries, used: count, bytes: map.info().memoryBytes };
    });
  }

  const announcedView = (): AgentStatus["announced"] =>
    announcer.claims().map(({ address, device, service }) => ({ address, device, service }));

  function status(): AgentStatus {
    const { health, settings, devices } = reconciler.desired();
    const sourceStatus = source.status();
    const api = source.api?.();
    return {
      version: VERSION,
      node: options.nodeName,
      startedMs: parts.startedMs,
      layout: FINGERPRINT,
      bypass: dataplane.readBypass(),
      healthy: health.healthy,
      unhealthy: health.details,
      source: api === undefined ? sourceStatus : { ...sourceStatus, api },
      appliedDigest: state.appliedDigest,
      effects: reconciler.statuses(),
      lastApply: { ...state.lastApply },
      sockets: settings.sockets,
      xdp: attachments.devices().some(({ programs }) => programs.includes("xdp_uplink")) ? "on" : "off",
      attach: attachments.mode,
      devices: attachments.devices().map((device) => ({ ...device, role: devices.roles.get(device.ifindex) ?? "pod" })),
      announced: announcedView(),
      capacity: capacity(),
      degraded: parts.degraded,
      notices: notices(),
    };
  }

  function health(): HealthView {
    const { healthy, reasons, nodeEligible } = reconciler.desired().health;
    return { healthy, reasons, nodeEligible, lastApplyMs: state.lastApply.atMs };
  }

  function announcerName(service: Service): string {
    for (const { address, fromPool } of service.loadBalancerAddresses) {
      if (!fromPool) continue;
      const best = announcerOf({
        service,
        address,
        nodes: model.nodes().values(),
        advertisements: model.l2Advertisements().values(),
        pools: model.pools().values(),
        endpoints: model.slicesOf(`${service.namespace}/${service.name}`),
      });
      if (best !== undefined) return best.node;
    }
    return "";
  }

  /** Both families of a port are one. */
  function portsOf(key: ObjectKey): {
    readonly totals: ServiceTotals;
    readonly ids: ReadonlyMap<string, { serviceId: number; backends: number }>;
  } {
    const totals = { connections: 0, packets: 0, bytes: 0 };
    const ids = new Map<string, { serviceId: number; backends: number }>();
    for (const view of model.servicePortsOf(key)) {
      const counted = totalsOf(view.serviceId);
      totals.connections += counted.connections;
      totals.packets += counted.packets;
      totals.bytes += counted.bytes;
      const name = `${view.portName}/${view.protocol}/${view.port}`;
      const before = ids.get(name);
      ids.set(name, {
        serviceId: before?.serviceId ?? view.serviceId,
        backends: (before?.backends ?? 0) + view.backendCount,
      });
    }
    return { totals, ids };
  }

  function* services(): Iterable<ServiceView> {
    const pending = new Map<string, string>();
    for (const notice of source.notices()) {
      if (notice.field.startsWith("status.loadBalancer") || LB_REASONS.has(notice.reason))
        pending.set(notice.object, notice.reason);
    }
    for (const key of [...model.services().keys()].sort()) {
      const service = model.services().get(key);
      // It went while the ones before it were read.
      if (service === undefined) continue;
      const { totals, ids } = portsOf(key);
      const addresses = service.loadBalancerAddresses.map(({ address }) => address);
      yield {
        namespace: service.namespace,
        name: service.name,
        type: service.type,
        clusterIPs: service.headless ? ["None"] : service.clusterIPs,
        externalIPs: service.type === "ExternalName" ? [service.externalName] : addresses,
        pending:
          service.type === "LoadBalancer" && addresses.length === 0 ? (pending.get(`Service ${key}`) ?? "pending") : "",
        ports: service.ports.map((port) => {
          const found = ids.get(`${port.name}/${port.protocol}/${port.port}`);
          return {
            name: port.name,
            protocol: port.protocol,
            port: port.port,
            nodePort: port.nodePort,
            serviceId: found?.serviceId ?? 0,
            backends: found?.backends ?? 0,
          };
        }),
        ageMs: service.age > 1e11 ? Math.max(0, Date.now() - service.age) : 0,
        announcer: announcerName(service),
        ...totals,
      };
    }
  }

  function* backends(service?: string): Iterable<BackendView> {
    for (const view of service === undefined ? model.servicePorts() : model.servicePortsOf(service)) {
      for (const backend of view.backends) {
        yield {
          service: view.service,
          port: view.portName === "" ? String(view.port) : view.portName,
          protocol: view.protocol,
          serviceId: view.serviceId,
          index: backend.index,
          generation: backend.generation,
          address: backend.address,
          backendPort: backend.port,
          node: backend.node,
          local: backend.local,
          state: backend.state,
        };
      }
    }
  }

  function* flows({ address, service, limit }: FlowFilter): Iterable<FlowView | undefined> {
    const names = new Map<number, string>();
    const nameOf = (id: number): string => {
      const known = names.get(id);
      if (known !== undefined) return known;
      const view = model.serviceById(id);
      const name =
        view === undefined ? `#${id}` : `${view.service}:${view.portName === "" ? view.port : view.portName}`;
      names.set(id, name);
      return name;
    };
    const isWanted = ({ client, frontend, backend, serviceId }: FlowRecord): boolean => {
      if (address !== undefined && ![client, frontend, backend].some((end) => end.address === address)) return false;
      const name = nameOf(serviceId);
      return service === undefined || name === service || name.startsWith(`${service}:`);
    };
    const endText = (end: FlowRecord["client"]): string => hostAndPort(end.address, end.port);
    for (const flow of listFlows(dataplane, parts.hz, limit, isWanted)) {
      yield flow && {
        protocol: flow.protocol,
        client: endText(flow.client),
        frontend: endText(flow.frontend),
        backend: endText(flow.backend),
        sourceTranslation: flow.source === undefined ? "" : endText(flow.source),
        service: nameOf(flow.serviceId),
        state: flow.state,
        idleMs: flow.idleMs,
        table: flow.table,
      };
    }
  }

  function counters(): AgentCounters {
    const reasons = new Map<string, number>();
    for (const { reason } of notices()) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
    return {
      verdicts: readVerdicts(dataplane),
      notices: [...reasons].map(([reason, count]) => ({ reason, count })),
      applies: { ...state.applies, lastDurationSeconds: state.lastApply.durationMs / 1000 },
      syncs: syncs.stats,
      api: source.api?.(),
      maps: capacity(),
      announcedAddresses: announcer.claims().length,
      flows: Object.entries(parts.flowEntries()).map(([table, entries]) => ({ table, entries })),
    };
  }

  return {
    status,
    health,
    services,
    backends,
    flows,
    counters,
    serviceCounters: () => serviceCounters(model.servicePorts(), totalsOf),
  };
}

/** What the allocator says of a LoadBalancer Service that it left without an address. */
const LB_REASONS: ReadonlySet<string> = new Set(PENDING_REASONS);
