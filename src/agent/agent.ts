// The agent of a node, put together: programs are loaded over the maps that are there, what an agent before left is taken over, and
// from then on one loop decides and one effect after another brings it about. The datapath does not need any of it.
import { lockPinDir, preparePinDir } from "../datapath/load.ts";
import { defaultRouteAddresses } from "../decide/device-roles.ts";
import type { Network } from "../decide/network.ts";
import { growFreely } from "../lib/heap.ts";
import { createLog } from "../lib/log.ts";
import type { HealthCheck } from "../model/model-interface.ts";
import type { Source } from "../model/source.ts";
import { createAgentNotices } from "./agent-notices.ts";
import { createAgentView } from "./agent-view.ts";
import { createAnnouncements } from "./announcements.ts";
import { degradedFeatures } from "./degraded.ts";
import { createFirewallEffect } from "./firewall.ts";
import { createKernelEffects, settingsOf } from "./kernel-effects.ts";
import { checkMachine, releaseMemory } from "./machine.ts";
import { createMailbox, type Mailbox } from "./mailbox.ts";
import { createMaps } from "./maps.ts";
import { type NetworkWatch, readNetwork, watchNetwork } from "./network.ts";
import { createNoticeLog } from "./notice-log.ts";
import { createObjectSource } from "./object-source.ts";
import type { AgentOptions } from "./options.ts";
import { createOtherProxy } from "./other-proxy.ts";
import { createParts } from "./parts.ts";
import { createPeriodic } from "./periodic.ts";
import { readyFields } from "./ready-fields.ts";
import { createReconciler, type Reconciler } from "./reconciler.ts";
import { readSavedNodeAddresses, saveNodeAddresses } from "./saved-node-addresses.ts";
import { leaveOldLayouts, takeOver } from "./take-over.ts";
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
  const { stateDir, nodeName, xdp, sockets, devices, forwardMark } = options;
  const finished = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => finished.resolve(), { once: true });
  if (signal.aborted) finished.resolve();
  // It is awaited at the end: until then a rejection is nobody's.
  finished.promise.catch(() => {});

  const settleHeap = growFreely();
  const parts = await createParts({ options, signal, source, read, log });
  const { loaded, dataplane, adopted, hasL3, timers, attachments, network, liveness, model } = parts;
  const { sysctls, announcer, syncs, hz, deadSockets, serviceRanges, provenance, reports } = parts;
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
  const kernel = createKernelEffects({ options, loaded, hasL3, network, attachments, hz, log });
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
          timers.soon(() => {
            settleHeap();
            releaseMemory();
            log.info(readyFields(view.status(), options, model.services().size, performance.now()), "ready");
          });
        },
      }),
    effects: {
      sysctls: sysctls.apply,
      ...kernel,
      devices(wanted) {
        periodic.noteLinks(wanted.devices.list);
        return kernel.devices(wanted);
      },
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

  const notices = createAgentNotices({
    ...{ options, parts, source, reconciler, others: [announcements, otherProxy] },
    watchProblem: () => watch?.problem() ?? "",
    scarcePorts: () => periodic.scarcePorts(),
  });
  const periodic = createPeriodic({
    ...{ dataplane, hz, network, announcements, announcer, liveness, reconciler, timers },
    timeouts: options.flowTimeouts,
  });
  const { flowEntries, flowsTaken, sourcePortsUsed } = periodic;
  const swept = { flowEntries, flowsTaken, sourcePortsUsed };
  const facts = { startedMs: Date.now(), hz, degraded: degradedFeatures, notices: notices.all };
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
    parts.farEnds.onChange(() => reconciler.lookAt("network"));
    watch = watchNetwork(() => reconciler.lookAt("network"), timers, log);
    periodic.start();
    timers.every(NOTICES_MS, () => {
      noticeLog.note(view.notices());
      reports.note(announcer.notices(), notices.objects());
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
