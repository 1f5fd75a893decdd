// The agent's answers about itself: status, Services, backends, flows and counters, made from the model and the maps when they
// are asked for. Changes nothing.
import type { Attachments } from "../datapath/attach.ts";
import type { Dataplane } from "../datapath/dataplane.ts";
import { FINGERPRINT, VERDICT_VALUES } from "../datapath/layout.gen.ts";
import { canRefuse, HOOKS, VERDICTS } from "../datapath/verdict-words.ts";
import { INELIGIBLE } from "../decide/eligibility.ts";
import { PEER_STATES } from "../l2/peers.ts";
import { VERSION } from "../lib/version.ts";
import { possibleCpus } from "../libbpf/mod.ts";
import type { Model } from "../model/model-interface.ts";
import type { Notice, ObjectKey } from "../model/objects.ts";
import type { Source } from "../model/source.ts";
import type { Announcer } from "./announcer.ts";
import { flowViews } from "./flow-view.ts";
import type { AgentOptions } from "./options.ts";
import type { Reconciler } from "./reconciler.ts";
import { createTotalsReader, dropViews, readRefusals, serviceCounters } from "./service-counters.ts";
import { createServiceViews } from "./service-view.ts";
import type { SyncStats } from "./sync-stats.ts";
import {
  type AgentCounters,
  type AgentStatus,
  type AgentView,
  countNotices,
  type DropView,
  type HealthView,
  type VerdictCount,
} from "./view.ts";

export interface ViewParts {
  readonly options: AgentOptions;
  readonly startedMs: number;
  readonly hz: number;
  readonly degraded: () => AgentStatus["degraded"];
  readonly flowEntries: () => Readonly<Record<string, number>>;
  readonly flowsTaken: () => AgentCounters["flowsTaken"];
  readonly sourcePortsUsed: () => number;
  readonly reconciler: Pick<Reconciler, "announcements" | "announcerOf" | "desired" | "maps" | "statuses">;
  readonly syncs: { readonly stats: SyncStats };
  readonly model: Model;
  readonly source: Source;
  readonly dataplane: Dataplane;
  readonly announcer: Announcer;
  readonly attachments: Pick<Attachments, "mode" | "devices">;
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
      source_ranges: usage.sourceRanges,
    };
    return Object.entries(used).map(([name, count]) => {
      const map = dataplane.map(name);
      return { map: name, entries: map.maxEntries, used: count, bytes: map.info().memoryBytes };
    });
  }

  const announcedView = (): AgentStatus["announced"] =>
    announcer.announced().map(({ address, device, service }) => ({ address, device, service }));

  function announcerView(): AgentStatus["announcer"] {
    return {
      addresses: announcer.standings().map(({ announcement: { address, device, service }, phase, holder }) => ({
        ...{ address, device, service },
        ...{ state: phase, holder },
      })),
      peers: announcer.peers().map(({ node, state, missed, ageMs = -1 }) => {
        return { node, state, missed, ageMs: Number.isFinite(ageMs) ? Math.round(ageMs) : -1 };
      }),
    };
  }

  /** Who has the address, as far as is known, else who ought to. */
  function announcerOf(service: ObjectKey): ReturnType<typeof reconciler.announcerOf> {
    const elected = reconciler.announcerOf(service);
    return { ...elected, node: announcer.holderOf(elected.address) || elected.node };
  }

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
      announcer: announcerView(),
      capacity: capacity(),
      degraded: parts.degraded(),
      notices: notices(),
    };
  }

  function health(): HealthView {
    const { healthy, reasons, live, nodeEligible } = reconciler.desired().health;
    return { healthy, reasons, live, nodeEligible, lastApplyMs: state.lastApply.atMs };
  }

  const views = createServiceViews({
    ...{ nodeName: options.nodeName, loadBalancerClass: options.loadBalancerClass, model, source, totalsOf },
    ownAddresses: () =>
      reconciler.desired().devices.list.flatMap(({ device }) => device.addresses.map(({ address }) => address)),
    announcerOf,
  });

  function drops(): Iterable<DropView> {
    return dropViews(readVerdicts(dataplane), readRefusals(dataplane.map("service_refusals")), model.serviceById);
  }

  function peerCounts(): AgentCounters["announcer"]["peers"] {
    const states = announcer.peers().map(({ state }) => state);
    return PEER_STATES.map((state) => ({ state, nodes: states.filter((one) => one === state).length }));
  }

  function counters(): AgentCounters {
    const { elected, unannounced } = reconciler.announcements();
    return {
      verdicts: readVerdicts(dataplane),
      notices: countNotices(notices()),
      pendingLoadBalancers: views.pendingLoadBalancers(),
      applies: { ...state.applies, lastDurationSeconds: state.lastApply.durationMs / 1000 },
      syncs: syncs.stats,
      api: source.api?.(),
      maps: capacity(),
      announced: announcedView(),
      elected,
      unannounced: INELIGIBLE.map((reason) => ({ reason, addresses: unannounced.get(reason) ?? 0 })),
      announcer: { ...announcer.counts(), peers: peerCounts() },
      flows: Object.entries(parts.flowEntries()).map(([table, entries]) => ({ table, entries })),
      flowsTaken: parts.flowsTaken(),
      sourcePortsUsed: parts.sourcePortsUsed(),
    };
  }

  return {
    status,
    health,
    notices,
    services: views.services,
    backends: views.backends,
    serviceNames: () => model.services().keys(),
    labelsOf: (service) => model.services().get(service)?.labels,
    flows: (filter) => flowViews({ dataplane, model, hz: parts.hz }, filter),
    drops,
    counters,
    serviceCounters: () =>
      serviceCounters(model.servicePorts(), totalsOf, readRefusals(dataplane.map("service_refusals"))),
  };
}
