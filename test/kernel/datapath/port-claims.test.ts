// Source ports of SNAT and of connections that a masquerade gave the same ones, toward one backend: whoever was first keeps the
// port, in either order, and each answer finds its own way.
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { describeKernel } from "../require-kernel.ts";
import { again, answer, at, FAMILIES, type Family, frame, objects, portsOf, send, words } from "./conversation.ts";
import { parsePacket } from "./packet.ts";
import { ACTION, createTestNode, macOf, type Run, SNAT_COUNT, SNAT_FIRST, type TestNode } from "./test-node.ts";
import { CLIENT_PORT } from "./ways.ts";

const lan = (last: number): string => macOf("lan", last);

describeKernel("claims of ports", () => {
  let node: TestNode;
  beforeAll(async () => {
    node = createTestNode(1);
    await node.feed(objects(["there"]));
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => node.clearFlows());

  const inSnatRange = (port: number): boolean => port >= SNAT_FIRST && port < SNAT_FIRST + SNAT_COUNT;

  for (const family of FAMILIES) {
    for (const transport of ["TCP", "UDP"] as const) {
      const label = `${family.name} ${transport}`;
      const { nodePort, target } = portsOf(transport);
      const client = { address: family.client, port: CLIENT_PORT };
      const asked = send(frame(), transport, client, { address: family.node, port: nodePort });

      /** The port that the client's flow gets when nobody is in its way; nothing is left of the flow. */
      const wanted = (): number => {
        const { sourcePort } = parsePacket(node.run("tc_uplink_ingress", asked).packet);
        node.clearFlows();
        return sourcePort;
      };
      const masqueraded = (port: number): Uint8Array =>
        send(
          frame(lan(11), lan(12)),
          transport,
          { address: family.node, port },
          { address: family.there, port: target },
        );
      const out = (packet: Uint8Array, from: "a pod" | "the node" = "a pod"): Run =>
        node.run("tc_uplink_egress", packet, { ingressIfindex: from === "a pod" ? node.ifindex("cni0") : 0 });
      const unchanged = (run: Run, packet: Uint8Array): void => {
        expect(run).toMatchObject({ action: ACTION.next, packet });
        expect(["VERDICT_NEXT", "VERDICT_PASS"]).toContain(run.verdict);
      };
      const data = (packet: Uint8Array): Uint8Array => again(packet, { flags: "PA", payload: 30 });

      it(`${label}: an answer that was translated on a device above, or by another build, is no connection of the node`, async () => {
        await node.feed(objects(["here"]));
        const forward = node.run("tc_uplink_ingress", asked);
        const translated = out(answer(forward.packet));
        expect(translated.verdict).toBe("VERDICT_PASS");
        unchanged(out(translated.packet), translated.packet);
        node.clearFlows();
        node.settings({ handover: 1 });
        unchanged(out(translated.packet), translated.packet);
        node.settings({ handover: 0 });
        expect(node.flows()).toEqual([]);
        await node.feed(objects(["there"]));
      });

      for (const from of ["a pod", "the node"] as const) {
        it(`${label} of ${from} from the number of a node port: its answers are its own, also in the middle; requests go on being served`, () => {
          const peer = { address: family.router, port: 443 };
          const theirs = send(frame(lan(11), lan(1)), transport, { address: family.node, port: nodePort }, peer);
          unchanged(out(theirs, from), theirs);
          for (const flags of ["SA", "A", "PA", "FA"]) {
            const reply = send(
              frame(lan(1), lan(11)),
              transport,
              peer,
              { address: family.node, port: nodePort },
              { flags },
            );
            unchanged(node.run("tc_uplink_ingress", reply), reply);
            unchanged(out(data(theirs), from), data(theirs));
          }
          expect(node.run("tc_uplink_ingress", asked).verdict).toBe("VERDICT_FORWARD");
          // Whoever has the peer's address and another port asks like anybody.
          const other = { address: peer.address, port: peer.port + 1 };
          const request = send(frame(lan(1), lan(11)), transport, other, { address: family.node, port: nodePort });
          expect(node.run("tc_uplink_ingress", request).verdict).toBe("VERDICT_FORWARD");
        });

        it.each([
          ["its first packet", (packet: Uint8Array) => packet],
          ["a packet in its middle", data],
        ])(`${label} of ${from}, seen by %s: keeps its port, a client's flow gets another`, (_, seen) => {
          const port = wanted();
          const theirs = masqueraded(port);
          unchanged(out(seen(theirs), from), seen(theirs));
          const forward = node.run("tc_uplink_ingress", asked);
          expect(forward.verdict).toBe("VERDICT_FORWARD");
          const ours = parsePacket(forward.packet);
          expect(ours).toMatchObject({ source: family.node, destination: family.there, problems: [] });
          expect(inSnatRange(ours.sourcePort)).toBe(true);
          expect(ours.sourcePort).not.toBe(port);
          // Both go on, there and back, for as long as they like.
          for (let round = 0; round < 4; round++) {
            unchanged(out(data(theirs), from), data(theirs));
            const forTheirs = answer(theirs, { flags: round === 0 ? "SA" : "A" });
            unchanged(node.run("tc_uplink_ingress", forTheirs), forTheirs);
            expect(
              node.run("tc_uplink_ingress", answer(forward.packet, { flags: round === 0 ? "SA" : "A" })).text,
            ).toBe(
              `${at(family.node, nodePort)} > ${at(family.client, CLIENT_PORT)} ${words(transport, round === 0 ? "SA" : "A")}`,
            );
            const more = node.run("tc_uplink_ingress", transport === "TCP" ? again(asked) : asked);
            expect(parsePacket(more.packet)).toMatchObject({ sourcePort: ours.sourcePort, destination: family.there });
          }
        });
      }

      it(`${label}: a client's flow that was first keeps its port, a masqueraded connection gets another`, () => {
        const forward = node.run("tc_uplink_ingress", asked);
        const { sourcePort } = parsePacket(forward.packet);
        const theirs = out(masqueraded(sourcePort));
        expect(theirs).toMatchObject({ action: ACTION.next, verdict: "VERDICT_PASS" });
        const changed = parsePacket(theirs.packet);
        expect(changed).toMatchObject({ source: family.node, destination: family.there, problems: [] });
        expect(changed.sourcePort).not.toBe(sourcePort);
        expect(node.run("tc_uplink_ingress", answer(theirs.packet)).text).toBe(
          `${at(family.there, target)} > ${at(family.node, sourcePort)} ${words(transport, "SA")}`,
        );
        expect(node.run("tc_uplink_ingress", answer(forward.packet)).text).toContain(
          `> ${at(family.client, CLIENT_PORT)}`,
        );
      });

      it(`${label}: only ports of SNAT toward backends are claimed`, () => {
        const to = { address: family.there, port: target };
        for (const [from, address, destination] of [
          [SNAT_FIRST - 1, family.node, to],
          [SNAT_FIRST + SNAT_COUNT, family.node, to],
          [SNAT_FIRST + 7, family.pod, to],
          [SNAT_FIRST + 7, family.node, { address: family.router, port: 443 }],
        ] as const) {
          const packet = send(frame(lan(11), lan(12)), transport, { address, port: from }, destination);
          expect(out(packet)).toMatchObject({ verdict: "VERDICT_NEXT", packet });
        }
        expect(node.flows()).toEqual([]);
      });
    }
  }

  it("a range that claims have used up drops by name instead of taking one", () => {
    const family: Family = FAMILIES[0];
    const { nodePort, target } = portsOf("TCP");
    node.settings({ snatCount: 4 });
    try {
      for (let port = SNAT_FIRST; port < SNAT_FIRST + 4; port++) {
        const from = { address: family.node, port };
        node.run(
          "tc_uplink_egress",
          send(frame(lan(11), lan(12)), "TCP", from, { address: family.there, port: target }),
          { ingressIfindex: node.ifindex("cni0") },
        );
      }
      const client = { address: family.client, port: CLIENT_PORT };
      expect(
        node.run("tc_uplink_ingress", send(frame(), "TCP", client, { address: family.node, port: nodePort })),
      ).toMatchObject({ action: ACTION.shot, verdict: "DROP_NO_SOURCE_PORT" });
    } finally {
      node.settings({ snatCount: SNAT_COUNT });
    }
  });
});
