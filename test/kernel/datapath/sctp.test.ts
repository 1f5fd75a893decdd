// SCTP by packet (RFC 9260): on every way its addresses and ports are translated there and back, and its checksum, which covers the
// whole packet but no address, stays right. The judge of packets verifies each one.
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { describeKernel } from "../require-kernel.ts";
import { again, answer, at, FAMILIES, frame, portsOf, sctpObjects, send, V4, words } from "./conversation.ts";
import { cut } from "./fragments.ts";
import { PROTOCOL, packet, parsePacket, SCTP_CHUNK } from "./packet.ts";
import { ACTION, createTestNode, macOf, type TestNode, XDP_ACTION } from "./test-node.ts";
import { CLIENT_PORT, talkBy, WAYS, wayOf } from "./ways.ts";

const { port: PORT, nodePort: NODE_PORT } = portsOf("SCTP");
const OTHER_PORT = 13868;
const PAYLOADS = [0, 1, 3, 4, 255, 1400];
/** What the kernel says of a list of packets that share one header. */
const GSO_BY_FRAGS = 0xffff;

describeKernel("SCTP", () => {
  let node: TestNode;
  beforeAll(() => {
    node = createTestNode(1);
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => node.clearFlows());

  for (const family of FAMILIES) {
    const client = { address: family.client, port: CLIENT_PORT };
    const toNode = { address: family.node, port: NODE_PORT };

    for (const way of WAYS) {
      const asked = way.frontend === "node" ? NODE_PORT : PORT;
      it.each([
        ["the same port", asked],
        ["another port", OTHER_PORT],
      ])(`${family.name}, ${way.name}, %s: there and back`, async (_, target) => {
        await node.feed(sctpObjects([way.backend], target));
        const talk = talkBy(way, node, family, "SCTP");
        const forward = talk.request(talk.first);
        expect(forward.verdict).toMatch(/^VERDICT_(PASS|FORWARD)$/);
        const there = parsePacket(forward.packet);
        expect(there).toMatchObject({ destination: family[way.backend], destinationPort: target, problems: [] });
        const back = talk.reply(answer(forward.packet));
        expect(back.text).toBe(
          `${at(talk.frontend.address, talk.frontend.port)} > ${at(talk.client.address, talk.client.port)} ${words("SCTP", "SA")}`,
        );
        expect(node.flowTexts().every((text) => text.startsWith("openings"))).toBe(true);
        expect(talk.request(again(talk.first)).verdict).toBe(forward.verdict);
        expect(node.flowTexts()).toHaveLength(2);
        for (const text of node.flowTexts()) expect(text).toMatch(/^udp_flows .*ESTABLISHED/);
        for (const payload of PAYLOADS) {
          const data = talk.request(again(talk.first, { flags: "PA", payload }));
          expect(parsePacket(data.packet)).toMatchObject({
            source: there.source,
            sourcePort: there.sourcePort,
            destination: family[way.backend],
            problems: [],
          });
          const reply = talk.reply(answer(forward.packet, { flags: "PA", payload }));
          expect(parsePacket(reply.packet)).toMatchObject({ source: talk.frontend.address, problems: [] });
        }
      });
    }

    it(`${family.name}: XDP makes the same bytes as tc`, async () => {
      await node.feed(sctpObjects(["there"], OTHER_PORT));
      const asked = send(frame(), "SCTP", client, toNode);
      const byTc = node.run("tc_uplink_ingress", asked);
      node.run("tc_uplink_ingress", asked);
      const byXdp = node.run("xdp_uplink", asked);
      expect(byXdp).toMatchObject({ action: XDP_ACTION.tx, verdict: "VERDICT_FORWARD" });
      expect(byXdp.packet).toEqual(byTc.packet);
    });

    it(`${family.name}: a checksum that a device is to complete stays none`, async () => {
      for (const target of [NODE_PORT, OTHER_PORT]) {
        await node.feed(sctpObjects(["here"], target));
        node.clearFlows();
        const asked = frame().ip(family.client, family.node).sctp(CLIENT_PORT, NODE_PORT, { checksum: false });
        const run = node.run("tc_uplink_ingress", asked.payload(20).bytes());
        expect(parsePacket(run.packet)).toMatchObject({ destinationPort: target, checksum: 0 });
      }
    });

    it(`${family.name}: a wrong checksum stays as wrong`, async () => {
      await node.feed(sctpObjects(["here"], OTHER_PORT));
      const asked = send(frame(), "SCTP", client, toNode);
      asked[asked.length - 1]! ^= 0x10;
      expect(parsePacket(node.run("tc_uplink_ingress", asked).packet).problems).toEqual(["SCTP checksum"]);
    });

    it(`${family.name}: a flood that answers nobody establishes nothing`, async () => {
      await node.feed(sctpObjects(["here"], OTHER_PORT));
      const talk = talkBy(wayOf("outside, backend on this node"), node, family, "SCTP");
      const { packet: there } = talk.request(talk.first);
      // Without an answer, and with a tag that the backend did not give.
      talk.request(again(talk.first));
      talk.reply(answer(there));
      talk.request(again(talk.first, { ack: 4711 }));
      expect(node.flowTexts().filter((text) => !text.startsWith("openings"))).toEqual([]);
    });

    it(`${family.name}: an association keeps a backend that was retired, a new one gets another`, async () => {
      await node.feed(sctpObjects(["here"], OTHER_PORT));
      const talk = talkBy(wayOf("outside, backend on this node"), node, family, "SCTP");
      const there = talk.establish();
      await node.feed(sctpObjects(["hereToo"], OTHER_PORT));
      const data = talk.request(again(talk.first, { flags: "PA", payload: 8 }));
      expect(parsePacket(data.packet).destination).toBe(family.here);
      expect(talk.reply(answer(there, { flags: "PA" })).verdict).toBe("VERDICT_PASS");
      for (const row of node.flows()) node.putFlow(row, { seen: (row.flow.seen - 2000) >>> 0 });
      expect(parsePacket(talk.request(talk.first).packet).destination).toBe(family.hereToo);
    });

    it(`${family.name}: in the middle, without an entry, it is chosen again the same way`, async () => {
      await node.feed(sctpObjects(["here", "hereToo", "there"], OTHER_PORT));
      for (let port = 40000; port < 40016; port++) {
        const first = send(frame(), "SCTP", { ...client, port }, toNode);
        const chosen = parsePacket(node.run("tc_uplink_ingress", first).packet).destination;
        node.clearFlows();
        const data = node.run("tc_uplink_ingress", again(first, { flags: "PA" }));
        expect(parsePacket(data.packet).destination).toBe(chosen);
      }
    });

    it(`${family.name}: is refused by port unreachable, with a checksum or one to be completed`, async () => {
      await node.feed(sctpObjects([], OTHER_PORT));
      for (const checksum of [true, false]) {
        for (const payload of [0, 3, 500]) {
          const start = packet().eth(macOf("pod", 99), macOf("pod", 1)).ip(family.pod, family.vip);
          const asked = start.sctp(CLIENT_PORT, PORT, { checksum }).payload(payload).bytes();
          const run = node.run("tc_pod_ingress", asked);
          expect(run).toMatchObject({ verdict: "VERDICT_REFUSE", action: ACTION.redirect });
          expect(parsePacket(run.packet)).toMatchObject({
            source: family.vip,
            destination: family.pod,
            icmp: family === V4 ? { type: 3, code: 3 } : { type: 1, code: 4 },
            quoted: { sourcePort: CLIENT_PORT, destinationPort: PORT, protocol: PROTOCOL.sctp },
          });
          // The sender knows its INIT by the tag in it.
          expect(parsePacket(run.packet).payload.length).toBeGreaterThanOrEqual(family.header + 20);
        }
      }
      const abort = send(frame(), "SCTP", client, { address: family.vip, port: PORT }, { flags: "R" });
      expect(node.run("tc_uplink_ingress", abort).verdict).toBe("DROP_PORT_UNKNOWN");
    });

    it(`${family.name}: what answers or ends an association opens none`, async () => {
      await node.feed(sctpObjects(["here"], OTHER_PORT));
      for (const chunk of [SCTP_CHUNK.initAck, SCTP_CHUNK.abort]) {
        const strays = frame().ip(family.client, family.vip).sctp(CLIENT_PORT, PORT, { chunk, tag: 9 }).bytes();
        expect(node.run("tc_uplink_ingress", strays).verdict).toBe("DROP_PORT_UNKNOWN");
      }
      expect(node.flows()).toEqual([]);
    });

    it(`${family.name}: pieces are carried where no port changes, else the first is dropped by name`, async () => {
      const asked = frame().ip(family.client, family.node).sctp(CLIENT_PORT, NODE_PORT).payload(1200).bytes();
      const pieces = cut(asked, { size: 400 });
      await node.feed(sctpObjects(["here"], NODE_PORT));
      for (const piece of pieces) expect(node.run("tc_uplink_ingress", piece).verdict).toBe("VERDICT_PASS");
      node.clearFlows();
      await node.feed(sctpObjects(["here"], OTHER_PORT));
      expect(node.run("tc_uplink_ingress", pieces[0]!).verdict).toBe("DROP_SCTP_FRAGMENT");
    });

    it(`${family.name}: a list of packets under one header is measured by none of them`, async () => {
      await node.feed(sctpObjects(["far"], NODE_PORT));
      const asked = frame().ip(family.client, family.node).sctp(CLIENT_PORT, NODE_PORT, { checksum: false });
      const list = asked.payload(2000).bytes();
      expect(node.run("tc_uplink_ingress", list, { gsoSize: GSO_BY_FRAGS }).verdict).toBe("VERDICT_FORWARD");
      expect(node.run("tc_uplink_ingress", list).verdict).toBe("VERDICT_TOO_BIG");
    });
  }
});
