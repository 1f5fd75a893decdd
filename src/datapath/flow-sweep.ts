// The sweep: takes finished and idle flows out of the tables, clears what only they needed, and says what is to be refused while a
// table is full. A table that fills gives up its idlest flows before anything is refused. Everything goes in slices.
import { setTimeout as delay, setImmediate as othersTurn } from "node:timers/promises";
import { inPortions } from "../lib/portions.ts";
import { type BpfMap, hasFeature, possibleCpus } from "../libbpf/mod.ts";
import type { Dataplane } from "./dataplane.ts";
import {
  CROWDED,
  type EarlierUse,
  GIVEN_UP,
  GIVING_UP,
  isFull,
  nextSweepMs,
  REFUSAL_SECONDS,
  roomOf,
  SWEEP_MS,
  SWEEP_RATE,
  shareOf,
  type TableUse,
} from "./flow-fullness.ts";
import { createIdleness, type FlowClass, type Idleness } from "./flow-give-up.ts";
import { createFlowMarks, type FlowMarks } from "./flow-marks.ts";
import { createShares, type Shares } from "./flow-shares.ts";
import { type FlowTableName, readClocks, wasReset } from "./flow-table.ts";
import { FLOW_TIMEOUTS, type FlowTimeouts } from "./flow-timeouts.ts";
import { FLOW, FLOW_PATH_VALUES, FLOW_STATE_VALUES, readTuple, TUPLE } from "./layout.gen.ts";
import { backendOfFlow, type NearBits, nearSum } from "./near.ts";
import { PROTOCOLS, protocolName, viewOf } from "./row-codec.ts";
import { createPortUse, type PortUse, type ScarcePorts } from "./source-ports.ts";

/** Deadlines for `settings`: all 64 bits of jiffies, 0 when nothing is refused. Nothing stays on when the sweeps stop. */
export interface FlowDeadlines {
  readonly tcpFullUntil: bigint;
  readonly udpFullUntil: bigint;
  readonly crowdedUntil: bigint;
}

export interface SweepResult {
  /** What is left. */
  readonly entries: Readonly<Record<FlowTableName, number>>;
  /** Entries that were over or had been idle for too long. */
  readonly removed: number;
  /** The same, and those given up for room, by table. */
  readonly taken: Readonly<Record<FlowTableName, { readonly removed: number; readonly givenUp: number }>>;
  readonly scarcePorts: readonly ScarcePorts[];
  /** Of the ports that translated sources may have, the part that is in use toward the backend where most are: 0 to 1. */
  readonly sourcePortsUsed: number;
  /** Entries that were given up for room. */
  readonly givenUp: number;
  /** Client addresses that have their share of a table. */
  readonly crowdedClients: number;
  readonly deadlines: FlowDeadlines;
  /** When to sweep again. */
  readonly nextMs: number;
  /** performance.now() at its end. */
  readonly atMs: number;
}

/** A flow on its way from `openings` to its established table is found in one of them at least. */
const TABLES: readonly FlowTableName[] = ["openings", "tcp_flows", "udp_flows"];
const STEP = 2048;
const NOTHING = { removed: 0, givenUp: 0 } as const;
const { STATE_ANSWERED, STATE_FIN_CLIENT, STATE_FIN_BACKEND } = FLOW_STATE_VALUES;
const BOTH_FINS = STATE_FIN_CLIENT | STATE_FIN_BACKEND;
const { PATH_OUTSIDE_LOCAL, PATH_OUTSIDE_REMOTE, PATH_POD, PATH_HAIRPIN, PATH_PORT_CHANGE } = FLOW_PATH_VALUES;
const TRANSLATES_SOURCE: ReadonlySet<number> = new Set([PATH_OUTSIDE_REMOTE, PATH_HAIRPIN]);
/** Whose clients have a share. The node itself is none of them: its processes have one address. */
const CLIENT_PATHS: ReadonlySet<number> = new Set([PATH_OUTSIDE_LOCAL, PATH_OUTSIDE_REMOTE, PATH_POD, PATH_HAIRPIN]);

/** What of one sweep every table needs. Times are in jiffies. */
interface Sweep {
  readonly dataplane: Dataplane;
  /** Low 32 bits. */
  readonly now: number;
  readonly hz: number;
  readonly timeouts: FlowTimeouts;
  /** undefined: nothing can be cleared for certain. */
  readonly marks: FlowMarks | undefined;
  readonly near: NearBits | undefined;
  readonly ports: PortUse;
  /** Lets others have their turn, and keeps to the rate, after so many entries. */
  readonly pace: (entries: number) => Promise<void>;
}

