// The agent of a node: waits for something to change, lets a burst gather for a moment, asks the model what the maps ought to
// hold, applies it, and says how that went. A broken invariant ends the process; the datapath goes on without it.
import { mkdirSync } from "node:fs";
import { createAttachments } from "../datapath/attach.ts";
import { SWEEP_MS } from "../datapath/flow-fullness.ts";
import { type FlowDeadlines, type SweepResult, sweepFlows } from "../datapath/flow-sweep.ts";
import { readHz } from "../datapath/flow-table.ts";
import { FLOW_TIMEOUTS } from "../datapath/flow-timeouts.ts";
import { SETTING_FLAG_VALUES, SOCKETS_MODE_VALUES } from "../datapath/layout.gen.ts";
import { loadDataplaneAsync, lockPinDir, preparePinDir } from "../datapath/load.ts";
import { parsePrefix } from "../lib/address.ts";
import { Failure } from "../lib/errors.ts";
import { createLog } from "../lib/log.ts";
import { createModel } from "../model/model.ts";
import type { Notice, ObjectEvent } from "../model/objects.ts";
import { type AgentState, createAgentView } from "./agent-view.ts";
import { type Claim, createAnnouncer } from "./announcer.ts";
import { BYPASS_TEXT } from "./bypass-notice.ts";
import { createClaims } from "./claims.ts";
import { readFlowTimeouts } from "./conntrack-timeouts.ts";
import { degradedFeatures } from "./degraded.ts";
import { defaultRouteAddresses, heldNetworks, needsL3, tunnelOfRoutes } from "./device-roles.ts";
import { ensureForwardRules } from "./forward-rules.ts";
import { ipsecProblem, readIpsecPolicies } from "./ipsec-policies.ts";
import { readKnownNodes, saveKnownNodes } from "./known-nodes.ts";
import { checkMachine, machineNotice, noticesAtStart, releaseMemory } from "./machine.ts";
import { createMailbox, type Mailbox } from "./mailbox.ts";
import { type Network, readNetwork, watchNetwork } from "./network.ts";
import { createNodeNetwork, type NodeAddresses } from "./node-network.ts";
import { createNoticeLog } from "./notice-log.ts";
import { createObjectSource, type ObjectSource } from "./object-source.ts";
import { type AgentOptions, clusterRangesOf } from "./options.ts";
import { ownCookie } from "./own-cookie.ts";
import { readyFields } from "./ready-fields.ts";
import { reservePorts } from "./reserved-ports.ts";
import { createSyncRecorder } from "./sync-stats.ts";
import type { AgentView } from "./view.ts";

export interface AgentWiring {
  readonly signal: AbortSignal;
  /** Starts the HTTP servers over the agent's view. agent/ knows no HTTP. */
  serve(view: AgentView): Promise<{
    close(): Promise<void>;
    health(list: readonly { readonly service: string; readonly port: number; readonly localEndpoints: number }[]): void;
  }>;
}

const GATHER_MS = 3;
const FIREWALL_MS = 30_000;
const RENEW_MS = 1_000;
/** Resets, ICMP errors and echo that one CPU makes. */
const RETRY_MS = [100, 500, 2_000, 10_000];
/** The first plan goes in parts of so many Services and endpoints, so that no task of the loop is long. */
const PLAN_PART = 800;
/** A renewal that comes later than this did not come from a sound loop. */
const LOOP_ALIVE_MS = 2_500;

/** Runs until the signal aborts. What it attached and pinned stays: the datapath does not need it. */
export async function runAgent(options: AgentOptions, wiring: AgentWiring): Promise<void> {
  checkMachine(options);
  preparePinDir(options.pinDir);
  using _lock = lockPinDir(options.pinDir);
  mkdirSync(options.stateDir, { recursive: true, mode: 0o700 });

  const read = await readNetwork();
  const ownNode = { name: options.nodeName, addresses: defaultRouteAddresses(read).addresses };
  const objects = await createObjectSource(options, ownNode);
  try {
    const mailbox = createMailbox();
    const started = objects.source.start(mailbox.deliver);
    // It is awaited when the programs are loaded, which goes on beside it.
    started.catch(() => {});
    await runNode(options, wiring, { read, objects, mailbox, started });
  } catch (error) {
    // It may not have come so far as to stop them.
    await objects.stop();
    throw error;
  }
}

interface Begun {
  readonly read: Network;
  readonly objects: ObjectSource;
  readonly mailbox: Mailbox;
  readonly started: Promise<void>;
}

