// Taking over the maps of the build before flows had a hook in their key (layout-without-hooks.saved is what it left in its state
// directory): what this build's programs look for is in the new maps before they are attached.
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { flowCheck, pathHook } from "../../../src/datapath/flow-check.ts";
import { readClocks } from "../../../src/datapath/flow-table.ts";
import {
  FINGERPRINT,
  FLOW,
  FLOW_PATH_VALUES,
  FLOW_STATE_VALUES,
  NEAR_FLAG_VALUES,
  RANGE_KIND_VALUES,
  readFlow,
  readServiceRange,
  readTuple,
  TUPLE,
  type Tuple,
  writeFlow,
  writeTuple,
} from "../../../src/datapath/layout.gen.ts";
import type { Layout } from "../../../src/datapath/layout.ts";
import { type Loaded, removePins } from "../../../src/datapath/load.ts";
import { backendOfFlow, backendSum, nearMix, nearSum } from "../../../src/datapath/near.ts";
import { addressBytes } from "../../../src/lib/address.ts";
import { type BpfMap, createMap } from "../../../src/libbpf/mod.ts";
import { describeKernel } from "../require-kernel.ts";
import { frame, objects, send, V4 } from "./conversation.ts";
import { loadDataplane, loadOnUse } from "./load-dataplane.ts";
import { openSocket } from "./raw-sockets.ts";
import { ACTION, createTestNode, type TestNode } from "./test-node.ts";

const saved = JSON.parse(fs.readFileSync(path.join(import.meta.dirname, "layout-without-hooks.saved"), "utf8")) as {
  readonly fingerprint: string;
  readonly layout: Layout;
};
const SIZES = { services: 64, frontends: 64, backends: 64, slots: 256, flows: 4096, openings: 4096 };
const { NEAR_FRONTEND, NEAR_NODE, NEAR_BACKEND } = NEAR_FLAG_VALUES;
/** Port 8080 as it lies in memory, read as a little-endian number. */
const RAW_8080 = 0x901f;
const HOP = {
  ifindex: 3,
  asked: 7,
  destinationMac: new Uint8Array(6),
  mtu: 1500,
  sourceMac: new Uint8Array(6),
  flags: 0,
  valid: 1,
};

interface OldFlow {
  readonly table: "openings" | "tcp_flows" | "udp_flows";
  readonly path: keyof typeof FLOW_PATH_VALUES;
  readonly client: readonly [string, number];
  readonly frontend: readonly [string, number];
  /** What the backend sees. */
  readonly source?: readonly [string, number];
  readonly backend: readonly [string, number];
}

const FLOWS: readonly OldFlow[] = [
  {
    table: "tcp_flows",
    path: "PATH_OUTSIDE_LOCAL",
    client: [V4.client, 40_000],
    frontend: [V4.lb, 80],
    backend: [V4.here, 8080],
  },
  {
    table: "tcp_flows",
    path: "PATH_OUTSIDE_REMOTE",
    client: [V4.client, 40_001],
    frontend: [V4.node, 30_080],
    source: [V4.node, 45_001],
    backend: [V4.there, 8080],
  },
  {
    table: "udp_flows",
    path: "PATH_POD",
    client: [V4.pod, 40_002],
    frontend: ["10.96.0.99", 53],
    backend: [V4.far, 5353],
  },
  {
    table: "openings",
    path: "PATH_HAIRPIN",
    client: [V4.here, 40_003],
    frontend: [V4.vip, 80],
    source: [V4.bridge, 45_002],
    backend: [V4.here, 8080],
  },
  {
    table: "tcp_flows",
    path: "PATH_PORT_CHANGE",
    client: [V4.node, 45_001],
    frontend: [V4.there, 9090],
    source: [V4.node, 45_003],
    backend: [V4.there, 9090],
  },
];

