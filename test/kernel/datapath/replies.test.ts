// What the dataplane answers itself, what it drops by name, and ICMP errors about translated flows: every byte that matters
// is read back and checked.
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { createAnnouncedRows } from "../../../src/datapath/announced-rows.ts";
import { type Address, addressBytes } from "../../../src/lib/address.ts";
import { clockBoottimeNs } from "../../../src/libbpf/mod.ts";
import { describeKernel } from "../require-kernel.ts";
import {
  again,
  answer,
  at,
  CONVERSATIONS,
  FAMILIES,
  type Family,
  frame,
  objects,
  portsOf,
  send,
  TRANSPORTS,
  V4,
  V6,
  words,
} from "./conversation.ts";
import { concat, macBytes, packet, parsePacket, withPartialChecksum } from "./packet.ts";
import {
  ACTION,
  createTestNode,
  type Device,
  MARK_REDIRECTED,
  macOf,
  type Program,
  type Run,
  SNAT_FIRST,
  type TestNode,
} from "./test-node.ts";

const CLIENT_PORT = 40000;
const lan = (last: number): string => macOf("lan", last);

/** Hooks where a client's first packet is met, who that is, and how an answer of ours leaves. */
const HOOKS: readonly {
  readonly name: string;
  readonly program: Program;
  readonly device: Device;
  readonly client: "client" | "pod" | "node";
  readonly macs: readonly [string, string];
  readonly replyMacs: readonly [string, string];
}[] = [
  {
    name: "from outside",
    program: "tc_uplink_ingress",
    device: "up0",
    client: "client",
    macs: [lan(51), lan(11)],
    replyMacs: [lan(11), lan(51)],
  },
  {
    name: "from a pod",
    program: "tc_pod_ingress",
    device: "pod99",
    client: "pod",
    macs: [macOf("pod", 99), macOf("pod", 1)],
    replyMacs: [macOf("pod", 1), macOf("pod", 99)],
  },
  {
    // It comes in by the uplink as if it were for this node.
    name: "from the host",
    program: "tc_uplink_egress",
    device: "up0",
    client: "node",
    macs: [lan(11), lan(1)],
    replyMacs: [lan(11), lan(11)],
  },
];

