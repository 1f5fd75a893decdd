// What is refused or dropped is counted for the Service that it was on its way to, at the hook that saw it; what was on its way to none
// is not, and a Service that is gone leaves nothing behind for the next one under its id.
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { readRefusals } from "../../../src/agent/service-counters.ts";
import { refusalOf } from "../../flows/kernel-executor.ts";
import { describeKernel } from "../require-kernel.ts";
import { joinCgroup } from "./cgroup.ts";
import { again, frame, objects, send, V4 } from "./conversation.ts";
import { openSocket } from "./raw-sockets.ts";
import { createTestNode, REPLIES, type TestNode } from "./test-node.ts";

const CLIENT = { address: V4.client, port: 40_000 };
const NODE_PORT = { address: V4.node, port: 30_080 };

describeKernel("refusals of a Service", () => {
  let node: TestNode;
  beforeAll(() => {
    node = createTestNode(1);
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => node.clearFlows());

  /** "hook verdict count" of each Service port that has some. */
  const counted = (): string[] =>
    [...readRefusals(node.dataplane.map("service_refusals")).values()]
      .flat()
      .map(({ hook, verdict, packets }) => `${hook} ${verdict} ${packets}`)
      .sort();
  const ask = (to = NODE_PORT) => node.run("tc_uplink_ingress", send(frame(), "TCP", CLIENT, to)).verdict;

  it("are counted from the first one, by hook and verdict, and by no translated packet", async () => {
    await node.feed(objects(["here"]));
    expect(ask()).toBe("VERDICT_PASS");
    expect(counted()).toEqual([]);
    await node.feed(objects([]));
    node.clearFlows();
    for (let i = 0; i < 3; i++) expect(ask()).toBe("VERDICT_REFUSE");
    expect(counted()).toEqual(["uplink_ingress refuse 3"]);
    await node.feed(objects(["there"], { externalTrafficPolicy: "Local" }));
    expect(ask()).toBe("DROP_NO_LOCAL_BACKEND");
    expect(counted()).toEqual(["uplink_ingress drop_no_local_backend 1", "uplink_ingress refuse 3"]);
  });

  it("are counted of sockets too", async () => {
    await node.feed(objects([]));
    using _ = joinCgroup(node.dataplane);
    node.namespace.inside(() => {
      for (let i = 0; i < 2; i++) {
        using socket = openSocket("TCP");
        expect(socket.connect({ address: V4.vip, port: 80 })).toBe(refusalOf("TCP"));
      }
      using none = openSocket("TCP");
      expect(none.connect({ address: V4.vip, port: 81 })).toBe(refusalOf("TCP"));
    });
    expect(counted().filter((line) => line.startsWith("connect"))).toEqual(["connect refuse 2"]);
  });

  it("are of a flow's Service, when its packet goes no further", async () => {
    await node.feed(objects(["there"]));
    expect(ask()).toBe("VERDICT_FORWARD");
    const dead = again(send(frame(), "TCP", CLIENT, NODE_PORT), { ttl: 1 });
    expect(node.run("tc_uplink_ingress", dead).verdict).toBe("VERDICT_TIME_EXCEEDED");
    node.settings({ replies: 0 });
    expect(node.run("tc_uplink_ingress", dead).verdict).toBe("DROP_REPLY_LIMIT");
    node.settings({ replies: REPLIES });
    expect(counted()).toContain("uplink_ingress drop_reply_limit 1");
  });

  it("do not count what asks no Service", async () => {
    await node.feed(objects([]));
    const before = counted();
    expect(ask({ address: V4.vip, port: 81 })).toBe("VERDICT_REFUSE");
    expect(counted()).toEqual(before);
  });

  it("go with their Service", async () => {
    await node.feed(objects([]));
    ask();
    expect(counted()).not.toEqual([]);
    await node.feed({});
    expect(counted()).toEqual([]);
  });
});