/** Key and value of both entries, as the old programs wrote them: no hooks, and a check word that knows of none. */
function entriesOf(flow: OldFlow, seen: number): { readonly key: Uint8Array; readonly value: Uint8Array }[] {
  const proto = flow.table === "udp_flows" ? 17 : 6;
  const tuple = (source: readonly [string, number], destination: readonly [string, number]): Tuple => ({
    source: source[0],
    sourcePort: source[1],
    destination: destination[0],
    destinationPort: destination[1],
    proto,
    hook: 0,
  });
  const source = flow.source ?? flow.client;
  return [false, true].map((answer) => {
    const key = new Uint8Array(TUPLE.size);
    const value = new Uint8Array(FLOW.size);
    writeTuple(key, 0, answer ? tuple(flow.backend, source) : tuple(flow.client, flow.frontend));
    writeFlow(value, 0, {
      write: answer ? tuple(flow.frontend, flow.client) : tuple(source, flow.backend),
      backend: 1,
      generation: 1,
      service: 1,
      check: 0,
      seen,
      state: FLOW_STATE_VALUES.STATE_ANSWERED,
      number: 0,
      path: FLOW_PATH_VALUES[flow.path],
      answer: answer ? 1 : 0,
      hop: HOP,
      hopCheck: 0,
      policy: 0,
    });
    const view = new DataView(value.buffer);
    view.setUint32(FLOW.check, flowCheck(new DataView(key.buffer), 0, view, 0), true);
    return { key, value };
  });
}

