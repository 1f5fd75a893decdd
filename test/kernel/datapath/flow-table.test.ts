// What the sweep takes out of the flow tables and what it leaves: by table, by state, by age.
import { setTimeout } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Dataplane } from "../../../src/datapath/dataplane.ts";
import { sweepFlows } from "../../../src/datapath/flow-sweep.ts";
import { readClocks, readHz } from "../../../src/datapath/flow-table.ts";
import { FLOW_TIMEOUTS } from "../../../src/datapath/flow-timeouts.ts";
import { FLOW_STATE_VALUES } from "../../../src/datapath/layout.gen.ts";
import { describeKernel } from "../require-kernel.ts";
import { again, answer, frame, objects, portsOf, send, V4 } from "./conversation.ts";
import { createTestNode, type FlowRow, type TestNode } from "./test-node.ts";

/** A number for the sweep to reckon with: jiffies pass at the kernel's own rate. */
const HZ = 1000;
const HOUR = 3600;
const {
  STATE_ANSWERED,
  STATE_FIN_CLIENT,
  STATE_FIN_BACKEND,
  STATE_RESET,
  STATE_CLIENT_WENT_ON,
  STATE_BACKEND_WENT_ON,
} = FLOW_STATE_VALUES;

type Table = FlowRow["table"];

