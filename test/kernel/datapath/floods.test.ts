// Many first packets from random sources: established flows and handshakes under way do not notice. MILLRACE_FLOOD is how many
// packets of each protocol a flood has (`make flood`: two million).
import { afterAll, beforeAll, expect, it } from "vitest";
import { sweepFlows } from "../../../src/datapath/flow-sweep.ts";
import { FLOW_TIMEOUTS } from "../../../src/datapath/flow-timeouts.ts";
import { createRandom } from "../../model/random.ts";
import { IS_THIN, tellLeftOut } from "../kernel-lacks.ts";
import { describeKernel } from "../require-kernel.ts";
import { frame, objects, V4 } from "./conversation.ts";
import { type Parsed, packet, parsePacket } from "./packet.ts";
import { createTestNode, HZ, macOf, type Program, type TestNode } from "./test-node.ts";

const FULL = process.env["MILLRACE_FLOOD"] !== undefined;
const USUAL = 30_000;
const FLOOD = Number(process.env["MILLRACE_FLOOD"] ?? (IS_THIN ? USUAL / 5 : USUAL));
const BETWEEN = IS_THIN ? 4_000 : 20_000;
const FLOWS = 1_000;
/** Offset of the source address and port in a frame of IPv4. */
const SOURCE = 26;
const SOURCE_PORT = 34;

interface Sent {
  readonly packet: Parsed;
  readonly bytes: Uint8Array;
}

/** Runs packets without a look at counters between two of them. */
function runner(node: TestNode) {
  const context = new Uint8Array(192);
  new DataView(context.buffer).setUint32(40, node.ifindex("up0"), true);
  const send = (program: Program, data: Uint8Array): Uint8Array =>
    node.dataplane.program(program).testRun({ data, context }).data;
  return {
    all(program: Program, packets: readonly Uint8Array[]): readonly Sent[] {
      return node.namespace.inside(() =>
        packets.map((data) => {
          const bytes = send(program, data).slice();
          return { bytes, packet: parsePacket(bytes) };
        }),
      );
    },
    /** So many copies from sources that the seed tells, none of them in the cluster. */
    flood(first: Uint8Array, count: number, seed: number): void {
      const random = createRandom(seed);
      const data = first.slice();
      node.namespace.inside(() => {
        for (let i = 0; i < count; i++) {
          const source = random.below(2 ** 32);
          data[SOURCE] = 11 + (source >>> 30);
          data[SOURCE + 1] = source >>> 16;
          data[SOURCE + 2] = source >>> 8;
          data[SOURCE + 3] = source;
          data[SOURCE_PORT] = 4 + random.below(250);
          data[SOURCE_PORT + 1] = random.below(256);
          send("tc_uplink_ingress", data);
        }
      });
    },
  };
}

const syn = (port: number): Uint8Array =>
  frame().ip(V4.client, V4.lb).payload(0).tcp(port, 80, { flags: "S", seq: 1000 }).bytes();
const datagram = (port: number): Uint8Array => frame().ip(V4.client, V4.lb).payload(12).udp(port, 53).bytes();
const ports = Array.from({ length: FLOWS }, (_, i) => 1024 + i);

/** Of the backend to what it saw: from here by the uplink's egress, from another node by its ingress. */
function answer({ packet: seen }: Sent, fields?: { flags: string; seq: number; ack: number }): Uint8Array {
  const isHere = seen.destination === V4.here;
  const start = (isHere ? packet().eth(macOf("lan", 11), macOf("lan", 51)) : frame(macOf("lan", 12))).ip(
    seen.destination,
    seen.source,
    { ttl: 63 },
  );
  return fields === undefined
    ? start.payload(12).udp(seen.destinationPort, seen.sourcePort).bytes()
    : start.payload(0).tcp(seen.destinationPort, seen.sourcePort, fields).bytes();
}

for (const [where, place, back] of [
  ["on this node", "here", "tc_uplink_egress"],
  ["on another node", "there", "tc_uplink_ingress"],
] as const) {
  describeKernel(`a flood toward a backend ${where}`, () => {
    let node: TestNode;
    let run: ReturnType<typeof runner>;
    beforeAll(async () => {
      node = createTestNode(1, { flows: 16_384, openings: 262_144 });
      await node.feed(objects([place]));
      // By count, not by time: a slow machine would let openings grow stale, which gives their ports up.
      node.settings({ snatFirst: 49_152, snatCount: 16_384, hz: 1_000_000 });
      run = runner(node);
    });
    afterAll(() => node?.[Symbol.dispose]());

    it(`of ${BETWEEN.toLocaleString("en")} SYNs between SYN and SYN-ACK, and again before the ACK, fails none of 1,000 handshakes`, () => {
      node.clearFlows();
      const opened = run.all("tc_uplink_ingress", ports.map(syn));
      run.flood(syn(1), BETWEEN, 1);
      const answers = opened.map((sent) => answer(sent, { flags: "SA", seq: 5000, ack: 1001 }));
      for (const { packet: seen } of run.all(back, answers)) {
        expect([seen.source, seen.sourcePort, seen.destination]).toEqual([V4.lb, 80, V4.client]);
      }
      run.flood(syn(1), BETWEEN, 2);
      const acks = ports.map((port) =>
        frame().ip(V4.client, V4.lb).payload(0).tcp(port, 80, { flags: "A", seq: 1001, ack: 5001 }).bytes(),
      );
      const done = run.all("tc_uplink_ingress", acks);
      expect(done.map(({ packet: { sourcePort } }) => sourcePort)).toEqual(
        opened.map(({ packet: { sourcePort } }) => sourcePort),
      );
      expect(node.dataplane.map("tcp_flows").countRows()).toBe(2 * FLOWS);
    });
  });
}

