// The agent's answers about itself: status, Services, backends, flows and counters, made from the model and the maps when they
// are asked for. Changes nothing.
import type { Dataplane } from "../datapath/dataplane.ts";
import { FINGERPRINT, VERDICT_VALUES } from "../datapath/layout.gen.ts";
import { canRefuse, HOOKS, VERDICTS } from "../datapath/verdict-words.ts";
import { announcerOf } from "../l2/eligibility.ts";
import { VERSION } from "../lib/version.ts";
import { possibleCpus } from "../libbpf/mod.ts";
import type { Model } from "../model/model.ts";
import type { Notice, Service } from "../model/objects.ts";
import type { Source } from "../model/source.ts";
import type { Announcer } from "./announcer.ts";
import { bypassNotices } from "./bypass-notice.ts";
import { flowViews } from "./flow-view.ts";
import type { NodeNetwork } from "./node-network.ts";
import type { AgentOptions } from "./options.ts";
import { createTotalsReader, dropViews, readRefusals, serviceCounters } from "./service-counters.ts";
import { createServiceViews } from "./service-view.ts";
import type { SyncStats } from "./sync-stats.ts";
import {
  type AgentCounters,
  type AgentStatus,
  type AgentView,
  countNotices,
  type DropView,
  type VerdictCount,
} from "./view.ts";

/** What the loop knows and the view shows. */
export interface AgentState {
  readonly startedMs: number;
  hz: number;
  appliedDigest: string;
  lastApply: { atMs: number; durationMs: number; operations: number; error: string };
  applies: { total: number; failed: number; operations: number };
  flowEntries: Readonly<Record<string, number>>;
  unhealthy: readonly string[];
  sockets: AgentStatus["sockets"];
  /** About this machine. */
  readonly notices: () => readonly Notice[];
  degraded: AgentStatus["degraded"];
}

export interface ViewParts {
  readonly options: AgentOptions;
  readonly state: AgentState;
  readonly syncs: { readonly stats: SyncStats };
  readonly model: Model;
  readonly source: Source;
  readonly dataplane: Dataplane;
  readonly network: NodeNetwork;
  readonly announcer: Announcer;
  readonly attachments: {
    readonly mode: "tcx" | "clsact";
    devices(): readonly { name: string; ifindex: number; programs: readonly string[] }[];
  };
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
  const { options, state, syncs, model, source, dataplane, network, announcer, attachments } = parts;
  const totalsOf = createTotalsReader(dataplane.map("service_stats"));

  const allNotices = (): Notice[] => [
    ...bypassNotices(dataplane.readBypass()),
    ...source.notices(),
    ...model.notices(),
    ...network.notices(),
    ...announcer.notices(),
    ...state.notices(),
  ];

  function capacity(): AgentStatus["capacity"] {
    const usage = model.usage();
    const used: Readonly<Record<string, number>> = {
      frontends: usage.frontends,
      rows: usage.rows,
      slots: usage.slots,
      backends: usage.backends,
      service_stats: usage.services,
      ...state.flowEntries,
    };
    return Object.entries(used).map(([name, count]) => {
      const map = dataplane.map(name);
      return { map: name, entries: map.maxEntries, used: count, bytes: map.info().memoryBytes };
    });
  }

  const announcedView = (): AgentStatus["announced"] =>
    announcer.claims().map(({ address, device, service }) => ({ address, device, service }));

  function status(): AgentStatus {
    const sourceStatus = source.status();
    const api = source.api?.();
    return {
      version: VERSION,
      node: options.nodeName,
      startedMs: state.startedMs,
      layout: FINGERPRINT,
      bypass: dataplane.readBypass(),
      healthy: state.unhealthy.length === 0,
      unhealthy: state.unhealthy,
      source: api === undefined ? sourceStatus : { ...sourceStatus, api },
      appliedDigest: state.appliedDigest,
      lastApply: { ...state.lastApply },
      sockets: state.sockets,
      xdp: attachments.devices().some(({ programs }) => programs.includes("xdp_uplink")) ? "on" : "off",
      attach: attachments.mode,
      devices: attachments
        .devices()
        .map((device) => ({ ...device, role: network.roles().get(device.ifindex) ?? "pod" })),
      announced: announcedView(),
      capacity: capacity(),
      degraded: state.degraded,
      notices: allNotices(),
    };
  }

  const serviceViews = createServiceViews({
    nodeName: options.nodeName,
    model,
    source,
    totalsOf,
    announcerOf: electedFor,
  });

  function electedFor(service: Service): { readonly node: string; readonly reason: string } {
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
      if (best !== undefined) return { node: best.node, reason: "" };
    }
    return { node: "", reason: "" };
  }

  function drops(): Iterable<DropView> {
    return dropViews(readVerdicts(dataplane), readRefusals(dataplane.map("service_refusals")), model.serviceById);
  }

  function counters(): AgentCounters {
    return {
      verdicts: readVerdicts(dataplane),
      notices: countNotices(allNotices()),
      pendingLoadBalancers: serviceViews.pendingLoadBalancers(),
      applies: { ...state.applies, lastDurationSeconds: state.lastApply.durationMs / 1000 },
      syncs: syncs.stats,
      api: source.api?.(),
      maps: capacity(),
      announcedAddresses: announcer.claims().length,
      flows: Object.entries(state.flowEntries).map(([table, entries]) => ({ table, entries })),
    };
  }

  return {
    status,
    services: serviceViews.services,
    backends: serviceViews.backends,
    serviceNames: () => model.services().keys(),
    flows: (filter) => flowViews({ dataplane, model, hz: state.hz }, filter),
    drops,
    counters,
    serviceCounters: () =>
      serviceCounters(model.servicePorts(), totalsOf, readRefusals(dataplane.map("service_refusals"))),
  };
}
