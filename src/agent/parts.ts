// What an agent is made of before anything is decided: the loaded programs and maps, and what stands on them. Made once.
import { createAttachments } from "../datapath/attach.ts";
import { readHz } from "../datapath/flow-table.ts";
import { loadDataplaneAsync } from "../datapath/load.ts";
import { needsL3 } from "../decide/device-roles.ts";
import type { Network } from "../decide/network.ts";
import { parsePrefix } from "../lib/address.ts";
import { createLog, type Log } from "../lib/log.ts";
import { createModel } from "../model/model.ts";
import { DEFAULT_NODE_PORT_ADDRESSES, parseNodePortAddresses } from "../model/node-port-addresses.ts";
import { createProvenance } from "../model/provenance.ts";
import type { Source } from "../model/source.ts";
import { createAnnouncer } from "./announcer.ts";
import { BYPASS_TEXT } from "./bypass-notice.ts";
import { createDeadSockets } from "./dead-sockets.ts";
import { createFarEnds } from "./far-end.ts";
import { createLiveness } from "./liveness.ts";
import { ignoredNotices, noticesAtStart } from "./machine.ts";
import { createNodeNetwork } from "./node-network.ts";
import { type AgentOptions, clusterRangesOf, conntrackOf } from "./options.ts";
import { createReports } from "./reports.ts";
import { createSyncRecorder } from "./sync-stats.ts";
import { createSysctls } from "./sysctls.ts";
import { createTimers } from "./timers.ts";

export interface PartsOf {
  readonly options: AgentOptions;
  readonly signal: AbortSignal;
  readonly source: Source;
  /** As it was when the agent began. */
  readonly read: Network;
  readonly log: Log;
}

export type AgentParts = Awaited<ReturnType<typeof createParts>>;

async function load({ options, read, log }: PartsOf) {
  const { pinDir, stateDir, mapSizes } = options;
  const began = performance.now();
  const hasL3 = needsL3(read);
  // In a cluster the state directory is a cache: what it does not know costs flows, not the start.
  const leaveUnknown = options.manifests.length === 0;
  const loaded = await loadDataplaneAsync({ pinDir, stateDir, mapSizes, l3: hasL3, xdp: true, leaveUnknown });
  const { dataplane, adopted, copiedFlows, keptSizes, leftBehind } = loaded;
  log.debug({ ms: Math.round(performance.now() - began), adopted, copiedFlows }, "programs loaded");
  if (dataplane.readBypass()) log.warn(`bypass is on: ${BYPASS_TEXT}`);
  const sizes = keptSizes.map((map) => ({ map, entries: dataplane.map(map).maxEntries }));
  const notices = [...noticesAtStart(options.cgroup, sizes, leftBehind), ...ignoredNotices(options.ignored)];
  return { loaded, dataplane, adopted, hasL3, startNotices: notices };
}

/** Loads the programs over the maps that are there, and makes what does not ask anybody yet. */
export async function createParts(of: PartsOf) {
  const { options, source, signal, log } = of;
  const { pinDir, stateDir, nodeName, xdp } = options;
  const programs = await load(of);
  const { dataplane } = programs;
  const timers = createTimers((error) => log.error({ err: error }, "what is done now and then failed"));
  const farEnds = createFarEnds(signal);
  const attachments = createAttachments({ pinDir, stateDir });
  const liveness = createLiveness(options, dataplane, timers);
  const serviceRanges = clusterRangesOf(options).flatMap((text) => parsePrefix(text) ?? []);
  const model = createModel({
    ...{ nodeName, capacity: dataplane.capacity, serviceRanges, balancing: options.balancing },
    externalIPRanges: options.externalIpCidrs.flatMap((text) => parsePrefix(text) ?? []),
    nodePortAddresses: parseNodePortAddresses(options.nodePortAddresses) ?? DEFAULT_NODE_PORT_ADDRESSES,
  });
  const provenance = createProvenance({
    loadBalancerClass: options.loadBalancerClass,
    serviceRanges: clusterRangesOf(options),
  });
  const parts = {
    ...programs,
    ...{ timers, attachments, farEnds, liveness, serviceRanges, model, provenance },
    network: createNodeNetwork(dataplane, attachments, { xdp, farEnds }, log),
    sysctls: createSysctls({ ports: options.snatPortRange, stateDir, conntrack: conntrackOf(options) }),
    announcer: createAnnouncer({
      ...{ dataplane, nodeName, liveness, timers, nodes: model.nodes, log: createLog("l2") },
      gratuitousSeconds: options.gratuitousArpSeconds,
    }),
    syncs: createSyncRecorder(),
    hz: readHz(dataplane),
    deadSockets: createDeadSockets({
      ...{ dataplane, log, signal },
      protocols: options.destroyTcpSockets ? ["UDP", "TCP"] : ["UDP"],
    }),
    reports: createReports({ nodeName, source, provenance, nodes: model.nodes }),
  };
  model.adopt(dataplane.readState());
  return parts;
}
