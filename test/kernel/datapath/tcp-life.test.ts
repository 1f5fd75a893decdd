// How a connection's end, its opening and the retirement of its backend are believed: by the numbers that only its ends know,
// and by silence. Nothing that a stranger sends blindly may end, keep or move it.
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { describeKernel } from "../require-kernel.ts";
import { again, answer, at, FAMILIES, type Family, objects, send, type Transport } from "./conversation.ts";
import { parsePacket } from "./packet.ts";
import { createTestNode, type FlowRow, HZ, type Run, type TestNode } from "./test-node.ts";
import { CLIENT_PORT, talkBy, WAYS, type Way, wayOf } from "./ways.ts";

/** Beyond any window (RFC 7323: a gigabyte) of the small numbers that the connections here begin with. */
const FAR_AWAY = [0x60000000, 0x7fffffff, 0xa0000000];
const OUTSIDE = [wayOf("outside, backend on this node"), wayOf("outside, backend on another node")];

describeKernel("the life of TCP flows", () => {
  let node: TestNode;
  beforeAll(() => {
    node = createTestNode(1);
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => node.clearFlows());

  const tables = (): string => [...new Set(node.flows().map(({ table }) => table))].sort().join(" ");
  const has = (state: string): boolean[] => node.flowTexts().map((text) => text.split(" ").includes(state));
  const age = (jiffies: number): void => {
    for (const row of node.flows()) node.putFlow(row, { seen: (row.flow.seen - jiffies) >>> 0 });
  };
  const forwardRows = (): FlowRow[] => node.flows().filter(({ flow }) => flow.answer === 0);

  /** A connection whose ends count what they sent and received. */
  function connection(way: Way, family: Family, first = { client: 1000, backend: 7000 }) {
    const talk = talkBy(way, node, family, "TCP");
    const next = (number: number, by: number): number => (number + by) >>> 0;
    const sent = { client: next(first.client, 1), backend: next(first.backend, 1) };
    const syn = send(talk.start, "TCP", talk.client, talk.frontend, { seq: first.client });
    const translated = talk.request(syn).packet;
    talk.reply(answer(translated, { flags: "SA", seq: first.backend, ack: sent.client }));
    const client = (flags: string, given: { seq?: number; payload?: number; ack?: number } = {}): Run => {
      const { seq = sent.client, payload = 0, ack = sent.backend } = given;
      if (given.seq === undefined) sent.client = next(sent.client, payload);
      return talk.request(again(syn, { flags, seq, ack: flags.includes("A") ? ack : 0, payload }));
    };
    const backend = (flags: string, given: { seq?: number; payload?: number; ack?: number } = {}): Run => {
      const { seq = sent.backend, payload = 0, ack = sent.client } = given;
      if (given.seq === undefined) sent.backend = next(sent.backend, payload);
      return talk.reply(answer(translated, { flags, seq, ack: flags.includes("A") ? ack : 0, payload }));
    };
    client("A");
    expect(tables()).toBe("tcp_flows");
    /** Data and acknowledgements, each way. */
    const exchange = (rounds = 1): void => {
      for (let i = 0; i < rounds; i++) {
        client("PA", { payload: 20 });
        backend("PA", { payload: 30 });
        client("A");
      }
    };
    exchange(2);
    return { talk, syn, translated, sent, client, backend, exchange };
  }

  for (const family of FAMILIES) {
    it.each(WAYS.map((way) => [way.name, way] as const))(
      `${family.name}, %s: a reset far outside of the window does not end it, whoever seems to send it`,
      async (_, way) => {
        await node.feed(objects([way.backend]));
        for (const side of ["client", "backend"] as const) {
          node.clearFlows();
          const talk = connection(way, family);
          for (const seq of FAR_AWAY) {
            expect(talk[side]("R", { seq }).verdict, "it goes its way").toMatch(/VERDICT_(PASS|FORWARD)/);
            talk[side]("RA", { seq });
          }
          expect(has("RESET")).toEqual([false, false]);
          // Nor does the peer's challenge, or the conversation, change that.
          talk.exchange(3);
          expect(has("RESET")).toEqual([false, false]);
        }
      },
    );

    it.each(WAYS.map((way) => [way.name, way] as const))(
      `${family.name}, %s: a reset with the right number ends it for both directions`,
      async (_, way) => {
        await node.feed(objects([way.backend]));
        for (const side of ["client", "backend"] as const) {
          for (const flags of ["R", "RA"]) {
            node.clearFlows();
            const talk = connection(way, family);
            talk[side](flags);
            expect(has("RESET"), `${flags} of the ${side}`).toEqual([true, true]);
          }
        }
      },
    );

    it.each(WAYS.map((way) => [way.name, way] as const))(
      `${family.name}, %s: when both sides go on, a reset was none`,
      async (_, way) => {
        await node.feed(objects([way.backend]));
        for (const side of ["client", "backend"] as const) {
          node.clearFlows();
          const talk = connection(way, family);
          talk[side]("R");
          expect(has("RESET")).toEqual([true, true]);
          // One side alone may only not have heard of it.
          for (let i = 0; i < 3; i++) talk[side === "client" ? "backend" : "client"]("PA", { payload: 3 });
          expect(has("RESET")).toEqual([true, true]);
          talk.exchange(3);
          expect(has("RESET")).toEqual([false, false]);
        }
      },
    );

    it.each(OUTSIDE.map((way) => [way.name, way] as const))(
      `${family.name}, %s: a FIN far outside of the window closes nothing, one with the right number its side`,
      async (_, way) => {
        await node.feed(objects([way.backend]));
        for (const [side, state] of [
          ["client", "FIN_CLIENT"],
          ["backend", "FIN_BACKEND"],
        ] as const) {
          node.clearFlows();
          const talk = connection(way, family);
          for (const seq of FAR_AWAY) talk[side]("FA", { seq });
          expect(has(state)).toEqual([false, false]);
          talk.exchange();
          expect(has(state)).toEqual([false, false]);
          talk[side]("FA");
          expect(has(state)).toEqual([true, true]);
        }
      },
    );

    it(`${family.name}: numbers that pass their end are no other than those before`, async () => {
      await node.feed(objects(["here"]));
      const talk = connection(OUTSIDE[0]!, family, { client: 0xffffff80, backend: 0xffffffa0 });
      for (const seq of FAR_AWAY) talk.client("R", { seq });
      expect(has("RESET")).toEqual([false, false]);
      talk.exchange(8);
      expect(talk.sent.client).toBeLessThan(1000);
      talk.backend("R");
      expect(has("RESET")).toEqual([true, true]);
    });

    it.each(OUTSIDE.map((way) => [way.name, way] as const))(
      `${family.name}, %s: a SYN of a retired backend's connection moves it only after a silence`,
      async (_, way) => {
        await node.feed(objects([way.backend]));
        const talk = connection(way, family);
        await node.feed(objects(["hereToo"]));
        const destination = (run: Run): string => parsePacket(run.packet).destination;
        const spoofed = again(talk.syn, { flags: "S", seq: 4242, ack: 0 });
        talk.exchange();
        expect(destination(talk.talk.request(spoofed))).toBe(family[way.backend]);
        expect(destination(talk.client("PA", { payload: 5 }))).toBe(family[way.backend]);
        expect(talk.backend("A").text).toContain(`> ${at(family.client, CLIENT_PORT)}`);
        age(5 * HZ);
        expect(destination(talk.talk.request(spoofed))).toBe(family.hereToo);
      },
    );

    it.each(OUTSIDE.map((way) => [way.name, way] as const))(
      `${family.name}, %s: the newest SYN-ACK's number counts`,
      async (_, way) => {
        await node.feed(objects([way.backend]));
        const talk = talkBy(way, node, family, "TCP");
        for (const seq of [7000, 9000, 3_000_000_000]) {
          const { packet } = talk.request(talk.first);
          talk.reply(answer(packet, { flags: "SA", seq }));
        }
        // The acknowledgement of an older one is none.
        talk.request(again(talk.first, { flags: "A", ack: 7001 }));
        expect(tables()).toBe("openings");
        talk.request(again(talk.first, { flags: "A", ack: 3_000_000_001 }));
        expect(tables()).toBe("tcp_flows");
      },
    );

    it.each(OUTSIDE.map((way) => [way.name, way] as const))(
      `${family.name}, %s: a first ACK may acknowledge data as well`,
      async (_, way) => {
        await node.feed(objects([way.backend]));
        for (const seq of [7000, 0xffffff00]) {
          node.clearFlows();
          const talk = talkBy(way, node, family, "TCP");
          const { packet } = talk.request(talk.first);
          talk.reply(answer(packet, { flags: "SA", seq }));
          talk.reply(answer(packet, { flags: "PA", seq: (seq + 1) >>> 0, payload: 500 }));
          expect(tables()).toBe("openings");
          talk.request(again(talk.first, { flags: "A", ack: (seq + 501) >>> 0 }));
          expect(tables()).toBe("tcp_flows");
        }
      },
    );

    it(`${family.name}: a half that is rebuilt takes over no number of the other one, and a packet without ACK tells none`, async () => {
      await node.feed(objects(["here"]));
      const talk = connection(OUTSIDE[0]!, family, { client: 1000, backend: 3_000_000_000 });
      const half = (answers: number): FlowRow => node.flows().find(({ flow }) => flow.answer === answers)!;
      talk.exchange(2);
      const known = half(0).flow.number;
      talk.client("P", { ack: 0x7fffffff, payload: 1 });
      expect(half(0).flow.number).toBe(known);
      node.deleteFlow(half(1));
      age(5 * HZ);
      talk.client("A");
      expect(half(1).flow.number).toBe(0);
      // A reset that is right ends it.
      talk.client("R");
      expect(has("RESET")).toEqual([true, true]);
    });

    it(`${family.name}: an ended connection's late FIN does not come between a new one from the same port`, async () => {
      await node.feed(objects(["there"]));
      const talk = connection(OUTSIDE[1]!, family);
      talk.client("FA");
      talk.backend("FA");
      expect(has("FIN_CLIENT")).toEqual([true, true]);
      await node.feed(objects(["far"]));
      age(5 * HZ);
      const destination = (run: Run): string => parsePacket(run.packet).destination;
      const syn = again(talk.syn, { flags: "S", seq: 50_000, ack: 0 });
      const forward = talk.talk.request(syn);
      expect(destination(forward)).toBe(family.far);
      talk.backend("FA");
      expect(forwardRows().map(({ table, flow }) => [table, flow.write.destination])).toEqual([
        ["openings", family.far],
      ]);
      const reply = answer(forward.packet, { flags: "SA", seq: 90_000 });
      expect(node.run("tc_uplink_ingress", reply, { device: "up1" }).text).toContain(
        `> ${at(family.client, CLIENT_PORT)}`,
      );
      expect(destination(talk.talk.request(again(syn, { flags: "A", ack: 90_001 })))).toBe(family.far);
      talk.backend("FA");
      expect(destination(talk.talk.request(again(syn, { flags: "PA", ack: 90_001, payload: 9 })))).toBe(family.far);
    });
  }
});

describeKernel("answers of retired UDP backends", () => {
  let node: TestNode;
  beforeAll(() => {
    node = createTestNode(1);
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => node.clearFlows());

  const transport: Transport = "UDP";
  for (const family of FAMILIES) {
    it.each(
      WAYS.filter(({ path }) => path !== "HAIRPIN" && path !== "HOST_LOCAL").map((way) => [way.name, way] as const),
    )(
      `${family.name}, %s: those under way are translated after the client spoke again, for some seconds`,
      async (_, way) => {
        await node.feed(objects([way.backend]));
        const talk = talkBy(way, node, family, transport);
        const translated = talk.establish();
        await node.feed(objects([way.backend === "here" ? "hereToo" : "far"]));
        const moved = talk.request(talk.first);
        expect(parsePacket(moved.packet).destination).toBe(family[way.backend === "here" ? "hereToo" : "far"]);
        const late = talk.reply(answer(translated));
        expect(late.text).toBe(
          `${at(talk.frontend.address, talk.frontend.port)} > ${at(talk.client.address, CLIENT_PORT)} udp`,
        );
        expect(parsePacket(late.packet).problems).toEqual([]);
        // They bring nothing of the old conversation back.
        const more = talk.request(talk.first);
        expect(parsePacket(more.packet).destination).toBe(parsePacket(moved.packet).destination);
        expect(node.flows().filter(({ flow }) => flow.answer === 0)).toHaveLength(1);
      },
    );
  }

  it("after some seconds another conversation may have the retired backend's ports", async () => {
    const family = FAMILIES[0];
    await node.feed(objects(["here"]));
    const talk = talkBy(wayOf("outside, backend on this node"), node, family, transport);
    talk.establish();
    await node.feed(objects(["hereToo"]));
    talk.request(talk.first);
    for (const row of node.flows()) node.putFlow(row, { seen: (row.flow.seen - 10 * HZ) >>> 0 });
    await node.feed(objects(["here"]));
    const lb = { address: family.lb, port: 53 };
    const other = node.run("tc_uplink_ingress", send(talk.start, transport, talk.client, lb));
    expect(parsePacket(other.packet)).toMatchObject({ sourcePort: CLIENT_PORT, destination: family.here });
  });
});
