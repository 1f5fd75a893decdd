// The agent of a node, put together: programs are loaded over the maps that are there, what an agent before left is taken over, and
// from then on one loop decides and one effect after another brings it about. The datapath does not need any of it.
import { createAttachments } from "../datapath/attach.ts";
import { readHz } from "../datapath/flow-table.ts";
import { loadDataplaneAsync, lockPinDir, preparePinDir } from "../datapath/load.ts";
import { absentResourceNotices } from "../decide/absent-resources.ts";
import { advertisementNotices } from "../decide/advertisement-notices.ts";
import { defaultRouteAddresses, needsL3 } from "../decide/device-roles.ts";
import type { Network } from "../decide/network.ts";
import { parsePrefix } from "../lib/address.ts";
import { growFreely } from "../lib/heap.ts";
import { createLog } from "../lib/log.ts";
import { createModel } from "../model/model.ts";
import type { HealthCheck } from "../model/model-interface.ts";
import { DEFAULT_NODE_PORT_ADDRESSES, parseNodePortAddresses } from "../model/node-port-addresses.ts";
import type { Notice } from "../model/objects.ts";
import { createProvenance } from "../model/provenance.ts";
import type { Source } from "../model/source.ts";
import { createAgentView } from "./agent-view.ts";
import { createAnnouncements } from "./announcements.ts";
import { createAnnouncer } from "./announcer.ts";
import { BYPASS_TEXT, bypassNotices } from "./bypass-notice.ts";
import { createDeadSockets } from "./dead-sockets.ts";
import { degradedFeatures } from "./degraded.ts";
import { createFirewallEffect } from "./firewall.ts";
import { createKernelEffects, settingsOf } from "./kernel-effects.ts";
import { createLiveness } from "./liveness.ts";
import { checkMachine, effectNotices, ignoredNotices, noticesAtStart, releaseMemory, watchNotices } from "./machine.ts";
import { createMailbox, type Mailbox } from "./mailbox.ts";
import { createMaps } from "./maps.ts";
import { type NetworkWatch, readNetwork, watchNetwork } from "./network.ts";
import { createNodeNetwork } from "./node-network.ts";
import { createNoticeLog } from "./notice-log.ts";
import { createObjectSource } from "./object-source.ts";
import { type AgentOptions, clusterRangesOf, conntrackOf } from "./options.ts";
import { createOtherProxy } from "./other-proxy.ts";
import { createPeriodic } from "./periodic.ts";
import { readyFields } from "./ready-fields.ts";
import { createReconciler, type Reconciler } from "./reconciler.ts";
import { createReports } from "./reports.ts";
import { readSavedNodeAddresses, saveNodeAddresses } from "./saved-node-addresses.ts";
import { scarcePortNotices } from "./scarce-ports.ts";
import { createSyncRecorder } from "./sync-stats.ts";
import { createSysctls } from "./sysctls.ts";
import { leaveOldLayouts, takeOver } from "./take-over.ts";
import { createTimers } from "./timers.ts";
import type { AgentView } from "./view.ts";

export interface AgentWiring {
  readonly signal: AbortSignal;
  /** Starts the HTTP servers over the agent's view. agent/ knows no HTTP. */
  serve(view: AgentView): Promise<Servers>;
}

export interface Servers {
  close(): Promise<void>;
  /** The health check node ports there are to be, and whether this proxy is healthy. */
  health(list: readonly HealthCheck[], healthy: boolean): void;
}

const NOTICES_MS = 1_000;
const OLD_LAYOUTS_MS = 1_000;

/** Runs until the signal aborts. What it attached and pinned stays: the datapath does not need it. */
export async function runAgent(options: AgentOptions, wiring: AgentWiring): Promise<void> {
  checkMachine(options);
  preparePinDir(options.pinDir);
  using _lock = lockPinDir(options.pinDir);

  const read = await readNetwork();
  const ownNode = { name: options.nodeName, addresses: defaultRouteAddresses(read).addresses };
  const source = await createObjectSource(options, ownNode);
  try {
    const mailbox = createMailbox();
    const started = source.start(mailbox.deliver);
    // It is awaited when the programs are loaded, which goes on beside it.
    started.catch(() => {});
    const firewall = createFirewallEffect(options.forwardMark, wiring.signal);
    await runNode(options, wiring, { read, source, mailbox, started, firewall });
  } catch (error) {
    // It may not have come so far as to stop them.
    await source.stop();
    throw error;
  }
}