describeKernel("the sweep of the flow tables", () => {
  let node: TestNode;
  beforeAll(async () => {
    node = createTestNode(1);
    await node.feed(objects(["here"]));
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => node.clearFlows());

  /** Two entries in this table, of a client at this port. */
  function talk(table: Table, port: number): void {
    const transport = table === "udp_flows" ? "UDP" : "TCP";
    const to = { address: V4.node, port: portsOf(transport).nodePort };
    const first = send(frame(), transport, { address: V4.client, port }, to);
    const { packet } = node.run("tc_uplink_ingress", first);
    if (table === "openings") return;
    node.run("tc_uplink_egress", answer(packet), { ingressIfindex: node.ifindex("cni0") });
    node.run("tc_uplink_ingress", again(first));
  }

  const ports = (table: Table): number[] =>
    node
      .flows()
      .filter((row) => row.table === table && row.flow.answer === 0)
      .map(({ key }) => key.sourcePort)
      .sort();
  const isOf = (row: FlowRow, port: number): boolean => row.key.sourcePort === port || row.key.destinationPort === port;

  /** Both entries of the client at this port were last seen so many jiffies before `now`. */
  function age(port: number, jiffies: number, state = 0, now = readClocks(node.dataplane).jiffies): void {
    const rows = node.flows().filter((row) => isOf(row, port));
    expect(rows).toHaveLength(2);
    for (const row of rows) node.putFlow(row, { seen: (now - jiffies) >>> 0, state: row.flow.state | state });
  }

  const BOTH_FINS = STATE_FIN_CLIENT | STATE_FIN_BACKEND;
  it.each([
    ["an established TCP flow", "tcp_flows", 0, 120 * HOUR],
    ["a TCP flow that the client ended", "tcp_flows", STATE_FIN_CLIENT, 120],
    ["a TCP flow that the backend ended", "tcp_flows", STATE_FIN_BACKEND, HOUR],
    ["a TCP flow that both sides ended", "tcp_flows", BOTH_FINS, 60],
    ["a TCP flow that was reset", "tcp_flows", STATE_RESET, 60],
    [
      "a TCP flow whose reset both sides ignored",
      "tcp_flows",
      STATE_RESET | STATE_CLIENT_WENT_ON | STATE_BACKEND_WENT_ON,
      120 * HOUR,
    ],
    ["a TCP flow whose reset one side ignored", "tcp_flows", STATE_RESET | STATE_CLIENT_WENT_ON, 60],
    ["a UDP flow", "udp_flows", 0, 120],
    ["an opening", "openings", 0, 120],
    ["an opening that was answered", "openings", STATE_ANSWERED, 60],
    ["an opening that was refused", "openings", STATE_RESET, 60],
  ] as const)("%s goes after its time and no sooner", async (_, table, state, seconds) => {
    talk(table, 40000);
    talk(table, 40001);
    age(40000, (seconds - 1) * HZ, state);
    const nothing = { tcp_flows: 0, udp_flows: 0, openings: 0 };
    expect(await sweepFlows(node.dataplane, HZ)).toMatchObject({ entries: { ...nothing, [table]: 4 }, removed: 0 });
    expect(ports(table)).toEqual([40000, 40001]);

    age(40000, (seconds + 1) * HZ, state);
    expect(await sweepFlows(node.dataplane, HZ)).toMatchObject({ entries: { ...nothing, [table]: 2 }, removed: 2 });
    expect(ports(table)).toEqual([40001]);
  });

  it("an established TCP flow that is idle for an hour stays, what else is so old goes", async () => {
    for (const [i, table] of (["tcp_flows", "udp_flows", "openings"] as const).entries()) {
      talk(table, 40000 + i);
      age(40000 + i, HOUR * HZ);
    }
    expect(await sweepFlows(node.dataplane, HZ)).toMatchObject({
      entries: { tcp_flows: 2, udp_flows: 0, openings: 0 },
      removed: 4,
    });
    expect(node.flows().map(({ table }) => table)).toEqual(["tcp_flows", "tcp_flows"]);
  });

  it("the times are as given", async () => {
    const timeouts = {
      tcpEstablishedSeconds: 10,
      tcpClientClosedSeconds: 15,
      tcpBackendClosedSeconds: 16,
      tcpEndedSeconds: 20,
      tcpRetiredSeconds: 25,
      udpSeconds: 30,
      tcpSynSentSeconds: 40,
      tcpSynReceivedSeconds: 35,
      udpUnansweredSeconds: 38,
      sctpSeconds: 50,
      sctpOpeningSeconds: 40,
    };
    for (const [table, state, seconds] of [
      ["tcp_flows", 0, 10],
      ["tcp_flows", STATE_FIN_CLIENT, 15],
      ["tcp_flows", STATE_FIN_BACKEND, 16],
      ["tcp_flows", STATE_RESET, 20],
      ["udp_flows", 0, 30],
      ["openings", 0, 40],
    ] as const) {
      talk(table, 40000);
      age(40000, (seconds - 1) * HZ, state);
      expect((await sweepFlows(node.dataplane, HZ, timeouts)).removed).toBe(0);
      age(40000, (seconds + 1) * HZ, state);
      expect((await sweepFlows(node.dataplane, HZ, timeouts)).removed).toBe(2);
    }
  });

  it("an entry that was seen after the sweep read the clock stays", async () => {
    for (const [i, table] of (["tcp_flows", "udp_flows", "openings"] as const).entries()) {
      talk(table, 40000 + i);
      age(40000 + i, -10 * HZ, table === "tcp_flows" ? STATE_RESET : 0);
    }
    expect((await sweepFlows(node.dataplane, HZ)).removed).toBe(0);
  });

  describe("where jiffies wrap", () => {
    /** The same tables, read by a clock that stands. */
    const at = (jiffies: number): Dataplane => {
      const data = new Uint8Array(64);
      new DataView(data.buffer).setBigUint64(0, BigInt(jiffies) + 2n ** 32n, true);
      return { ...node.dataplane, program: () => ({ testRun: () => ({ data }) }) } as unknown as Dataplane;
    };

    it.each([
      ["on the way to it", 0xffffffff],
      ["at it", 0],
      ["half a minute after it", 30 * HZ],
    ])("an entry's age is right: %s", async (_, now) => {
      talk("openings", 40000);
      talk("openings", 40001);
      age(40000, 120 * HZ, 0, now);
      // Another CPU's clock was ahead by a jiffy.
      age(40001, -1, 0, now);
      expect((await sweepFlows(at(now), HZ)).removed).toBe(0);
      age(40000, 120 * HZ + 1, 0, now);
      expect((await sweepFlows(at(now), HZ)).removed).toBe(2);
      expect(ports("openings")).toEqual([40001]);
    });
  });

  it("the kernel's clocks are its jiffies and the monotonic one, and tell its rate", async () => {
    const before = process.hrtime.bigint();
    const first = readClocks(node.dataplane);
    expect(first.monotonicNs).toBeGreaterThanOrEqual(before);
    expect(first.monotonicNs).toBeLessThanOrEqual(process.hrtime.bigint());
    expect(first.jiffies).toBe(Number(BigInt.asUintN(32, first.allJiffies)));
    await setTimeout(1000);
    const second = readClocks(node.dataplane);
    const seconds = Number(second.monotonicNs - first.monotonicNs) / 1e9;
    const counted = Number(second.allJiffies - first.allJiffies) / seconds;
    const hz = readHz(node.dataplane);
    expect(Math.abs(counted - hz)).toBeLessThan(hz * 0.08);
  });

  it("a TCP flow whose backend was retired goes two hours and five minutes after its last packet", async () => {
    const seconds = FLOW_TIMEOUTS.tcpRetiredSeconds;
    talk("tcp_flows", 40000);
    talk("tcp_flows", 40001);
    await node.feed(objects(["hereToo"]));
    try {
      age(40000, (seconds - 1) * HZ);
      expect((await sweepFlows(node.dataplane, HZ)).removed).toBe(0);
      age(40000, (seconds + 1) * HZ);
      expect((await sweepFlows(node.dataplane, HZ)).removed).toBe(2);
      expect(ports("tcp_flows")).toEqual([40001]);
    } finally {
      await node.feed(objects(["here"]));
    }
  });

  it("one whose backend serves is not taken for such", async () => {
    talk("tcp_flows", 40000);
    age(40000, 10 * HOUR * HZ);
    expect((await sweepFlows(node.dataplane, HZ)).removed).toBe(0);
  });
});
