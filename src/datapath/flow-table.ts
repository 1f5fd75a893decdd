// The flow tables as people see them, and the clock by which flows are seen: jiffies, whose rate only the kernel knows.
import type { Address } from "../lib/address.ts";
import type { RowProtocol } from "../model/operations.ts";
import type { Dataplane } from "./dataplane.ts";
import {
  FLOW,
  FLOW_PATH_VALUES,
  FLOW_STATE_VALUES,
  type Flow,
  PEER_KIND_VALUES,
  readFlow,
  readSocketPeer,
  readSocketPeerKey,
  readTuple,
  SOCKET_PEER,
  SOCKET_PEER_KEY,
  TUPLE,
  type Tuple,
} from "./layout.gen.ts";
import { protocolName, viewOf } from "./row-codec.ts";

export type FlowTableName = "tcp_flows" | "udp_flows" | "openings";
export const TABLES: readonly FlowTableName[] = ["tcp_flows", "udp_flows", "openings"];

export interface FlowEnd {
  readonly address: Address;
  readonly port: number;
}

export interface FlowRecord {
  readonly table: FlowTableName;
  readonly protocol: RowProtocol;
  readonly client: FlowEnd;
  readonly frontend: FlowEnd;
  readonly backend: FlowEnd;
  /** What the backend sees as source, when it is not the client. */
  readonly source: FlowEnd | undefined;
  readonly serviceId: number;
  readonly state: string;
  readonly idleMs: number;
}

/** A backend that a socket was pointed at. Nothing tells when the socket is closed: the entry stays until its place is needed. */
export interface SocketRecord {
  readonly table: "socket_peers";
  readonly protocol: RowProtocol;
  /** Unknown: the kernel gives the socket its own address later. */
  readonly client: undefined;
  readonly cookie: bigint;
  readonly frontend: FlowEnd;
  readonly backend: FlowEnd;
  readonly serviceId: number;
  /** "retired": its backend left the Service since. */
  readonly state: "pointed" | "retired";
}

/** A reset after which both sides went on was none. */
export function wasReset(state: number): boolean {
  const wentOn = FLOW_STATE_VALUES.STATE_CLIENT_WENT_ON | FLOW_STATE_VALUES.STATE_BACKEND_WENT_ON;
  return (state & FLOW_STATE_VALUES.STATE_RESET) !== 0 && (state & wentOn) !== wentOn;
}

function stateName(state: number, protocol: RowProtocol): string {
  const has = (bit: number): boolean => (state & bit) !== 0;
  if (wasReset(state)) return "reset";
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
  const view = viewOf(data);
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

/** Flows that `wanted` accepts, read as they are taken; undefined where others may have their turn. */
export function* listFlows(
  dataplane: Dataplane,
  hz: number,
  wanted: (flow: FlowRecord) => boolean,
): Generator<FlowRecord | undefined> {
  const now = readClocks(dataplane).jiffies;
  for (const table of TABLES) {
    for (const chunk of dataplane.map(table).batches(LISTING_STEP)) {
      for (let i = 0; i < chunk.count; i++) {
        if (chunk.values[i * FLOW.size + FLOW.answer] !== 0) continue;
        const key = readTuple(chunk.keys, i * TUPLE.size);
        const record = recordOf(table, key, readFlow(chunk.values, i * FLOW.size), now, hz);
        if (record !== undefined && wanted(record)) yield record;
      }
      yield undefined;
    }
  }
}

/** What sockets were pointed at, read as it is taken; undefined where others may have their turn. */
export function* listSocketPeers(dataplane: Dataplane): Generator<SocketRecord | undefined> {
  for (const { keys, values, count } of dataplane.map("socket_peers").batches(LISTING_STEP)) {
    for (let i = 0; i < count; i++) {
      const key = readSocketPeerKey(keys, i * SOCKET_PEER_KEY.size);
      const protocol = protocolName(key.proto);
      if (protocol === undefined || key.kind !== PEER_KIND_VALUES.PEER_FRONTEND) continue;
      const peer = readSocketPeer(values, i * SOCKET_PEER.size);
      yield {
        table: "socket_peers",
        protocol,
        client: undefined,
        cookie: key.cookie,
        frontend: { address: peer.address, port: peer.port },
        backend: { address: key.address, port: key.port },
        serviceId: peer.service,
        state: dataplane.isBackendAlive(peer.backend, peer.generation) ? "pointed" : "retired",
      };
    }
    yield undefined;
  }
}
