// Many first packets from random sources: established flows and handshakes under way do not notice. MILLRACE_FLOOD is how many
// packets of each protocol a flood has (`make flood`: two million).
import { afterAll, beforeAll, expect, it } from "vitest";
import { sweepFlows } from "../../../src/datapath/flow-sweep.ts";
import { FLOW_TIMEOUTS } from "../../../src/datapath/flow-timeouts.ts";
import { createRandom } from "../../model/random.ts";
import { IS_THIN, tellLeftOut } from "../kernel-lacks.ts";
import { describeKernel } from "../require-kernel.ts";
import { FAMILIES, type Family, frame, objects, V4 } from "./conversation.ts";
import { type PacketBuilder, type Parsed, packet, parsePacket } from "./packet.ts";
import { createTestNode, HZ, macOf, type Program, type TestNode } from "./test-node.ts";

const FULL = process.env["MILLRACE_FLOOD"] !== undefined;
/** Of each family. */
const USUAL = 18_000;
const FLOOD = Number(process.env["MILLRACE_FLOOD"] ?? (IS_THIN ? USUAL / 6 : USUAL));
const BETWEEN = IS_THIN ? 2_000 : 10_000;
const FLOWS = 1_000;
const ETHERNET = 14;
/** Of the source address in an IP header. */
const SOURCE = { IPv4: 12, IPv6: 8 } as const;
const FAMILY_ROWS = FAMILIES.map((family) => [family.name, family] as const);

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
    flood({ name, header }: Family, first: Uint8Array, count: number, seed: number): void {
      const random = createRandom(seed);
      const data = first.slice();
      const at = ETHERNET + SOURCE[name];
      const port = ETHERNET + header;
      // Of IPv6 the first two bytes stay: each source has a network of its own.
      const from = name === "IPv4" ? at : at + 2;
      node.namespace.inside(() => {
        for (let i = 0; i < count; i++) {
          const source = random.below(2 ** 32);
          data[from] = 11 + (source >>> 30);
          data[from + 1] = source >>> 16;
          data[from + 2] = source >>> 8;
          data[from + 3] = source;
          data[port] = 4 + random.below(250);
          data[port + 1] = random.below(256);
          send("tc_uplink_ingress", data);
        }
      });
    },
  };
}

const ports = Array.from({ length: FLOWS }, (_, i) => 1024 + i);

/** Packets of clients of the family. */
function clientsOf(family: Family) {
  const start = (): PacketBuilder => frame().ip(family.client, family.lb);
  return {
    syn: (port: number): Uint8Array => start().payload(0).tcp(port, 80, { flags: "S", seq: 1000 }).bytes(),
    ack: (port: number): Uint8Array => start().payload(0).tcp(port, 80, { flags: "A", seq: 1001, ack: 5001 }).bytes(),
    datagram: (port: number): Uint8Array => start().payload(12).udp(port, 53).bytes(),
  };
}

