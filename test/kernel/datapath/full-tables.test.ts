// A flow table that fills: whom the sweep gives up, whom it refuses and for how long, and that marks and bits follow. The flows are
// put into the tables by hand, as many as it takes.
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { sealFlow } from "../../../src/datapath/flow-check.ts";
import { REFUSAL_SECONDS, roomOf, SWEEP_RATE } from "../../../src/datapath/flow-fullness.ts";
import { type SweepResult, sweepFlows } from "../../../src/datapath/flow-sweep.ts";
import { readClocks } from "../../../src/datapath/flow-table.ts";
import {
  FLOW,
  FLOW_PATH_VALUES,
  FLOW_STATE_VALUES,
  TUPLE,
  writeFlow,
  writeTuple,
} from "../../../src/datapath/layout.gen.ts";
import { backendOfFlow } from "../../../src/datapath/near.ts";
import { readAddress } from "../../../src/lib/address.ts";
import { possibleCpus } from "../../../src/libbpf/mod.ts";
import { NO_HOP } from "../../datapath/no-hop.ts";
import { describeKernel } from "../require-kernel.ts";
import { objects } from "./conversation.ts";
import { createTestNode, type TestNode } from "./test-node.ts";

const HZ = 1000;
const FLOWS = 32_768;

interface Some {
  readonly client?: (i: number) => string;
  readonly idleSeconds?: number;
  readonly state?: number;
  readonly path?: number;
  /** Tells flows apart. @default 0 */
  readonly from?: number;
}

