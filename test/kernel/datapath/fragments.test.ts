// Translated packets that come in pieces, the first one first, on every way and in both directions: only the first piece has
// ports, the others follow it.
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { FRAGMENT, readFragment, writeFragment } from "../../../src/datapath/layout.gen.ts";
import { describeKernel } from "../require-kernel.ts";
import { answer, CONVERSATIONS, FAMILIES, frame, objects, podFrame, portsOf, send } from "./conversation.ts";
import { cut, type Reassembled, reassemble } from "./fragments.ts";
import { packet, parsePacket } from "./packet.ts";
import { ACTION, createTestNode, HZ, type Run, type TestNode, XDP_ACTION } from "./test-node.ts";
import { CLIENT_PORT, talkBy, WAYS, wayOf } from "./ways.ts";

const SIZE = 3000;

describeKernel("fragments", () => {
  let node: TestNode;
  beforeAll(() => {
    node = createTestNode(1);
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => node.clearFlows());

  /** What all pieces became together; each must have gone the same way. */
  function through(run: (packet: Uint8Array) => Run, pieces: readonly Uint8Array[]): Reassembled & { verdict: string } {
    const runs = pieces.map(run);
    const verdicts = [...new Set(runs.map(({ verdict, action }) => `${verdict} ${action}`))];
    expect(verdicts).toHaveLength(1);
    expect(verdicts[0]).toMatch(/^VERDICT_(PASS|FORWARD) /);
    return { ...reassemble(runs.map(({ packet }) => packet)), verdict: runs[0]!.verdict };
  }
  const remembered = (): number => [...node.dataplane.map("fragments").entries()].length;
  const drop = { action: ACTION.shot, verdict: "DROP_FRAGMENT_BEFORE_FIRST" };

  for (const [family, transport] of CONVERSATIONS) {
    const label = `${family.name} ${transport}`;
    const { target } = portsOf(transport);

    it.each(WAYS.map((way) => [way.name, way] as const))(
      `${label}, %s: packets of a known flow, there and back`,
      async (_, way) => {
        await node.feed(objects([way.backend]));
        const talk = talkBy(way, node, family, transport);
        const translated = talk.establish();
        const before = node.flowTexts();
        const fields = { flags: "PA", seq: 1001, ack: 7001, payload: SIZE };
        const asked = send(talk.start, transport, talk.client, talk.frontend, fields);
        for (const id of [7, 0xfffe]) {
          const there = through(talk.request, cut(asked, { id }));
          expect(there).toMatchObject({ destination: family[way.backend], destinationPort: target, id, problems: [] });
          expect(there.payload).toHaveLength(SIZE);
          const reply = answer(translated, { flags: "PA", payload: SIZE });
          const back = through(talk.reply, cut(reply, { id }));
          expect(back).toMatchObject({
            source: talk.frontend.address,
            sourcePort: talk.frontend.port,
            destination: talk.client.address,
            destinationPort: talk.client.port,
            id,
            problems: [],
          });
          expect(back.payload).toHaveLength(SIZE);
          if (transport === "UDP without checksum") expect([there.checksum, back.checksum]).toEqual([0, 0]);
        }
        expect(node.flowTexts()).toEqual(before);
      },
    );

    if (transport === "TCP") continue;

    it.each(WAYS.map((way) => [way.name, way] as const))(
      `${label}, %s: the first datagram of a conversation opens its flow`,
      async (_, way) => {
        await node.feed(objects([way.backend]));
        const talk = talkBy(way, node, family, transport);
        const asked = send(talk.start, transport, talk.client, talk.frontend, { payload: SIZE });
        const pieces = cut(asked);
        expect(pieces).toHaveLength(3);
        const there = through(talk.request, pieces);
        expect(there).toMatchObject({ destination: family[way.backend], destinationPort: target, problems: [] });
        const flows = node.flowTexts();
        expect(flows).toHaveLength(2);
        expect(flows[0]).toContain(way.path);
        // A whole datagram of the same conversation has the same source port toward the backend.
        const small = talk.request(talk.first);
        const back = through(talk.reply, cut(answer(small.packet, { payload: SIZE })));
        expect(back).toMatchObject({ source: talk.frontend.address, destination: talk.client.address, problems: [] });
        expect(node.flowTexts()).toHaveLength(2);
      },
    );

    it(`${label}: pieces of two datagrams may be mixed, and come twice`, async () => {
      await node.feed(objects(["here"]));
      const talk = talkBy(wayOf("outside, backend on this node"), node, family, transport);
      const other = talkBy(wayOf("outside, backend on this node"), node, family, transport, CLIENT_PORT + 1);
      const [one, two] = [talk, other].map(({ start, client, frontend }, i) =>
        cut(send(start, transport, client, frontend, { payload: SIZE }), { id: 100 + i }),
      ) as [Uint8Array[], Uint8Array[]];
      const runs = [one[0]!, two[0]!, two[1]!, one[1]!, one[1]!, one[2]!, two[2]!].map(talk.request);
      const parts = (...indices: number[]) => reassemble(indices.map((index) => runs[index]!.packet));
      expect(parts(0, 3, 5)).toMatchObject({ sourcePort: CLIENT_PORT, destination: family.here, problems: [] });
      expect(parts(1, 2, 6)).toMatchObject({ sourcePort: CLIENT_PORT + 1, destination: family.here, problems: [] });
    });
  }

  /** An error that quotes so much of the packet, from its receiver to its sender. */
  function errorAbout(about: Uint8Array, quoted: number): Uint8Array {
    const { eth, source, destination } = parsePacket(about, { cut: true });
    const [type, code] = source.includes(":") ? [1, 4] : [3, 3];
    return packet()
      .eth(eth!.destination, eth!.source)
      .ip(destination, source)
      .icmp(type!, code!)
      .payload(about.slice(14, 14 + quoted))
      .bytes();
  }

  for (const family of FAMILIES) {
    it.each(WAYS.map((way) => [way.name, way] as const))(
      `${family.name}, %s: an error about a piece, whichever it quotes, is about what the client sent`,
      async (_, way) => {
        await node.feed(objects([way.backend]));
        const talk = talkBy(way, node, family, "UDP");
        talk.establish();
        const sent = cut(send(talk.start, "UDP", talk.client, talk.frontend, { payload: SIZE }));
        const translated = sent.map((piece) => talk.request(piece).packet);
        for (const [i, piece] of translated.entries()) {
          for (const quoted of [family.header + 16, family.header + 100]) {
            const run = talk.reply(errorAbout(piece, quoted));
            expect(run.verdict, `piece ${i}`).toBe("VERDICT_ICMP");
            const told = parsePacket(run.packet);
            expect(told).toMatchObject({ destination: talk.client.address, problems: [] });
            expect(told.quoted).toMatchObject({ source: talk.client.address, destination: talk.frontend.address });
            // But for the hops that it went.
            const original = sent[i]!.slice(14, 14 + told.payload.length);
            const at = family.header === 20 ? [8, 10, 11] : [7];
            for (const byte of at) original[byte] = told.payload[byte]!;
            expect(told.payload).toEqual(original);
          }
        }
        // Another datagram's later piece is nobody's.
        const [, stranger] = cut(send(talk.start, "UDP", talk.client, talk.frontend, { payload: SIZE }), { id: 9 });
        expect(talk.reply(errorAbout(stranger!, family.header + 16)).verdict).not.toBe("VERDICT_ICMP");
      },
    );

    const client = { address: family.client, port: CLIENT_PORT };
    const pieces = (to: string, port: number, options = {}): [Uint8Array, Uint8Array, Uint8Array] =>
      cut(send(frame(), "UDP", client, { address: to, port }, { payload: SIZE }), options) as [
        Uint8Array,
        Uint8Array,
        Uint8Array,
      ];
    const run = (packet: Uint8Array): Run => node.run("tc_uplink_ingress", packet);

    it(`${family.name}: a later piece before its first is dropped by name where everything is ours`, async () => {
      await node.feed(objects(["here", "there"]));
      for (const address of [family.vip, family.lb]) {
        const [first, second, third] = pieces(address, 53);
        expect(run(second)).toMatchObject(drop);
        expect(run(third)).toMatchObject(drop);
        expect(run(first).verdict).toMatch(/VERDICT_(PASS|FORWARD)/);
        expect(run(second).verdict).toMatch(/VERDICT_(PASS|FORWARD)/);
        // Its first is no other packet's: not by its id, nor by who sent it, nor by where it came in.
        expect(run(pieces(address, 53, { id: 0x4243 })[1])).toMatchObject(drop);
        const spoofed = cut(
          send(frame(), "UDP", { ...client, address: family.otherClient }, { address, port: 53 }, { payload: SIZE }),
        )[1]!;
        expect(run(spoofed)).toMatchObject(drop);
        const elsewhere = cut(send(podFrame(), "UDP", client, { address, port: 53 }, { payload: SIZE }))[1]!;
        expect(node.run("tc_pod_ingress", elsewhere)).toMatchObject(drop);
      }
    });

    it(`${family.name}: a later piece before its first passes where it may be somebody else's`, async () => {
      await node.feed(objects(["here", "there"]));
      for (const to of [family.node, family.there, family.router]) {
        for (const later of pieces(to, 30053).slice(1))
          expect(run(later)).toMatchObject({ verdict: "VERDICT_NEXT", packet: later });
      }
    });

    it(`${family.name}: pieces of what is none of ours go by, and nothing is remembered of them`, async () => {
      await node.feed(objects(["here", "there"]));
      for (const [to, port] of [
        [family.node, 99],
        [family.there, 5353],
        [family.hereToo, 5353],
        [family.router, 53],
      ] as const) {
        for (const piece of pieces(to, port)) {
          for (const program of ["tc_uplink_ingress", "tc_uplink_egress", "tc_pod_egress"] as const)
            expect(node.run(program, piece)).toMatchObject({ verdict: "VERDICT_NEXT", packet: piece });
        }
      }
      expect(remembered()).toBe(0);
      expect(node.flows()).toEqual([]);
    });

    it(`${family.name}: a first piece is remembered for thirty seconds`, async () => {
      await node.feed(objects(["here"]));
      const [first, second, third] = pieces(family.vip, 53);
      expect(run(first).verdict).toBe("VERDICT_PASS");
      const map = node.dataplane.map("fragments");
      const age = (seconds: number): void => {
        for (const [key, value] of [...map.entries()]) {
          const fragment = readFragment(value);
          const changed = new Uint8Array(FRAGMENT.size);
          writeFragment(changed, 0, { ...fragment, seen: (Number(node.jiffies() & 0xffffffffn) - seconds * HZ) >>> 0 });
          map.update(key, changed);
        }
      };
      // As it came, and as errors about it will quote it.
      expect(remembered()).toBe(2);
      age(29);
      expect(run(second).verdict).toBe("VERDICT_PASS");
      age(31);
      expect(run(third)).toMatchObject(drop);
    });

    it(`${family.name}: a later piece whose flow has gone meanwhile goes to nobody as it is`, async () => {
      await node.feed(objects(["here"]));
      const [first, second] = pieces(family.vip, 53);
      expect(run(first).verdict).toBe("VERDICT_PASS");
      for (const row of node.flows()) node.deleteFlow(row);
      expect(run(second).verdict).not.toBe("VERDICT_NEXT");
    });

    it(`${family.name}: XDP leaves pieces to tc as they came`, async () => {
      await node.feed(objects(["there"]));
      for (const piece of pieces(family.node, 30053))
        expect(node.run("xdp_uplink", piece)).toMatchObject({ action: XDP_ACTION.pass, packet: piece });
    });

    it(`${family.name}: the last piece of a datagram can be small, and hold less than a header`, async () => {
      await node.feed(objects(["here"]));
      for (const extra of [1, 2, 7, 8]) {
        node.clearFlows();
        const asked = send(frame(), "UDP", client, { address: family.node, port: 30053 }, { payload: 1392 + extra });
        const parts = cut(asked);
        expect(parts).toHaveLength(2);
        expect(through(run, parts)).toMatchObject({ destination: family.here, destinationPort: 5353, problems: [] });
      }
    });
  }
});