describeKernel("maps of a layout without hooks", () => {
  let from: TestNode;
  let pinDir: string;
  let stateDir: string;
  let loaded: Loaded;
  const old = new Map<string, BpfMap>();
  const seen = (): number => readClocks(from.dataplane).jiffies;

  beforeAll(async () => {
    // Where the old build's rows come from: their structs are this build's.
    from = createTestNode(1);
    await from.feed(objects(["here", "there"]));
    stateDir = fs.mkdtempSync(path.join(os.tmpdir(), `millrace-copy-${process.pid.toString(36)}-`));
    pinDir = `/sys/fs/bpf/${path.basename(stateDir)}`;
    fs.mkdirSync(path.join(stateDir, "layouts"));
    fs.writeFileSync(path.join(stateDir, "layouts", `${saved.fingerprint}.json`), JSON.stringify(saved));
    const directory = path.join(pinDir, `maps-${saved.fingerprint}`);
    fs.mkdirSync(directory, { recursive: true });
    for (const { name, type, keySize, valueSize, flags } of Object.values(saved.layout.maps)) {
      const successor = from.dataplane.map(name);
      const maxEntries = name === "service_ranges" ? 8 : name === "verdicts" ? 64 : successor.maxEntries;
      const map = createMap({ name, type: type as BpfMap["type"] & "hash", keySize, valueSize, maxEntries, flags });
      map.pin(path.join(directory, name));
      old.set(name, map);
      if (["frontends", "addresses", "retired"].includes(name)) {
        const rows = successor.readAll();
        map.updateBatch(rows.keys, rows.values, rows.count);
      }
      if (["rows", "slots", "backends"].includes(name))
        new Uint8Array(map.mmap(true)).set(new Uint8Array(successor.mmap(true)));
      if (name === "met_backends") new BigUint64Array(map.mmap(true)).fill(1n);
    }
    const settings = new DataView(old.get("settings")!.mmap(true));
    const offset = (name: string): number =>
      saved.layout.structs["settings"]!.fields.find((field) => field.name === name)!.offset;
    settings.setUint32(offset("hz"), 250, true);
    settings.setUint32(offset("tables_full"), 3, true);
    settings.setUint32(offset("tunnel"), 42, true);
    const ranges = new Uint8Array(old.get("service_ranges")!.mmap(true));
    ranges.set(addressBytes("10.96.0.0"), 0);
    ranges.set(new Uint8Array(13).fill(255), 16);
    ranges[32] = 1;
    for (const flow of FLOWS) putOld(flow);
    const { key, value } = entriesOf({ ...FLOWS[0]!, client: [V4.client, 40_009] }, seen())[0]!;
    value[FLOW.path] = FLOW_PATH_VALUES.PATH_NONE;
    old.get("tcp_flows")!.update(key, value);
    loaded = loadOnUse({ pinDir, stateDir, mapSizes: SIZES, l3: false, xdp: false });
  });
  afterAll(() => {
    loaded?.close();
    for (const map of old.values()) map.close();
    removePins(pinDir);
    fs.rmSync(stateDir, { recursive: true, force: true });
    from?.[Symbol.dispose]();
  });

  function putOld(flow: OldFlow): void {
    for (const { key, value } of entriesOf(flow, seen())) old.get(flow.table)!.update(key, value);
  }

  /** Of the address, and whether a backend is at its port, as it lies in memory read as a little-endian number. */
  const flagsOf = (address: string, rawPort = RAW_8080): number => {
    const bits = new BigUint64Array(loaded.dataplane.map("near").mmap(true));
    const sum = nearSum(new DataView(addressBytes(address).buffer), 0);
    const flags = (of: number): number => {
      const bucket = nearMix(of) >>> 13;
      return Number((bits[bucket >> 4]! >> BigInt((bucket & 15) * 4)) & 15n);
    };
    return (flags(sum) & ~NEAR_BACKEND) | (flags(backendSum(sum, rawPort)) & NEAR_BACKEND);
  };
  const hasTcpPort = (port: number): boolean => {
    const words = new BigUint64Array(loaded.dataplane.map("near").mmap(true));
    return ((words[32_768 + (port >> 6)]! >> BigInt(port & 63)) & 1n) === 1n;
  };

  function expectCopied(flow: OldFlow): void {
    const map = loaded.dataplane.map(flow.table);
    for (const { key, value } of entriesOf(flow, 0)) {
      const answer = value[FLOW.answer] !== 0;
      const path = FLOW_PATH_VALUES[flow.path];
      key[TUPLE.hook] = pathHook(path, answer);
      const found = map.lookup(key);
      expect(found, `${flow.path} ${answer ? "answer" : "request"}`).toBeDefined();
      const copy = readFlow(found!);
      expect(copy.write).toEqual({ ...readTuple(value, FLOW.write), hook: pathHook(path, !answer) });
      const views = [new DataView(key.buffer), new DataView(found!.buffer)] as const;
      expect(copy.check).toBe(flowCheck(views[0], 0, views[1], 0));
      // The partner is found by what this entry writes.
      const { met } = backendOfFlow(views[0], 0, views[1], 0);
      expect(loaded.dataplane.metBackends[met]).toBeGreaterThan(2n ** 32n - 300_000n);
    }
  }

  it("give their flows, with the hooks of their paths and check words to match", () => {
    expect(loaded).toMatchObject({ adopted: true, replacesLayout: true, copiedFlows: 2 * FLOWS.length });
    for (const flow of FLOWS) expectCopied(flow);
    const counts = ["openings", "tcp_flows", "udp_flows"].map((name) => loaded.dataplane.map(name).countRows());
    expect(counts).toEqual([2, 6, 2]);
  });

  it("give no marks but those of the flows' backends: theirs had another hash", () => {
    const marks = [...loaded.dataplane.metBackends].filter((word) => word !== 0n);
    const kinds = FLOWS.map(
      ({ table, backend, path }) => `${table === "udp_flows"} ${backend} ${pathHook(FLOW_PATH_VALUES[path], true)}`,
    );
    expect(marks.length).toBe(new Set(kinds).size);
  });

  it("give the filter every frontend, address and backend, and what flows alone still know", () => {
    expect(flagsOf(V4.vip) & NEAR_FRONTEND).toBe(NEAR_FRONTEND);
    expect(flagsOf(V4.lb) & NEAR_FRONTEND).toBe(NEAR_FRONTEND);
    expect(flagsOf(V4.node) & NEAR_NODE).toBe(NEAR_NODE);
    expect(flagsOf(V4.here) & NEAR_BACKEND).toBe(NEAR_BACKEND);
    expect(hasTcpPort(30_080)).toBe(true);
    expect(hasTcpPort(30_081)).toBe(false);
    expect(flagsOf("10.96.0.99") & NEAR_FRONTEND, "a frontend that is gone").toBe(NEAR_FRONTEND);
    expect(flagsOf(V4.far, 0xe914) & NEAR_BACKEND, "a backend that is gone").toBe(NEAR_BACKEND);
    expect(flagsOf(V4.there) & NEAR_FRONTEND, "a backend is no frontend").toBe(0);
  });

  it("give their rows with their kinds, which were words of their own", () => {
    const kindsOf = ({ dataplane }: Pick<TestNode, "dataplane">): string[] =>
      [...dataplane.readState().rows.values()].map(({ key, kind }) => `${key.address} ${key.port} ${kind}`).sort();
    expect(kindsOf(loaded)).toEqual(kindsOf(from));
  });

  it("give their ranges and settings by name, and refuse nothing on account of old words", () => {
    const ranges = new Uint8Array(loaded.dataplane.map("service_ranges").mmap(true));
    const kinds = [0, 1].map((i) => Number(readServiceRange(ranges, i * 40).kind));
    expect(kinds).toEqual([RANGE_KIND_VALUES.RANGE_SERVICES, RANGE_KIND_VALUES.RANGE_END]);
    expect(loaded.dataplane.readSettings()).toMatchObject({
      hz: 250,
      tunnel: 42,
      bypass: 0n,
      tcpFullUntil: 0n,
      udpFullUntil: 0n,
      crowdedUntil: 0n,
    });
  });

  it("are caught up with: flows that the old programs opened meanwhile, and those that ended", () => {
    const late: OldFlow = { ...FLOWS[0]!, client: [V4.client, 41_000], frontend: ["10.96.0.98", 80] };
    putOld(late);
    for (const { key, value } of entriesOf(FLOWS[0]!, seen())) {
      new DataView(value.buffer).setUint32(FLOW.state, FLOW_STATE_VALUES.STATE_FIN_CLIENT, true);
      old.get("tcp_flows")!.update(key, value);
    }
    loaded.catchUp();
    expectCopied(late);
    expect(flagsOf("10.96.0.98") & NEAR_FRONTEND).toBe(NEAR_FRONTEND);
    const { key } = entriesOf(FLOWS[0]!, 0)[0]!;
    key[TUPLE.hook] = pathHook(FLOW_PATH_VALUES[FLOWS[0]!.path], false);
    const { state } = readFlow(loaded.dataplane.map("tcp_flows").lookup(key)!);
    expect(state & FLOW_STATE_VALUES.STATE_FIN_CLIENT).not.toBe(0);
  });

  it("go when the links are switched", () => {
    loaded.removeOldLayouts();
    expect(fs.readdirSync(pinDir).filter((name) => name.includes(saved.fingerprint))).toEqual([]);
  });
});