describeKernel("a flood of SYNs and of UDP packets", () => {
  let node: TestNode;
  let run: ReturnType<typeof runner>;
  beforeAll(async () => {
    node = createTestNode(1, { flows: 16_384, openings: FULL ? 262_144 : IS_THIN ? 4_096 : 16_384 });
    await node.feed(objects(["here"]));
    run = runner(node);
  });
  afterAll(() => node?.[Symbol.dispose]());

  if (FLOOD < USUAL && IS_THIN) tellLeftOut(2 * (USUAL - FLOOD), "packets of a flood");
  it("larger than its table ends none of 1,000 established flows of each protocol", { timeout: 900_000 }, () => {
    const opened = run.all("tc_uplink_ingress", ports.map(syn));
    run.all(
      "tc_uplink_egress",
      opened.map((sent) => answer(sent, { flags: "SA", seq: 5000, ack: 1001 })),
    );
    const acks = ports.map((port) =>
      frame().ip(V4.client, V4.lb).payload(0).tcp(port, 80, { flags: "A", seq: 1001, ack: 5001 }).bytes(),
    );
    run.all("tc_uplink_ingress", acks);
    const asked = run.all("tc_uplink_ingress", ports.map(datagram));
    run.all(
      "tc_uplink_egress",
      asked.map((sent) => answer(sent)),
    );
    run.all("tc_uplink_ingress", ports.map(datagram));
    const counts = (): number[] =>
      (["tcp_flows", "udp_flows"] as const).map((table) => node.dataplane.map(table).countRows());
    expect(counts()).toEqual([2 * FLOWS, 2 * FLOWS]);

    run.flood(syn(1), FLOOD, 3);
    run.flood(datagram(1), FLOOD, 4);
    expect(counts()).toEqual([2 * FLOWS, 2 * FLOWS]);
    for (const { packet: seen } of run.all("tc_uplink_ingress", [...acks, ...ports.map(datagram)])) {
      expect(seen.destination).toBe(V4.here);
    }
    const answers = [
      ...opened.map((sent) => answer(sent, { flags: "A", seq: 5001, ack: 1001 })),
      ...asked.map((sent) => answer(sent)),
    ];
    const heard = run.all("tc_uplink_egress", answers);
    expect(heard.filter(({ packet: { source } }) => source !== V4.lb)).toEqual([]);
    expect(node.dataplane.map("openings").countRows()).toBeGreaterThan(0);
  });
});

describeKernel("source ports toward one backend", () => {
  const PORTS = IS_THIN ? 2_048 : 16_384;
  let node: TestNode;
  let run: ReturnType<typeof runner>;
  beforeAll(async () => {
    node = createTestNode(1, { openings: 65_536 });
    await node.feed(objects(["there"]));
    node.settings({ snatFirst: 49_152, snatCount: PORTS, hz: 1_000_000 });
    run = runner(node);
  });
  afterAll(() => node?.[Symbol.dispose]());

  const refused = (): number => node.verdicts().get("UPLINK_INGRESS DROP_NO_SOURCE_PORT") ?? 0;
  const opened = (): number => node.dataplane.map("openings").countRows() / 2;

  it("that are used up are counted, named and refused, and come back when flows end", async () => {
    const [step, few] = [PORTS >> 6, PORTS >> 3];
    // Each from an address of its own, so that the ports of clients say nothing.
    let before = 0;
    for (let asked = 0; refused() === 0; asked = opened()) {
      before = asked;
      run.flood(syn(1), step, 100 + asked);
    }
    expect(before).toBeGreaterThan(0.7 * PORTS);
    run.flood(syn(1), PORTS - opened(), 7);
    const fit = opened();
    if (FULL) process.stdout.write(`of ${PORTS} ports ${before} were found before the first refusal, ${fit} in all\n`);
    expect(fit).toBeGreaterThan(0.93 * PORTS);
    expect(opened()).toBeLessThanOrEqual(PORTS);
    const entries = node.dataplane.map("openings").countRows();
    const dropped = refused();
    run.flood(syn(1), few, 8);
    expect(refused() - dropped).toBeGreaterThan(0);
    expect(node.dataplane.map("openings").countRows() - entries).toBeLessThan(2 * few);

    node.settings({ hz: HZ });
    const { scarcePorts } = await sweepFlows(node.dataplane, 1_000_000);
    expect(scarcePorts).toMatchObject([{ address: V4.there, port: 8080, protocol: "TCP", used: opened() }]);

    const over = { ...FLOW_TIMEOUTS, tcpSynSentSeconds: 0 };
    await sweepFlows(node.dataplane, HZ, over);
    expect((await sweepFlows(node.dataplane, HZ)).scarcePorts).toEqual([]);
    const last = refused();
    run.flood(syn(1), few, 9);
    expect(refused()).toBe(last);
  });
});
