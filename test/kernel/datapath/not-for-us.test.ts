// Frames and packets that this machine must not take: for another MAC, to nobody in particular, or from an address that their
// sender does not have. They go on as they came, and make no flow.
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { describeKernel } from "../require-kernel.ts";
import { again, answer, FAMILIES, frame, objects, podFrame, portsOf, send } from "./conversation.ts";
import { packet, parsePacket } from "./packet.ts";
import { ACTION, createTestNode, type Device, macOf, type Run, type TestNode, XDP_ACTION } from "./test-node.ts";
import { CLIENT_PORT, talkBy, wayOf } from "./ways.ts";

const lan = (last: number): string => macOf("lan", last);
const BROADCAST = "ff:ff:ff:ff:ff:ff";
const STRANGERS = [
  ["another machine's MAC", lan(77)],
  ["a MAC that nobody has", "02:77:77:77:77:77"],
  ["all", BROADCAST],
  ["a group of IPv4", "01:00:5e:00:00:01"],
  ["a group of IPv6", "33:33:00:00:00:01"],
] as const;

describeKernel("frames that are not for this machine", () => {
  let node: TestNode;
  beforeAll(() => {
    node = createTestNode(1);
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => node.clearFlows());

  const passes = (run: Run, asked: Uint8Array): void => {
    expect(run).toMatchObject({ action: ACTION.next, packet: asked });
    expect(["VERDICT_NEXT", "none"]).toContain(run.verdict);
  };
  const passesXdp = (asked: Uint8Array): void => {
    const run = node.run("xdp_uplink", asked);
    expect(run).toMatchObject({ action: XDP_ACTION.pass, packet: asked });
    expect(["VERDICT_NEXT", "none"]).toContain(run.verdict);
  };

  for (const family of FAMILIES) {
    for (const transport of ["TCP", "UDP"] as const) {
      const label = `${family.name} ${transport}`;
      const { port, nodePort } = portsOf(transport);
      const client = { address: family.client, port: CLIENT_PORT };
      const toNode = { address: family.node, port: nodePort };

      for (const [whose, mac] of STRANGERS) {
        it(`${label}: a frame to ${whose} is not served at an uplink, wherever the backend is`, async () => {
          for (const names of [["here"], ["there"], []] as const) {
            node.clearFlows();
            await node.feed(objects(names));
            for (const to of [toNode, { address: family.lb, port }]) {
              const asked = send(frame(lan(51), mac), transport, client, to);
              passes(node.run("tc_uplink_ingress", asked), asked);
              passesXdp(asked);
            }
            expect(node.flows()).toEqual([]);
          }
        });
      }

      it(`${label}: a frame to another MAC is not served as part of a known flow either`, async () => {
        for (const backend of ["here", "there"] as const) {
          node.clearFlows();
          await node.feed(objects([backend]));
          const on = backend === "here" ? "this" : "another";
          const talk = talkBy(wayOf(`outside, backend on ${on} node`), node, family, transport);
          const translated = talk.establish();
          const flooded = again(send(frame(lan(51), lan(77)), transport, talk.client, talk.frontend));
          passes(talk.request(flooded), flooded);
          passesXdp(flooded);
          if (backend === "here") continue;
          const reply = answer(translated, { flags: "A" });
          reply.set(send(frame(lan(12), lan(77)), transport, client, toNode).subarray(0, 6));
          passes(talk.reply(reply), reply);
          passesXdp(reply);
        }
      });

      it(`${label}: a frame of a pod on a bridge is served when it is for the bridge, not when it is for another pod`, async () => {
        await node.feed(objects(["there"]));
        const pod = { address: family.pod, port: CLIENT_PORT };
        const vip = { address: family.vip, port };
        const sent = (mac: string): [Run, Uint8Array] => {
          const asked = send(frame(macOf("pod", 99), mac), transport, pod, vip);
          return [node.run("tc_pod_ingress", asked, { device: "pod99" }), asked];
        };
        for (const mac of [macOf("pod", 2), node.mac("pod2"), lan(11), BROADCAST]) {
          passes(...sent(mac));
          expect(node.flows()).toEqual([]);
        }
        expect(sent(node.mac("cni0"))[0]).toMatchObject({ verdict: "VERDICT_PASS" });
      });

      it(`${label}: a frame of a pod without bridge is served when it is for the pod's device`, async () => {
        await node.feed(objects(["there"]));
        const pod = { address: family.ptp, port: CLIENT_PORT };
        const sent = (mac: string): [Run, Uint8Array] => {
          const asked = send(frame(macOf("pod", 5), mac), transport, pod, { address: family.vip, port });
          return [node.run("tc_pod_ingress", asked, { device: "p5" }), asked];
        };
        passes(...sent(macOf("pod", 1)));
        expect(sent(node.mac("p5"))[0]).toMatchObject({ verdict: "VERDICT_PASS" });
      });

      it(`${label}: what is refused is refused by this machine's MAC, and only when it was asked`, async () => {
        await node.feed(objects([]));
        for (const [, mac] of STRANGERS) {
          const asked = send(frame(lan(51), mac), transport, client, toNode);
          passes(node.run("tc_uplink_ingress", asked), asked);
        }
        const refused = node.run("tc_uplink_ingress", send(frame(), transport, client, toNode));
        expect(refused.verdict).toBe("VERDICT_REFUSE");
        expect(parsePacket(refused.packet).eth).toMatchObject({ source: lan(11), destination: lan(51) });
        const vip = { address: family.vip, port };
        for (const [device, last, pod] of [
          ["pod99", 99, "pod"],
          ["p5", 5, "ptp"],
        ] as const) {
          const asked = send(podFrame(last), transport, { address: family[pod], port: 1 }, vip);
          const { packet: reply } = node.run("tc_pod_ingress", asked, { device });
          const source = device === "p5" ? node.mac("p5") : node.mac("cni0");
          expect(parsePacket(reply).eth).toMatchObject({ source, destination: macOf("pod", last) });
        }
      });

      const spoofs: readonly (readonly [string, Device, 99 | 5, string])[] = [
        ["on a bridge with the node's address", "pod99", 99, family.node],
        ["without bridge with the node's address", "p5", 5, family.node],
        ["without bridge with the bridge's address", "p5", 5, family.bridge],
        ["without bridge with another pod's address", "p5", 5, family.hereToo],
        ["without bridge with an address outside", "p5", 5, family.client],
      ];
      it.each(spoofs)(`${label}: a pod %s is none of ours`, async (_, device, last, source) => {
        await node.feed(objects(["here"]));
        const from = { address: source, port: CLIENT_PORT };
        for (const to of [{ address: family.vip, port }, toNode]) {
          const asked = send(podFrame(last), transport, from, to);
          passes(node.run("tc_pod_ingress", asked, { device }), asked);
        }
        expect(node.flows()).toEqual([]);
        const own = { address: last === 5 ? family.ptp : family.pod, port: CLIENT_PORT };
        const served = node.run("tc_pod_ingress", send(podFrame(last), transport, own, toNode), { device });
        expect(served.verdict).toBe("VERDICT_PASS");
      });
    }

    it(`${family.name}: an echo request to another MAC is not answered`, async () => {
      await node.feed(objects(["here"]));
      const echo = (mac: string): Uint8Array =>
        frame(lan(51), mac)
          .ip(family.client, family.vip)
          .icmp(family.header === 20 ? 8 : 128, 0)
          .payload(8)
          .bytes();
      for (const [, mac] of STRANGERS) passes(node.run("tc_uplink_ingress", echo(mac)), echo(mac));
      expect(node.run("tc_uplink_ingress", echo(lan(11))).verdict).toBe("VERDICT_ECHO");
    });

    it(`${family.name}: an ICMP error to another MAC is not translated`, async () => {
      await node.feed(objects(["there"]));
      const talk = talkBy(wayOf("outside, backend on another node"), node, family, "UDP");
      const about = talk.establish();
      const error = packet()
        .eth(lan(12), lan(77))
        .ip(family.router, family.node)
        .icmp(family.header === 20 ? 3 : 1, family.header === 20 ? 3 : 4)
        .payload(about.slice(14))
        .bytes();
      passes(node.run("tc_uplink_ingress", error), error);
    });
  }
});