function createPace(): Sweep["pace"] {
  const began = performance.now();
  let entries = 0;
  return (more) => {
    entries += more;
    const aheadMs = (entries * 1000) / SWEEP_RATE - (performance.now() - began);
    return aheadMs < 1 ? othersTurn() : delay(aheadMs);
  };
}

/** Who holds a source port: an entry of answers whose destination is an address of this node. */
function countPort({ ports }: Sweep, keys: Uint8Array, key: number, flow: DataView, at: number): void {
  if (!TRANSLATES_SOURCE.has(flow.getUint8(at + FLOW.path)) || flow.getUint8(at + FLOW.answer) === 0) return;
  ports.add(flow.getUint32(at + FLOW.backend, true), () => {
    const { source, sourcePort, proto } = readTuple(keys, key);
    const serviceId = flow.getUint32(at + FLOW.service, true);
    return { address: source, port: sourcePort, protocol: protocolName(proto) ?? "", serviceId };
  });
}

/** Jiffies since the entry was last seen; those that another CPU has ahead of us count as none. */
function idleOf(flow: DataView, at: number, now: number): number {
  const passed = (now - flow.getUint32(at + FLOW.seen, true)) >>> 0;
  return passed > 0x7fffffff ? 0 : passed;
}

function isRetired({ dataplane }: Sweep, flow: DataView, at: number): boolean {
  return (
    flow.getUint8(at + FLOW.path) !== PATH_PORT_CHANGE &&
    !dataplane.isBackendAlive(flow.getUint32(at + FLOW.backend, true), flow.getUint32(at + FLOW.generation, true))
  );
}

/** Has the entry at `at`, of protocol `proto`, outlived its time? */
function isOver(sweep: Sweep, table: FlowTableName, proto: number, flow: DataView, at: number, idle: number): boolean {
  const { timeouts, hz } = sweep;
  if (table === "udp_flows") return idle > (proto === PROTOCOLS.SCTP ? timeouts.sctpSeconds : timeouts.udpSeconds) * hz;
  if (proto === PROTOCOLS.UDP) return idle > timeouts.udpUnansweredSeconds * hz;
  if (proto === PROTOCOLS.SCTP) return idle > timeouts.sctpOpeningSeconds * hz;
  const state = flow.getUint32(at + FLOW.state, true);
  const fins = state & BOTH_FINS;
  if (fins === BOTH_FINS || wasReset(state)) return idle > timeouts.tcpEndedSeconds * hz;
  if (table === "openings") {
    const isAnswered = (state & STATE_ANSWERED) !== 0;
    return idle > (isAnswered ? timeouts.tcpSynReceivedSeconds : timeouts.tcpSynSentSeconds) * hz;
  }
  if (fins === STATE_FIN_CLIENT) return idle > timeouts.tcpClientClosedSeconds * hz;
  if (fins === STATE_FIN_BACKEND) return idle > timeouts.tcpBackendClosedSeconds * hz;
  if (idle > timeouts.tcpEstablishedSeconds * hz) return true;
  return idle > timeouts.tcpRetiredSeconds * hz && isRetired(sweep, flow, at);
}

function classOf(sweep: Sweep, flow: DataView, at: number): FlowClass {
  const state = flow.getUint32(at + FLOW.state, true);
  return (state & BOTH_FINS) !== 0 || wasReset(state) || isRetired(sweep, flow, at) ? 0 : 1;
}

/** What the entry goes on to need of the words that tell packets that are none of ours. */
function needs({ marks, near }: Sweep, key: DataView, keyAt: number, flow: DataView, flowAt: number): void {
  if (marks === undefined) return;
  const { sum, met } = backendOfFlow(key, keyAt, flow, flowAt);
  marks.need(met);
  near?.flow(key, keyAt, flow, flowAt, sum);
}