describeKernel("a flow table that fills", () => {
  let node: TestNode;
  /** A backend that serves. */
  let backend: { readonly index: number; readonly generation: number };
  beforeAll(async () => {
    node = createTestNode(1, { flows: FLOWS });
    await node.feed(objects(["here"]));
    const [index, { generation }] = [...node.dataplane.readState().backends][0]!;
    backend = { index, generation };
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => removeSome(1));

  /** So much of the TCP table. */
  function removeSome(part: number): void {
    const map = node.dataplane.map("tcp_flows");
    const { keys, count } = map.readAll();
    map.deleteBatch(keys, Math.floor(count * part));
  }

  const room = (): number => roomOf(FLOWS, possibleCpus());

  /** So many flows of two entries each. */
  function put(count: number, some: Some = {}): void {
    const keys = new Uint8Array(2 * count * TUPLE.size);
    const values = new Uint8Array(2 * count * FLOW.size);
    const key = new DataView(keys.buffer);
    const value = new DataView(values.buffer);
    const seen = (readClocks(node.dataplane).jiffies - (some.idleSeconds ?? 0) * HZ) >>> 0;
    const client = some.client ?? ((i: number) => `203.${i >> 16}.${(i >> 8) & 255}.${i & 255}`);
    for (let i = 0; i < count; i++) {
      const number = i + (some.from ?? 0);
      const ends = { proto: 6, hook: 0 };
      const address = client(number);
      const port = 1024 + (number % 60_000);
      const request = { ...ends, source: address, sourcePort: port, destination: "10.96.0.1", destinationPort: 80 };
      const translated = { ...request, destination: "10.244.1.2", destinationPort: 8080 };
      const turned = (tuple: typeof request) => ({
        ...ends,
        source: tuple.destination,
        sourcePort: tuple.destinationPort,
        destination: tuple.source,
        destinationPort: tuple.sourcePort,
      });
      for (const answer of [0, 1]) {
        const at = 2 * i + answer;
        writeTuple(keys, at * TUPLE.size, answer ? turned(translated) : request);
        writeFlow(values, at * FLOW.size, {
          write: answer ? turned(request) : translated,
          backend: backend.index,
          generation: backend.generation,
          service: 1,
          check: 0,
          seen,
          state: some.state ?? FLOW_STATE_VALUES.STATE_ESTABLISHED,
          number: 0,
          path: some.path ?? FLOW_PATH_VALUES.PATH_OUTSIDE_LOCAL,
          answer,
          hop: NO_HOP,
          hopCheck: 0,
          policy: 0,
        });
        sealFlow(key, at * TUPLE.size, value, at * FLOW.size);
      }
    }
    node.dataplane.map("tcp_flows").updateBatch(keys, values, 2 * count);
  }

  const sweep = (earlier?: SweepResult): Promise<SweepResult> => sweepFlows(node.dataplane, HZ, undefined, earlier);
  const crowded = (): string[] =>
    [...node.dataplane.map("crowded_clients").entries()].map(([key]) => readAddress(key)).sort();
  const left = (): number => node.dataplane.map("tcp_flows").countRows();

  it("gives up nothing below 90 %", async () => {
    const flows = Math.floor((room() * 0.89) / 2);
    put(flows, { idleSeconds: 3600 });
    const result = await sweep();
    expect(result).toMatchObject({ removed: 0, givenUp: 0, nextMs: 1000, deadlines: { tcpFullUntil: 0n } });
    expect(left()).toBe(2 * flows);
  });

  it("is read at a bounded rate, and what is taken out is counted by table", async () => {
    const flows = Math.floor((room() * 0.89) / 2);
    put(flows);
    const began = performance.now();
    const result = await sweep();
    // A timer may come a little early.
    expect(performance.now() - began).toBeGreaterThan((2 * flows * 1000) / SWEEP_RATE - 5);
    expect(result.taken.tcp_flows).toEqual({ removed: 0, givenUp: 0 });
    put(10, { idleSeconds: 500_000, from: flows });
    expect((await sweep()).taken).toEqual({
      tcp_flows: { removed: 20, givenUp: 0 },
      udp_flows: { removed: 0, givenUp: 0 },
      openings: { removed: 0, givenUp: 0 },
    });
  });

  it("above, gives up the idlest, both entries of each, down to 85 %, and refuses nobody", async () => {
    const flows = Math.floor((room() * 0.96) / 2);
    const idle = 4000;
    put(flows - idle, { idleSeconds: 20 });
    put(idle, { idleSeconds: 3600, from: flows });
    const result = await sweep();
    const goal = Math.ceil(room() * 0.85);
    expect(result.removed).toBe(0);
    expect(result.entries.tcp_flows).toBe(left());
    expect(left()).toBeGreaterThan(goal - 4);
    expect(left()).toBeLessThanOrEqual(goal);
    expect(result.givenUp).toBe(2 * flows - left());
    expect(result.deadlines.tcpFullUntil).toBe(0n);
    const rest = await sweep(result);
    expect(rest).toMatchObject({ removed: 0, givenUp: 0 });
  });

  it.each([
    ["half closed", FLOW_STATE_VALUES.STATE_FIN_CLIENT],
    ["ended", FLOW_STATE_VALUES.STATE_RESET],
  ])("those that are %s go before idler ones", async (_, state) => {
    const flows = Math.floor((room() * 0.92) / 2);
    const over = 2000;
    put(flows - over, { idleSeconds: 3600 });
    put(over, { idleSeconds: 15, state: FLOW_STATE_VALUES.STATE_ESTABLISHED | state, from: flows });
    await sweep();
    const states = node.dataplane.map("tcp_flows");
    let overLeft = 0;
    for (const { values, count } of states.batches()) {
      const view = new DataView(values.buffer);
      for (let i = 0; i < count; i++) if (view.getUint32(i * FLOW.size + FLOW.state, true) & state) overLeft++;
    }
    expect(left()).toBeLessThanOrEqual(Math.ceil(room() * 0.85));
    expect(overLeft).toBeLessThan(2 * over);
    expect(2 * flows - left()).toBe(2 * over - overLeft);
  });

  it("of flows in use none is given up: new ones are refused for some seconds, unless the next sweep says so again", async () => {
    put(Math.floor((room() * 0.97) / 2));
    const result = await sweep();
    expect(result.givenUp).toBe(0);
    const inSeconds = Number(result.deadlines.tcpFullUntil - readClocks(node.dataplane).allJiffies) / HZ;
    expect(inSeconds).toBeGreaterThan(REFUSAL_SECONDS - 3);
    expect(inSeconds).toBeLessThanOrEqual(REFUSAL_SECONDS);
    expect(result.deadlines.udpFullUntil).toBe(0n);
    removeSome(0.1);
    expect((await sweep(result)).deadlines.tcpFullUntil).toBe(0n);
  });

  it("a client with more than its share is named while the table is above 80 %, and no longer", async () => {
    const many = 3000;
    put(Math.floor((room() * 0.81) / 2) - many);
    put(many, { client: () => "198.51.100.9" });
    const result = await sweep();
    expect(crowded()).toEqual(["198.51.100.9"]);
    expect(result.crowdedClients).toBe(1);
    const [[, value]] = [...node.dataplane.map("crowded_clients").entries()] as [[Uint8Array, Uint8Array]];
    expect(new DataView(value.buffer, value.byteOffset).getBigUint64(0, true)).toBe(result.deadlines.crowdedUntil);
    expect(result.deadlines.crowdedUntil).toBeGreaterThan(readClocks(node.dataplane).allJiffies);

    removeSome(0.1);
    const later = await sweep(result);
    expect(later.deadlines.crowdedUntil).toBe(0n);
    expect(crowded()).toEqual([]);
  });

  it("no one is named below 80 %, however much it holds, nor is the node itself", async () => {
    put(Math.floor((room() * 0.79) / 2), { client: () => "198.51.100.9" });
    expect((await sweep()).crowdedClients).toBe(0);
    put(Math.floor((room() * 0.82) / 2), {
      client: () => "192.168.122.11",
      path: FLOW_PATH_VALUES.PATH_PORT_CHANGE,
    });
    await sweep();
    expect(crowded()).not.toContain("192.168.122.11");
  });

  it("marks of backends without a flow go, those of flows stay", async () => {
    const words = node.dataplane.metBackends;
    const old = readClocks(node.dataplane).allJiffies - BigInt(10 * HZ);
    put(1);
    const { keys, values } = node.dataplane.map("tcp_flows").readAll();
    const { met } = backendOfFlow(new DataView(keys.buffer), 0, new DataView(values.buffer), 0);
    words.fill(0n);
    words[met] = old;
    words[(met + 1) % words.length] = old;
    words[(met + 2) % words.length] = old + BigInt(20 * HZ);
    await sweep();
    expect([0, 1, 2].map((i) => words[(met + i) % words.length])).toEqual([old, 0n, old + BigInt(20 * HZ)]);
    words.fill(0n);
  });
});