async function runNode(options: AgentOptions, wiring: AgentWiring, begun: Begun): Promise<void> {
  const log = createLog("agent");
  const { signal } = wiring;
  const { objects, mailbox, started } = begun;
  const { source } = objects;
  const syncs = createSyncRecorder();
  let { read } = begun;
  const began = performance.now();
  const loaded = await loadDataplaneAsync({
    pinDir: options.pinDir,
    stateDir: options.stateDir,
    mapSizes: options.mapSizes,
    l3: needsL3(read),
    xdp: true,
  });
  const { dataplane } = loaded;
  const { adopted, copiedFlows } = loaded;
  log.debug({ ms: Math.round(performance.now() - began), adopted, copiedFlows }, "programs loaded");

  const attachments = createAttachments({ pinDir: options.pinDir, stateDir: options.stateDir });
  const network = createNodeNetwork(dataplane, attachments, { named: options.devices, xdp: options.xdp }, log);
  const announcer = createAnnouncer(dataplane, createLog("l2"));
  const serviceRanges = clusterRangesOf(options)
    .map(parsePrefix)
    .filter((range) => range !== undefined);
  const model = createModel({ nodeName: options.nodeName, capacity: dataplane.capacity, serviceRanges });

  const claims = createClaims(options.nodeName, model, network);
  let announced: readonly Claim[] | undefined;

  const startNotices = noticesAtStart(
    options.cgroup,
    loaded.keptSizes.map((map) => ({ map, entries: dataplane.map(map).maxEntries })),
  );
  if (dataplane.readBypass()) log.warn(`bypass is on: ${BYPASS_TEXT}`);
  let forward = await ensureForwardRules(options.forwardMark);
  let ipsec = "";
  const checkIpsec = (): void => {
    void readIpsecPolicies().then((policies) => {
      ipsec = ipsecProblem(policies);
    });
  };
  checkIpsec();
  const tunnelNotices = (): Notice[] => {
    const { problem } = tunnelOfRoutes(network.network());
    return problem === "" ? [] : [machineNotice("Routes", "encapsulation", problem)];
  };
  const state: AgentState = {
    startedMs: Date.now(),
    hz: readHz(dataplane),
    appliedDigest: "",
    lastApply: { atMs: 0, durationMs: 0, operations: 0, error: "" },
    applies: { total: 0, failed: 0, operations: 0 },
    flowEntries: { tcp_flows: 0, udp_flows: 0, openings: 0 },
    unhealthy: ["the source of objects has not synced yet"],
    sockets: options.sockets === "host-only" ? "host-only" : "all",
    notices: () => [
      ...startNotices,
      ...(forward.problem === "" ? [] : [machineNotice("Firewall FORWARD", "forward-policy", forward.problem)]),
      ...(ipsec === "" ? [] : [machineNotice("IPsec policies", "ipsec-bypassed", ipsec)]),
      ...tunnelNotices(),
    ],
    degraded: degradedFeatures(),
  };

  // --- settings and devices ---------------------------------------------------------------------------------------------
  const writeSettings = (): void => {
    const network_ = network.network();
    const { device } = defaultRouteAddresses(network_);
    const uplink =
      network_.devices.find(({ name }) => name === device) ??
      network_.devices.find(({ ifindex }) => network.roles().get(ifindex) === "uplink");
    const { first, last } = options.snatPortRange;
    dataplane.writeSettings({
      nodeCookie,
      sockets: state.sockets === "host-only" ? SOCKETS_MODE_VALUES.SOCKETS_HOST_ONLY : SOCKETS_MODE_VALUES.SOCKETS_ALL,
      hz: state.hz,
      snatFirst: first,
      snatCount: last - first + 1,
      udpTimeout: FLOW_TIMEOUTS.udpSeconds,
      ...deadlines,
      uplink: uplink?.ifindex ?? 0,
      forwardMark: forward.needed ? options.forwardMark : 0,
      handover: handingOver ? 1 : 0,
      tunnel: tunnelOfRoutes(network_).ifindex,
      replies: options.replyLimit,
      flags:
        (network_.routesBySource ? SETTING_FLAG_VALUES.SETTING_SOURCE_ROUTES : 0) |
        (options.externalClusterIPs ? 0 : SETTING_FLAG_VALUES.SETTING_CLUSTER_IPS_INSIDE),
    });
  };
  const nodeCookie = ownCookie(log);
  let deadlines: FlowDeadlines = { tcpFullUntil: 0n, udpFullUntil: 0n, crowdedUntil: 0n };
  let handingOver = false;

  const knownNodes = readKnownNodes(options.stateDir);
  const nodeAddresses = (): NodeAddresses => {
    if (model.nodes().size === 0 && knownNodes !== undefined) return knownNodes;
    const own = model.nodes().get(options.nodeName)?.internalAddresses ?? defaultRouteAddresses(read).addresses;
    const others = [...model.nodes().values()].filter(({ name }) => name !== options.nodeName);
    return {
      own,
      others: others.flatMap(({ internalAddresses }) => internalAddresses),
      otherPodCIDRs: others.flatMap(({ podCIDRs }) => podCIDRs),
    };
  };
  const updateNetwork = (): void => {
    network.update(read, nodeAddresses());
    model.setNetworks(heldNetworks(read));
    claims.noteNetwork();
    writeSettings();
  };
  try {
    reservePorts(options.snatPortRange, options.stateDir);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    startNotices.push(machineNotice(`Sysctl ${error.subject}`, "ports-not-reserved", error.message));
  }

  // --- the loop ---------------------------------------------------------------------------------------------------------
  let pendingDigest = "";
  let synced = false;
  let nodesChanged = true;
  let failures = 0;
  let timer: NodeJS.Timeout | undefined;
  let running: Promise<void> | undefined;
  let ended: ((error: unknown) => void) | undefined;
  let servers: Awaited<ReturnType<AgentWiring["serve"]>> | undefined;

  model.adopt(dataplane.readState());
  handingOver = loaded.replacesLayout;
  updateNetwork();
  if (loaded.adopted) {
    // The programs of this build over the rows that are there: nothing has to be known of Services for that.
    if (handingOver) attachments.beginHandover(loaded.catchUp);
    loaded.catchUp();
    network.attach();
    attachSockets();
    loaded.catchUp();
    attachments.finishHandover();
    handingOver = false;
    writeSettings();
    loaded.removeOldLayouts();
  }

  /** A sidecar or a sandbox must see the Service's own address: its pod's packets are translated instead (trap A16). */
  function chooseSockets(): void {
    if (options.sockets !== "auto") return;
    const mode = source.bypassesSockets(options.nodeName) ? "host-only" : "all";
    if (mode === state.sockets) return;
    state.sockets = mode;
    log.info({ sockets: mode }, "sockets are translated anew");
    writeSettings();
  }

  function attachSockets(): void {
    const sockets = ["recvmsg4", "recvmsg6", "peername4", "peername6", "connect4", "connect6", "sendmsg4", "sendmsg6"];
    attachments.attachSockets(
      options.cgroup,
      sockets.map((name) => dataplane.program(`sock_${name}`)),
    );
  }

  function announce(): void {
    const wanted = claims.current();
    if (wanted !== announced) announcer.set(wanted);
    announced = wanted;
  }

  async function sync(): Promise<void> {
    if (nodesChanged) {
      nodesChanged = false;
      updateNetwork();
      const trouble = saveKnownNodes(options.stateDir, nodeAddresses());
      if (trouble !== undefined) log.warn({ reason: trouble }, "could not remember the nodes' addresses");
    }
    // The parts of a plan are one sync.
    let syncStart = performance.now();
    let operationCount = 0;
    do {
      const digest = pendingDigest;
      const isFirst = state.applies.total === 0;
      syncs.begin();
      const operations = model.plan(isFirst ? PLAN_PART : undefined);
      operationCount += operations.length;
      const isLast = !model.isDirty();
      await dataplane.apply(operations, () => {
        const durationMs = performance.now() - syncStart;
        state.lastApply = { atMs: Date.now(), durationMs, operations: operationCount, error: "" };
        if (!isLast) return;
        syncs.inForce(durationMs, Date.now(), isFirst || failures > 0);
        if (isFirst && !loaded.adopted) {
          network.attach();
          attachSockets();
        }
        announce();
        servers?.health(model.healthChecks());
        state.appliedDigest = digest;
        state.unhealthy = [];
      });
      state.applies.operations += operations.length;
      if (isLast) {
        if (isFirst) {
          setImmediate(releaseMemory);
          // performance.now() counts from the start of the process.
          log.info(readyFields(view.status(), options, model.services().size, performance.now()), "ready");
        }
        state.applies.total++;
        syncStart = performance.now();
        operationCount = 0;
      } else await new Promise((resolve) => setImmediate(resolve));
    } while (model.isDirty());
    failures = 0;
  }

  function schedule(delayMs = GATHER_MS): void {
    if (timer !== undefined || signal.aborted || !synced) return;
    timer = setTimeout(() => {
      timer = undefined;
      if (running !== undefined) return void running.then(() => schedule());
      running = sync()
        .catch((error: unknown) => {
          if (!(error instanceof Failure) || error.code === "internal") return ended?.(error);
          state.applies.failed++;
          const delay = RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)]!;
          state.lastApply = { ...state.lastApply, atMs: Date.now(), error: error.message };
          state.unhealthy = [`the last apply failed: ${error.message}`];
          log.error({ err: error, retryMs: delay }, "could not apply");
          // What the kernel holds now is the truth; everything is compared with it anew.
          model.adopt(dataplane.readState());
          setTimeout(() => schedule(), delay).unref();
        })
        .finally(() => {
          running = undefined;
          if (failures === 0 && model.isDirty()) schedule();
        });
    }, delayMs);
  }

  const noticeLog = createNoticeLog(createLog("notices"));
  const view = createAgentView({ options, state, syncs, model, source, dataplane, network, announcer, attachments });
  servers = await wiring.serve(view);

  const watch = watchNetwork(() => {
    readNetwork()
      .then(async (fresh) => {
        if (signal.aborted) return;
        // Without these programs such a device alone is not served, and its notice says so.
        if (needsL3(fresh))
          await loaded.loadL3().catch((error: unknown) => log.error({ err: error }, "could not load"));
        // An answer that comes while the agent ends finds its maps closed.
        if (signal.aborted) return;
        read = fresh;
        objects.setOwnNode({ name: options.nodeName, addresses: defaultRouteAddresses(read).addresses });
        updateNetwork();
        if (model.isDirty()) schedule();
        if (synced && state.applies.total > 0) announce();
      })
      .catch((error: unknown) => {
        if (!signal.aborted) log.warn({ err: error }, "could not follow the network");
      });
  }, log);

  let lastTick = performance.now();
  const renew = setInterval(() => {
    noticeLog.note(view.notices());
    const now = performance.now();
    const alive = now - lastTick < LOOP_ALIVE_MS;
    lastTick = now;
    const devices = new Map(network.network().devices.map((device) => [device.ifindex, device]));
    announcer.renew(({ ifindex }) => {
      const device = devices.get(ifindex);
      return alive && state.lastApply.error === "" && device?.running === true && network.isAttached(ifindex);
    });
  }, RENEW_MS);

  const firewall = setInterval(() => {
    checkIpsec();
    ensureForwardRules(options.forwardMark)
      .then((found) => {
        if (signal.aborted) return;
        forward = found;
        writeSettings();
      })
      .catch((error: unknown) => log.warn({ err: error }, "could not check the firewall"));
  }, FIREWALL_MS);

  let swept: SweepResult | undefined;
  let sweep: NodeJS.Timeout | undefined;
  const sweepOnce = async (): Promise<number> => {
    swept = await sweepFlows(dataplane, state.hz, readFlowTimeouts(), swept);
    if (signal.aborted) return 0;
    state.flowEntries = swept.entries;
    deadlines = swept.deadlines;
    writeSettings();
    return swept.nextMs;
  };
  const sweepIn = (ms: number): void => {
    sweep = setTimeout(async () => {
      const next = await sweepOnce().catch((error: unknown) => {
        if (!signal.aborted) log.warn({ err: error }, "could not sweep the flow tables");
        return SWEEP_MS;
      });
      if (!signal.aborted) sweepIn(next);
    }, ms);
  };
  sweepIn(SWEEP_MS);

  const finished = new Promise<void>((resolve, reject) => {
    ended = reject;
    signal.addEventListener("abort", () => resolve(), { once: true });
    if (signal.aborted) resolve();
  });
  try {
    mailbox.open((events, digest, isSynced) => {
      pendingDigest = digest;
      chooseSockets();
      claims.note(events);
      model.update(events);
      objects.delivered(events);
      syncs.queued(synced ? events : withoutTriggers(events), Date.now());
      if (events.some(({ kind }) => kind === "Node")) nodesChanged = true;
      if (!isSynced) return;
      synced = true;
      // A batch that changes nothing here is in force already.
      if (!model.isDirty() && running === undefined && state.applies.total > 0) {
        syncs.unchanged();
        state.appliedDigest = digest;
        announce();
      } else schedule();
    });
    await Promise.race([started.then(() => finished), finished]);
  } finally {
    clearTimeout(timer);
    clearInterval(renew);
    clearTimeout(sweep);
    clearInterval(firewall);
    watch.stop();
    announcer.stop();
    await objects.stop();
    await running?.catch(() => undefined);
    await servers.close();
    attachments.close();
    loaded.close();
    if (signal.aborted) log.info("stopped; Services go on. `millrace cleanup` takes them out");
  }
}

/** Of objects that were there before this agent nobody waits to see them in force. */
function withoutTriggers(events: readonly ObjectEvent[]): readonly ObjectEvent[] {
  return events.map((event) => (event.kind === "EndpointSlice" ? { ...event, triggerMs: 0 } : event));
}
