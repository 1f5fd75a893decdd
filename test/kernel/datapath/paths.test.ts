// A packet's life on every path: what one program made is the next one's input, there and back, until the client has its
// answer from the address it talked to.
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { DEVICE_FLAG_VALUES } from "../../../src/datapath/layout.gen.ts";
import { endpoint, slice } from "../../flows/builders.ts";
import { describeKernel } from "../require-kernel.ts";
import {
  again,
  answer,
  at,
  CONVERSATIONS,
  frame,
  objects,
  podFrame,
  portsOf,
  send,
  V4,
  words,
} from "./conversation.ts";
import { packet, parsePacket } from "./packet.ts";
import {
  ACTION,
  createTestNode,
  MARK_REDIRECTED,
  macOf,
  SNAT_COUNT,
  SNAT_FIRST,
  type TestNode,
  XDP_ACTION,
} from "./test-node.ts";

const CLIENT_PORT = 40000;
const FORWARD_MARK = 0x1000;
/** What the packets of the tests of marks carry when they come. */
const OTHERS_MARK = 0x20;
const PAYLOADS = [0, 1, 3, 7, 100, 1400];

describeKernel("paths", () => {
  let node: TestNode;
  let other: TestNode;
  beforeAll(() => {
    node = createTestNode(1);
    other = createTestNode(2);
  });
  afterAll(() => {
    other?.[Symbol.dispose]();
    node?.[Symbol.dispose]();
  });
  beforeEach(() => node.clearFlows());

  const lan = (last: number): string => macOf("lan", last);
  const inSnatRange = (port: number): boolean => port >= SNAT_FIRST && port < SNAT_FIRST + SNAT_COUNT;

  for (const [family, transport] of CONVERSATIONS) {
    const { port, nodePort, target } = portsOf(transport);
    const client = { address: family.client, port: CLIENT_PORT };
    const isTcp = transport === "TCP";
    const label = `${family.name} ${transport}`;
    const udpKept = (bytes: Uint8Array): void => {
      if (transport === "UDP without checksum") expect(parsePacket(bytes).checksum).toBe(0);
    };

    it.each(PAYLOADS)(`${label}: outside, backend on another node, %d bytes`, async (payload) => {
      await node.feed(objects(["there"]));
      await other.feed(objects(["there"]));
      const asked = send(frame(), transport, client, { address: family.node, port: nodePort }, { payload });

      // Translated both ways and sent out of the same device.
      const forward = node.run("tc_uplink_ingress", asked);
      expect(forward).toMatchObject({ action: ACTION.redirect, verdict: "VERDICT_FORWARD", mark: MARK_REDIRECTED });
      const translated = parsePacket(forward.packet);
      expect(forward.text).toBe(
        `${at(family.node, translated.sourcePort)} > ${at(family.there, target)} ${words(transport)}`,
      );
      expect(inSnatRange(translated.sourcePort)).toBe(true);
      expect(translated).toMatchObject({ ttl: 63, eth: { source: lan(11), destination: lan(12) } });
      expect(translated.payload).toEqual(parsePacket(asked).payload);
      udpKept(forward.packet);

      // It meets our own egress program, which lets it by uncounted.
      const out = node.run("tc_uplink_egress", forward.packet, { mark: forward.mark });
      expect(out).toMatchObject({ action: ACTION.next, verdict: "none", mark: 0 });
      expect(out.packet).toEqual(forward.packet);

      // The other node has nothing to do with it.
      const arrived = other.run("tc_uplink_ingress", out.packet);
      expect(arrived).toMatchObject({ action: ACTION.next, verdict: "VERDICT_NEXT" });
      expect(arrived.packet).toEqual(out.packet);
      const answered = answer(arrived.packet, { payload });
      const left = other.run("tc_uplink_egress", answered, { ingressIfindex: other.ifindex("cni0") });
      expect(left).toMatchObject({ action: ACTION.next, verdict: "VERDICT_NEXT" });

      // Back to the client as if nothing had happened.
      const back = node.run("tc_uplink_ingress", left.packet);
      expect(back).toMatchObject({ action: ACTION.redirect, verdict: "VERDICT_FORWARD", mark: MARK_REDIRECTED });
      expect(back.text).toBe(
        `${at(family.node, nodePort)} > ${at(family.client, CLIENT_PORT)} ${words(transport, "SA")}`,
      );
      expect(parsePacket(back.packet)).toMatchObject({ ttl: 63, eth: { source: lan(11), destination: lan(51) } });
      udpKept(back.packet);

      // Next packets go the same way.
      const more = node.run("tc_uplink_ingress", again(asked, { payload }));
      expect(more.verdict).toBe("VERDICT_FORWARD");
      expect(parsePacket(more.packet)).toMatchObject({
        sourcePort: translated.sourcePort,
        destination: family.there,
        problems: [],
      });
    });

    it(`${label}: XDP makes the same bytes as tc, there and back`, async () => {
      await node.feed(objects(["there"]));
      const asked = send(frame(), transport, client, { address: family.node, port: nodePort });
      const byTc = node.run("tc_uplink_ingress", asked);
      const answered = answer(byTc.packet);
      const backByTc = node.run("tc_uplink_ingress", answered);
      // The second packet of each direction asks for its way, which XDP goes on by.
      for (const packet of [asked, answered]) node.run("tc_uplink_ingress", packet);
      const byXdp = node.run("xdp_uplink", asked);
      // Out of the device that it came in by.
      expect(byXdp).toMatchObject({ action: XDP_ACTION.tx, verdict: "VERDICT_FORWARD", hook: "XDP" });
      expect(byXdp.packet).toEqual(byTc.packet);
      const backByXdp = node.run("xdp_uplink", answered);
      expect(backByXdp).toMatchObject({ action: XDP_ACTION.tx, verdict: "VERDICT_FORWARD" });
      expect(backByXdp.packet).toEqual(backByTc.packet);
      expect(node.run("tc_uplink_ingress", again(asked)).text).toBe(node.run("xdp_uplink", again(asked)).text);
    });

    it(`${label}: XDP sends by another device only when that takes its frames, and leaves all else to tc`, async () => {
      await node.feed(objects(["far"]));
      const to = { address: family.node, port: nodePort };
      const asked = send(frame(), transport, client, to);
      const run = node.run("xdp_uplink", asked);
      expect(run).toMatchObject({ action: XDP_ACTION.pass, verdict: "VERDICT_NEXT", packet: asked });
      node.device("up1", { flags: DEVICE_FLAG_VALUES.DEVICE_XDP_TARGET });
      try {
        node.clearFlows();
        for (const _ of [1, 2]) node.run("tc_uplink_ingress", asked);
        const sent = node.run("xdp_uplink", asked);
        expect(sent).toMatchObject({ action: XDP_ACTION.redirect, verdict: "VERDICT_FORWARD" });
        expect(parsePacket(sent.packet)).toMatchObject({
          source: family.tunnel,
          destination: family.far,
          problems: [],
        });
      } finally {
        node.device("up1", { flags: 0 });
      }
      const last = send(frame(), transport, client, to, { ttl: 1 });
      expect(node.run("xdp_uplink", last)).toMatchObject({ action: XDP_ACTION.pass, packet: last });
    });

    it(`${label}: XDP needs nobody's leave to send out of the device that a frame came in by`, async () => {
      await node.feed(objects(["there"]));
      node.device("up0", { flags: 0 });
      try {
        const asked = send(frame(), transport, client, { address: family.node, port: nodePort });
        for (const _ of [1, 2]) node.run("tc_uplink_ingress", asked);
        expect(node.run("xdp_uplink", asked)).toMatchObject({ action: XDP_ACTION.tx, verdict: "VERDICT_FORWARD" });
      } finally {
        node.device("up0", { flags: DEVICE_FLAG_VALUES.DEVICE_XDP_TARGET });
      }
    });

    it(`${label}: outside, backend on this node, answers by either uplink`, async () => {
      await node.feed(objects(["here"]));
      for (const to of [
        { address: family.node, port: nodePort },
        { address: family.lb, port },
        { address: family.vip, port },
      ]) {
        node.clearFlows();
        const asked = send(frame(), transport, client, to);
        const forward = node.run("tc_uplink_ingress", asked);
        expect(forward).toMatchObject({ action: ACTION.next, verdict: "VERDICT_PASS" });
        expect(forward.text).toBe(`${at(family.client, CLIENT_PORT)} > ${at(family.here, target)} ${words(transport)}`);
        expect(parsePacket(forward.packet)).toMatchObject({ ttl: 64, eth: { source: lan(51), destination: lan(11) } });
        udpKept(forward.packet);
        const answered = answer(forward.packet, { ttl: 63 });
        for (const device of ["up0", "up1"] as const) {
          const back = node.run("tc_uplink_egress", answered, { device, ingressIfindex: node.ifindex("cni0") });
          expect(back).toMatchObject({ action: ACTION.next, verdict: "VERDICT_PASS", hook: "UPLINK_EGRESS" });
          expect(back.text).toBe(
            `${at(to.address, to.port)} > ${at(family.client, CLIENT_PORT)} ${words(transport, "SA")}`,
          );
          expect(parsePacket(back.packet).ttl).toBe(63);
        }
        // The pod's own device sees both directions and leaves them alone.
        expect(node.run("tc_pod_ingress", answered, { device: "pod2" })).toMatchObject({ verdict: "VERDICT_NEXT" });
        expect(node.run("tc_pod_egress", forward.packet, { device: "pod2" })).toMatchObject({
          verdict: "VERDICT_NEXT",
        });
      }
    });

    it(`${label}: a pod, backend on another node`, async () => {
      await node.feed(objects(["there"]));
      const asked = send(
        podFrame(),
        transport,
        { address: family.pod, port: CLIENT_PORT },
        { address: family.vip, port },
      );
      const forward = node.run("tc_pod_ingress", asked);
      expect(forward).toMatchObject({ action: ACTION.next, verdict: "VERDICT_PASS", hook: "POD_INGRESS" });
      expect(forward.text).toBe(`${at(family.pod, CLIENT_PORT)} > ${at(family.there, target)} ${words(transport)}`);
      expect(parsePacket(forward.packet)).toMatchObject({
        ttl: 64,
        eth: { source: macOf("pod", 99), destination: macOf("pod", 1) },
      });
      udpKept(forward.packet);
      // Out and in again by the uplink: not ours there.
      const out = node.run("tc_uplink_egress", forward.packet, { ingressIfindex: node.ifindex("cni0") });
      expect(out).toMatchObject({ verdict: "VERDICT_NEXT" });
      const answered = answer(forward.packet, { ttl: 62 });
      expect(node.run("tc_uplink_ingress", answered)).toMatchObject({ verdict: "VERDICT_NEXT" });
      const back = node.run("tc_pod_egress", answered);
      expect(back).toMatchObject({ action: ACTION.next, verdict: "VERDICT_PASS", hook: "POD_EGRESS" });
      expect(back.text).toBe(`${at(family.vip, port)} > ${at(family.pod, CLIENT_PORT)} ${words(transport, "SA")}`);
      expect(parsePacket(back.packet).ttl).toBe(62);
    });

    it(`${label}: a pod, backend behind the same bridge: switched, not routed`, async () => {
      await node.feed(objects(["here"]));
      const asked = send(
        podFrame(),
        transport,
        { address: family.pod, port: CLIENT_PORT },
        { address: family.vip, port },
      );
      const forward = node.run("tc_pod_ingress", asked);
      expect(forward).toMatchObject({ action: ACTION.next, verdict: "VERDICT_PASS" });
      expect(forward.text).toBe(`${at(family.pod, CLIENT_PORT)} > ${at(family.here, target)} ${words(transport)}`);
      expect(parsePacket(forward.packet).eth).toMatchObject({
        source: macOf("pod", 99),
        destination: macOf("pod", 2),
      });
      const back = node.run("tc_pod_egress", answer(forward.packet));
      expect(back.verdict).toBe("VERDICT_PASS");
      expect(back.text).toBe(`${at(family.vip, port)} > ${at(family.pod, CLIENT_PORT)} ${words(transport, "SA")}`);
    });

    it(`${label}: a pod, backend behind the same bridge whose MAC is unknown: the bridge asks for it`, async () => {
      await node.feed(objects(["here"]));
      node.namespace.ip(`neigh del ${family.here} dev cni0`);
      try {
        const asked = send(
          podFrame(),
          transport,
          { address: family.pod, port: CLIENT_PORT },
          { address: family.vip, port },
        );
        const forward = node.run("tc_pod_ingress", asked);
        expect(forward).toMatchObject({
          action: ACTION.redirect,
          verdict: "VERDICT_FORWARD",
          mark: MARK_REDIRECTED,
          text: `${at(family.pod, CLIENT_PORT)} > ${at(family.here, target)} ${words(transport)}`,
        });
      } finally {
        node.namespace.ip(`neigh replace ${family.here} lladdr ${macOf("pod", 2)} dev cni0 nud permanent`);
      }
    });

    it(`${label}: a pod without bridge, backend a pod of this node`, async () => {
      await node.feed(objects(["here"]));
      const asked = send(
        podFrame(5),
        transport,
        { address: family.ptp, port: CLIENT_PORT },
        { address: family.vip, port },
      );
      const forward = node.run("tc_pod_ingress", asked, { device: "p5" });
      expect(forward).toMatchObject({ action: ACTION.next, verdict: "VERDICT_PASS" });
      expect(parsePacket(forward.packet).eth).toEqual(parsePacket(asked).eth);
      const back = node.run("tc_pod_egress", answer(forward.packet), { device: "p5" });
      expect(back.text).toBe(`${at(family.vip, port)} > ${at(family.ptp, CLIENT_PORT)} ${words(transport, "SA")}`);
    });

    it.each([
      ["on a bridge", "here", "pod2", 2, "bridge"],
      ["without bridge", "ptp", "p5", 5, "node"],
    ] as const)(`${label}: a pod that is its own backend, %s`, async (_, pod, device, last, source) => {
      await node.feed(objects([pod]));
      const asked = send(
        podFrame(last),
        transport,
        { address: family[pod], port: CLIENT_PORT },
        { address: family.vip, port },
      );
      const forward = node.run("tc_pod_ingress", asked, { device });
      expect(forward).toMatchObject({ action: ACTION.redirect, verdict: "VERDICT_FORWARD", mark: MARK_REDIRECTED });
      const translated = parsePacket(forward.packet);
      expect(forward.text).toBe(
        `${at(family[source], translated.sourcePort)} > ${at(family[pod], target)} ${words(transport)}`,
      );
      expect(inSnatRange(translated.sourcePort)).toBe(true);
      const own = pod === "ptp" ? node.mac("p5") : macOf("pod", 1);
      expect(translated.eth).toMatchObject({ source: own, destination: macOf("pod", last) });
      const back = node.run("tc_pod_ingress", answer(forward.packet), { device });
      expect(back).toMatchObject({ action: ACTION.redirect, verdict: "VERDICT_FORWARD", mark: MARK_REDIRECTED });
      expect(back.text).toBe(`${at(family.vip, port)} > ${at(family[pod], CLIENT_PORT)} ${words(transport, "SA")}`);
      expect(parsePacket(back.packet).eth).toMatchObject({ source: own, destination: macOf("pod", last) });
    });

    it(`${label}: a process of the host past the sockets, backend on another node`, async () => {
      await node.feed(objects(["there"]));
      const host = { address: family.node, port: CLIENT_PORT };
      const asked = send(frame(lan(11), lan(1)), transport, host, { address: family.vip, port });
      const forward = node.run("tc_uplink_egress", asked);
      expect(forward).toMatchObject({ action: ACTION.redirect, verdict: "VERDICT_FORWARD", mark: MARK_REDIRECTED });
      expect(forward.text).toBe(`${at(family.node, CLIENT_PORT)} > ${at(family.there, target)} ${words(transport)}`);
      expect(parsePacket(forward.packet).eth).toMatchObject({ source: lan(11), destination: lan(12) });
      const back = node.run("tc_uplink_ingress", answer(forward.packet));
      expect(back).toMatchObject({ action: ACTION.next, verdict: "VERDICT_PASS" });
      expect(back.text).toBe(`${at(family.vip, port)} > ${at(family.node, CLIENT_PORT)} ${words(transport, "SA")}`);
    });

    it(`${label}: a process of the host past the sockets, backend a pod of this node`, async () => {
      await node.feed(objects(["here"]));
      const host = { address: family.node, port: CLIENT_PORT };
      const asked = send(frame(lan(11), lan(1)), transport, host, { address: family.vip, port });
      const forward = node.run("tc_uplink_egress", asked);
      expect(forward).toMatchObject({ action: ACTION.redirect, verdict: "VERDICT_FORWARD", mark: MARK_REDIRECTED });
      expect(parsePacket(forward.packet).eth).toMatchObject({ source: macOf("pod", 1), destination: macOf("pod", 2) });
      const back = node.run("tc_pod_ingress", answer(forward.packet), { device: "pod2" });
      expect(back).toMatchObject({ action: ACTION.redirect, verdict: "VERDICT_FORWARD" });
      expect(back.text).toBe(`${at(family.vip, port)} > ${at(family.node, CLIENT_PORT)} ${words(transport, "SA")}`);
      // It comes in by the uplink as if it were for this node.
      expect(parsePacket(back.packet).eth).toMatchObject({ destination: lan(11) });
    });

    it(`${label}: a forwarded packet opens nothing at an uplink's egress`, async () => {
      await node.feed(objects(["there"]));
      const asked = send(frame(), transport, client, { address: family.vip, port });
      const run = node.run("tc_uplink_egress", asked, { ingressIfindex: node.ifindex("up1") });
      expect(run).toMatchObject({ action: ACTION.next, verdict: "VERDICT_NEXT", packet: asked });
      expect(node.flows()).toEqual([]);
    });

    it(`${label}: a backend of unknown MAC is asked for by the kernel`, async () => {
      await node.feed(objects(["there"]));
      node.namespace.ip(`neigh del ${family.otherNode} dev up0`);
      try {
        const asked = send(frame(), transport, client, { address: family.node, port: nodePort });
        // XDP cannot wait for a neighbour.
        expect(node.run("xdp_uplink", asked)).toMatchObject({ action: XDP_ACTION.pass, packet: asked });
        const forward = node.run("tc_uplink_ingress", asked);
        expect(forward).toMatchObject({ action: ACTION.redirect, verdict: "VERDICT_FORWARD" });
        expect(parsePacket(forward.packet)).toMatchObject({ destination: family.there, problems: [] });
      } finally {
        node.namespace.ip(`neigh replace ${family.otherNode} lladdr ${lan(12)} dev up0 nud permanent`);
      }
    });

    it(`${label}: a source port of ours on a packet that is not ours is changed`, async () => {
      await node.feed(objects(["there"]));
      const asked = send(frame(), transport, client, { address: family.node, port: nodePort });
      const forward = node.run("tc_uplink_ingress", asked);
      const { sourcePort } = parsePacket(forward.packet);
      // A masquerade took the very port toward the very backend.
      const masqueraded = send(
        frame(lan(11), lan(12)),
        transport,
        { address: family.node, port: sourcePort },
        { address: family.there, port: target },
      );
      for (const ingressIfindex of [0, node.ifindex("cni0")]) {
        const changed = node.run("tc_uplink_egress", masqueraded, { ingressIfindex });
        expect(changed).toMatchObject({ action: ACTION.next, verdict: "VERDICT_PASS" });
        const parsed = parsePacket(changed.packet);
        expect(parsed).toMatchObject({ source: family.node, destination: family.there, problems: [] });
        expect(parsed.sourcePort).not.toBe(sourcePort);
        expect(inSnatRange(parsed.sourcePort)).toBe(true);
        const back = node.run("tc_uplink_ingress", answer(changed.packet));
        expect(back).toMatchObject({ action: ACTION.next, verdict: "VERDICT_PASS" });
        expect(back.text).toBe(
          `${at(family.there, target)} > ${at(family.node, sourcePort)} ${words(transport, "SA")}`,
        );
      }
      // The first flow's answers still are its own.
      expect(node.run("tc_uplink_ingress", answer(forward.packet)).text).toContain(
        `> ${at(family.client, CLIENT_PORT)}`,
      );
      // One to a port that is no backend's is none of ours.
      const free = send(
        frame(lan(11), lan(12)),
        transport,
        { address: family.node, port: sourcePort },
        { address: family.there, port: target + 1 },
      );
      expect(node.run("tc_uplink_egress", free)).toMatchObject({ verdict: "VERDICT_NEXT", packet: free });
    });

    const pod = { address: family.pod, port: CLIENT_PORT };
    const ptp = { address: family.ptp, port: CLIENT_PORT };
    const host = { address: family.node, port: CLIENT_PORT };
    const vip = { address: family.vip, port };
    const toNode = { address: family.node, port: nodePort };
    const forwarded = FORWARD_MARK | OTHERS_MARK;
    it.each([
      ["from outside to a pod of this node", "here", "tc_uplink_ingress", "up0", client, toNode, forwarded],
      ["of a pod on a bridge to another node", "there", "tc_pod_ingress", "pod99", pod, vip, forwarded],
      ["of a pod without bridge", "here", "tc_pod_ingress", "p5", ptp, vip, forwarded],
      ["of a pod to one behind the same bridge", "here", "tc_pod_ingress", "pod99", pod, vip, OTHERS_MARK],
      ["of a pod to itself", "ptp", "tc_pod_ingress", "p5", ptp, vip, MARK_REDIRECTED],
      ["from outside to another node", "there", "tc_uplink_ingress", "up0", client, toNode, MARK_REDIRECTED],
      ["of the host to another node", "there", "tc_uplink_egress", "up0", host, vip, MARK_REDIRECTED],
      ["of the host to a pod of this node", "here", "tc_uplink_egress", "up0", host, vip, MARK_REDIRECTED],
    ] as const)(
      `${label}: the first packet %s is marked when the stack forwards it`,
      async (_, backend, program, device, from, to, mark) => {
        await node.feed(objects([backend]));
        const start = program !== "tc_pod_ingress" ? frame() : podFrame(device === "p5" ? 5 : 99);
        const asked = send(start, transport, from, to);
        const bare = node.run(program, asked, { device, mark: OTHERS_MARK });
        expect(bare.mark, "without a forward mark").toBe(mark === forwarded ? OTHERS_MARK : mark);
        node.clearFlows();
        node.settings({ forwardMark: FORWARD_MARK });
        try {
          const run = node.run(program, asked, { device, mark: OTHERS_MARK });
          expect(run.mark).toBe(mark);
          expect(run.verdict).toBe(mark === MARK_REDIRECTED ? "VERDICT_FORWARD" : "VERDICT_PASS");
          expect(run.text).toBe(bare.text);
        } finally {
          node.settings({ forwardMark: 0 });
        }
      },
    );

    it(`${label}: answers that leave, and packets that are not ours, keep their mark`, async () => {
      await node.feed(objects(["here"]));
      node.settings({ forwardMark: FORWARD_MARK });
      try {
        const fromOutside = node.run("tc_uplink_ingress", send(frame(), transport, client, toNode));
        const fromPod = node.run("tc_pod_ingress", send(podFrame(5), transport, ptp, vip), { device: "p5" });
        const direct = send(frame(), transport, client, { address: family.hereToo, port: target });
        const ingressIfindex = node.ifindex("cni0");
        for (const [program, bytes, verdict, options] of [
          ["tc_uplink_egress", answer(fromOutside.packet), "VERDICT_PASS", { ingressIfindex }],
          ["tc_pod_egress", answer(fromPod.packet), "VERDICT_PASS", { device: "p5" }],
          ["tc_uplink_ingress", direct, "VERDICT_NEXT", {}],
        ] as const) {
          const run = node.run(program, bytes, { ...options, mark: OTHERS_MARK });
          expect(run).toMatchObject({ verdict, mark: OTHERS_MARK });
        }
      } finally {
        node.settings({ forwardMark: 0 });
      }
    });

    if (isTcp) {
      it(`${label}: options and extension headers are carried along`, async () => {
        await node.feed(objects(["there"]));
        const start = frame().ip(family.client, family.node, {
          ...(family === V4 ? { options: Uint8Array.of(1, 1, 1, 0) } : { extension: true }),
        });
        const asked = start.tcp(CLIENT_PORT, nodePort, { options: Uint8Array.of(2, 4, 5, 0xb4) }).bytes();
        const byTc = node.run("tc_uplink_ingress", asked);
        expect(byTc.verdict).toBe("VERDICT_FORWARD");
        expect(parsePacket(byTc.packet)).toMatchObject({ destination: family.there, problems: [] });
        expect(byTc.packet).toHaveLength(asked.length);
        node.run("tc_uplink_ingress", asked);
        // XDP leaves options to tc.
        const byXdp = node.run("xdp_uplink", asked);
        expect(byXdp.packet).toEqual(family === V4 ? asked : byTc.packet);
      });
    }
  }

  it("a local backend on the node's own address is no way for a packet of the host", async () => {
    const given = objects([]);
    const slices = [slice({ ports: [{ name: "t", port: 8080 }], endpoints: [endpoint(V4.node)] })];
    await node.feed({ ...given, slices });
    const asked = send(frame(lan(11), lan(1)), "TCP", { address: V4.node, port: 1 }, { address: V4.vip, port: 80 });
    expect(node.run("tc_uplink_egress", asked)).toMatchObject({ action: ACTION.shot, verdict: "DROP_HOST_TO_HOST" });
  });

  it("frames that are neither ARP nor IP, and cut ones, go by", () => {
    const lldp = new Uint8Array(60);
    lldp.set([0x88, 0xcc], 12);
    const cut = packet().eth(lan(51), lan(11)).ip(V4.client, V4.vip).tcp(1, 80).bytes().slice(0, 40);
    for (const bytes of [lldp, cut]) {
      for (const program of ["tc_uplink_ingress", "tc_uplink_egress", "tc_pod_ingress", "tc_pod_egress"] as const) {
        expect(node.run(program, bytes)).toMatchObject({ action: ACTION.next, verdict: "VERDICT_NEXT", packet: bytes });
      }
      expect(node.run("xdp_uplink", bytes)).toMatchObject({ action: XDP_ACTION.pass, packet: bytes });
    }
  });
});