/** Loads this build once more, as if the one whose programs the node runs had had another layout. */
function loadOver(node: TestNode, load: typeof loadDataplane = loadOnUse): Loaded {
  const other = "0123456789abcdef";
  fs.renameSync(path.join(node.pinDir, `maps-${FINGERPRINT}`), path.join(node.pinDir, `maps-${other}`));
  const layouts = path.join(node.stateDir, "layouts");
  fs.renameSync(path.join(layouts, `${FINGERPRINT}.json`), path.join(layouts, `${other}.json`));
  return load({
    ...{ pinDir: node.pinDir, stateDir: node.stateDir, mapSizes: SIZES, l3: false, xdp: false },
  });
}

describeKernel("programs of another layout that are to open no flow any more", () => {
  it("go on with the flows that they know, and pass, drop and refuse nothing else, so that this build's do", async () => {
    using node = createTestNode(1);
    await node.feed(objects(["there"]));
    const request = (port: number, to: string = V4.node, toPort = 30_053): Uint8Array =>
      frame().ip(V4.client, to).payload(8).udp(port, toPort).bytes();
    const verdictOf = (data: Uint8Array): string => node.run("tc_uplink_ingress", data).verdict;
    const refused = [request(5000, V4.vip, 54), request(5000, "10.96.0.77")];
    expect(verdictOf(request(5000))).toBe("VERDICT_FORWARD");
    const before = refused.map(verdictOf);
    const loaded = loadOver(node);
    try {
      loaded.stopOpening();
      expect(verdictOf(request(5000)), "a flow that was open").toBe("VERDICT_FORWARD");
      expect(before).toEqual(["VERDICT_REFUSE", "DROP_FREE_SERVICE_ADDRESS"]);
      for (const data of [request(5001), ...refused])
        expect(node.run("tc_uplink_ingress", data).action).toBe(ACTION.next);
      expect(node.flowTexts()).toHaveLength(2);
      loaded.catchUp();
      expect(loaded.dataplane.map("openings").countRows(), "in the new maps").toBe(2);
      expect(loaded.dataplane.readState().frontends.length, "in the new maps").toBeGreaterThan(5);
    } finally {
      loaded.dataplane.close();
    }
  });
});

