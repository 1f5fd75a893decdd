// A flow belongs to the hook whose packets made it: what comes in at another hook under the same addresses and ports can
// neither make it, nor shut its owner out, nor end it.
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { HOOK_VALUES } from "../../../src/datapath/layout.gen.ts";
import { describeKernel } from "../require-kernel.ts";
import { again, answer, at, FAMILIES, frame, objects, podFrame, portsOf, send, words } from "./conversation.ts";
import { parsePacket } from "./packet.ts";
import { createTestNode, type TestNode } from "./test-node.ts";
import { CLIENT_PORT, talkBy, WAYS, type Way, wayOf } from "./ways.ts";

const HOOKS: Readonly<Record<string, number>> = {
  tc_uplink_ingress: HOOK_VALUES.HOOK_UPLINK_INGRESS,
  tc_uplink_egress: HOOK_VALUES.HOOK_UPLINK_EGRESS,
  tc_pod_ingress: HOOK_VALUES.HOOK_POD_INGRESS,
  tc_pod_egress: HOOK_VALUES.HOOK_POD_EGRESS,
};

describeKernel("hooks apart", () => {
  let node: TestNode;
  beforeAll(() => {
    node = createTestNode(1);
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => node.clearFlows());

  for (const family of FAMILIES) {
    for (const transport of ["TCP", "UDP"] as const) {
      const label = `${family.name} ${transport}`;
      const { port, nodePort, target } = portsOf(transport);
      const client = { address: family.client, port: CLIENT_PORT };
      const toNode = { address: family.node, port: nodePort };
      const vip = { address: family.vip, port };

      it.each(WAYS.map((way) => [way.name, way] as const))(
        `${label}, %s: each entry bears the hook that translates it`,
        async (_, way: Way) => {
          await node.feed(objects([way.backend]));
          const talk = talkBy(way, node, family, transport);
          talk.request(talk.first);
          const hooks = Object.fromEntries(
            node.flows().map(({ key, flow }) => [flow.answer, [key.hook, flow.write.hook]]),
          );
          const [request, reply] = [HOOKS[way.request.program]!, HOOKS[way.reply.program]!];
          expect(hooks).toEqual({ 0: [request, reply], 1: [reply, request] });
        },
      );

      it(`${label}: XDP finds the uplink's flows, and opens none`, async () => {
        await node.feed(objects(["there"]));
        const asked = send(frame(), transport, client, toNode);
        expect(node.run("xdp_uplink", asked)).toMatchObject({ verdict: "VERDICT_NEXT", packet: asked });
        expect(node.flows()).toEqual([]);
        for (const _ of [1, 2]) node.run("tc_uplink_ingress", asked);
        expect(node.run("xdp_uplink", asked).verdict).toBe("VERDICT_FORWARD");
      });

      for (const backend of ["here", "there"] as const) {
        it(`${label}, backend ${backend}: a pod that sends under a client's name shuts the client out of nothing`, async () => {
          await node.feed(objects([backend]));
          node.run("tc_pod_ingress", send(podFrame(), transport, client, toNode));
          const way = wayOf(`outside, backend on ${backend === "here" ? "this" : "another"} node`);
          const talk = talkBy(way, node, family, transport);
          const translated = talk.request(talk.first);
          expect(translated.verdict).toMatch(/VERDICT_(PASS|FORWARD)/);
          expect(parsePacket(translated.packet)).toMatchObject({
            destination: family[backend],
            destinationPort: target,
            problems: [],
          });
          expect(talk.reply(answer(translated.packet)).text).toBe(
            `${at(family.node, nodePort)} > ${at(family.client, CLIENT_PORT)} ${words(transport, "SA")}`,
          );
          if (backend === "there") {
            node.clearFlows();
            for (const _ of [1, 2]) node.run("tc_uplink_ingress", talk.first);
            node.run("tc_pod_ingress", send(podFrame(), transport, client, toNode));
            expect(node.run("xdp_uplink", talk.first).verdict).toBe("VERDICT_FORWARD");
          }
        });

        it(`${label}, backend ${backend}: whoever sends from outside under a pod's name shuts the pod out of nothing`, async () => {
          await node.feed(objects([backend]));
          const pod = { address: family.pod, port: CLIENT_PORT };
          node.run("tc_uplink_ingress", send(frame(), transport, pod, vip));
          const talk = talkBy(wayOf("a pod on a bridge"), node, family, transport);
          const translated = talk.request(talk.first);
          expect(translated.verdict).toBe("VERDICT_PASS");
          expect(parsePacket(translated.packet)).toMatchObject({
            source: family.pod,
            destination: family[backend],
            destinationPort: target,
            problems: [],
          });
          expect(talk.reply(answer(translated.packet)).text).toBe(
            `${at(family.vip, port)} > ${at(family.pod, CLIENT_PORT)} ${words(transport, "SA")}`,
          );
        });

        it(`${label}, backend ${backend}: whoever sends from outside under the node's name shuts the node out of nothing`, async () => {
          await node.feed(objects([backend]));
          const host = { address: family.node, port: CLIENT_PORT };
          node.run("tc_uplink_ingress", send(frame(), transport, host, vip));
          const way = wayOf(`the host, backend on ${backend === "here" ? "this" : "another"} node`);
          const talk = talkBy(way, node, family, transport);
          const translated = talk.request(talk.first);
          expect(translated.verdict).toBe("VERDICT_FORWARD");
          expect(parsePacket(translated.packet)).toMatchObject({ destination: family[backend], problems: [] });
          expect(talk.reply(answer(translated.packet)).text).toBe(
            `${at(family.vip, port)} > ${at(family.node, CLIENT_PORT)} ${words(transport, "SA")}`,
          );
        });
      }

      it(`${label}: an address that moved from a pod of this node to another node is served there`, async () => {
        await node.feed(objects(["here"]));
        const before = talkBy(wayOf("a pod on a bridge"), node, family, transport);
        before.establish();
        const pod = { address: family.pod, port: CLIENT_PORT };
        const moved = node.run("tc_uplink_ingress", send(frame(), transport, pod, vip));
        expect(moved.verdict).toBe("VERDICT_PASS");
        expect(parsePacket(moved.packet)).toMatchObject({ destination: family.here, destinationPort: target });
      });
    }

    it(`${family.name}: a reset or a FIN at another hook ends nothing`, async () => {
      await node.feed(objects(["here"]));
      const talk = talkBy(wayOf("outside, backend on this node"), node, family, "TCP");
      const translated = talk.establish();
      const before = node.flowTexts();
      const host = { address: family.here, port: 8080 };
      for (const flags of ["R", "RA", "FA"]) {
        for (const seq of [0, 1001, 1002, 7001, 7002]) {
          const asClient = send(podFrame(), "TCP", talk.client, talk.frontend, { flags, seq, ack: 7001 });
          node.run("tc_pod_ingress", asClient);
          node.run("tc_uplink_egress", asClient);
          node.run("tc_pod_egress", asClient);
          const asBackend = send(podFrame(2), "TCP", host, talk.client, { flags, seq, ack: 1001 });
          node.run("tc_pod_ingress", asBackend, { device: "pod2" });
          node.run("tc_pod_egress", asBackend);
          node.run("tc_uplink_ingress", send(frame(), "TCP", host, talk.client, { flags, seq, ack: 1001 }));
        }
      }
      expect(node.flowTexts().filter((text) => before.includes(text))).toEqual(before);
      const more = talk.request(again(talk.first));
      expect(more.text).toBe(parsePacketText(translated, "A"));
    });
  }
});

/** The ends of a translated packet, with other flags. */
function parsePacketText(bytes: Uint8Array, flags: string): string {
  const { source, sourcePort, destination, destinationPort } = parsePacket(bytes);
  return `${at(source, sourcePort)} > ${at(destination, destinationPort)} tcp ${flags}`;
}
