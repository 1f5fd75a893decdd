// Completeness: every verdict there is comes from a packet or a socket here, by name, at some hook. A new verdict without a
// case fails.
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { createAnnouncedRows } from "../../../src/datapath/announced-rows.ts";
import { SETTING_FLAG_VALUES, VERDICT_VALUES } from "../../../src/datapath/layout.gen.ts";
import { encodeMessage, question } from "../../../src/l2/liveness-message.ts";
import { addressBytes } from "../../../src/lib/address.ts";
import { clockBoottimeNs, possibleCpus } from "../../../src/libbpf/mod.ts";
import { endpoint, slice } from "../../flows/builders.ts";
import { describeKernel } from "../require-kernel.ts";
import { joinCgroup } from "./cgroup.ts";
import { frame, objects, sctpObjects, send, V4 } from "./conversation.ts";
import { packet } from "./packet.ts";
import { openSocket } from "./raw-sockets.ts";
import { createTestNode, macOf, type Program, REPLIES, type Run, seenVerdicts, type TestNode } from "./test-node.ts";

const lan = (last: number): string => macOf("lan", last);
const CLIENT = { address: V4.client, port: 40000 };
const NODE_PORT = { address: V4.node, port: 30080 };

type Verdict = Exclude<keyof typeof VERDICT_VALUES, "VERDICT_MAX">;

/** Cannot be reached by a packet: a helper would have to fail on a packet that was already parsed and made writable. */
const UNREACHABLE: readonly Verdict[] = ["DROP_REWRITE"];

type Ask = (node: TestNode) => Promise<Run | undefined> | Run | undefined;

const ask =
  (
    names: Parameters<typeof objects>[0],
    given: { fields?: Parameters<typeof send>[4]; to?: typeof NODE_PORT } = {},
    program: Program = "tc_uplink_ingress",
  ) =>
  async (node: TestNode): Promise<Run> => {
    await node.feed(objects(names));
    return node.run(program, send(frame(), "TCP", CLIENT, given.to ?? NODE_PORT, given.fields));
  };