describeKernel("maps of another layout", () => {
  it("leave to sockets what lies with them, where their storage is the same: it is found as before, by programs that are loaded later too", async () => {
    using node = createTestNode(1);
    using socket = openSocket("UDP");
    const key = new Uint8Array(Int32Array.of(socket.fd).buffer);
    const value = new Uint8Array(node.dataplane.map("socket_backends").valueSize).fill(7);
    node.dataplane.map("socket_backends").update(key, value);
    const loaded = loadOver(node, loadDataplane);
    try {
      expect(loaded.replacesLayout).toBe(true);
      await loaded.loadL3();
      expect(loaded.dataplane.program("tc_uplink_in_l3").id).toBeGreaterThan(0);
      loaded.removeOldLayouts();
      expect(loaded.dataplane.map("socket_backends").lookup(key)).toEqual(value);
    } finally {
      loaded.dataplane.close();
    }
  });

  it("give what is announced once: a row that this build takes out does not come back", async () => {
    using node = createTestNode(1);
    const before = node.dataplane.map("announced");
    const key = new Uint8Array(before.keySize).fill(1);
    before.update(key, new Uint8Array(before.valueSize));
    const loaded = loadOver(node);
    try {
      const announced = loaded.dataplane.map("announced");
      expect(announced.delete(key)).toBe(true);
      loaded.catchUp();
      expect(announced.countRows()).toBe(0);
    } finally {
      loaded.dataplane.close();
    }
  });

  it("give what each client keeps: it reaches the same backend, with the time that it has left", async () => {
    using node = createTestNode(1);
    await node.feed(objects(["here", "hereToo"], { affinitySeconds: 60 }));
    for (const client of [V4.client, V4.otherClient]) {
      const sent = send(frame(), "TCP", { address: client, port: 40_000 }, { address: V4.lb, port: 80 });
      node.run("tc_uplink_ingress", sent);
    }
    const kept = (dataplane: TestNode["dataplane"]): string[] =>
      [...dataplane.map("affinity").entries()].map((entry) => JSON.stringify(entry)).sort();
    const before = kept(node.dataplane);
    expect(before).toHaveLength(2);
    const { dataplane } = loadOver(node);
    try {
      expect(kept(dataplane)).toEqual(before);
    } finally {
      dataplane.close();
    }
  });
});
