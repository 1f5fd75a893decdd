// Before Linux 5.12 a route lookup does not tell the route's MTU: packets are then measured by their output device's row. The
// row says less than the device's own MTU here, so that it shows which of the two was asked.
import { afterAll, beforeAll, expect, it } from "vitest";
import { resetFeatures } from "../../../src/libbpf/mod.ts";
import { describeKernelWith } from "../require-kernel.ts";
import { again, FAMILIES, frame, objects, send } from "./conversation.ts";
import { parsePacket } from "./packet.ts";
import { createTestNode, type TestNode } from "./test-node.ts";

const DEVICE_MTU = 1300;
const ROUTE_MTU = 1400;

const CASES = [
  { name: "from Linux 5.12 on packets are measured by the route", needs: ["fib_mtu"], without: "", mtu: ROUTE_MTU },
  { name: "below Linux 5.12 packets are measured by the device", needs: [], without: "fib_mtu", mtu: DEVICE_MTU },
] as const;

for (const { name, needs, without, mtu } of CASES)
  describeKernelWith(needs, name, () => {
    let node: TestNode;
    const before = process.env["MILLRACE_WITHOUT"];
    beforeAll(() => {
      process.env["MILLRACE_WITHOUT"] = without;
      resetFeatures();
      node = createTestNode(1);
      node.device("up1", { mtu: DEVICE_MTU });
    });
    afterAll(() => {
      if (before === undefined) delete process.env["MILLRACE_WITHOUT"];
      else process.env["MILLRACE_WITHOUT"] = before;
      resetFeatures();
      node?.[Symbol.dispose]();
    });

    it.each(FAMILIES.map((family) => [family.name, family] as const))(
      "%s: a packet is too big from one byte more on, known flow or not",
      async (_name, family) => {
        await node.feed(objects(["far"]));
        node.clearFlows();
        const room = mtu - family.header - 20;
        const first = send(
          frame(),
          "TCP",
          { address: family.client, port: 40000 },
          { address: family.node, port: 30080 },
          { payload: room },
        );
        const tooBig = (packet: Uint8Array): void => {
          const run = node.run("tc_uplink_ingress", packet);
          expect(run).toMatchObject({ verdict: "VERDICT_TOO_BIG" });
          expect(parsePacket(run.packet)).toMatchObject({ icmp: { rest: mtu }, problems: [] });
        };
        tooBig(again(first, { payload: room + 1 }));
        expect(node.run("tc_uplink_ingress", first)).toMatchObject({ verdict: "VERDICT_FORWARD" });
        expect(node.run("tc_uplink_ingress", again(first, { payload: room }))).toMatchObject({
          verdict: "VERDICT_FORWARD",
        });
        tooBig(again(first, { payload: room + 1 }));
      },
    );
  });
