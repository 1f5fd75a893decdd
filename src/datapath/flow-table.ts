// The flow tables from user space: listing for the CLI, and the sweep that takes finished and idle flows out and says how full
// the tables are. New flows are refused by name before a table is full, as an LRU would evict living ones.
import type { Address } from "../lib/address.ts";
import type { BpfMap } from "../libbpf/mod.ts";
import type { Dataplane } from "./dataplane.ts";
import { protocolName } from "./dataplane.ts";
import {
  FLOW,
  FLOW_PATH_VALUES,
  FLOW_STATE_VALUES,
  type Flow,
  RETIRED_BACKEND,
  readFlow,
  readRetiredBackend,
  readTuple,
  TUPLE,
  type Tuple,
} from "./layout.gen.ts";

export type FlowTableName = "tcp_flows" | "udp_flows" | "openings";
const TABLES: readonly FlowTableName[] = ["tcp_flows", "udp_flows", "openings"];

export interface FlowTimeouts {
  readonly tcpEstablishedSeconds: number;
  /** Ended flows; those with a translated source rest so long before their port is used again. */
  readonly tcpEndedSeconds: number;
  readonly udpSeconds: number;
  readonly openingSeconds: number;
}

export const FLOW_TIMEOUTS: FlowTimeouts = {
  tcpEstablishedSeconds: 432_000,
  tcpEndedSeconds: 60,
  udpSeconds: 120,
  openingSeconds: 60,
};

export interface FlowRecord {
  readonly table: FlowTableName;
  readonly protocol: "TCP" | "UDP";
  readonly client: { readonly address: Address; readonly port: number };
  readonly frontend: { readonly address: Address; readonly port: number };
  readonly backend: { readonly address: Address; readonly port: number };
  /** What the backend sees as source, when it is not the client. */
  readonly source: { readonly address: Address; readonly port: number } | undefined;
  readonly serviceId: number;
  readonly state: string;
  readonly idleMs: number;
}

function stateName(state: number, protocol: "TCP" | "UDP"): string {
  const has = (bit: number): boolean => (state & bit) !== 0;
  if (has(FLOW_STATE_VALUES.STATE_RESET)) return "reset";
  const client = has(FLOW_STATE_VALUES.STATE_FIN_CLIENT);
  const backend = has(FLOW_STATE_VALUES.STATE_FIN_BACKEND);
  if (client && backend) return "closed";
  if (client || backend) return "closing";
  if (has(FLOW_STATE_VALUES.STATE_ESTABLISHED)) return "established";
  if (has(FLOW_STATE_VALUES.STATE_ANSWERED)) return "answered";
  return has(FLOW_STATE_VALUES.STATE_MIDSTREAM) ? "midstream" : protocol === "TCP" ? "syn-sent" : "unanswered";
}

/** Milliseconds between two readings of jiffies, whose low 32 bits wrap. */
function idleMsOf(seen: number, now: number, hz: number): number {
  const passed = (now - seen) >>> 0;
  return passed > 0x7fffffff ? 0 : Math.round((passed * 1000) / hz);
}

const ended = (state: number): boolean => {
  const both = FLOW_STATE_VALUES.STATE_FIN_CLIENT | FLOW_STATE_VALUES.STATE_FIN_BACKEND;
  return (state & FLOW_STATE_VALUES.STATE_RESET) !== 0 || (state & both) === both;
};

function recordOf(table: FlowTableName, key: Tuple, flow: Flow, now: number, hz: number): FlowRecord | undefined {
  const protocol = protocolName(key.proto);
  if (protocol === undefined || flow.answer !== 0 || flow.path === FLOW_PATH_VALUES.PATH_PORT_CHANGE) return undefined;
  const { write } = flow;
  const translated = write.source !== key.source || write.sourcePort !== key.sourcePort;
  return {
    table,
    protocol,
    client: { address: key.source, port: key.sourcePort },
    frontend: { address: key.destination, port: key.destinationPort },
    backend: { address: write.destination, port: write.destinationPort },
    source: translated ? { address: write.source, port: write.sourcePort } : undefined,
    serviceId: flow.service,
    state: stateName(flow.state, protocol),
    idleMs: idleMsOf(flow.seen, now, hz),
  };
}