const CASES: Readonly<Record<Exclude<Verdict, "DROP_REWRITE">, Ask>> = {
  VERDICT_NEXT: ask(["here"], { to: { address: V4.node, port: 22 } }),
  VERDICT_PASS: ask(["here"]),
  VERDICT_FORWARD: ask(["there"]),
  async VERDICT_CONNECT(node) {
    await node.feed(objects(["here"]));
    using _ = joinCgroup(node.dataplane);
    node.namespace.inside(() => {
      using socket = openSocket("TCP");
      expect(socket.connect({ address: V4.vip, port: 80 })).toBe("");
    });
    return undefined;
  },
  VERDICT_REFUSE: ask([]),
  async VERDICT_ECHO(node) {
    await node.feed(objects(["here"]));
    return node.run("tc_uplink_ingress", frame().ip(V4.client, V4.vip).icmp(8, 0).payload(8).bytes());
  },
  VERDICT_NEIGHBOUR(node) {
    const later = clockBoottimeNs() + 60_000_000_000n;
    const place = { address: V4.lb, ifindex: node.ifindex("up0") };
    createAnnouncedRows(node.dataplane).put([place], { renewed: 0n, stale: later, silent: later });
    const request = { operation: "request", senderMac: lan(51), sender: V4.client, target: V4.lb } as const;
    return node.run("tc_uplink_ingress", packet().eth(lan(51), "ff:ff:ff:ff:ff:ff").arp(request).bytes());
  },
  async VERDICT_LIVENESS(node) {
    await node.feed(objects(["here"]));
    const key = new Uint8Array(16);
    node.dataplane.liveness.listen(7948, [key]);
    const asked = encodeMessage(question("0123456789abcdef", "fedcba9876543210"), key);
    return node.run("tc_uplink_ingress", frame().ip(V4.client, V4.node).udp(40000, 7948).payload(asked).bytes());
  },
  VERDICT_TOO_BIG: ask(["far"], { fields: { payload: 1400 } }),
  async VERDICT_ICMP(node) {
    const forward = await ask(["here"])(node);
    const about = forward!.packet.slice(14, 42);
    return node.run("tc_uplink_egress", frame().ip(V4.here, V4.client).icmp(3, 3).payload(about).bytes());
  },
  async DROP_NO_LOCAL_BACKEND(node) {
    await node.feed(objects(["there"], { externalTrafficPolicy: "Local" }));
    return node.run("tc_uplink_ingress", send(frame(), "TCP", CLIENT, NODE_PORT));
  },
  async DROP_STALE_ROW(node) {
    await node.feed(objects(["here"]));
    const { frontends } = node.dataplane.readState();
    const one = frontends.find(({ key }) => key.address === "0.0.0.0" && key.port === 30080)!;
    const state = { op: "put-frontend", key: one.key, row: one.row } as const;
    await node.dataplane.apply([{ ...state, generation: one.generation + 1 }]);
    const run = node.run("tc_uplink_ingress", send(frame(), "TCP", CLIENT, NODE_PORT));
    await node.dataplane.apply([{ ...state, generation: one.generation }]);
    return run;
  },
  async DROP_STALE_BACKEND(node) {
    await node.feed(objects(["here"]));
    // Retired before its slots were left: what a reader sees between two steps, if the steps came in the wrong order.
    const { backends } = node.dataplane.readState();
    await node.dataplane.apply(
      [...backends].map(([index, { generation }]) => ({
        op: "retire-backend",
        index,
        generation: generation + 1,
        udp: false,
      })),
    );
    return node.run("tc_uplink_ingress", send(frame(), "TCP", CLIENT, NODE_PORT));
  },
  DROP_FREE_SERVICE_ADDRESS: ask(["here"], { to: { address: V4.free, port: 80 } }),
  async DROP_FRAGMENT_BEFORE_FIRST(node) {
    await node.feed(objects(["here"]));
    const later = { fragmentOffset: 1480 };
    return node.run("tc_uplink_ingress", frame().ip(V4.client, V4.vip, later).udp(1, 53).payload(8).bytes());
  },
  async DROP_TABLE_FULL(node) {
    node.settings({ tcpFullUntil: node.jiffies() + 1_000_000n });
    const run = await ask(["here"])(node);
    node.settings({ tcpFullUntil: 0n });
    return run;
  },
  async DROP_NO_SOURCE_PORT(node) {
    node.settings({ snatCount: 1 });
    await ask(["there"])(node);
    const run = node.run("tc_uplink_ingress", send(frame(), "TCP", { ...CLIENT, port: 40001 }, NODE_PORT));
    node.settings({ snatCount: 8192 });
    return run;
  },
  async DROP_NO_SOURCE_ADDRESS(node) {
    node.device("up0", { source4: "::" });
    const run = await ask(["there"])(node);
    node.device("up0", { source4: V4.node });
    return run;
  },
  async DROP_NO_ROUTE(node) {
    node.namespace.ip("route replace blackhole 10.244.2.0/24");
    const run = await ask(["there"])(node);
    node.namespace.ip("route del blackhole 10.244.2.0/24");
    node.namespace.ip("route replace 10.244.2.0/24 via 192.168.122.12");
    return run;
  },
  async DROP_ICMP_REDIRECT(node) {
    const forward = await ask(["here"])(node);
    const about = forward!.packet.slice(14, 42);
    return node.run("tc_uplink_egress", frame().ip(V4.here, V4.client).icmp(5, 1).payload(about).bytes());
  },
  async VERDICT_OTHER_PROXY(node) {
    await node.feed(sctpObjects(["here"], 13868));
    node.settings({ flags: SETTING_FLAG_VALUES.SETTING_OTHER_PROXY });
    const run = node.run(
      "tc_uplink_ingress",
      send(frame(), "SCTP", CLIENT, { address: V4.vip, port: 3868 }, { flags: "PA" }),
    );
    node.settings({ flags: 0 });
    return run;
  },
  VERDICT_TIME_EXCEEDED: ask(["there"], { fields: { ttl: 1 } }),
  async DROP_TTL(node) {
    await node.feed(objects(["there"]));
    const first = frame().ip(V4.client, V4.node, { moreFragments: true }).udp(40000, 30053).payload(16);
    node.run("tc_uplink_ingress", first.bytes());
    const later = frame().ip(V4.client, V4.node, { fragmentOffset: 24, ttl: 1 }).raw(17).payload(8);
    return node.run("tc_uplink_ingress", later.bytes());
  },
  async DROP_SCTP_FRAGMENT(node) {
    await node.feed(sctpObjects(["here"], 13868));
    const first = frame().ip(V4.client, V4.node, { moreFragments: true }).sctp(40000, 30868).payload(16);
    return node.run("tc_uplink_ingress", first.bytes());
  },
  async DROP_HOST_TO_HOST(node) {
    const slices = [slice({ ports: [{ name: "t", port: 8080 }], endpoints: [endpoint(V4.node)] })];
    await node.feed({ ...objects([]), slices });
    const from = { address: V4.node, port: 40000 };
    return node.run("tc_uplink_egress", send(frame(lan(11), lan(1)), "TCP", from, { address: V4.vip, port: 80 }));
  },
  DROP_PORT_UNKNOWN: ask([], { fields: { flags: "R" } }),
  async DROP_REPLY_LIMIT(node) {
    await node.feed(objects([]));
    node.settings({ replies: 1 });
    const asked = send(frame(), "TCP", CLIENT, NODE_PORT);
    // One a CPU and second, on whichever CPU this process is.
    const runs = Array.from({ length: 2 * possibleCpus() + 2 }, () => node.run("tc_uplink_ingress", asked));
    node.settings({ replies: REPLIES });
    return runs.find(({ verdict }) => verdict === "DROP_REPLY_LIMIT") ?? runs[0];
  },
  async DROP_SOURCE_ROUTE(node) {
    await node.feed(objects(["here"]));
    const options = Uint8Array.of(131, 7, 4, 192, 168, 122, 1, 0);
    return node.run("tc_uplink_ingress", frame().ip(V4.client, V4.vip, { options }).tcp(40000, 80).bytes());
  },
  async DROP_CLIENT_SHARE(node) {
    const until = node.jiffies() + 1_000_000n;
    node.dataplane
      .map("crowded_clients")
      .update(addressBytes(V4.client), new Uint8Array(BigUint64Array.of(until).buffer));
    node.settings({ crowdedUntil: until });
    const run = await ask(["here"])(node);
    node.settings({ crowdedUntil: 0n });
    return run;
  },
  async DROP_SOURCE_RANGE(node) {
    const { services, slices } = objects(["here"]);
    await node.feed({ services: services?.map((one) => ({ ...one, sourceRanges: ["198.51.100.0/24"] })), slices });
    return node.run("tc_uplink_ingress", send(frame(), "TCP", CLIENT, { address: V4.lb, port: 80 }));
  },
};

describeKernel("verdicts", () => {
  let node: TestNode;
  beforeAll(() => {
    node = createTestNode(1);
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => {
    seenVerdicts.clear();
    node.clearFlows();
  });

  it.each(Object.entries(CASES))("%s", async (name, asked) => {
    const before = node.verdicts();
    const run = await asked(node);
    if (run !== undefined) expect(run.verdict).toBe(name);
    const counted = [...node.verdicts()].filter(([key, count]) => count !== before.get(key)).map(([key]) => key);
    expect(counted.map((key) => key.split(" ")[1])).toContain(name);
  });

  it("has a case for every verdict that a packet can reach", () => {
    const all = Object.keys(VERDICT_VALUES).filter((name) => name !== "VERDICT_MAX");
    expect([...Object.keys(CASES), ...UNREACHABLE].sort()).toEqual(all.sort());
  });
});
