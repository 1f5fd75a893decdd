import { describe, expect, it } from "vitest";
import { flowViews } from "../../src/agent/flow-view.ts";
import type { FlowFilter, FlowView } from "../../src/agent/view.ts";
import type { Dataplane } from "../../src/datapath/dataplane.ts";
import {
  FLOW,
  FLOW_STATE_VALUES,
  PEER_KIND_VALUES,
  SOCKET_PEER,
  SOCKET_PEER_KEY,
  TUPLE,
  writeFlow,
  writeSocketPeer,
  writeSocketPeerKey,
  writeTuple,
} from "../../src/datapath/layout.gen.ts";
import { parsePrefix } from "../../src/lib/address.ts";
import type { Model } from "../../src/model/model-interface.ts";
import { NO_HOP } from "../datapath/no-hop.ts";
import { endpoint, slice } from "../flows/builders.ts";

const HZ = 100;
const NOW = 50_000;

interface Packets {
  readonly client: string;
  readonly backend: string;
  readonly idleSeconds: number;
  readonly service?: number;
  readonly state?: number;
  readonly proto?: number;
}

interface Socket {
  readonly cookie: bigint;
  readonly backend: string;
  readonly generation?: number;
  readonly service?: number;
}

type Rows = readonly (readonly [key: Uint8Array, value: Uint8Array])[];

function flowRow(of: Packets): Rows[number] {
  const key = new Uint8Array(TUPLE.size);
  const value = new Uint8Array(FLOW.size);
  const ends = { source: of.client, sourcePort: 40_000, proto: of.proto ?? 6, hook: 1 };
  writeTuple(key, 0, { ...ends, destination: "10.96.0.10", destinationPort: 80 });
  writeFlow(value, 0, {
    write: { ...ends, destination: of.backend, destinationPort: 8080 },
    backend: 1,
    generation: 1,
    service: of.service ?? 1,
    check: 0,
    seen: NOW - of.idleSeconds * HZ,
    state: of.state ?? FLOW_STATE_VALUES.STATE_ESTABLISHED,
    number: 0,
    path: 1,
    answer: 0,
    hop: NO_HOP,
    hopCheck: 0,
    policy: 0,
  });
  return [key, value];
}

function socketRow({ cookie, backend, generation = 1, service = 1 }: Socket, kind: number): Rows[number] {
  const key = new Uint8Array(SOCKET_PEER_KEY.size);
  const value = new Uint8Array(SOCKET_PEER.size);
  writeSocketPeerKey(key, 0, { cookie, address: backend, port: 8080, proto: 6, kind });
  writeSocketPeer(value, 0, { address: "10.96.0.10", port: 80, check: 0, backend: 1, generation, service });
  return [key, value];
}

function batchesOf(rows: Rows) {
  return {
    *batches() {
      for (const [keys, values] of rows) yield { keys, values, count: 1 };
    },
  };
}

/** Backends of generation 1 are alive. */
function dataplaneOf(packets: readonly Packets[], sockets: readonly Socket[]): Dataplane {
  const { PEER_FRONTEND, PEER_CHOICE } = PEER_KIND_VALUES;
  const maps: Readonly<Record<string, Rows>> = {
    tcp_flows: packets.map(flowRow),
    udp_flows: [],
    openings: [],
    socket_peers: sockets.flatMap((one) => [socketRow(one, PEER_CHOICE), socketRow(one, PEER_FRONTEND)]),
  };
  const testRun = ({ data }: { data: Uint8Array }) => {
    new DataView(data.buffer, data.byteOffset).setBigUint64(0, BigInt(NOW), true);
    return { data };
  };
  return {
    map: (name: string) => batchesOf(maps[name]!),
    program: () => ({ testRun }),
    isBackendAlive: (_: number, generation: number) => generation === 1,
  } as unknown as Dataplane;
}

const model = {
  serviceById: (id: number) =>
    id === 1
      ? { service: "default/web", portName: "http", port: 80 }
      : id === 2
        ? { service: "shop/db", portName: "", port: 5432 }
        : undefined,
  nodes: () => new Map([["spare3", {}]]),
  slices: () =>
    new Map([
      [
        "default/web-1",
        slice({
          endpoints: [endpoint("10.244.1.5", "node1", { pod: "default/web-a" }), endpoint("10.244.2.5", "node2")],
        }),
      ],
    ]),
} as unknown as Model;

const PACKETS: readonly Packets[] = [
  { client: "192.168.1.1", backend: "10.244.1.5", idleSeconds: 30 },
  { client: "192.168.1.2", backend: "10.244.2.5", idleSeconds: 5, state: FLOW_STATE_VALUES.STATE_RESET },
  { client: "10.9.0.1", backend: "10.244.3.5", idleSeconds: 10, service: 2, proto: 17 },
  { client: "fd00::1", backend: "fd00::5", idleSeconds: 20, service: 3, proto: 132 },
];
const SOCKETS: readonly Socket[] = [
  { cookie: 7n, backend: "10.244.1.5" },
  { cookie: 9n, backend: "10.244.2.5", generation: 2 },
];

