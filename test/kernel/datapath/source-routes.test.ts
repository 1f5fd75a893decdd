// A node whose packets leave by another device than they would by the main table: rules that route by source, and processes
// past the sockets whose backend is behind a device with an address of its own.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { SETTING_FLAG_VALUES } from "../../../src/datapath/layout.gen.ts";
import { describeKernel } from "../require-kernel.ts";
import { again, answer, at, FAMILIES, frame, objects, portsOf, send, V4, words } from "./conversation.ts";
import { parsePacket } from "./packet.ts";
import { ACTION, createTestNode, MARK_REDIRECTED, macOf, SNAT_COUNT, SNAT_FIRST, type TestNode } from "./test-node.ts";
import { CLIENT_PORT, talkBy, wayOf } from "./ways.ts";

const lan = (last: number): string => macOf("lan", last);

describeKernel("routes by source", () => {
  let node: TestNode;
  beforeAll(() => {
    node = createTestNode(1);
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => node.clearFlows());

  describe("rules that send a pod's packets out of the second uplink", () => {
    beforeAll(() => {
      const { namespace } = node;
      namespace.ip("rule add from 10.244.1.0/24 lookup 200");
      namespace.ip("-6 rule add from fd00:10:244:1::/64 lookup 200");
      namespace.ip("route add default via 10.8.0.9 dev up1 table 200");
      namespace.ip("-6 route add default via fd00:8::9 dev up1 table 200");
    });
    afterAll(() => {
      const { namespace } = node;
      for (const family of ["-4", "-6"]) {
        namespace.ip(`${family} rule del lookup 200`);
        namespace.ip(`${family} route flush table 200`);
      }
    });
    beforeEach(() => node.settings({ flags: SETTING_FLAG_VALUES.SETTING_SOURCE_ROUTES }));

    for (const family of FAMILIES) {
      for (const transport of ["TCP", "UDP"] as const) {
        const label = `${family.name} ${transport}`;
        const { nodePort } = portsOf(transport);
        const toClient = `${at(family.client, CLIENT_PORT)} ${words(transport, "SA")}`;
        /** What a pod sends, to its gateway. */
        const ofPod = (translated: Uint8Array, pod: 2 | 5, fields = {}): Uint8Array => {
          const reply = answer(translated, fields);
          const macs = frame(macOf("pod", pod), pod === 5 ? node.mac("p5") : macOf("pod", 1));
          reply.set(macs.ip(V4.client, V4.node).bytes().subarray(0, 12));
          return reply;
        };

        it.each([
          ["on a bridge", "here", "pod2", 2],
          ["without bridge", "ptp", "p5", 5],
        ] as const)(
          `${label}: a pod %s answers a client outside by the way of the address that was asked, under its name`,
          async (_, backend, device, pod) => {
            await node.feed(objects([backend]));
            const talk = talkBy(wayOf("outside, backend on this node"), node, family, transport);
            const translated = talk.request(talk.first).packet;
            for (let round = 0; round < 3; round++) {
              const reply = ofPod(translated, pod, round === 0 ? {} : { flags: "SA" });
              const run = node.run("tc_pod_ingress", reply, { device });
              expect(run).toMatchObject({ action: ACTION.redirect, verdict: "VERDICT_FORWARD", mark: MARK_REDIRECTED });
              expect(run.text).toBe(`${at(family.node, nodePort)} > ${toClient}`);
              expect(parsePacket(run.packet)).toMatchObject({
                ttl: 63,
                eth: { source: lan(11), destination: lan(51) },
                problems: [],
              });
              talk.request(transport === "TCP" ? again(talk.first) : talk.first);
            }
            // It was the answer that established the flow.
            expect([...new Set(node.flows().map(({ table }) => table))]).toEqual([
              transport === "TCP" ? "tcp_flows" : "udp_flows",
            ]);
          },
        );

        it(`${label}: without the setting the stack routes it as it is`, async () => {
          await node.feed(objects(["here"]));
          node.settings({ flags: 0 });
          const talk = talkBy(wayOf("outside, backend on this node"), node, family, transport);
          const reply = ofPod(talk.request(talk.first).packet, 2);
          expect(node.run("tc_pod_ingress", reply, { device: "pod2" })).toMatchObject({
            verdict: "VERDICT_NEXT",
            packet: reply,
          });
        });

        it(`${label}: what a pod sends of its own accord is none of it`, async () => {
          await node.feed(objects(["here"]));
          talkBy(wayOf("outside, backend on this node"), node, family, transport).establish();
          const start = frame(macOf("pod", 2), macOf("pod", 1));
          for (const [from, to] of [
            [
              { address: family.here, port: 5000 },
              { address: family.client, port: CLIENT_PORT },
            ],
            [
              { address: family.here, port: portsOf(transport).target },
              { address: family.otherClient, port: CLIENT_PORT },
            ],
          ] as const) {
            const packet = send(start, transport, from, to);
            expect(node.run("tc_pod_ingress", packet, { device: "pod2" })).toMatchObject({
              verdict: "VERDICT_NEXT",
              packet,
            });
          }
        });
      }
    }
  });

  for (const family of FAMILIES) {
    for (const transport of ["TCP", "UDP"] as const) {
      const { port, target } = portsOf(transport);
      it(`${family.name} ${transport}: a process past the sockets comes from the address of the device that its packets leave by`, async () => {
        await node.feed(objects(["far"]));
        const host = { address: family.node, port: CLIENT_PORT };
        const start = frame(lan(11), lan(1));
        const asked = send(start, transport, host, { address: family.vip, port });
        const forward = node.run("tc_uplink_egress", asked);
        expect(forward).toMatchObject({ action: ACTION.redirect, verdict: "VERDICT_FORWARD", mark: MARK_REDIRECTED });
        const translated = parsePacket(forward.packet);
        expect(translated).toMatchObject({
          source: family.tunnel,
          destination: family.far,
          destinationPort: target,
          eth: { source: macOf("tunnel", 1), destination: macOf("tunnel", 9) },
          problems: [],
        });
        // A port that no process of the node may have from that address.
        expect(translated.sourcePort).toBeGreaterThanOrEqual(SNAT_FIRST);
        expect(translated.sourcePort).toBeLessThan(SNAT_FIRST + SNAT_COUNT);
        const direct = send(
          frame(macOf("tunnel", 1), macOf("tunnel", 9)),
          transport,
          { address: family.tunnel, port: CLIENT_PORT },
          { address: family.far, port: target },
        );
        for (const [program, bytes] of [
          ["tc_uplink_egress", direct],
          ["tc_uplink_ingress", answer(direct)],
        ] as const)
          expect(node.run(program, bytes, { device: "up1" })).toMatchObject({ verdict: "VERDICT_NEXT", packet: bytes });
        const toHost = `${at(family.vip, port)} > ${at(family.node, CLIENT_PORT)} ${words(transport, "SA")}`;
        const back = node.run("tc_uplink_ingress", answer(forward.packet), { device: "up1" });
        expect(back).toMatchObject({ action: ACTION.next, verdict: "VERDICT_PASS", text: toHost });
        expect(parsePacket(back.packet).problems).toEqual([]);
        const more = node.run("tc_uplink_egress", transport === "TCP" ? again(asked) : asked);
        expect(parsePacket(more.packet)).toMatchObject({ source: family.tunnel, sourcePort: translated.sourcePort });
        const established = node.run("tc_uplink_ingress", answer(forward.packet, { flags: "SA" }), { device: "up1" });
        expect(established.text).toBe(toHost);
        // By the device that has the packet's own address nothing is in its way.
        node.clearFlows();
        await node.feed(objects(["there"]));
        const plain = node.run("tc_uplink_egress", asked);
        expect(parsePacket(plain.packet)).toMatchObject({ source: family.node, sourcePort: CLIENT_PORT });
      });
    }
  }
});