interface Begun {
  readonly read: Network;
  readonly source: Source;
  readonly mailbox: Mailbox;
  readonly started: Promise<void>;
  readonly firewall: ReturnType<typeof createFirewallEffect>;
}

async function runNode(options: AgentOptions, wiring: AgentWiring, begun: Begun): Promise<void> {
  const log = createLog("agent");
  const { signal } = wiring;
  const { source, mailbox, started, read } = begun;
  const { pinDir, stateDir, mapSizes, nodeName, xdp, sockets, devices, forwardMark } = options;
  const finished = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => finished.resolve(), { once: true });
  if (signal.aborted) finished.resolve();
  // It is awaited at the end: until then a rejection is nobody's.
  finished.promise.catch(() => {});

  const began = performance.now();
  const settleHeap = growFreely();
  const hasL3 = needsL3(read);
  // In a cluster the state directory is a cache: what it does not know costs flows, not the start.
  const leaveUnknown = options.manifests.length === 0;
  const loaded = await loadDataplaneAsync({ pinDir, stateDir, mapSizes, l3: hasL3, xdp: true, leaveUnknown });
  const { dataplane, adopted, copiedFlows } = loaded;
  log.debug({ ms: Math.round(performance.now() - began), adopted, copiedFlows }, "programs loaded");

  const startNotices = [
    ...noticesAtStart(
      options.cgroup,
      loaded.keptSizes.map((map) => ({ map, entries: dataplane.map(map).maxEntries })),
      loaded.leftBehind,
    ),
    ...ignoredNotices(options.ignored),
  ];
  if (dataplane.readBypass()) log.warn(`bypass is on: ${BYPASS_TEXT}`);

  const timers = createTimers((error) => log.error({ err: error }, "what is done now and then failed"));
  const attachments = createAttachments({ pinDir, stateDir });
  const network = createNodeNetwork(dataplane, attachments, { xdp }, log);
  const liveness = createLiveness(options, dataplane, timers);
  const sysctls = createSysctls({ ports: options.snatPortRange, stateDir, conntrack: conntrackOf(options) });
  const serviceRanges = clusterRangesOf(options).flatMap((text) => parsePrefix(text) ?? []);
  const model = createModel({
    ...{ nodeName, capacity: dataplane.capacity, serviceRanges, balancing: options.balancing },
    externalIPRanges: options.externalIpCidrs.flatMap((text) => parsePrefix(text) ?? []),
    nodePortAddresses: parseNodePortAddresses(options.nodePortAddresses) ?? DEFAULT_NODE_PORT_ADDRESSES,
  });
  const announcer = createAnnouncer({
    ...{ dataplane, nodeName, liveness, nodes: model.nodes, log: createLog("l2") },
    gratuitousSeconds: options.gratuitousArpSeconds,
  });
  const syncs = createSyncRecorder();
  const hz = readHz(dataplane);
  const deadSockets = createDeadSockets({
    ...{ dataplane, log, signal },
    protocols: options.destroyTcpSockets ? ["UDP", "TCP"] : ["UDP"],
  });
  let isFilled = false;
  const otherProxy = createOtherProxy({
    ...{ dataplane, model, serviceRanges, log, signal },
    isInForce: () => isFilled && reconciler.works("maps"),
  });
  let watch: NetworkWatch | undefined;
  let servers: Servers | undefined;

  const announcements = createAnnouncements(nodeName, model, {
    network: () => reconciler.desired().devices.basis.network,
    roles: () => reconciler.desired().devices.roles,
  });
  const provenance = createProvenance({
    loadBalancerClass: options.loadBalancerClass,
    serviceRanges: clusterRangesOf(options),
  });
  const reports = createReports({ nodeName, source, provenance, nodes: model.nodes });
  model.adopt(dataplane.readState());
  const reconciler: Reconciler = createReconciler({
    ...{ nodeName, model, source, provenance, syncs, adopted, timers, log },
    wishes: { devices, xdp, sockets, forwardMark },
    mostDevices: dataplane.capacity.devices,
    maps: (inForce, digest) =>
      createMaps({
        ...{ model, dataplane, syncs, digest, inForce, retired: deadSockets.look, broken: finished.reject },
        firstDone() {
          isFilled = true;
          if (!adopted) leaveOldLayouts(loaded, reconciler, network);
          setImmediate(() => {
            settleHeap();
            releaseMemory();
            log.info(readyFields(view.status(), options, model.services().size, performance.now()), "ready");
          });
        },
      }),
    effects: {
      sysctls: sysctls.apply,
      ...createKernelEffects({ options, loaded, hasL3, network, attachments, hz, log }),
      announcer: announcer.set,
      announced: () => reports.announced(announcer.announced()),
      healthPorts: (list, healthy) => servers?.health(list, healthy),
      memory: (addresses) => saveNodeAddresses(stateDir, addresses),
      firewall: begun.firewall,
      otherProxy: otherProxy.look,
      async network(tell) {
        const fresh = await readNetwork();
        // An answer that comes while the agent ends finds its maps closed.
        if (signal.aborted) return;
        source.setOwnNode?.({ name: nodeName, addresses: defaultRouteAddresses(fresh).addresses });
        tell(fresh);
      },
    },
    announcements,
    network: read,
    remembered: readSavedNodeAddresses(stateDir),
    // On maps that nobody filled before, whoever served until now may have connections.
    settings: { ...settingsOf(dataplane), ...(adopted ? {} : { otherProxy: true }) },
    broken: finished.reject,
  });

  /** What any node that reads these objects has to say of them. */
  const objectNotices = (): Notice[] => [
    ...[source, provenance, model].flatMap((one) => one.notices()),
    ...advertisementNotices(model.l2Advertisements().values(), model.pools().values()),
  ];
  /** All that is to be told now, but for what the HTTP servers add. */
  const notices = (): Notice[] => [
    ...bypassNotices(dataplane.readBypass()),
    ...objectNotices(),
    ...[network, announcements, announcer, sysctls, otherProxy].flatMap((one) => one.notices()),
    ...absentResourceNotices(source.api?.()?.resources, provenance.services()),
    ...liveness.notices(model.l2Advertisements().size > 0),
    ...startNotices,
    ...watchNotices(watch?.problem() ?? ""),
    ...reconciler.desired().notices,
    ...scarcePortNotices(periodic.scarcePorts(), options.snatPortRange, model.serviceById),
    ...effectNotices(reconciler.statuses()),
  ];

  const periodic = createPeriodic({
    ...{ dataplane, hz, network, announcements, announcer, liveness, reconciler, timers },
    timeouts: options.flowTimeouts,
  });
  const { flowEntries, flowsTaken, sourcePortsUsed } = periodic;
  const swept = { flowEntries, flowsTaken, sourcePortsUsed };
  const facts = { startedMs: Date.now(), hz, degraded: degradedFeatures, notices };
  const view = createAgentView({
    ...{ ...facts, ...swept, options, reconciler, syncs, model, source, dataplane, announcer, attachments },
  });
  const noticeLog = createNoticeLog(createLog("notices"));
  try {
    if (adopted && !takeOver(loaded, attachments, reconciler, network)) {
      const stop = timers.every(OLD_LAYOUTS_MS, () => {
        if (leaveOldLayouts(loaded, reconciler, network)) stop();
        else loaded.catchUp();
      });
    }
    servers = await wiring.serve(view);
    watch = watchNetwork(() => reconciler.lookAt("network"), log);
    periodic.start();
    timers.every(NOTICES_MS, () => {
      noticeLog.note(view.notices());
      reports.note(announcer.notices(), objectNotices());
    });
    mailbox.open(reconciler.take, finished.reject);
    await Promise.race([started.then(() => finished.promise), finished.promise]);
  } finally {
    timers.stop();
    watch?.stop();
    announcer.stop();
    liveness.stop();
    await source.stop();
    await reconciler.settled();
    await deadSockets.settled();
    await servers?.close();
    attachments.close();
    loaded.close();
    if (signal.aborted) log.info("stopped; Services go on. `millrace cleanup` takes them out");
  }
}