function list(filter: Partial<FlowFilter> = {}): { readonly shown: string[]; readonly matched: number } {
  const shown: FlowView[] = [];
  const views = flowViews({ dataplane: dataplaneOf(PACKETS, SOCKETS), model, hz: HZ }, { limit: 0, ...filter });
  for (let next = views.next(); ; next = views.next()) {
    if (next.done === true)
      return { shown: shown.map(({ client, idleMs = "-" }) => `${client} ${idleMs}`), matched: next.value };
    if (next.value !== undefined) shown.push(next.value);
  }
}

const ALL = [
  "192.168.1.2:40000 5000",
  "10.9.0.1:40000 10000",
  "[fd00::1]:40000 20000",
  "192.168.1.1:40000 30000",
  "socket 9 -",
  "socket 7 -",
];

describe("flows", () => {
  it("are those of packets and of sockets, the newest first", () => {
    expect(list()).toEqual({ shown: ALL, matched: 6 });
  });

  it("over the limit are counted, and the newest are kept of more than fit in memory", () => {
    expect(list({ limit: 2 })).toEqual({ shown: ALL.slice(0, 2), matched: 6 });
    const many = Array.from({ length: 2000 }, (_, i) => ({ ...PACKETS[0]!, idleSeconds: (i * 7919) % 2000 }));
    const views = [...flowViews({ dataplane: dataplaneOf(many, []), model, hz: HZ }, { limit: 3 })];
    expect(views.filter((one) => one !== undefined).map(({ idleMs }) => idleMs)).toEqual([0, 1000, 2000]);
  });

  const at = (...indexes: number[]) => indexes.map((index) => ALL[index]);
  it.each<readonly [Partial<FlowFilter>, (string | undefined)[]]>([
    [{ path: "packet" }, at(0, 1, 2, 3)],
    [{ path: "socket" }, at(4, 5)],
    [{ client: parsePrefix("192.168.0.0/16")! }, at(0, 3)],
    [{ backend: parsePrefix("10.244.2.5/32")! }, at(0, 4)],
    [{ address: parsePrefix("fd00::/16")! }, at(2)],
    [{ port: 8080 }, ALL],
    [{ port: 81 }, []],
    [{ state: "reset" }, at(0)],
    [{ state: "retired" }, at(4)],
    [{ protocol: "UDP" }, at(1)],
    [{ protocol: "SCTP" }, at(2)],
    [{ services: ["default/web"] }, at(0, 3, 4, 5)],
    [{ services: ["shop/db", "default/none"] }, at(1)],
    [{ namespace: "shop" }, at(1)],
    [{ pod: "default/web-a" }, at(3, 5)],
    [{ backendNode: "node2" }, at(0, 4)],
    [{ backendNode: "node2", path: "packet", client: parsePrefix("192.168.1.2/32")! }, at(0)],
  ])("of %j are those", (filter, expected) => {
    expect(list(filter)).toEqual({ shown: expected, matched: expected.length });
  });

  it("of a pod or a Node that nobody knows are an error", () => {
    const of = (filter: Partial<FlowFilter>) => () => list(filter);
    expect(of({ pod: "default/x" })).toThrow(/^could not find the pod default\/x: no endpoint is of it$/);
    expect(of({ pod: "default/wbe-a" })).toThrow("no endpoint is of it; did you mean default/web-a?");
    expect(of({ backendNode: "elsewhere" })).toThrow(/^could not find the node elsewhere: no endpoint is of it$/);
    expect(of({ backendNode: "ndoe2" })).toThrow("no endpoint is of it; did you mean node2?");
    expect(of({ backendNode: "spare4" })).toThrow("no endpoint is of it; did you mean spare3?");
  });

  it("of a Node that has no endpoint are none", () => {
    expect(list({ backendNode: "spare3" })).toEqual({ shown: [], matched: 0 });
  });

  it("name the frontend that a socket asked for, its Service, and whether its backend is there still", () => {
    const views = [...flowViews({ dataplane: dataplaneOf([], SOCKETS), model, hz: HZ }, { limit: 0 })];
    expect(views.filter((one) => one !== undefined)[1]).toEqual({
      path: "socket",
      protocol: "TCP",
      client: "socket 7",
      frontend: "10.96.0.10:80",
      backend: "10.244.1.5:8080",
      sourceTranslation: "",
      service: "default/web:http",
      state: "pointed",
      table: "socket_peers",
    });
  });
});
