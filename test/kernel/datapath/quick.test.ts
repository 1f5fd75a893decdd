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
  portsOf,
  send,
  type Transport,
} from "./conversation.ts";
import { createTestNode, type Program, type Run, type RunOptions, type TestNode } from "./test-node.ts";

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
}

const PLACES: readonly Place[] = [
  {
    name: "uplink, backend here",
    backend: "here",
    request: "tc_uplink_ingress",
    reply: "tc_uplink_egress",
    replyForwarded: true,
  },
  { name: "uplink, backend elsewhere", backend: "there", request: "tc_uplink_ingress", reply: "tc_uplink_ingress" },
  { name: "XDP", backend: "there", request: "xdp_uplink", reply: "xdp_uplink" },
  { name: "a packet of this node", backend: "there", request: "tc_uplink_egress", reply: "tc_uplink_ingress" },
  {
    name: "pod on a bridge, backend on it",
    backend: "here",
    request: "tc_pod_ingress",
    reply: "tc_pod_egress",
    fromPod: true,
    requestOptions: { device: "pod99" },
    replyOptions: { device: "pod99" },
  },
  {
    name: "pod without bridge",
    backend: "there",
    request: "tc_pod_ingress",
    reply: "tc_pod_egress",
    fromPod: true,
    requestOptions: { device: "p5" },
    replyOptions: { device: "p5" },
  },
];

/** What test-node.ts tells the programs. */
const HZ = 1000;
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
    return send(frame(), transport, client, frontend);
  }

  function talkOf(place: Place, family: Family, transport: Transport) {
    const opening = first(place, family, transport);
    const replyOptions = place.replyForwarded ? { ingressIfindex: node.ifindex("cni0") } : place.replyOptions;
    const request = (packet: Uint8Array): Run => node.run(place.request, packet, place.requestOptions);
    const reply = (packet: Uint8Array): Run => node.run(place.reply, packet, replyOptions);
    const translated = request(opening).packet;
    reply(answer(translated));
    request(transport === "TCP" ? again(opening, { flags: "A" }) : opening);
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
});
