// A client that has its share of a table that fills opens nothing more until its time is over; everybody else does, and so does
// what it has already.
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { addressBytes } from "../../../src/lib/address.ts";
import { describeKernel } from "../require-kernel.ts";
import { again, FAMILIES, objects, send } from "./conversation.ts";
import { ACTION, createTestNode, type TestNode } from "./test-node.ts";
import { CLIENT_PORT, talkBy, WAYS, wayOf } from "./ways.ts";

const FAR = 1_000_000n;

describeKernel("a client's share of the table", () => {
  let node: TestNode;
  beforeAll(() => {
    node = createTestNode(1);
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => node.clearFlows());
  afterEach(() => node.settings({ crowdedUntil: 0n }));

  const crowd = (address: string, until: bigint): void =>
    node.dataplane
      .map("crowded_clients")
      .update(addressBytes(address), new Uint8Array(BigUint64Array.of(until).buffer));
  const drop = { action: ACTION.shot, verdict: "DROP_CLIENT_SHARE" };
  const served = /^VERDICT_(PASS|FORWARD)$/;

  for (const family of FAMILIES) {
    for (const transport of ["TCP", "UDP"] as const) {
      it.each(WAYS.map((way) => [way.name, way] as const))(
        `${family.name} ${transport}, %s: it opens nothing more, and goes on with what it has`,
        async (_, way) => {
          await node.feed(objects([way.backend]));
          const old = talkBy(way, node, family, transport);
          old.establish();
          const before = node.flowTexts();
          crowd(old.client.address, node.jiffies() + FAR);
          node.settings({ crowdedUntil: node.jiffies() + FAR });
          const fresh = talkBy(way, node, family, transport, CLIENT_PORT + 1);
          expect(fresh.request(fresh.first)).toMatchObject(drop);
          expect(node.flowTexts()).toEqual(before);
          expect(old.request(transport === "TCP" ? again(old.first) : old.first).verdict).toMatch(served);
        },
      );
    }

    it(`${family.name}: other clients are served meanwhile`, async () => {
      await node.feed(objects(["here"]));
      const talk = talkBy(wayOf("outside, backend on this node"), node, family, "TCP");
      crowd(family.otherClient, node.jiffies() + FAR);
      node.settings({ crowdedUntil: node.jiffies() + FAR });
      expect(talk.request(talk.first).verdict).toMatch(served);
      const other = send(talk.start, "TCP", { ...talk.client, address: family.otherClient }, talk.frontend);
      expect(talk.request(other)).toMatchObject(drop);
      expect(node.run("xdp_uplink", other).verdict, "XDP leaves the drop to tc").toBe("VERDICT_NEXT");
    });

    it(`${family.name}: when its time or that of all is over it is served, without anybody's doing`, async () => {
      await node.feed(objects(["here"]));
      const talk = talkBy(wayOf("outside, backend on this node"), node, family, "TCP");
      const now = node.jiffies();
      for (const [client, all] of [
        [now, now + FAR],
        [now + FAR, now],
        [now + FAR, 0n],
        [0n, now + FAR],
      ] as const) {
        node.clearFlows();
        crowd(family.client, client);
        node.settings({ crowdedUntil: all });
        expect(talk.request(talk.first).verdict).toMatch(served);
      }
    });
  }
});