/** Entries to delete, gathered while a chunk of rows is read, as that is written anew for the next. */
function createRemoval(map: BpfMap) {
  let keys = new Uint8Array(STEP * TUPLE.size);
  let count = 0;
  const room = (): number => {
    if ((count + 1) * TUPLE.size > keys.length) {
      const larger = new Uint8Array(keys.length * 2);
      larger.set(keys);
      keys = larger;
    }
    return count++ * TUPLE.size;
  };
  return {
    add(source: Uint8Array, at: number): void {
      const to = room();
      keys.set(source.subarray(at, at + TUPLE.size), to);
    },
    /** The other entry of the flow: what this one writes, reversed; `write` has its hook. */
    addPartner(values: Uint8Array, at: number): void {
      const to = room();
      const write = at + FLOW.write;
      const part = (from: number, target: number, length: number): void =>
        keys.set(values.subarray(write + from, write + from + length), to + target);
      part(0, 0, TUPLE.size);
      part(TUPLE.destination, TUPLE.source, 16);
      part(TUPLE.source, TUPLE.destination, 16);
      part(TUPLE.destinationPort, TUPLE.sourcePort, 2);
      part(TUPLE.sourcePort, TUPLE.destinationPort, 2);
    },
    /** Returns how many there were still. */
    flush(): number {
      const deleted = count === 0 ? 0 : map.deleteBatch(keys, count);
      count = 0;
      return deleted;
    },
  };
}

interface Closer {
  readonly idleness: Idleness;
  readonly shares: Shares;
}

interface Swept {
  left: number;
  removed: number;
  closer: Closer | undefined;
}

/** Takes out what is over. `closer`: also learns what a second pass would have to know. */
async function sweepTable(sweep: Sweep, table: FlowTableName, closer: Closer | undefined): Promise<Swept> {
  const map = sweep.dataplane.map(table);
  const removal = createRemoval(map);
  let left = 0;
  let removed = 0;
  for (const { keys, values, count } of map.batches(STEP)) {
    const keyView = viewOf(keys);
    const flowView = viewOf(values);
    let stale = 0;
    for (let i = 0; i < count; i++) {
      const key = i * TUPLE.size;
      const flow = i * FLOW.size;
      const idle = idleOf(flowView, flow, sweep.now);
      if (isOver(sweep, table, keys[key + TUPLE.proto]!, flowView, flow, idle)) {
        removal.add(keys, key);
        stale++;
        continue;
      }
      needs(sweep, keyView, key, flowView, flow);
      countPort(sweep, keys, key, flowView, flow);
      if (closer === undefined || flowView.getUint8(flow + FLOW.answer) !== 0) continue;
      closer.idleness.add(classOf(sweep, flowView, flow), idle);
      if (CLIENT_PATHS.has(flowView.getUint8(flow + FLOW.path)))
        closer.shares.add(nearSum(keyView, key + TUPLE.source));
    }
    left += count - stale;
    removed += removal.flush();
    await sweep.pace(count);
  }
  return { left, removed, closer };
}

interface Relief {
  readonly givenUp: number;
  readonly crowded: readonly Uint8Array[];
}

/** The second pass over a table that fills: gives up its idlest, and finds the clients that have more than their share. */
async function relieve(sweep: Sweep, map: BpfMap, room: number, { left, closer }: Swept): Promise<Relief> {
  const share = shareOf(room);
  if (closer === undefined) return { givenUp: 0, crowded: [] };
  const { idleness, shares } = closer;
  const flows = left > room * GIVING_UP ? Math.min(idleness.idle(), Math.ceil((left - room * GIVEN_UP) / 2)) : 0;
  const weighs = left > room * CROWDED && shares.areExceeded(share);
  if (flows === 0 && !weighs) return { givenUp: 0, crowded: [] };
  const goes = idleness.cut(flows);
  const removal = createRemoval(map);
  let givenUp = 0;
  for (const { keys, values, count } of map.batches(STEP)) {
    const keyView = viewOf(keys);
    const flowView = viewOf(values);
    for (let i = 0; i < count; i++) {
      const key = i * TUPLE.size;
      const flow = i * FLOW.size;
      if (flowView.getUint8(flow + FLOW.answer) !== 0) continue;
      if (goes(classOf(sweep, flowView, flow), idleOf(flowView, flow, sweep.now))) {
        removal.add(keys, key);
        removal.addPartner(values, flow);
      } else if (weighs && CLIENT_PATHS.has(flowView.getUint8(flow + FLOW.path))) {
        const at = key + TUPLE.source;
        shares.weigh(nearSum(keyView, at), share, () => keys.slice(at, at + 16));
      }
    }
    givenUp += removal.flush();
    await sweep.pace(count);
  }
  return { givenUp, crowded: weighs ? shares.above(share) : [] };
}

