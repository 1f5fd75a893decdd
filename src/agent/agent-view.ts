// The agent's answers about itself: status, Services, backends, flows and counters, made from the model and the maps when they
// are asked for. Changes nothing.
import type { Dataplane } from "../datapath/dataplane.ts";
import { FINGERPRINT, VERDICT_VALUES } from "../datapath/layout.gen.ts";
import { canRefuse, HOOKS, VERDICTS } from "../datapath/verdict-words.ts";
import { VERSION } from "../lib/version.ts";
import { possibleCpus } from "../libbpf/mod.ts";
import type { Model } from "../model/model.ts";
import { type Notice, type ObjectKey, PENDING_REASONS, type Service } from "../model/objects.ts";
import type { ServicePortView } from "../model/service-port-view.ts";
import type { Source } from "../model/source.ts";
import type { Announcer } from "./announcer.ts";
import { type PortEndpoint, portEndpoints } from "./endpoint-view.ts";
import { flowViews } from "./flow-view.ts";
import type { AgentOptions } from "./options.ts";
import type { Reconciler } from "./reconciler.ts";
import {
  createTotalsReader,
  dropViews,
  readRefusals,
  type ServiceTotals,
  serviceCounters,
} from "./service-counters.ts";
import type { SyncStats } from "./sync-stats.ts";
import {
  type AgentCounters,
  type AgentStatus,
  type AgentView,
  type BackendView,
  countNotices,
  type DropView,
  type HealthView,
  type ServiceView,
  type VerdictCount,
} from "./view.ts";

export interface ViewParts {
  readonly options: AgentOptions;
  readonly startedMs: number;
  readonly hz: number;
  readonly degraded: AgentStatus["degraded"];
  readonly flowEntries: () => Readonly<Record<string, number>>;
  readonly reconciler: Pick<Reconciler, "announcerOf" | "desired" | "maps" | "statuses">;
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

const uint32 = (value: number): Uint8Array => {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
};

/** Counters by verdict and hook: those that counted, and refusals and drops that may yet. */
export function readVerdicts(dataplane: Dataplane): VerdictCount[] {
  const counts: VerdictCount[] = [];
  const map = dataplane.map("verdicts");
  const cpus = possibleCpus();
  const bytes = new Uint8Array(map.valueBytes);
  const view = new DataView(bytes.buffer);
  for (const hook of HOOKS) {
    for (const verdict of VERDICTS) {
      if (!map.lookupInto(uint32(hook.value * VERDICT_VALUES.VERDICT_MAX + verdict.value), bytes)) continue;
      let packets = 0;
      for (let cpu = 0; cpu < cpus; cpu++) packets += Number(view.getBigUint64(cpu * 8, true));
      if (packets > 0 || canRefuse(hook.name, verdict.name))
        counts.push({ hook: hook.name, verdict: verdict.name, packets });
    }
  }
  return counts;
}

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
      addresses: usage.addresses,
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

  /** Tells the endpoints of this node, as of now. */
  function localTest(): (endpoint: Pick<PortEndpoint, "address" | "node">) => boolean {
    const { list } = reconciler.desired().devices;
    const own = new Set(list.flatMap(({ device }) => device.addresses.map(({ address }) => address)));
    return ({ address, node }) => node === options.nodeName || own.has(address);
  }

  const sortedKeys = (): ObjectKey[] => [...model.services().keys()].sort();

  function pendingReasons(): ReadonlyMap<string, string> {
    const pending = new Map<string, string>();
    for (const notice of source.notices()) {
      if (notice.field.startsWith("status.loadBalancer") || LB_REASONS.has(notice.reason))
        pending.set(notice.object, notice.reason);
    }
    return pending;
  }

  const isPending = ({ type, grants }: Service): boolean => type === "LoadBalancer" && grants.addresses.length === 0;