/** Of the backend to what it saw: from here by the uplink's egress, from another node by its ingress. */
function answer({ packet: seen }: Sent, fields?: { flags: string; seq: number; ack: number }): Uint8Array {
  const isHere = FAMILIES.some(({ here }) => here === seen.destination);
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

    it.each(FAMILY_ROWS)(
      `%s: of ${BETWEEN.toLocaleString("en")} SYNs between SYN and SYN-ACK, and again before the ACK, fails none of 1,000 handshakes`,
      (_, family) => {
        const { syn, ack } = clientsOf(family);
        node.clearFlows();
        const opened = run.all("tc_uplink_ingress", ports.map(syn));
        run.flood(family, syn(1), BETWEEN, 1);
        const answers = opened.map((sent) => answer(sent, { flags: "SA", seq: 5000, ack: 1001 }));
        for (const { packet: seen } of run.all(back, answers)) {
          expect([seen.source, seen.sourcePort, seen.destination]).toEqual([family.lb, 80, family.client]);
        }
        run.flood(family, syn(1), BETWEEN, 2);
        const done = run.all("tc_uplink_ingress", ports.map(ack));
        expect(done.map(({ packet: { sourcePort } }) => sourcePort)).toEqual(
          opened.map(({ packet: { sourcePort } }) => sourcePort),
        );
        expect(node.dataplane.map("tcp_flows").countRows()).toBe(2 * FLOWS);
      },
    );
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

  if (FLOOD < USUAL && IS_THIN) tellLeftOut(4 * (USUAL - FLOOD), "packets of a flood");
  const larger = "larger than its table ends none of 1,000 established flows of each protocol";
  it.each(FAMILY_ROWS)(`%s: ${larger}`, { timeout: 900_000 }, (_, family) => {
    const { syn, ack, datagram } = clientsOf(family);
    node.clearFlows();
    const opened = run.all("tc_uplink_ingress", ports.map(syn));
    run.all(
      "tc_uplink_egress",
      opened.map((sent) => answer(sent, { flags: "SA", seq: 5000, ack: 1001 })),
    );
    run.all("tc_uplink_ingress", ports.map(ack));
    const asked = run.all("tc_uplink_ingress", ports.map(datagram));
    run.all(
      "tc_uplink_egress",
      asked.map((sent) => answer(sent)),
    );
    run.all("tc_uplink_ingress", ports.map(datagram));
    const counts = (): number[] =>
      (["tcp_flows", "udp_flows"] as const).map((table) => node.dataplane.map(table).countRows());
    expect(counts()).toEqual([2 * FLOWS, 2 * FLOWS]);

    run.flood(family, syn(1), FLOOD, 3);
    run.flood(family, datagram(1), FLOOD, 4);
    expect(counts()).toEqual([2 * FLOWS, 2 * FLOWS]);
    for (const { packet: seen } of run.all("tc_uplink_ingress", [...ports.map(ack), ...ports.map(datagram)])) {
      expect(seen.destination).toBe(family.here);
    }
    const answers = [
      ...opened.map((sent) => answer(sent, { flags: "A", seq: 5001, ack: 1001 })),
      ...asked.map((sent) => answer(sent)),
    ];
    const heard = run.all("tc_uplink_egress", answers);
    expect(heard.filter(({ packet: { source } }) => source !== family.lb)).toEqual([]);
    expect(node.dataplane.map("openings").countRows()).toBeGreaterThan(FLOWS);
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

  const { syn } = clientsOf(V4);
  const refused = (): number => node.verdicts().get("UPLINK_INGRESS DROP_NO_SOURCE_PORT") ?? 0;
  const opened = (): number => node.dataplane.map("openings").countRows() / 2;

  it("that are used up are counted, named and refused, and come back when flows end", async () => {
    const [step, few] = [PORTS >> 6, PORTS >> 3];
    // Each from an address of its own, so that the ports of clients say nothing.
    let before = 0;
    for (let asked = 0; refused() === 0; asked = opened()) {
      before = asked;
      run.flood(V4, syn(1), step, 100 + asked);
    }
    expect(before).toBeGreaterThan(0.7 * PORTS);
    run.flood(V4, syn(1), PORTS - opened(), 7);
    const fit = opened();
    if (FULL) process.stdout.write(`of ${PORTS} ports ${before} were found before the first refusal, ${fit} in all\n`);
    expect(fit).toBeGreaterThan(0.93 * PORTS);
    expect(opened()).toBeLessThanOrEqual(PORTS);
    const entries = node.dataplane.map("openings").countRows();
    const dropped = refused();
    run.flood(V4, syn(1), few, 8);
    expect(refused() - dropped).toBeGreaterThan(0);
    expect(node.dataplane.map("openings").countRows() - entries).toBeLessThan(2 * few);

    node.settings({ hz: HZ });
    const { scarcePorts } = await sweepFlows(node.dataplane, 1_000_000);
    expect(scarcePorts).toMatchObject([{ address: V4.there, port: 8080, protocol: "TCP", used: opened() }]);

    const over = { ...FLOW_TIMEOUTS, tcpSynSentSeconds: 0 };
    await sweepFlows(node.dataplane, HZ, over);
    expect((await sweepFlows(node.dataplane, HZ)).scarcePorts).toEqual([]);
    const last = refused();
    run.flood(V4, syn(1), few, 9);
    expect(refused()).toBe(last);
  });
});