/** `crowded_clients` holds these, until the deadline, and no others. */
function writeCrowded(map: BpfMap, clients: readonly Uint8Array[], until: bigint): void {
  const value = new Uint8Array(BigUint64Array.of(until).buffer);
  const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");
  const wanted = new Set(clients.map(text));
  for (const [key] of map.entries()) if (!wanted.has(text(key))) map.delete(key);
  for (const client of clients) map.update(client, value);
}

/**
 * One sweep. `earlier` is what the sweep before returned: of a table that fills more is learned, and its growth is known. The
 * deadlines are for the settings; `crowded_clients` is written already.
 */
export async function sweepFlows(
  dataplane: Dataplane,
  hz: number,
  timeouts: FlowTimeouts = FLOW_TIMEOUTS,
  earlier?: SweepResult,
): Promise<SweepResult> {
  const { jiffies: now, allJiffies: began } = readClocks(dataplane);
  // Without batches a table that changes under the iteration is not read whole: nothing is known of what was not found.
  const marks = hasFeature("batch") ? createFlowMarks(dataplane.metBackends, began, hz) : undefined;
  const rebuild =
    marks !== undefined && dataplane.near.isStale() && !dataplane.isApplying() ? dataplane.near.rebuild() : undefined;
  if (rebuild !== undefined) await inPortions(dataplane.nearAddresses(rebuild.needs));
  const beganMs = performance.now();
  const { snatCount } = dataplane.readSettings();
  const ports = createPortUse(dataplane.capacity.backends, snatCount);
  const sweep: Sweep = { dataplane, now, hz, timeouts, marks, near: rebuild?.needs, ports, pace: createPace() };

  const looksCloser = earlier === undefined || earlier.nextMs < SWEEP_MS;
  const entries = { tcp_flows: 0, udp_flows: 0, openings: 0 };
  const taken: Record<FlowTableName, { removed: number; givenUp: number }> = {
    tcp_flows: NOTHING,
    udp_flows: NOTHING,
    openings: NOTHING,
  };
  const uses = new Map<FlowTableName, TableUse>();
  const crowded: Uint8Array[] = [];
  let removed = 0;
  let givenUp = 0;
  for (const table of TABLES) {
    const isLimited = table !== "openings";
    const closer = isLimited && looksCloser ? { idleness: createIdleness(hz), shares: createShares() } : undefined;
    const swept = await sweepTable(sweep, table, closer);
    removed += swept.removed;
    entries[table] = swept.left;
    taken[table] = { removed: swept.removed, givenUp: 0 };
    if (!isLimited) continue;
    const map = dataplane.map(table);
    const room = roomOf(map.maxEntries, possibleCpus());
    const relief = await relieve(sweep, map, room, swept);
    entries[table] -= relief.givenUp;
    givenUp += relief.givenUp;
    taken[table] = { removed: swept.removed, givenUp: relief.givenUp };
    crowded.push(...relief.crowded);
    uses.set(table, { room, found: swept.left, left: entries[table] });
  }
  if (marks !== undefined) await inPortions(marks.clear());
  if (rebuild !== undefined) {
    await inPortions(dataplane.nearRows(rebuild.needs));
    rebuild.finish();
  }

  const atMs = performance.now();
  const sweepMs = atMs - beganMs;
  // The sweep after this one ends later the longer it takes.
  const refusalSeconds = REFUSAL_SECONDS + Math.floor(sweepMs / 500);
  const until = readClocks(dataplane).allJiffies + BigInt(refusalSeconds * hz);
  writeCrowded(dataplane.map("crowded_clients"), crowded, until);
  const before = (table: FlowTableName): EarlierUse | undefined =>
    earlier && { left: earlier.entries[table], ms: atMs - earlier.atMs };
  const fullUntil = (table: FlowTableName): bigint => (isFull(uses.get(table)!, before(table), sweepMs) ? until : 0n);
  return {
    entries,
    removed,
    givenUp,
    taken,
    scarcePorts: ports.scarce(),
    sourcePortsUsed: ports.most() / Math.max(1, snatCount),
    crowdedClients: crowded.length,
    deadlines: {
      tcpFullUntil: fullUntil("tcp_flows"),
      udpFullUntil: fullUntil("udp_flows"),
      crowdedUntil: crowded.length === 0 ? 0n : until,
    },
    nextMs: nextSweepMs([...uses].map(([table, use]) => [use, before(table)] as const)),
    atMs,
  };
}
