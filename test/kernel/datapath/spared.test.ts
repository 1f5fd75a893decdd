// Packets that ask no frontend are touched where a translated flow needs that, and otherwise left alone: they are never dropped for
// want of room, and pods on one bridge, whose frames bear each other's MACs, are told from pods that ask for a Service.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { writeAddress } from "../../../src/lib/address.ts";
import { describeKernel } from "../require-kernel.ts";
import { again, answer, at, FAMILIES, frame, objects, podFrame, portsOf, send, V4, words } from "./conversation.ts";
import { cut } from "./fragments.ts";
import { parsePacket } from "./packet.ts";
import { ACTION, createTestNode, HZ, macOf, type Run, SNAT_COUNT, SNAT_FIRST, type TestNode } from "./test-node.ts";
import { CLIENT_PORT } from "./ways.ts";

const lan = (last: number): string => macOf("lan", last);

describeKernel("packets that are nobody's", () => {
  let node: TestNode;
  beforeAll(() => {
    node = createTestNode(1);
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => node.clearFlows());
  afterEach(() => node.settings({ tcpFullUntil: 0n, udpFullUntil: 0n, crowdedUntil: 0n, snatCount: SNAT_COUNT }));

  const untouched = (run: Run, packet: Uint8Array): void =>
    expect(run).toMatchObject({ action: ACTION.next, verdict: "VERDICT_NEXT", packet });
  const fullFor = (): bigint => node.jiffies() + BigInt(60 * HZ);

  for (const family of FAMILIES) {
    for (const transport of ["TCP", "UDP"] as const) {
      const label = `${family.name} ${transport}`;
      const { port, nodePort, target } = portsOf(transport);
      const client = { address: family.client, port: CLIENT_PORT };

      describe.each([
        ["a full table", () => node.settings({ tcpFullUntil: fullFor(), udpFullUntil: fullFor() })],
        [
          "a crowding sender",
          () => {
            for (const address of [family.node, family.client]) {
              const key = new Uint8Array(16);
              writeAddress(address, key, 0);
              const until = new Uint8Array(BigUint64Array.of(fullFor()).buffer);
              node.dataplane.map("crowded_clients").update(key, until);
            }
            node.settings({ crowdedUntil: fullFor() });
          },
        ],
      ] as const)(`${label}, %s`, (_, fill) => {
        it("lets connections of the node and of masqueraded pods by, from whatever port", async () => {
          await node.feed(objects(["there"]));
          fill();
          for (const from of [SNAT_FIRST + 7, nodePort])
            for (const ingressIfindex of [0, node.ifindex("cni0")]) {
              const to = { address: family.there, port: target };
              const sent = send(frame(lan(11), lan(12)), transport, { address: family.node, port: from }, to);
              untouched(node.run("tc_uplink_egress", sent, { ingressIfindex }), sent);
            }
        });

        it("lets a conversation straight to a pod by, beside one that is translated", async () => {
          await node.feed(objects(["here"]));
          node.run("tc_uplink_ingress", send(frame(), transport, client, { address: family.node, port: nodePort }));
          fill();
          const direct = send(frame(), transport, client, { address: family.here, port: target });
          untouched(node.run("tc_uplink_ingress", direct), direct);
        });
      });

      it(`${label}: the tunnel of an overlay between nodes claims nothing, though a backend is on the other node's address`, async () => {
        await node.feed(objects(["there"]));
        for (let from = SNAT_FIRST; from < SNAT_FIRST + 16; from++) {
          const outer = send(
            frame(lan(11), lan(12)),
            transport,
            { address: family.node, port: from },
            { address: family.there, port: 4789 },
          );
          untouched(node.run("tc_uplink_egress", outer), outer);
        }
        expect(node.flows()).toEqual([]);
      });

      it(`${label}: a pod's conversation straight to one on its bridge is kept apart from one through a frontend`, async () => {
        await node.feed(objects(["here"]));
        const from = { address: family.pod, port: CLIENT_PORT };
        const asked = send(podFrame(), transport, from, { address: family.vip, port });
        const translated = node.run("tc_pod_ingress", asked);
        const direct = send(frame(macOf("pod", 99), macOf("pod", 2)), transport, from, {
          address: family.here,
          port: target,
        });
        const changed = node.run("tc_pod_ingress", direct);
        expect(changed).toMatchObject({ action: ACTION.next, verdict: "VERDICT_PASS" });
        const parsed = parsePacket(changed.packet);
        expect(parsed).toMatchObject({ source: family.pod, destination: family.here, problems: [] });
        expect(parsed.eth).toMatchObject({ destination: macOf("pod", 2) });
        expect(parsed.sourcePort).not.toBe(CLIENT_PORT);
        const back = (run: Run): string => node.run("tc_pod_egress", answer(run.packet)).text;
        expect(back(translated)).toBe(
          `${at(family.vip, port)} > ${at(family.pod, CLIENT_PORT)} ${words(transport, "SA")}`,
        );
        expect(back(changed)).toBe(
          `${at(family.here, target)} > ${at(family.pod, CLIENT_PORT)} ${words(transport, "SA")}`,
        );
        // A frontend is asked of this machine, not of another pod.
        const strange = send(frame(macOf("pod", 99), macOf("pod", 2)), transport, from, {
          address: family.vip,
          port: port + 1,
        });
        untouched(node.run("tc_pod_ingress", strange), strange);
      });
    }
  }

  it("a first fragment that is none of ours forgets what an older datagram of its number left", async () => {
    await node.feed(objects(["here"]));
    const client = { address: V4.client, port: CLIENT_PORT };
    const big = (port: number): Uint8Array[] =>
      cut(send(frame(), "UDP", client, { address: V4.node, port }, { payload: 2000 }));
    for (const piece of big(portsOf("UDP").nodePort))
      expect(node.run("tc_uplink_ingress", piece).verdict).toBe("VERDICT_PASS");
    for (const piece of big(5000)) untouched(node.run("tc_uplink_ingress", piece), piece);
  });

  it("a later fragment is told no size: its first one was", async () => {
    await node.feed(objects(["far"]));
    const client = { address: V4.client, port: CLIENT_PORT };
    const pieces = cut(
      send(frame(), "UDP", client, { address: V4.node, port: portsOf("UDP").nodePort }, { payload: 4000 }),
      { size: 1480 },
    );
    const verdicts = pieces.map((piece) => node.run("tc_uplink_ingress", piece).verdict);
    expect(verdicts[0]).toBe("VERDICT_TOO_BIG");
    expect(verdicts.slice(1)).not.toContain("VERDICT_TOO_BIG");
  });

  it.each(["TCP", "UDP"] as const)(
    "%s: openings that came to nothing give their ports up to others when those are hard to find",
    async (transport) => {
      await node.feed(objects(["there"]));
      const to = { address: V4.node, port: portsOf(transport).nodePort };
      const asking = (port: number): Uint8Array => send(frame(), transport, { address: V4.client, port }, to);
      const first = (port: number): Run => node.run("tc_uplink_ingress", asking(port));
      node.settings({ snatCount: 8 });
      for (let port = 20000; port < 20064; port++) first(port);
      expect(first(30000).verdict).toBe("DROP_NO_SOURCE_PORT");
      for (const row of node.flows()) node.putFlow(row, { seen: (row.flow.seen - 4 * HZ) >>> 0 });
      const asked = first(30001);
      expect(asked.verdict).toBe("VERDICT_FORWARD");
      // Whose the pair was can use it no more.
      expect(node.run("tc_uplink_ingress", answer(asked.packet)).text).toContain(`> ${at(V4.client, 30001)}`);
      const { sourcePort } = parsePacket(asked.packet);
      expect(node.flows().filter(({ flow }) => flow.answer === 0 && flow.write.sourcePort === sourcePort)).toHaveLength(
        1,
      );
      // Who goes on keeps his.
      node.run("tc_uplink_ingress", again(asking(30001), { ack: 7001 }));
      expect(node.flows().some(({ table }) => table !== "openings")).toBe(true);
    },
  );
});