describeKernel("replies", () => {
  let node: TestNode;
  beforeAll(() => {
    node = createTestNode(1);
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => node.clearFlows());

  for (const family of FAMILIES) {
    for (const { name, program, device, client, macs, replyMacs } of HOOKS) {
      const from = { address: family[client], port: CLIENT_PORT };
      const to = { address: family.vip, port: 80 };
      const start = frame(...macs);
      const checkReply = (run: Run): void => {
        expect(run.action).toBe(ACTION.redirect);
        // Only what leaves by our own egress program needs the mark that gets it past.
        expect(run.mark).toBe(program === "tc_uplink_egress" ? 0 : MARK_REDIRECTED);
        const [source, destination] = replyMacs;
        expect(parsePacket(run.packet).eth).toMatchObject({ source, destination });
      };

      it.each([
        ["a SYN", { flags: "S", seq: 1000 }, "RA", 0, 1001],
        ["a SYN with data", { flags: "S", seq: 1000, payload: 9 }, "RA", 0, 1010],
        ["a SYN at the end of the numbers", { flags: "S", seq: 0xffffffff }, "RA", 0, 0],
        ["data with an ACK", { flags: "PA", seq: 5000, ack: 777, payload: 11 }, "R", 777, 0],
        ["a FIN with an ACK", { flags: "FA", seq: 5000, ack: 778 }, "R", 778, 0],
        ["a FIN without ACK", { flags: "F", seq: 5000 }, "RA", 0, 5001],
        ["odd data", { flags: "A", seq: 5000, ack: 1, payload: 1399 }, "R", 1, 0],
      ] as const)(`${family.name} ${name}: %s is answered by the right reset`, async (_, fields, flags, seq, ack) => {
        await node.feed(objects([]));
        const asked = send(start, "TCP", from, to, fields);
        const run = node.run(program, asked, { device });
        expect(run.verdict).toBe("VERDICT_REFUSE");
        expect(run.text).toBe(`${at(family.vip, 80)} > ${at(family[client], CLIENT_PORT)} tcp ${flags}`);
        expect(parsePacket(run.packet)).toMatchObject({ seq, ack, problems: [] });
        expect(run.packet).toHaveLength(14 + family.header + 20);
        checkReply(run);
      });

      it(`${family.name} ${name}: a reset is not answered`, async () => {
        await node.feed(objects([]));
        for (const flags of ["R", "RA"]) {
          const asked = send(start, "TCP", from, to, { flags });
          expect(node.run(program, asked, { device })).toMatchObject({
            action: ACTION.shot,
            verdict: "DROP_PORT_UNKNOWN",
          });
        }
      });

      it(`${family.name} ${name}: TCP options do not come back`, async () => {
        await node.feed(objects([]));
        const asked = start
          .ip(family[client], family.vip)
          .tcp(CLIENT_PORT, 80, { options: Uint8Array.of(2, 4, 5, 180, 1, 3, 3, 7) })
          .bytes();
        const run = node.run(program, asked, { device });
        expect(parsePacket(run.packet)).toMatchObject({ flags: "RA", problems: [] });
        expect(run.packet).toHaveLength(14 + family.header + 20);
      });

      it(`${family.name} ${name}: a checksum that a device is to complete stays one`, async () => {
        await node.feed(objects([]));
        const run = node.run(program, withPartialChecksum(send(start, "TCP", from, to)), { device });
        expect(run.verdict).toBe("VERDICT_REFUSE");
        expect(parsePacket(run.packet)).toMatchObject({ source: family.vip, flags: "RA" });
        expect(run.packet).toEqual(withPartialChecksum(run.packet));
        // An ICMP error is complete itself, and reckons with what the device makes of the packet it quotes.
        const datagram = send(start, "UDP", from, { address: family.vip, port: 53 });
        const error = node.run(program, withPartialChecksum(datagram), { device });
        expect(error.verdict).toBe("VERDICT_REFUSE");
        const quote = withPartialChecksum(datagram).slice(14, 14 + ((datagram.length - 14) & ~3));
        expect(error.packet.slice(-quote.length)).toEqual(quote);
        const completed = error.packet.slice();
        completed.set(completion(quote.subarray(family.header)), completed.length - quote.length + family.header + 6);
        expect(parsePacket(completed).problems.filter((problem) => problem.startsWith("ICMP"))).toEqual([]);
      });

      it.each([0, 1, 3, 7, 100, 1400])(
        `${family.name} ${name}: a datagram of %d bytes is answered by port unreachable`,
        async (payload) => {
          await node.feed(objects([]));
          for (const transport of TRANSPORTS.slice(1, family === V4 ? 3 : 2)) {
            const asked = send(start, transport, from, { address: family.vip, port: 53 }, { payload });
            const run = node.run(program, asked, { device });
            expect(run.verdict).toBe("VERDICT_REFUSE");
            expect(run.text).toBe(
              `${family.vip} > ${family[client]} icmp ${family === V4 ? "3/3" : "1/4"} ` +
                `(${at(family[client], CLIENT_PORT)} > ${at(family.vip, 53)} udp)`,
            );
            const parsed = parsePacket(run.packet);
            expect(parsed).toMatchObject({ ttl: 64, icmp: { rest: 0 }, problems: [] });
            // The quote is what was sent, to the byte, and at least the eight bytes that RFC 792 asks for.
            const quote = parsed.payload;
            expect(quote).toEqual(asked.slice(14, 14 + quote.length));
            expect(quote.length).toBe(Math.min(family.header + 128, asked.length - 14) & ~3);
            checkReply(run);
          }
        },
      );

      it(`${family.name} ${name}: an echo request to an address of ours is answered`, async () => {
        await node.feed(objects(["here"]));
        for (const address of [family.vip, family.lb]) {
          for (const size of [0, 1, 56, 57]) {
            const asked = start
              .ip(family[client], address)
              .icmp(family === V4 ? 8 : 128, 0, 0x12340007)
              .payload(size)
              .bytes();
            const run = node.run(program, asked, { device });
            expect(run.verdict).toBe("VERDICT_ECHO");
            expect(run.text).toBe(`${address} > ${family[client]} icmp ${family === V4 ? "0/0" : "129/0"}`);
            expect(parsePacket(run.packet)).toMatchObject({ icmp: { rest: 0x12340007 } });
            expect(parsePacket(run.packet).payload).toEqual(parsePacket(asked).payload);
            checkReply(run);
          }
        }
      });

      it(`${family.name} ${name}: a free Service address swallows everything, other addresses nothing`, async () => {
        await node.feed(objects(["here"]));
        const echo = (to: Address) =>
          start
            .ip(family[client], to)
            .icmp(family === V4 ? 8 : 128, 0)
            .payload(8)
            .bytes();
        const syn = (to: Address) => send(start, "TCP", from, { address: to, port: 80 });
        const datagram = (to: Address) => send(start, "UDP", from, { address: to, port: 80 });
        for (const make of [echo, syn, datagram]) {
          expect(node.run(program, make(family.free), { device })).toMatchObject({
            action: ACTION.shot,
            verdict: "DROP_FREE_SERVICE_ADDRESS",
          });
          for (const to of [family.there, family.router, family.otherNode]) {
            const bytes = make(to);
            expect(node.run(program, bytes, { device })).toMatchObject({ verdict: "VERDICT_NEXT", packet: bytes });
          }
        }
        // The node's own address answers by itself.
        const own = echo(family.node);
        expect(node.run(program, own, { device })).toMatchObject({ verdict: "VERDICT_NEXT", packet: own });
      });

      it(`${family.name} ${name}: sixteen ranges of cluster addresses are looked at`, async () => {
        await node.feed(objects(["here"]));
        const base = (i: number): Address => (family === V4 ? `10.${200 + i}.0.0` : `fd00:10:${200 + i}::`);
        const ranges = Array.from({ length: 17 }, (_, i) => ({ address: base(i), length: family === V4 ? 16 : 112 }));
        await node.dataplane.apply([{ op: "set-service-ranges", ranges }]);
        const verdicts = ranges.map(({ address }) => {
          const to = { address: address.replace(/0$|$/, "9"), port: 80 };
          return node.run(program, send(start, "TCP", from, to), { device }).verdict;
        });
        expect(verdicts).toEqual([...new Array(16).fill("DROP_FREE_SERVICE_ADDRESS"), "VERDICT_NEXT"]);
      });
    }

    it(`${family.name}: an IPv6 fragment header that cuts nothing is no fragment`, async () => {
      if (family === V4) return;
      await node.feed(objects(["here"]));
      const atomic = frame()
        .ip(family.client, family.node, { fragmentOffset: 0 })
        .udp(CLIENT_PORT, 30053)
        .payload(8)
        .bytes();
      const run = node.run("tc_uplink_ingress", atomic);
      expect(run).toMatchObject({ verdict: "VERDICT_PASS" });
      expect(parsePacket(run.packet)).toMatchObject({ destination: family.here, problems: [] });
    });
  }

  // Size and hops

  for (const [family, transport] of CONVERSATIONS) {
    const { nodePort, target } = portsOf(transport);
    const client = { address: family.client, port: CLIENT_PORT };
    const to = { address: family.node, port: nodePort };
    const header = family.header + (transport === "TCP" ? 20 : 8);

    it(`${family.name} ${transport}: what does not fit the next device is answered from the address asked`, async () => {
      await node.feed(objects(["far"]));
      const check = (asked: Uint8Array): void => {
        const run = node.run("tc_uplink_ingress", asked);
        expect(run).toMatchObject({ action: ACTION.redirect, verdict: "VERDICT_TOO_BIG", mark: MARK_REDIRECTED });
        expect(run.text).toBe(
          `${family.node} > ${family.client} icmp ${family === V4 ? "3/4" : "2/0"} ` +
            `(${at(family.client, CLIENT_PORT)} > ${at(family.node, nodePort)} ${words(transport, "A")})`,
        );
        const parsed = parsePacket(run.packet);
        expect(parsed).toMatchObject({
          icmp: { rest: 1400 },
          eth: { source: lan(11), destination: lan(51) },
          problems: [],
        });
        expect(parsed.payload).toEqual(asked.slice(14, 14 + parsed.payload.length));
      };
      for (const dontFragment of [true, false]) {
        node.clearFlows();
        const big = send(frame(), transport, client, to, { payload: 1401 - header, flags: "A", dontFragment });
        check(big);
        expect(node.flows()).toEqual([]);
        // One byte less fits, and leaves by that device with that device's address.
        const fits = send(frame(), transport, client, to, { payload: 1400 - header, flags: "A", dontFragment });
        const run = node.run("tc_uplink_ingress", fits);
        expect(run.verdict).toBe("VERDICT_FORWARD");
        expect(parsePacket(run.packet)).toMatchObject({
          source: family.tunnel,
          destination: family.far,
          destinationPort: target,
          eth: { source: macOf("tunnel", 1), destination: macOf("tunnel", 9) },
          problems: [],
        });
        // A flow that is known is measured as well.
        check(big);
      }
    });

    it(`${family.name} ${transport}: the last hop is told by this node when forwarded, not when delivered`, async () => {
      await node.feed(objects(["there"]));
      const last = send(frame(), transport, client, to, { ttl: 1 });
      const check = (run: Run, from: Address): void => {
        expect(run).toMatchObject({ action: ACTION.redirect, verdict: "VERDICT_TIME_EXCEEDED", mark: MARK_REDIRECTED });
        expect(run.text).toBe(
          `${from} > ${family.client} icmp ${family === V4 ? "11/0" : "3/0"} ` +
            `(${at(family.client, CLIENT_PORT)} > ${at(to.address, to.port)} ${words(transport)})`,
        );
        expect(parsePacket(run.packet)).toMatchObject({ ttl: 64, icmp: { rest: 0 }, problems: [] });
      };
      for (let i = 0; i < 2; i++) check(node.run("tc_uplink_ingress", last), family.node);
      // A LoadBalancer address is nobody's on the way: routers have their own.
      node.clearFlows();
      const { port } = portsOf(transport);
      const balanced = send(frame(), transport, client, { address: family.lb, port }, { ttl: 1 });
      const run = node.run("tc_uplink_ingress", balanced);
      expect(run.verdict).toBe("VERDICT_TIME_EXCEEDED");
      expect(parsePacket(run.packet)).toMatchObject({
        source: family.node,
        destination: family.client,
        quoted: { destination: family.lb, ttl: 1 },
        problems: [],
      });
      node.clearFlows();
      await node.feed(objects(["here"]));
      expect(node.run("tc_uplink_ingress", last)).toMatchObject({ verdict: "VERDICT_PASS" });
    });
  }

  it.each(FAMILIES.map((family) => [family.name, family] as const))(
    "%s: segments count, not the packet that offload made of them",
    async (_, family) => {
      await node.feed(objects(["far"]));
      const client = { address: family.client, port: CLIENT_PORT };
      const to = { address: family.node, port: 30080 };
      const train = send(frame(), "TCP", client, to, { flags: "A", payload: 2800 });
      const room = 1400 - family.header - 20;
      expect(node.run("tc_uplink_ingress", train, { gsoSize: room })).toMatchObject({ verdict: "VERDICT_FORWARD" });
      const run = node.run("tc_uplink_ingress", train, { gsoSize: room + 1 });
      expect(run).toMatchObject({ verdict: "VERDICT_TOO_BIG" });
      expect(parsePacket(run.packet)).toMatchObject({ icmp: { rest: 1400 }, problems: [] });
    },
  );

  // ICMP errors about translated flows

  for (const family of FAMILIES) {
    const v4 = family === V4;
    const errors: readonly [string, number, number, number][] = v4
      ? [
          ["fragmentation needed", 3, 4, 1400],
          ["port unreachable", 3, 3, 0],
          ["time exceeded", 11, 0, 0],
          ["parameter problem", 12, 0, 0],
        ]
      : [
          ["packet too big", 2, 0, 1400],
          ["port unreachable", 1, 4, 0],
          ["time exceeded", 3, 0, 0],
          ["parameter problem", 4, 0, 0],
        ];
    for (const [name, type, code, rest] of errors) {
      for (const transport of ["TCP", "UDP"] as const) {
        const { port, nodePort, target } = portsOf(transport);
        const label = `${family.name} ${transport}: ${name}`;
        /** An error about `about`, from `from`, to whoever sent `about`. */
        const error = (about: Uint8Array, from: Address, macs: readonly [string, string]): Uint8Array =>
          frame(...macs)
            .ip(from, parsePacket(about).source)
            .icmp(type, code, rest)
            .payload(about.slice(14, 14 + family.header + 8))
            .bytes();
        const expectError = (run: Run, from: Address, to: Address, inner: string): void => {
          expect(run.verdict).toBe("VERDICT_ICMP");
          expect(run.text.replace(/ (udp|tcp \w*)\)$/, ")")).toBe(`${from} > ${to} icmp ${type}/${code} (${inner})`);
          expect(parsePacket(run.packet)).toMatchObject({ icmp: { rest }, problems: [] });
        };
        const client = { address: family.client, port: CLIENT_PORT };

        it(`${label} about a flow to another node, to the client and to the backend`, async () => {
          await node.feed(objects(["there"]));
          const asked = send(frame(), transport, client, { address: family.node, port: nodePort });
          const forward = node.run("tc_uplink_ingress", asked);
          const { sourcePort } = parsePacket(forward.packet);
          const inner = `${at(family.client, CLIENT_PORT)} > ${at(family.node, nodePort)}`;
          // A router on the way keeps its name; the backend has the one that the client knows.
          const byRouter = node.run("tc_uplink_ingress", error(forward.packet, family.router, [lan(12), lan(11)]));
          expectError(byRouter, family.router, family.client, inner);
          expect(byRouter).toMatchObject({ action: ACTION.redirect, mark: MARK_REDIRECTED });
          expect(parsePacket(byRouter.packet)).toMatchObject({
            ttl: 63,
            eth: { source: lan(11), destination: lan(51) },
          });
          const byBackend = node.run("tc_uplink_ingress", error(forward.packet, family.there, [lan(12), lan(11)]));
          expectError(byBackend, family.node, family.client, inner);
          const back = node.run("tc_uplink_ingress", answer(forward.packet));
          const byClient = node.run("tc_uplink_ingress", error(back.packet, family.client, [lan(51), lan(11)]));
          expectError(
            byClient,
            family.node,
            family.there,
            `${at(family.there, target)} > ${at(family.node, sourcePort)}`,
          );
          expect(parsePacket(byClient.packet)).toMatchObject({
            ttl: 63,
            eth: { source: lan(11), destination: lan(12) },
          });
        });

        it(`${label} about a flow to a pod of this node, both ways`, async () => {
          await node.feed(objects(["here"]));
          const asked = send(frame(), transport, client, { address: family.node, port: nodePort });
          const forward = node.run("tc_uplink_ingress", asked);
          const outward = node.run("tc_uplink_egress", error(forward.packet, family.here, [lan(11), lan(51)]), {
            ingressIfindex: node.ifindex("cni0"),
          });
          expectError(
            outward,
            family.node,
            family.client,
            `${at(family.client, CLIENT_PORT)} > ${at(family.node, nodePort)}`,
          );
          expect(outward.action).toBe(ACTION.next);
          // The node itself says it, when its own stack finds the packet too big.
          const own = node.run("tc_uplink_egress", error(forward.packet, family.bridge, [lan(11), lan(51)]));
          expectError(
            own,
            family.bridge,
            family.client,
            `${at(family.client, CLIENT_PORT)} > ${at(family.node, nodePort)}`,
          );
          const back = node.run("tc_uplink_egress", answer(forward.packet), { ingressIfindex: node.ifindex("cni0") });
          const inward = node.run("tc_uplink_ingress", error(back.packet, family.client, [lan(51), lan(11)]));
          expectError(
            inward,
            family.client,
            family.here,
            `${at(family.here, target)} > ${at(family.client, CLIENT_PORT)}`,
          );
          expect(inward.action).toBe(ACTION.next);
        });

        it(`${label} about a pod's flow, both ways`, async () => {
          await node.feed(objects(["there"]));
          const pod = { address: family.pod, port: CLIENT_PORT };
          const macs = [macOf("pod", 99), macOf("pod", 1)] as const;
          const asked = send(frame(...macs), transport, pod, { address: family.vip, port });
          const forward = node.run("tc_pod_ingress", asked);
          for (const [from, named] of [
            [family.there, family.vip],
            [family.router, family.router],
          ] as const) {
            const inward = node.run("tc_pod_egress", error(forward.packet, from, [macs[1], macs[0]]));
            expectError(inward, named, family.pod, `${at(family.pod, CLIENT_PORT)} > ${at(family.vip, port)}`);
            expect(inward.action).toBe(ACTION.next);
          }
          const back = node.run("tc_pod_egress", answer(forward.packet));
          const outward = node.run("tc_pod_ingress", error(back.packet, family.pod, macs));
          expectError(
            outward,
            family.pod,
            family.there,
            `${at(family.there, target)} > ${at(family.pod, CLIENT_PORT)}`,
          );
        });

        it(`${label} about a hairpin and about a process of the host`, async () => {
          await node.feed(objects(["here"]));
          const macs = [macOf("pod", 2), macOf("pod", 1)] as const;
          const self = { address: family.here, port: CLIENT_PORT };
          const forward = node.run(
            "tc_pod_ingress",
            send(frame(...macs), transport, self, { address: family.vip, port }),
            {
              device: "pod2",
            },
          );
          const back = node.run("tc_pod_ingress", error(forward.packet, family.here, macs), { device: "pod2" });
          expectError(back, family.vip, family.here, `${at(family.here, CLIENT_PORT)} > ${at(family.vip, port)}`);
          expect(back).toMatchObject({ action: ACTION.redirect, mark: MARK_REDIRECTED });

          node.clearFlows();
          const host = { address: family.node, port: CLIENT_PORT };
          const asked = send(frame(lan(11), lan(1)), transport, host, { address: family.vip, port });
          const local = node.run("tc_uplink_egress", asked);
          const inward = node.run("tc_pod_ingress", error(local.packet, family.here, macs), { device: "pod2" });
          expectError(inward, family.vip, family.node, `${at(family.node, CLIENT_PORT)} > ${at(family.vip, port)}`);
          expect(inward.action).toBe(ACTION.redirect);

          node.clearFlows();
          await node.feed(objects(["there"]));
          const remote = node.run("tc_uplink_egress", asked);
          const home = node.run("tc_uplink_ingress", error(remote.packet, family.there, [lan(12), lan(11)]));
          expectError(home, family.vip, family.node, `${at(family.node, CLIENT_PORT)} > ${at(family.vip, port)}`);
          expect(home.action).toBe(ACTION.next);
          const reply = node.run("tc_uplink_ingress", answer(remote.packet));
          const outward = node.run("tc_uplink_egress", error(reply.packet, family.node, [lan(11), lan(1)]));
          expectError(
            outward,
            family.node,
            family.there,
            `${at(family.there, target)} > ${at(family.node, CLIENT_PORT)}`,
          );
          expect(outward).toMatchObject({ action: ACTION.redirect, mark: MARK_REDIRECTED });
        });
      }
    }

    it(`${family.name}: an error about a flow that nobody knows goes by`, async () => {
      await node.feed(objects(["there"]));
      const about = send(
        frame(),
        "TCP",
        { address: family.node, port: SNAT_FIRST },
        { address: family.there, port: 8080 },
      );
      const bytes = frame()
        .ip(family.router, family.node)
        .icmp(v4 ? 3 : 1, v4 ? 3 : 4)
        .payload(about.slice(14))
        .bytes();
      for (const program of ["tc_uplink_ingress", "tc_uplink_egress", "tc_pod_ingress", "tc_pod_egress"] as const)
        expect(node.run(program, bytes)).toMatchObject({ verdict: "VERDICT_NEXT", packet: bytes });
    });

    it(`${family.name}: a redirect about a translated flow is dropped, one about another goes by`, async () => {
      await node.feed(objects(["here"]));
      const pod = { address: family.pod, port: CLIENT_PORT };
      const macs = [macOf("pod", 99), macOf("pod", 1)] as const;
      const forward = node.run("tc_pod_ingress", send(frame(...macs), "TCP", pod, { address: family.vip, port: 80 }));
      const redirect = (about: Uint8Array, linkOption = false): Uint8Array => {
        const inner = about.slice(14, 14 + ((about.length - 14) & ~7));
        // ICMPv6 has target and destination first, and the packet in an option behind those of the link layer (RFC 4861).
        const body = v4
          ? inner
          : concat(
              addressBytes(family.there),
              addressBytes(family.there),
              linkOption ? Uint8Array.of(2, 1, ...macBytes(macs[0])) : new Uint8Array(0),
              Uint8Array.of(4, 1 + inner.length / 8, 0, 0, 0, 0, 0, 0),
              inner,
            );
        return frame(macs[1], macs[0])
          .ip(family.bridge, family.pod)
          .icmp(v4 ? 5 : 137, v4 ? 1 : 0, 0)
          .payload(body)
          .bytes();
      };
      for (const linkOption of [false, true]) {
        expect(node.run("tc_pod_egress", redirect(forward.packet, linkOption))).toMatchObject({
          action: ACTION.shot,
          verdict: "DROP_ICMP_REDIRECT",
        });
      }
      const other = redirect(send(frame(), "TCP", pod, { address: family.there, port: 1 }));
      expect(node.run("tc_pod_egress", other)).toMatchObject({ verdict: "VERDICT_NEXT", packet: other });
    });
  }
});

