// What the dataplane answers itself: with hops of its own, without what the request carried along, and not more of it in a
// second than it may. Packets that name their own way to a frontend get no answer at all.
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { possibleCpus } from "../../../src/libbpf/mod.ts";
import { describeKernel } from "../require-kernel.ts";
import { FAMILIES, type Family, frame, objects, podFrame, send, V4, V6 } from "./conversation.ts";
import { packet, parsePacket } from "./packet.ts";
import { ACTION, createTestNode, HZ, macOf, type Program, REPLIES, type Run, type TestNode } from "./test-node.ts";
import { CLIENT_PORT } from "./ways.ts";

const FROM = [
  ["outside", "tc_uplink_ingress", "client", () => frame()],
  ["a pod", "tc_pod_ingress", "pod", () => podFrame()],
  ["the host", "tc_uplink_egress", "node", () => frame(macOf("lan", 11), macOf("lan", 1))],
] as const satisfies readonly (readonly [string, Program, keyof Family, () => ReturnType<typeof frame>])[];

describeKernel("replies of our own", () => {
  let node: TestNode;
  beforeAll(() => {
    node = createTestNode(1);
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => node.clearFlows());
  afterEach(() => node.settings({ replies: REPLIES, hz: HZ }));

  /** Requests that are answered, by what answers them; `fields` go into their network header. */
  const requests = (family: Family, source: string, start: () => ReturnType<typeof frame>) =>
    [
      ["a reset", (fields = {}) => start().ip(source, family.vip, fields).tcp(CLIENT_PORT, 80).bytes()],
      [
        "port unreachable",
        (fields = {}) => start().ip(source, family.vip, fields).udp(CLIENT_PORT, 53).payload(9).bytes(),
      ],
      [
        "an echo answer",
        (fields = {}) =>
          start()
            .ip(source, family.vip, fields)
            .icmp(family === V4 ? 8 : 128, 0, 0x12340007)
            .payload(24)
            .bytes(),
      ],
    ] as const satisfies readonly (readonly [
      string,
      (fields?: Parameters<ReturnType<typeof frame>["ip"]>[2]) => Uint8Array,
    ])[];

  for (const family of FAMILIES) {
    for (const [who, program, source, start] of FROM) {
      it.each(requests(family, family[source], start))(
        `${family.name} from ${who}: %s starts with 64 hops, however few the request had left`,
        async (_, request) => {
          await node.feed(objects([]));
          for (const ttl of [1, 2, 64, 255]) {
            const run = node.run(program, request({ ttl }));
            expect(run.verdict).toMatch(/VERDICT_(REFUSE|ECHO)/);
            expect(parsePacket(run.packet)).toMatchObject({ ttl: 64, problems: [] });
          }
        },
      );
    }
  }

  for (const [who, program, source, start] of FROM) {
    it.each(requests(V4, V4[source], start))(`IPv4 from ${who}: %s has no options`, async (_, request) => {
      await node.feed(objects([]));
      const plain = node.run(program, request());
      // No operation, and a recorded route with room for one address.
      for (const options of [Uint8Array.of(1, 1, 1, 0), Uint8Array.of(7, 7, 4, 0, 0, 0, 0, 0)]) {
        const run = node.run(program, request({ options }));
        expect(run.verdict).toMatch(/VERDICT_(REFUSE|ECHO)/);
        expect(run.packet[14]).toBe(0x45);
        const { source: from, destination, ttl, flags, icmp, problems } = parsePacket(run.packet);
        const expected = parsePacket(plain.packet);
        expect({ from, destination, ttl, flags, problems }).toEqual({
          from: expected.source,
          destination: expected.destination,
          ttl: expected.ttl,
          flags: expected.flags,
          problems: [],
        });
        expect(icmp).toEqual(expected.icmp);
      }
    });

    it(`IPv6 from ${who}: a reset and an echo carry no extension headers`, async () => {
      await node.feed(objects([]));
      for (const [name, request] of requests(V6, V6[source], start)) {
        if (name === "port unreachable") continue;
        const run = node.run(program, request({ extension: true }));
        expect(run.verdict, name).toMatch(/VERDICT_(REFUSE|ECHO)/);
        expect(run.packet[14 + 6], name).toBe(name === "a reset" ? 6 : 58);
        expect(parsePacket(run.packet).problems, name).toEqual([]);
      }
    });
  }

  const loose = Uint8Array.of(131, 7, 4, 192, 168, 122, 1, 0);
  const strict = Uint8Array.of(137, 7, 4, 192, 168, 122, 1, 0);
  const hidden = Uint8Array.of(1, 7, 7, 4, 0, 0, 0, 0, 131, 7, 4, 192, 168, 122, 1, 0);
  const ROUTED = [
    ["IPv4 with a loose source route", V4, { options: loose }, { options: Uint8Array.of(1, 1, 1, 0) }],
    ["IPv4 with a strict source route", V4, { options: strict }, { options: Uint8Array.of(7, 7, 4, 0, 0, 0, 0, 0) }],
    ["IPv4 with a source route behind other options", V4, { options: hidden }, { options: hidden.slice(0, 8) }],
    ["IPv6 with segments left", V6, { segmentsLeft: 1 }, { segmentsLeft: 0 }],
  ] as const;
  for (const [name, family, routed, harmless] of ROUTED) {
    for (const [who, program, source, start] of FROM) {
      it(`${name}, from ${who}: dropped by name at a frontend, whatever would become of it; else it goes on`, async () => {
        const to = (address: string, fields: object) => [
          start().ip(family[source], address, fields).tcp(CLIENT_PORT, 80).bytes(),
          start().ip(family[source], address, fields).udp(CLIENT_PORT, 53).payload(9).bytes(),
        ];
        const drop = { action: ACTION.shot, verdict: "DROP_SOURCE_ROUTE" };
        for (const names of [["here"], ["there"], []] as const) {
          node.clearFlows();
          await node.feed(objects(names));
          for (const asked of to(family.vip, routed)) expect(node.run(program, asked)).toMatchObject(drop);
          expect(node.flows()).toEqual([]);
          for (const asked of to(family.vip, harmless))
            expect(node.run(program, asked).verdict).toMatch(/^VERDICT_(PASS|FORWARD|REFUSE)$/);
          // In the middle of a conversation as well.
          for (const plain of names.length > 0 ? to(family.vip, {}) : []) node.run(program, plain);
          if (names.length > 0)
            for (const asked of to(family.vip, routed)) expect(node.run(program, asked)).toMatchObject(drop);
          for (const asked of to(family.router, routed))
            expect(node.run(program, asked)).toMatchObject({ verdict: "VERDICT_NEXT", packet: asked });
        }
      });
    }
  }

  /** Runs until so many were refused or a limit must have been met, on however many CPUs; counts by verdict. */
  function countVerdicts(count: number, ask: () => Run): Map<string, number> {
    const counts = new Map<string, number>();
    for (let i = 0; i < count; i++) {
      const { verdict } = ask();
      counts.set(verdict, (counts.get(verdict) ?? 0) + 1);
    }
    return counts;
  }

  const limited = FAMILIES.flatMap((family) =>
    requests(family, family.client, () => frame()).map(([name, request]) => [family.name, name, request] as const),
  );
  it.each(limited)("%s: %s is made so many times a second and CPU, then dropped by name", async (_f, _n, request) => {
    await node.feed(objects([]));
    const cpus = possibleCpus();
    // A second that does not end.
    node.settings({ replies: 5, hz: 1_000_000 });
    const counts = countVerdicts(5 * cpus + 20, () => node.run("tc_uplink_ingress", request()));
    const made = (counts.get("VERDICT_REFUSE") ?? 0) + (counts.get("VERDICT_ECHO") ?? 0);
    expect(counts.get("DROP_REPLY_LIMIT")).toBeGreaterThanOrEqual(20 - 5);
    expect(made).toBeLessThanOrEqual(5 * cpus + 5);
    // A second of a jiffy is over at once.
    node.settings({ hz: 1 });
    const until = performance.now() + 1000;
    let verdict = "";
    while (!/VERDICT_(REFUSE|ECHO)/.test(verdict) && performance.now() < until)
      verdict = node.run("tc_uplink_ingress", request()).verdict;
    expect(verdict).toMatch(/VERDICT_(REFUSE|ECHO)/);
  });

  it.each(FAMILIES.map((family) => [family.name, family] as const))(
    "%s: packet too big counts as well, translated packets do not",
    async (_, family) => {
      await node.feed(objects(["far", "here"]));
      const to = { address: family.node, port: 30080 };
      const cpus = possibleCpus();
      node.settings({ replies: 2, hz: 1_000_000 });
      let served = 0;
      const counts = countVerdicts(40 * cpus, () => {
        const client = { address: family.client, port: 20000 + served++ };
        return node.run("tc_uplink_ingress", send(frame(), "TCP", client, to, { payload: 1400, flags: "A" }));
      });
      expect(counts.get("VERDICT_PASS")).toBeGreaterThan(10);
      expect(counts.get("DROP_REPLY_LIMIT")).toBeGreaterThan(5);
      expect(counts.get("VERDICT_TOO_BIG") ?? 0).toBeLessThanOrEqual(2 * cpus + 2);
    },
  );

  it("a limit that is used up at one hook is used up at all", async () => {
    await node.feed(objects([]));
    node.settings({ replies: 1, hz: 1_000_000 });
    const outside = send(frame(), "TCP", { address: V4.client, port: 1 }, { address: V4.vip, port: 80 });
    const pod = send(podFrame(), "TCP", { address: V4.pod, port: 1 }, { address: V4.vip, port: 80 });
    countVerdicts(20 * possibleCpus(), () => node.run("tc_uplink_ingress", outside));
    const counts = countVerdicts(20, () => node.run("tc_pod_ingress", pod));
    expect(counts.get("DROP_REPLY_LIMIT")).toBeGreaterThan(10);
  });

  it("packets that are dropped for the limit are as they came", async () => {
    await node.feed(objects([]));
    node.settings({ replies: 1, hz: 1_000_000 });
    const asked = packet().eth(macOf("lan", 51), macOf("lan", 11)).ip(V4.client, V4.vip).tcp(1, 80).bytes();
    const runs = Array.from({ length: 10 * possibleCpus() }, () => node.run("tc_uplink_ingress", asked));
    const dropped = runs.filter(({ verdict }) => verdict === "DROP_REPLY_LIMIT");
    expect(dropped.length).toBeGreaterThan(0);
    for (const run of dropped) expect(run).toMatchObject({ action: ACTION.shot, packet: asked });
  });
});
