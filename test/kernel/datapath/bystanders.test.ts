// Packets that are none of ours: they go by unchanged at every hook without a look into any table of flows, told by the filter
// that near.h describes. It must never hide what is ours.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { sweepFlows } from "../../../src/datapath/flow-sweep.ts";
import { FLOW_TIMEOUTS } from "../../../src/datapath/flow-timeouts.ts";
import { NEAR_FLAG_VALUES } from "../../../src/datapath/layout.gen.ts";
import type { Address } from "../../../src/lib/address.ts";
import { endpoint, service, slice } from "../../flows/builders.ts";
import { describeKernel } from "../require-kernel.ts";
import { again, answer, at, FAMILIES, frame, objects, podFrame, portsOf, send, V4, V6 } from "./conversation.ts";
import { packet } from "./packet.ts";
import { ACTION, createTestNode, HZ, macOf, type Program, SNAT_FIRST, type TestNode, XDP_ACTION } from "./test-node.ts";
import { CLIENT_PORT, talkBy, WAYS } from "./ways.ts";

const BUCKET_BITS = 19;
const ADDRESS_WORDS = 1 << (BUCKET_BITS - 4);
const PORT_WORDS = 65536 / 64;
const { NEAR_FRONTEND, NEAR_NODE, NEAR_BACKEND } = NEAR_FLAG_VALUES;

/** The bucket of each address, and the element of `met_backends` of a backend there, as near.h reckons them. */
const BUCKETS: readonly (readonly [Address, number])[] = [
  [V4.vip, 320653],
  [V4.lb, 69707],
  [V4.node, 294376],
  [V4.here, 450158],
  [V4.there, 228925],
  [V4.client, 55026],
  [V4.router, 317021],
  [V4.pod, 384573],
  [V4.far, 34256],
  [V6.vip, 205656],
  [V6.lb, 19767],
  [V6.node, 515005],
  [V6.here, 31686],
  [V6.there, 12429],
  [V6.client, 412406],
  [V6.router, 469370],
  [V6.pod, 15242],
  [V6.far, 16796],
];
/** Of backends, by address and port. */
const BACKENDS: readonly (readonly [Address, number, number])[] = [
  [V4.here, 8080, 162381],
  [V4.here, 5353, 351142],
  [V4.there, 8080, 313172],
  [V4.there, 5353, 337521],
  [V6.here, 8080, 235071],
  [V6.here, 5353, 281017],
  [V6.there, 8080, 133012],
  [V6.there, 5353, 475513],
];
const MET: readonly (readonly [Address, number, "TCP" | "UDP", number])[] = [
  [V4.here, 8080, "TCP", 153900],
  [V4.here, 5353, "UDP", 390332],
  [V6.here, 8080, "TCP", 131692],
  [V6.here, 5353, "UDP", 434068],
];

