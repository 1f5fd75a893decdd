// By which addresses nodes are known while Node objects come, go, or say nothing for a while; and the set of prefixes.
import { describe, expect, it } from "vitest";
import {
  believedEvents,
  nodeAddresses,
  otherNodes,
  readNodeAddresses,
  rememberedNode,
} from "../../src/decide/node-addresses.ts";
import { prefixOf, prefixSet } from "../../src/decide/prefix-set.ts";
import { addressFromBigInt, parseRange, prefixContains } from "../../src/lib/address.ts";
import type { Node, ObjectEvent } from "../../src/model/objects.ts";
import { node } from "../flows/builders.ts";
import { createRandom } from "../model/random.ts";

const nodeEvent = (object: Node | undefined, key = "node1"): ObjectEvent => ({ kind: "Node", key, object });
const believe = (last: Node | undefined, ...objects: (Node | undefined)[]): readonly ObjectEvent[] =>
  believedEvents(
    objects.map((object) => nodeEvent(object)),
    "node1",
    last,
  ).events;

describe("this node's own object", () => {
  it("is believed as it comes", () => {
    const changed = node(1, { internalAddresses: ["10.99.0.9"] });
    expect(believe(node(1), changed)).toEqual([nodeEvent(changed)]);
  });

  it("keeps its addresses while it names none", () => {
    const silent = node(1, { internalAddresses: [], ready: false });
    expect(believe(node(1), silent)).toEqual([nodeEvent({ ...silent, internalAddresses: node(1).internalAddresses })]);
  });

  it("stays when it goes, but announces nothing that others take over", () => {
    expect(believe(node(1), undefined)).toEqual([nodeEvent(node(1, { ready: false, excludeFromLoadBalancers: true }))]);
  });

  it("is what it says again when it comes back, whatever came between", () => {
    const back = node(1, { internalAddresses: ["10.99.0.9"] });
    expect(believe(node(1), undefined, node(1, { internalAddresses: [] }), back).at(-1)).toEqual(nodeEvent(back));
  });

  it("that was never there does not come from nothing", () => {
    expect(believe(undefined, undefined)).toEqual([nodeEvent(undefined)]);
  });

  it("leaves other nodes' events as they are", () => {
    const events = [nodeEvent(undefined, "node2")];
    expect(believedEvents(events, "node1", node(1)).events).toBe(events);
  });
});

describe("the nodes' addresses", () => {
  const remembered = { own: ["10.0.0.1"], others: ["10.0.0.2"], otherPodCIDRs: ["10.244.2.0/24"] };

  it("that are remembered count beside those that came", () => {
    expect(nodeAddresses([node(3)], "node1", remembered)).toEqual({
      own: ["10.0.0.1"],
      others: ["192.168.122.13", "fd00:192:168:122::13", "10.0.0.2"],
      otherPodCIDRs: ["10.244.3.0/24", "fd00:10:244:3::/64", "10.244.2.0/24"],
    });
  });

  it("are those of the objects when all have come", () => {
    expect(nodeAddresses([node(1), node(2)], "node1")).toEqual({
      own: node(1).internalAddresses,
      others: node(2).internalAddresses,
      otherPodCIDRs: node(2).podCIDRs,
    });
  });

  it("are not this node's and another's at once", () => {
    const moved = { ...remembered, others: ["192.168.122.11"] };
    expect(nodeAddresses([node(1)], "node1", moved).others).toEqual([]);
  });

  it.each([
    undefined,
    null,
    [],
    {},
    { own: ["10.0.0.1"], others: [] },
    { ...remembered, own: ["10.0.0"] },
    { ...remembered, others: [7] },
    { ...remembered, otherPodCIDRs: ["10.244.0.0/99"] },
  ])("cannot be remembered from %j", (found) => {
    expect(readNodeAddresses(found)).toBeUndefined();
  });

  it("are remembered as they were saved", () => {
    expect(readNodeAddresses(JSON.parse(JSON.stringify(remembered)))).toEqual(remembered);
    expect(rememberedNode("node1", ["10.0.0.1"])).toMatchObject({ name: "node1", internalAddresses: ["10.0.0.1"] });
  });

  it("lead there by prefix and by the very address", () => {
    const others = otherNodes({ others: ["10.0.0.2"], otherPodCIDRs: ["10.244.2.0/24", "nonsense"] });
    expect([others.hasAddress("10.0.0.2"), others.hasAddress("10.244.2.1")]).toEqual([true, false]);
    const overlaps = (text: string): boolean => others.prefixes.overlaps(prefixOf(text)!);
    expect(["10.0.0.0/24", "10.244.2.7/32", "10.244.0.0/16", "10.244.3.0/24", "::/0"].map(overlaps)).toEqual([
      true,
      true,
      true,
      false,
      false,
    ]);
  });
});

it.each(Array.from({ length: 60 }, (_, seed) => seed))(
  "a set of prefixes answers as asking each would (seed %i)",
  (seed) => {
    const random = createRandom(seed);
    const family = random.pick(["IPv4", "IPv6"] as const);
    const width = family === "IPv4" ? 32 : 128;
    const any = () => {
      const length = width - random.below(9);
      return { address: addressFromBigInt(BigInt(random.below(1024)), family), length };
    };
    const prefixes = Array.from({ length: random.below(7) }, any);
    const set = prefixSet(prefixes);
    for (let i = 0; i < 50; i++) {
      const asked = any();
      const expected = prefixes.some((one) => prefixContains(one, asked.address) || prefixContains(asked, one.address));
      expect(set.overlaps(asked)).toBe(expected);
    }
  },
);

it.each(["10.0.0.0/8", "fd00::/64", "0.0.0.0/0", "10.0.0.0", "10.0.0.0/33", "x/8", "fd00::/129", "10.0.0.0/-1", ""])(
  "a prefix is read from %j as ranges are",
  (text) => {
    expect(prefixOf(text) === undefined).toBe(parseRange(text) === undefined);
  },
);