/** What a device writes over the checksum field of what is left of a UDP packet: the field takes part as it stands. */
function completion(datagram: Uint8Array): Uint8Array {
  const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.byteLength);
  let sum = 0;
  for (let at = 0; at < datagram.length; at += 2) sum += view.getUint16(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  const value = ~sum & 0xffff || 0xffff;
  return Uint8Array.of(value >> 8, value & 0xff);
}

describeKernel("announced addresses", () => {
  let node: TestNode;
  const OTHER = "02:66:00:00:00:66";
  beforeAll(() => {
    node = createTestNode(1);
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => {
    const map = node.dataplane.map("announced");
    for (const [key] of map.entries()) map.delete(key);
  });

  /** Times in seconds from now. */
  const announce = (address: Address, given: { stale?: number; silent?: number; device?: Device } = {}): void => {
    const renewed = clockBoottimeNs();
    const second = 1_000_000_000;
    const stale = renewed + BigInt((given.stale ?? 3) * second);
    const silent = renewed + BigInt((given.silent ?? 60) * second);
    const place = { address, ifindex: node.ifindex(given.device ?? "up0") };
    expect(createAnnouncedRows(node.dataplane).put([place], { renewed, stale, silent })).toEqual([""]);
  };
  const conflict = (address: Address): bigint =>
    createAnnouncedRows(node.dataplane)
      .read()
      .find((row) => row.address === address)!.conflict;
  const passes = (bytes: Uint8Array): void =>
    expect(node.run("tc_uplink_ingress", bytes)).toMatchObject({
      action: ACTION.next,
      verdict: "VERDICT_NEXT",
      packet: bytes,
    });

  const request = (given: { to?: string; sender?: Address; target?: Address; mac?: string } = {}): Uint8Array =>
    packet()
      .eth(given.mac ?? lan(51), given.to ?? "ff:ff:ff:ff:ff:ff")
      .arp({
        operation: "request",
        senderMac: given.mac ?? lan(51),
        sender: given.sender ?? V4.client,
        target: given.target ?? V4.lb,
      })
      .bytes();
  const reply = (sender: Address, mac: string): Uint8Array =>
    packet()
      .eth(lan(51), lan(11))
      .arp({ operation: "reply", senderMac: mac, sender: V4.lb, targetMac: lan(51), target: sender })
      .bytes();

  it.each([
    ["a broadcast request", {}, V4.client],
    ["a request to this MAC", { to: lan(11) }, V4.client],
    ["a probe without sender address", { sender: "0.0.0.0" }, "0.0.0.0"],
  ] as const)("ARP: %s is answered to whoever asked", (_, given, sender) => {
    announce(V4.lb);
    const run = node.run("tc_uplink_ingress", request(given));
    expect(run).toMatchObject({ action: ACTION.redirect, verdict: "VERDICT_NEIGHBOUR", mark: MARK_REDIRECTED });
    expect(Buffer.from(run.packet).toString("hex")).toBe(
      Buffer.from(
        packet()
          .eth(lan(11), lan(51))
          .arp({ operation: "reply", senderMac: lan(11), sender: V4.lb, targetMac: lan(51), target: sender })
          .bytes(),
      ).toString("hex"),
    );
  });

  it("ARP: what is not announced here, or gratuitous, or to another MAC, goes by", () => {
    passes(request());
    announce(V4.lb, { device: "up1" });
    passes(request());
    announce(V4.lb);
    passes(request({ to: lan(12) }));
    passes(request({ sender: V4.lb, mac: lan(11) }));
    passes(request({ target: V4.node }));
    passes(reply(V4.client, lan(11)));
    for (const program of ["tc_pod_ingress", "tc_uplink_egress"] as const)
      expect(node.run(program, request())).toMatchObject({ verdict: "VERDICT_NEXT" });
  });

  it("ARP: an announcement that nobody renewed for long is silent", () => {
    announce(V4.lb, { stale: -57, silent: -1 });
    passes(request());
  });

  it.each([
    ["a gratuitous request", () => request({ sender: V4.lb, mac: OTHER })],
    [
      "a reply",
      () =>
        packet()
          .eth(OTHER, lan(11))
          .arp({ operation: "reply", senderMac: OTHER, sender: V4.lb, targetMac: lan(11), target: V4.node })
          .bytes(),
    ],
  ] as const)("ARP: a stale announcement yields to another MAC heard in %s, a fresh one does not", (_, heard) => {
    announce(V4.lb);
    passes(heard());
    expect(conflict(V4.lb)).toBe(0n);
    expect(node.run("tc_uplink_ingress", request()).verdict).toBe("VERDICT_NEIGHBOUR");
    announce(V4.lb, { stale: -1 });
    // Stale it still answers, and its own MAC is no other.
    expect(node.run("tc_uplink_ingress", request()).verdict).toBe("VERDICT_NEIGHBOUR");
    passes(request({ sender: V4.lb, mac: lan(11) }));
    expect(conflict(V4.lb)).toBe(0n);
    passes(heard());
    expect(conflict(V4.lb)).toBeGreaterThan(0n);
    passes(request());
  });

  const group = "33:33:ff:00:01:11";
  const solicited = "ff02::1:ff00:111";
  const solicit = (
    given: { source?: Address; ttl?: number; target?: Address; mac?: string; to?: Address } = {},
  ): Uint8Array =>
    packet()
      .eth(lan(51), group)
      .ip(given.source ?? V6.client, given.to ?? solicited, { ttl: given.ttl ?? 255 })
      .neighbour(135, given.target ?? V6.lb, given.mac)
      .bytes();

  it.each([
    ["with its MAC", lan(51)],
    ["without it", undefined],
  ])("NDP: a solicitation %s is answered", (_, mac) => {
    announce(V6.lb);
    const run = node.run("tc_uplink_ingress", solicit(mac === undefined ? {} : { mac }));
    expect(run).toMatchObject({ action: ACTION.redirect, verdict: "VERDICT_NEIGHBOUR", mark: MARK_REDIRECTED });
    expect(run.text).toBe(`${V6.lb} > ${V6.client} icmp 136/0`);
    const parsed = parsePacket(run.packet);
    expect(parsed).toMatchObject({
      ttl: 255,
      icmp: { rest: 0x60000000 },
      eth: { source: lan(11), destination: lan(51) },
    });
    expect(parsed.payload.slice(16)).toEqual(Uint8Array.of(2, 1, ...macBytes(lan(11))));
    expect(run.packet).toHaveLength(14 + 40 + 32);
  });

  it("NDP: an address that somebody is about to take is defended to all nodes", () => {
    announce(V6.lb);
    const run = node.run("tc_uplink_ingress", solicit({ source: "::" }));
    expect(run.verdict).toBe("VERDICT_NEIGHBOUR");
    expect(run.text).toBe(`${V6.lb} > ff02::1 icmp 136/0`);
    expect(parsePacket(run.packet)).toMatchObject({
      ttl: 255,
      icmp: { rest: 0x20000000 },
      eth: { source: lan(11), destination: "33:33:00:00:00:01" },
    });
  });

  it("NDP: what came through a router, or is not announced, goes by", () => {
    passes(solicit());
    announce(V6.lb);
    passes(solicit({ ttl: 254 }));
    passes(solicit({ target: V6.client }));
    announce(V6.lb, { stale: -57, silent: -1 });
    passes(solicit());
  });

  it("NDP: a stale announcement yields to another MAC's advertisement, a fresh one does not", () => {
    const advertised = (mac: string, ttl = 255): Uint8Array =>
      packet().eth(mac, "33:33:00:00:00:01").ip(V6.lb, "ff02::1", { ttl }).neighbour(136, V6.lb, mac).bytes();
    announce(V6.lb);
    passes(advertised(OTHER));
    expect(conflict(V6.lb)).toBe(0n);
    announce(V6.lb, { stale: -1 });
    passes(advertised(lan(11)));
    expect(conflict(V6.lb)).toBe(0n);
    // Only a neighbour's arrives with all its hops (RFC 4861 section 7.1.2).
    for (const ttl of [17, 254]) passes(advertised(OTHER, ttl));
    expect(conflict(V6.lb)).toBe(0n);
    passes(advertised(OTHER));
    expect(conflict(V6.lb)).toBeGreaterThan(0n);
    passes(solicit());
  });
});

describeKernel("devices without a link header", () => {
  let node: TestNode;
  beforeAll(() => {
    node = createTestNode(1);
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => node.clearFlows());

  // A test run takes bytes 12 and 13 for the Ethernet type; here they are the source address, which is chosen to say the same.
  const CLIENTS: readonly (readonly [Family, Address])[] = [
    [V4, "8.0.0.51"],
    [V6, "fd00:192:86dd::51"],
  ];

  it.each(CLIENTS.map(([family, client]) => [family.name, family, client] as const))(
    "%s: to a pod of this node and back",
    async (_, family, client) => {
      await node.feed(objects(["here"]));
      for (const transport of ["TCP", "UDP"] as const) {
        const { nodePort, target } = portsOf(transport);
        const asked = send(
          packet(),
          transport,
          { address: client, port: CLIENT_PORT },
          { address: family.node, port: nodePort },
        );
        const forward = node.run("tc_uplink_in_l3", asked);
        expect(forward).toMatchObject({ action: ACTION.next, verdict: "VERDICT_PASS" });
        expect(forward.text).toBe(`${at(client, CLIENT_PORT)} > ${at(family.here, target)} ${words(transport)}`);
        // Answers may leave by a device with a link header as well.
        const reply = send(
          frame(lan(11), lan(1)),
          transport,
          { address: family.here, port: target },
          { address: client, port: CLIENT_PORT },
          { flags: "SA" },
        );
        expect(node.run("tc_uplink_egress", reply, { ingressIfindex: node.ifindex("cni0") }).text).toBe(
          `${at(family.node, nodePort)} > ${at(client, CLIENT_PORT)} ${words(transport, "SA")}`,
        );
      }
    },
  );

  it.each(CLIENTS.map(([family, client]) => [family.name, family, client] as const))(
    "%s: to another node by a device that has one: it is made",
    async (_, family, client) => {
      await node.feed(objects(["there"]));
      const asked = send(
        packet(),
        "TCP",
        { address: client, port: CLIENT_PORT },
        { address: family.node, port: 30080 },
      );
      const forward = node.run("tc_uplink_in_l3", asked);
      expect(forward).toMatchObject({ action: ACTION.redirect, verdict: "VERDICT_FORWARD", mark: MARK_REDIRECTED });
      expect(forward.packet).toHaveLength(asked.length + 14);
      expect(parsePacket(forward.packet)).toMatchObject({
        eth: { source: lan(11), destination: lan(12) },
        destination: family.there,
        ttl: 63,
        problems: [],
      });
    },
  );

  it("IPv4: refusals go back as they came, without MACs", async () => {
    await node.feed(objects([]));
    const asked = send(packet(), "TCP", { address: "8.0.0.51", port: CLIENT_PORT }, { address: V4.vip, port: 80 });
    const run = node.run("tc_uplink_in_l3", asked);
    expect(run).toMatchObject({ action: ACTION.redirect, verdict: "VERDICT_REFUSE", mark: MARK_REDIRECTED });
    expect(run.text).toBe(`${V4.vip}:80 > 8.0.0.51:${CLIENT_PORT} tcp RA`);
  });

  it("toward a device without link header the neighbour code is asked", async () => {
    await node.feed(objects(["far"]));
    node.device("up1", { flags: 2 });
    try {
      const asked = send(frame(), "TCP", { address: V4.client, port: CLIENT_PORT }, { address: V4.node, port: 30080 });
      const run = node.run("tc_uplink_ingress", asked);
      expect(run).toMatchObject({ action: ACTION.redirect, verdict: "VERDICT_FORWARD" });
      expect(parsePacket(run.packet)).toMatchObject({ source: V4.tunnel, destination: V4.far, problems: [] });
    } finally {
      node.device("up1", { flags: 0 });
    }
  });

  it("at egress what is redirected gets by, answers are translated back", async () => {
    await node.feed(objects(["here"]));
    const client = { address: V4.client, port: CLIENT_PORT };
    node.run("tc_uplink_ingress", send(frame(), "UDP", client, { address: V4.node, port: 30053 }));
    // The answer's source address would have to say "IPv4" here, which no pod's does: it is seen as something else.
    const reply = send(packet(), "UDP", { address: V4.here, port: 5353 }, client);
    expect(node.run("tc_uplink_out_l3", reply, { mark: MARK_REDIRECTED })).toMatchObject({ verdict: "none", mark: 0 });
    expect(node.run("tc_uplink_out_l3", reply)).toMatchObject({ verdict: "VERDICT_NEXT" });
  });
});

describeKernel("again", () => {
  it("builds the sender's next packet", () => {
    const first = send(frame(), "TCP", { address: V4.client, port: 1 }, { address: V4.vip, port: 2 }, { seq: 5 });
    expect(parsePacket(again(first))).toMatchObject({ seq: 6, ack: 7001, flags: "A", problems: [] });
  });
});