describeKernel("bystanders", () => {
  let node: TestNode;
  let near: BigUint64Array;
  let ranges: BigUint64Array;
  beforeAll(() => {
    node = createTestNode(1);
    near = new BigUint64Array(node.dataplane.map("near").mmap(true));
    ranges = new BigUint64Array(node.dataplane.map("service_ranges").mmap(true));
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => node.clearFlows());

  const bucketOf = (address: Address): number => {
    const found = BUCKETS.find(([one]) => one === address);
    if (found === undefined) throw new Error(`${address} has no bucket here`);
    return found[1];
  };
  const flagsIn = (bucket: number): number => Number((near[bucket >> 4]! >> BigInt((bucket & 15) * 4)) & 15n);
  const flagsOf = (address: Address): number => flagsIn(bucketOf(address));
  const backendIsNear = (address: Address, port: number): boolean => {
    const [, , bucket] = BACKENDS.find(([one, at]) => one === address && at === port)!;
    return (flagsIn(bucket) & NEAR_BACKEND) !== 0;
  };
  const portIsNear = (port: number, protocol: "TCP" | "UDP"): boolean => {
    const word = near[ADDRESS_WORDS + (protocol === "TCP" ? 0 : PORT_WORDS) + (port >> 6)]!;
    return ((word >> BigInt(port & 63)) & 1n) === 1n;
  };

  describe("the filter", () => {
    it("holds frontends, this node's addresses and backends in their buckets", async () => {
      await node.feed(objects(["here", "there"]));
      for (const family of FAMILIES) {
        expect(flagsOf(family.vip) & NEAR_FRONTEND, family.vip).toBe(NEAR_FRONTEND);
        expect(flagsOf(family.lb) & NEAR_FRONTEND, family.lb).toBe(NEAR_FRONTEND);
        expect(flagsOf(family.node) & NEAR_NODE, family.node).toBe(NEAR_NODE);
        for (const backend of [family.here, family.there])
          for (const port of [8080, 5353]) expect(backendIsNear(backend, port), `${backend} ${port}`).toBe(true);
        for (const stranger of [family.client, family.router, family.pod, family.far])
          expect(flagsOf(stranger), stranger).toBe(0);
        expect(flagsOf(family.node) & NEAR_FRONTEND, family.node).toBe(0);
      }
    });

    it("holds the ports of the node, by protocol", async () => {
      await node.feed(objects(["here"]));
      expect([portIsNear(30080, "TCP"), portIsNear(30053, "UDP")]).toEqual([true, true]);
      expect([portIsNear(30080, "UDP"), portIsNear(30053, "TCP"), portIsNear(22, "TCP")]).toEqual([
        false,
        false,
        false,
      ]);
    });

    it("forgets what nobody needs any more, not what somebody else still does", async () => {
      const other = service({
        name: "other",
        clusterIPs: ["10.96.0.50"],
        ports: [{ name: "u", protocol: "UDP", port: 53 }],
      });
      const ports = [{ name: "u", protocol: "UDP", port: 5353 }] as const;
      const keeping = {
        services: [other],
        slices: [slice({ service: "other", ports, endpoints: [endpoint(V4.there, "node2")] })],
      };
      const web = objects(["here", "there"]);
      await node.feed({
        services: [...web.services, ...keeping.services],
        slices: [...web.slices, ...keeping.slices],
      });
      await node.feed(keeping);
      await sweepFlows(node.dataplane, HZ, FLOW_TIMEOUTS);
      expect(flagsOf(V4.vip)).toBe(0);
      expect([backendIsNear(V4.there, 5353), backendIsNear(V4.there, 8080)]).toEqual([true, false]);
      expect(portIsNear(30080, "TCP")).toBe(false);
      expect(flagsOf(V4.node) & NEAR_NODE).toBe(NEAR_NODE);
    });

    it("holds a retired UDP backend, whose clients' sockets are still looked at", async () => {
      await node.feed(objects(["there"]));
      await node.feed(objects(["hereToo"]));
      for (const { there } of FAMILIES) expect(flagsOf(there) & NEAR_FRONTEND, there).toBe(NEAR_FRONTEND);
    });
  });

  describe("a backend's mark", () => {
    it.each(MET)("for %s port %d %s stands at %d once a flow leads there", async (address, port, transport, index) => {
      await node.feed(objects(["here"]));
      const family = address === V4.here ? V4 : V6;
      expect(node.met[index]).toBe(0n);
      const before = node.jiffies();
      const to = { address: family.node, port: portsOf(transport).nodePort };
      node.run("tc_uplink_ingress", send(frame(), transport, { address: family.client, port: CLIENT_PORT }, to));
      expect(node.met[index]! - before).toBeGreaterThanOrEqual(0n);
      expect(node.met[index]! - before).toBeLessThan(10_000n);
      expect(port).toBe(portsOf(transport).target);
    });
  });

  for (const family of FAMILIES) {
    for (const transport of ["TCP", "UDP"] as const) {
      const label = `${family.name} ${transport}`;
      const target = portsOf(transport).target;

      it(`${label}: packets between others go by at every hook, and no flow is made of them or touched by them`, async () => {
        await node.feed(objects(["here", "there"]));
        for (const way of WAYS) {
          await node.feed(objects([way.backend]));
          talkBy(way, node, family, transport).establish();
        }
        await node.feed(objects(["here", "there"]));
        const before = node.flows();
        const pod = { address: family.pod, port: 50000 };
        const client = { address: family.client, port: 50000 };
        const host = { address: family.node, port: 30000 };
        const places: readonly (readonly [Program, ReturnType<typeof frame>])[] = [
          ["tc_uplink_ingress", frame()],
          ["tc_uplink_egress", frame(macOf("lan", 11), macOf("lan", 12))],
          ["tc_pod_ingress", podFrame()],
          ["tc_pod_egress", frame(macOf("pod", 1), macOf("pod", 99))],
        ];
        const pairs = [
          [pod, { address: family.hereToo, port: 9999 }],
          [pod, { address: family.here, port: target }],
          [{ address: family.here, port: target }, pod],
          [client, { address: family.there, port: target }],
          [client, { address: family.node, port: 22 }],
          [{ address: family.node, port: 22 }, client],
          [host, { address: family.router, port: 443 }],
          [host, { address: family.there, port: target }],
          [{ address: family.there, port: target }, host],
          [client, { address: family.otherNode, port: 6443 }],
        ] as const;
        for (const [program, start] of places) {
          for (const [from, to] of pairs) {
            for (const flags of transport === "TCP" ? ["S", "SA", "PA", "FA", "R"] : [""]) {
              const asked = send(start, transport, from, to, { ...(flags === "" ? {} : { flags }), payload: 3 });
              const run = node.run(program, asked);
              expect(run, `${program} ${run.text}`).toMatchObject({
                action: ACTION.next,
                verdict: "VERDICT_NEXT",
                packet: asked,
                mark: 0,
              });
              if (program !== "tc_uplink_ingress") continue;
              expect(node.run("xdp_uplink", asked)).toMatchObject({ action: XDP_ACTION.pass, packet: asked });
            }
          }
        }
        expect(node.flows()).toEqual(before);
      });

      it.each(WAYS.map((way) => [way.name, way] as const))(
        `${label}, %s: an answer is found by its backend's mark, and without it is a stranger's`,
        async (_, way) => {
          await node.feed(objects([way.backend]));
          const talk = talkBy(way, node, family, transport);
          const translated = talk.establish();
          const reply = answer(translated, { flags: "A" });
          const found = talk.reply(reply);
          expect(found.text).toContain(
            `${at(talk.frontend.address, talk.frontend.port)} > ${at(talk.client.address, CLIENT_PORT)}`,
          );
          const marks = node.met.slice();
          expect(marks.some((mark) => mark !== 0n)).toBe(true);
          node.met.fill(0n);
          expect(talk.reply(reply)).toMatchObject({ action: ACTION.next, verdict: "VERDICT_NEXT", packet: reply });
          node.met.set(marks);
          expect(talk.reply(reply)).toEqual(found);
        },
      );

      it.each(WAYS.map((way) => [way.name, way] as const))(
        `${label}, %s: a request is found by its frontend's bits, and without them is a stranger's`,
        async (_, way) => {
          await node.feed(objects([way.backend]));
          const talk = talkBy(way, node, family, transport);
          const kept = [near.slice(), ranges.slice()] as const;
          try {
            near.fill(0n);
            ranges.fill(0n);
            expect(talk.request(talk.first)).toMatchObject({
              action: ACTION.next,
              verdict: "VERDICT_NEXT",
              packet: talk.first,
            });
          } finally {
            near.set(kept[0]);
            ranges.set(kept[1]);
          }
          expect(talk.request(talk.first).verdict).toMatch(/^VERDICT_(PASS|FORWARD)$/);
          expect(talk.request(transport === "TCP" ? again(talk.first) : talk.first).verdict).toMatch(
            /^VERDICT_(PASS|FORWARD)$/,
          );
        },
      );

      it(`${label}: a packet to a node port of another protocol or of an address that is not this node's goes by`, async () => {
        await node.feed(objects(["here"]));
        const { nodePort } = portsOf(transport);
        const other = transport === "TCP" ? "UDP" : "TCP";
        const from = { address: family.client, port: CLIENT_PORT };
        for (const [kind, address] of [
          [other, family.node],
          [transport, family.otherNode],
          [transport, family.pod],
        ] as const) {
          const asked = send(frame(), kind, from, { address, port: nodePort });
          expect(node.run("tc_uplink_ingress", asked)).toMatchObject({ verdict: "VERDICT_NEXT", packet: asked });
        }
      });

      it(`${label}: what must be looked at closer is: free Service addresses, ports that nobody serves, claims of ports`, async () => {
        await node.feed(objects(["there"]));
        const from = { address: family.client, port: CLIENT_PORT };
        const verdictOf = (program: Program, bytes: Uint8Array): string => node.run(program, bytes).verdict;
        expect(verdictOf("tc_uplink_ingress", send(frame(), transport, from, { address: family.free, port: 80 }))).toBe(
          "DROP_FREE_SERVICE_ADDRESS",
        );
        expect(verdictOf("tc_uplink_ingress", send(frame(), transport, from, { address: family.vip, port: 9 }))).toBe(
          "VERDICT_REFUSE",
        );
        const claim = send(
          frame(macOf("lan", 11), macOf("lan", 12)),
          transport,
          { address: family.node, port: SNAT_FIRST + 3 },
          { address: family.there, port: target },
        );
        expect(node.run("tc_uplink_egress", claim)).toMatchObject({ action: ACTION.next, packet: claim });
        expect(node.flows().length, "the claim").toBeGreaterThan(0);
      });
    }

    it(`${family.name}: ICMP of others goes by`, async () => {
      await node.feed(objects(["here"]));
      const v4 = family === V4;
      const about = packet().eth(macOf("lan", 11), macOf("lan", 51)).ip(family.pod, family.client).udp(1, 2).bytes();
      for (const program of ["tc_uplink_ingress", "tc_uplink_egress", "tc_pod_egress"] as const) {
        for (const asked of [
          frame()
            .ip(family.client, family.pod)
            .icmp(v4 ? 8 : 128, 0)
            .payload(8)
            .bytes(),
          frame()
            .ip(family.client, family.pod)
            .icmp(v4 ? 3 : 1, v4 ? 3 : 4)
            .payload(about.slice(14))
            .bytes(),
        ])
          expect(node.run(program, asked)).toMatchObject({ verdict: "VERDICT_NEXT", packet: asked });
      }
    });
  }

  describe("addresses that share a bucket with a frontend", () => {
    afterEach(() => node.clearFlows());
    it("are looked at and go by", async () => {
      await node.feed(objects(["here"]));
      const asked = send(frame(), "TCP", { address: V4.client, port: 1 }, { address: V4.far, port: 80 });
      const bucket = bucketOf(V4.far);
      const word = near[bucket >> 4]!;
      near[bucket >> 4] = word | (BigInt(NEAR_FRONTEND | NEAR_NODE | NEAR_BACKEND) << BigInt((bucket & 15) * 4));
      try {
        expect(node.run("tc_uplink_ingress", asked)).toMatchObject({ verdict: "VERDICT_NEXT", packet: asked });
      } finally {
        near[bucket >> 4] = word;
      }
    });
  });
});
