// The quick way of an established flow's packet and the stages that see all others are two pieces of code: what they make of
// one packet must be the same, byte for byte. The stages are made to take it by a flow not seen for two seconds.
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { describeKernel } from "../require-kernel.ts";
import {
  again,
  answer,
  CONVERSATIONS,
  type Family,
  frame,
  objects,
  podFrame,
  portsOf,
  send,
  type Transport,
} from "./conversation.ts";
import {
  createTestNode,
  HZ,
  MARK_REDIRECTED,
  type Program,
  type Run,
  type RunOptions,
  type TestNode,
} from "./test-node.ts";

const FORWARD_MARK = 0x1000;
/** What the packets of the test of marks carry when they come. */
const OTHERS_MARK = 0x20;
const FORWARDED = FORWARD_MARK | OTHERS_MARK;

interface Place {
  readonly name: string;
  readonly backend: "here" | "there";
  readonly request: Program;
  readonly requestOptions?: RunOptions;
  readonly reply: Program;
  /** The reply comes from cni0, as one that was forwarded. */
  readonly replyForwarded?: true;
  readonly fromPod?: true;
  readonly replyOptions?: RunOptions;
  /** Marks of request and reply afterwards. */
  readonly marks: readonly [number, number];
}

const PLACES: readonly Place[] = [
  {
    name: "uplink, backend here",
    backend: "here",
    request: "tc_uplink_ingress",
    reply: "tc_uplink_egress",
    replyForwarded: true,
    marks: [FORWARDED, OTHERS_MARK],
  },
  {
    name: "uplink, backend elsewhere",
    backend: "there",
    request: "tc_uplink_ingress",
    reply: "tc_uplink_ingress",
    marks: [MARK_REDIRECTED, MARK_REDIRECTED],
  },
  { name: "XDP", backend: "there", request: "xdp_uplink", reply: "xdp_uplink", marks: [0, 0] },
  {
    name: "a packet of this node",
    backend: "there",
    request: "tc_uplink_egress",
    reply: "tc_uplink_ingress",
    // The reply is for a process of this node, to whom the mark makes no difference.
    marks: [MARK_REDIRECTED, FORWARDED],
  },
  {
    name: "pod on a bridge, backend on it",
    backend: "here",
    request: "tc_pod_ingress",
    reply: "tc_pod_egress",
    fromPod: true,
    requestOptions: { device: "pod99" },
    replyOptions: { device: "pod99" },
    // The bridge switches the request.
    marks: [OTHERS_MARK, OTHERS_MARK],
  },
  {
    name: "pod on a bridge, backend elsewhere",
    backend: "there",
    request: "tc_pod_ingress",
    reply: "tc_pod_egress",
    fromPod: true,
    requestOptions: { device: "pod99" },
    replyOptions: { device: "pod99" },
    marks: [FORWARDED, OTHERS_MARK],
  },
  {
    name: "pod without bridge",
    backend: "there",
    request: "tc_pod_ingress",
    reply: "tc_pod_egress",
    fromPod: true,
    requestOptions: { device: "p5" },
    replyOptions: { device: "p5" },
    marks: [FORWARDED, OTHERS_MARK],
  },
];

const PAYLOADS = [0, 1, 64, 1200] as const;

describeKernel("the quick way", () => {
  let node: TestNode;
  beforeAll(() => {
    node = createTestNode(1);
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => node.clearFlows());

  const age = (): void => {
    for (const row of node.flows()) {
      const seen = (row.flow.seen - 2 * HZ) >>> 0;
      node.putFlow(row, { seen });
    }
  };
  const seen = (): number[] => node.flows().map(({ flow }) => flow.seen);

  function first(place: Place, family: Family, transport: Transport): Uint8Array {
    const { port, nodePort } = portsOf(transport);
    const own = place.request === "tc_uplink_egress";
    const client = {
      address: place.fromPod
        ? place.requestOptions?.device === "p5"
          ? family.ptp
          : family.pod
        : own
          ? family.node
          : family.client,
      port: 40000,
    };
    const frontend = place.fromPod || own ? { address: family.vip, port } : { address: family.node, port: nodePort };
    const pod = place.requestOptions?.device === "p5" ? 5 : 99;
    return send(place.fromPod ? podFrame(pod) : frame(), transport, client, frontend);
  }

  function talkOf(place: Place, family: Family, transport: Transport) {
    const opening = first(place, family, transport);
    const replyOptions = place.replyForwarded ? { ingressIfindex: node.ifindex("cni0") } : place.replyOptions;
    const mark = OTHERS_MARK;
    const request = (packet: Uint8Array): Run => node.run(place.request, packet, { ...place.requestOptions, mark });
    const reply = (packet: Uint8Array): Run => node.run(place.reply, packet, { ...replyOptions, mark });
    // XDP goes on with what tc opened.
    const byTc = (program: Program): Program => (program === "xdp_uplink" ? "tc_uplink_ingress" : program);
    const translated = node.run(byTc(place.request), opening, { ...place.requestOptions, mark }).packet;
    node.run(byTc(place.reply), answer(translated), { ...replyOptions, mark });
    const second = transport === "TCP" ? again(opening, { flags: "A" }) : opening;
    node.run(byTc(place.request), second, { ...place.requestOptions, mark });
    return { opening, translated, request, reply };
  }

  const cases = PLACES.flatMap((place) =>
    CONVERSATIONS.map(([family, transport]) => [place.name, family.name, transport, place, family] as const),
  );

  it.each(cases)(
    "%s, %s %s: makes of a packet what the stages make of it",
    async (_p, _f, transport, place, family) => {
      await node.feed(objects([place.backend]));
      const { opening, translated, request, reply } = talkOf(place, family, transport);
      for (const payload of PAYLOADS) {
        for (const [run, packet] of [
          [request, again(opening, { flags: "PA", payload })],
          [reply, answer(translated, { flags: "PA", payload })],
        ] as const) {
          age();
          const aged = seen();
          const byStages = run(packet);
          expect(seen(), "the stages took it").not.toEqual(aged);
          const quick = run(packet);
          expect(quick).toEqual(byStages);
          expect(quick.verdict).toMatch(/^VERDICT_(PASS|FORWARD)$/);
          expect(quick.packet, "it was translated").not.toEqual(packet);
        }
      }
    },
  );

  it.each(cases)(
    "%s, %s %s: has the forward mark beside its own when the stack forwards it",
    async (_p, _f, transport, place, family) => {
      await node.feed(objects([place.backend]));
      node.settings({ forwardMark: FORWARD_MARK });
      try {
        const { opening, translated, request, reply } = talkOf(place, family, transport);
        for (const [run, packet, mark] of [
          [request, again(opening, { flags: "PA" }), place.marks[0]],
          [reply, answer(translated, { flags: "PA" }), place.marks[1]],
        ] as const) {
          age();
          expect(run(packet).mark, "by the stages").toBe(mark);
          expect(run(packet).mark, "quick").toBe(mark);
        }
      } finally {
        node.settings({ forwardMark: 0 });
      }
    },
  );
});