export interface Clocks {
  /** Low 32 bits. */
  readonly jiffies: number;
  readonly allJiffies: bigint;
  /** Stops in a suspend, as jiffies do. */
  readonly monotonicNs: bigint;
}

const clockData = new Uint8Array(64);

/** jiffies and the monotonic clock at one moment, from the kernel. */
export function readClocks(dataplane: Dataplane): Clocks {
  const { data } = dataplane.program("tc_clocks").testRun({ data: clockData });
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const allJiffies = view.getBigUint64(0, true);
  return { jiffies: Number(allJiffies & 0xffffffffn), allJiffies, monotonicNs: view.getBigUint64(8, true) };
}

/** The rates that a kernel can be built with. */
const RATES = [100, 250, 300, 1000] as const;

/** The one that is the nearest to so many jiffies in so many seconds. */
function nearestRate(jiffies: number, seconds: number): number {
  const off = (hz: number): number => Math.abs(Math.log(jiffies / seconds / hz));
  return RATES.reduce((best, hz) => (off(hz) < off(best) ? hz : best));
}

const JIFFIES_WRAP = 2n ** 32n;
const WRAP_SECONDS = 300;
/** They start to count a moment after the clock, by up to a second. */
const UNCLEAR_SECONDS = 20;

/**
 * Jiffies a second from one reading of all of their 64 bits: they start five minutes before their low 32 bits wrap, and at the
 * wrap every rate has the same number. undefined: it is too near to that to tell.
 */
export function hzOf(allJiffies: bigint, monotonicNs: bigint): number | undefined {
  const seconds = Number(monotonicNs) / 1e9 - WRAP_SECONDS;
  return Math.abs(seconds) < UNCLEAR_SECONDS ? undefined : nearestRate(Number(allJiffies - JIFFIES_WRAP), seconds);
}

const SECOND_READING_MS = 500;

/** Jiffies a second. About five minutes after boot it takes two readings, and half a second. */
export function readHz(dataplane: Dataplane): number {
  const first = readClocks(dataplane);
  const hz = hzOf(first.allJiffies, first.monotonicNs);
  if (hz !== undefined) return hz;
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, SECOND_READING_MS);
  const second = readClocks(dataplane);
  return nearestRate(
    Number(second.allJiffies - first.allJiffies),
    Number(second.monotonicNs - first.monotonicNs) / 1e9,
  );
}

/** So many rows are looked at between two turns for others. */
const LISTING_STEP = 256;

/** Up to `limit` flows that `wanted` accepts, read as they are taken; undefined where others may have their turn. */
export function* listFlows(
  dataplane: Dataplane,
  hz: number,
  limit: number,
  wanted: (flow: FlowRecord) => boolean,
): Generator<FlowRecord | undefined> {
  const now = readClocks(dataplane).jiffies;
  let found = 0;
  for (const table of TABLES) {
    for (const chunk of dataplane.map(table).batches(LISTING_STEP)) {
      for (let i = 0; i < chunk.count; i++) {
        if (chunk.values[i * FLOW.size + FLOW.answer] !== 0) continue;
        const key = readTuple(chunk.keys, i * TUPLE.size);
        const record = recordOf(table, key, readFlow(chunk.values, i * FLOW.size), now, hz);
        if (record === undefined || !wanted(record)) continue;
        yield record;
        found++;
        if (found >= limit) return;
      }
      yield undefined;
    }
  }
}

export interface SweepResult {
  readonly entries: Readonly<Record<FlowTableName, number>>;
  readonly removed: number;
}

const pause = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function expiry(table: FlowTableName, state: number, timeouts: FlowTimeouts): number {
  if (table === "openings") return timeouts.openingSeconds;
  if (table === "udp_flows") return timeouts.udpSeconds;
  return ended(state) ? timeouts.tcpEndedSeconds : timeouts.tcpEstablishedSeconds;
}