  function* services(wanted: Parameters<AgentView["services"]>[0] = () => true): Iterable<ServiceView> {
    const reasons = pendingReasons();
    const isLocal = localTest();
    for (const key of sortedKeys()) {
      const service = model.services().get(key);
      // It went while the ones before it were read.
      if (service === undefined || !wanted(key, service.labels)) continue;
      const { totals, ids } = portsOf(key);
      const { age, addresses: granted } = service.grants;
      const elected = reconciler.announcerOf(key);
      const slices = model.slicesOf(key);
      const ports = service.ports.map((port) => {
        const found = ids.get(`${port.name}/${port.protocol}/${port.port}`);
        const backends = found?.backends ?? 0;
        const { endpoints, ready, why } = portEndpoints(service, port, slices, backends, isLocal);
        return { ...port, serviceId: found?.serviceId ?? 0, backends, ready, all: endpoints.length, why };
      });
      const pending = isPending(service) ? (reasons.get(`Service ${key}`) ?? "pending") : "";
      yield {
        namespace: service.namespace,
        name: service.name,
        type: service.type,
        clusterIPs: service.headless ? ["None"] : service.clusterIPs,
        externalIPs: service.type === "ExternalName" ? [service.externalName] : granted.map(({ address }) => address),
        pending,
        ports,
        labels: service.labels,
        selector: service.selector ?? {},
        externalTrafficPolicy: service.externalTrafficPolicy,
        internalTrafficPolicy: service.internalTrafficPolicy,
        why: whyOf(ports, pending),
        ageMs: age > 1e11 ? Math.max(0, Date.now() - age) : 0,
        announcer: elected.node,
        unannounced: elected.reason,
        ...totals,
      };
    }
  }

  function* backends(all = false, isWanted: (service: ObjectKey) => boolean = () => true): Iterable<BackendView> {
    const isLocal = localTest();
    for (const key of sortedKeys()) {
      if (!isWanted(key)) continue;
      const service = model.services().get(key);
      const views = [...model.servicePortsOf(key)];
      for (const port of service?.ports ?? []) {
        const of = views.filter(
          (view) => view.portName === port.name && view.protocol === port.protocol && view.port === port.port,
        );
        const rows = of.flatMap(backendRows).sort(byPlace);
        yield* rows;
        if (!all || service === undefined) continue;
        const { endpoints, why } = portEndpoints(service, port, model.slicesOf(key), rows.length, isLocal);
        const inUse = new Set(rows.map(({ address, backendPort }) => `${address} ${backendPort}`));
        const blank = {
          service: key,
          port: port.name === "" ? String(port.port) : port.name,
          protocol: port.protocol,
          serviceId: of[0]?.serviceId ?? 0,
          index: -1,
          generation: 0,
        };
        for (const endpoint of endpoints) {
          if (inUse.has(`${endpoint.address} ${endpoint.port}`)) continue;
          const { address, port: backendPort, node, condition } = endpoint;
          const [state, reason] = UNUSED[condition];
          yield { ...blank, address, backendPort, node, local: isLocal(endpoint), state, why: reason };
        }
        if (rows.length === 0 && endpoints.length === 0 && why !== "")
          yield { ...blank, address: "", backendPort: 0, node: "", local: false, state: "none", why };
      }
    }
    for (const view of model.servicePorts()) if (view.kind === "host-port") yield* backendRows(view);
  }

  function drops(): Iterable<DropView> {
    return dropViews(readVerdicts(dataplane), readRefusals(dataplane.map("service_refusals")), model.serviceById);
  }

  function counters(): AgentCounters {
    return {
      verdicts: readVerdicts(dataplane),
      notices: countNotices(notices()),
      pendingLoadBalancers: [...model.services().values()].filter(isPending).length,
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
    notices,
    services,
    backends,
    serviceNames: () => model.services().keys(),
    flows: (filter) => flowViews({ dataplane, model, hz: parts.hz }, filter),
    drops,
    counters,
    serviceCounters: () =>
      serviceCounters(model.servicePorts(), totalsOf, readRefusals(dataplane.map("service_refusals"))),
  };
}

const UNUSED: Readonly<Record<PortEndpoint["condition"], readonly [BackendView["state"], string]>> = {
  ready: ["unused", "ready, but it may be no backend: millrace status says why"],
  terminating: ["unused", "terminating, and there are ready ones"],
  gone: ["gone", "terminating, and it serves no more"],
  "not-ready": ["not-ready", "its pod is not ready"],
};

function backendRows(view: ServicePortView): BackendView[] {
  return view.backends.map((backend) => ({
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
    why: backend.state === "terminating" ? "terminating, and there is no ready one" : "",
  }));
}

function byPlace(a: BackendView, b: BackendView): number {
  return a.address < b.address ? -1 : a.address > b.address ? 1 : a.backendPort - b.backendPort;
}

/** Once what all ports have in common, else by port. */
function whyOf(ports: ServiceView["ports"], pending: string): string {
  const whys = new Set(ports.map(({ why }) => why));
  const words =
    whys.size === 1
      ? [...whys]
      : ports.filter(({ why }) => why !== "").map(({ name, port, why }) => `${name === "" ? port : name}: ${why}`);
  return [...words, ...(pending === "" ? [] : [`no LoadBalancer address: ${pending}`])].filter(Boolean).join("; ");
}

/** What the allocator says of a LoadBalancer Service that it left without an address. */
const LB_REASONS: ReadonlySet<string> = new Set(PENDING_REASONS);