async function sweepTable(
  map: BpfMap,
  table: FlowTableName,
  now: number,
  hz: number,
  timeouts: FlowTimeouts,
): Promise<{ left: number; removed: number }> {
  let left = 0;
  let removed = 0;
  for (const chunk of map.batches(2048)) {
    const view = new DataView(chunk.values.buffer, chunk.values.byteOffset, chunk.values.byteLength);
    const stale: Uint8Array[] = [];
    for (let i = 0; i < chunk.count; i++) {
      const at = i * FLOW.size;
      const state = view.getUint32(at + FLOW.state, true);
      const idle = idleMsOf(view.getUint32(at + FLOW.seen, true), now, hz) / 1000;
      if (idle > expiry(table, state, timeouts)) stale.push(chunk.keys.slice(i * TUPLE.size, (i + 1) * TUPLE.size));
    }
    for (const key of stale) map.delete(key);
    removed += stale.length;
    left += chunk.count - stale.length;
    await pause();
  }
  return { left, removed };
}

/** Takes finished and idle flows out, a few thousand rows at a time, and forgets retired backends whose conversations are over. */
export async function sweepFlows(
  dataplane: Dataplane,
  hz: number,
  timeouts: FlowTimeouts = FLOW_TIMEOUTS,
): Promise<SweepResult> {
  const now = readClocks(dataplane).jiffies;
  const entries = { tcp_flows: 0, udp_flows: 0, openings: 0 };
  let removed = 0;
  for (const table of TABLES) {
    const result = await sweepTable(dataplane.map(table), table, now, hz, timeouts);
    entries[table] = result.left;
    removed += result.removed;
  }
  const retired = dataplane.map("retired");
  const over: Uint8Array[] = [];
  for (const [key, value] of retired.entries()) {
    if (value.length < RETIRED_BACKEND.size) continue;
    if (idleMsOf(readRetiredBackend(value).seen, now, hz) / 1000 > timeouts.udpSeconds) over.push(key);
  }
  for (const key of over) retired.delete(key);
  return { entries, removed };
}

/** Bits of settings.tables_full. */
const FULL_BITS = { tcp_flows: 1, udp_flows: 2 } as const;
const FULL = 0.95;
const FILLING = 0.7;
/** Between two sweeps, while no table fills. */
export const SWEEP_MS = 15_000;
const SWEEP_FILLING_MS = 1_000;

/** The entries that a sweep before found, so many milliseconds earlier. */
export interface EarlierSweep {
  readonly entries: SweepResult["entries"];
  readonly ms: number;
}

type LimitedTable = keyof typeof FULL_BITS;

/** How many entries there will be in `ms` when the table goes on growing as it did. */
function expected(table: LimitedTable, entries: SweepResult["entries"], earlier: EarlierSweep | undefined, ms: number) {
  if (earlier === undefined) return entries[table];
  return entries[table] + (Math.max(0, entries[table] - earlier.entries[table]) * ms) / earlier.ms;
}

/**
 * Bits of settings.tables_full: 1 for TCP, 2 for UDP. A table is full when it is above 95 %, or will be before the next sweep of one
 * that fills.
 */
export function fullTables(dataplane: Dataplane, entries: SweepResult["entries"], earlier?: EarlierSweep): number {
  const fullBit = (table: LimitedTable): number =>
    expected(table, entries, earlier, SWEEP_FILLING_MS) > dataplane.map(table).maxEntries * FULL ? FULL_BITS[table] : 0;
  return fullBit("tcp_flows") | fullBit("udp_flows");
}

/** When to sweep again: soon while a table is above 70 %, or might pass 95 % before long. */
export function nextSweepMs(dataplane: Dataplane, entries: SweepResult["entries"], earlier?: EarlierSweep): number {
  const fills = (table: LimitedTable): boolean => {
    const most = dataplane.map(table).maxEntries;
    return entries[table] > most * FILLING || expected(table, entries, earlier, SWEEP_MS) > most * FULL;
  };
  return fills("tcp_flows") || fills("udp_flows") ? SWEEP_FILLING_MS : SWEEP_MS;
}
