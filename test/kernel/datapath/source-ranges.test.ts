// Source ranges by the programs, where flows are established already and where the map is full; flow cases have the rest.
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import type { Service } from "../../../src/model/objects.ts";
import { describeKernel } from "../require-kernel.ts";
import { again, answer, FAMILIES, type Family, frame, objects, podFrame, send, V4 } from "./conversation.ts";
import { createTestNode, type Program, type Run, type RunOptions, type TestNode } from "./test-node.ts";

interface Place {
  readonly name: string;
  readonly backend: "here" | "there";
  readonly request: Program;
  /** Who goes on with what tc opened. */
  readonly later?: Program;
  readonly reply: Program;
  readonly pod?: true;
}

const PLACES: readonly Place[] = [
  { name: "uplink, backend here", backend: "here", request: "tc_uplink_ingress", reply: "tc_uplink_egress" },
  { name: "uplink, backend elsewhere", backend: "there", request: "tc_uplink_ingress", reply: "tc_uplink_ingress" },
  {
    name: "XDP",
    backend: "there",
    request: "tc_uplink_ingress",
    later: "xdp_uplink",
    reply: "tc_uplink_ingress",
  },
  { name: "pod", backend: "here", request: "tc_pod_ingress", reply: "tc_pod_egress", pod: true },
];
const TRANSPORTS = ["TCP", "UDP"] as const;
const ELSEWHERE = ["198.51.100.0/24", "2001:db8::/32"];
const EVERYBODY = ["0.0.0.0/0", "::/0"];

describeKernel("source ranges", () => {
  let node: TestNode;
  beforeAll(() => {
    node = createTestNode(1);
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => node.clearFlows());

  const feed = (names: Parameters<typeof objects>[0], sourceRanges: readonly string[] = []): Promise<void> =>
    node.feed(objects(names, { sourceRanges } as Partial<Service>));

  /** An established conversation through the LoadBalancer address, and its next request. */
  function talk(place: Place, family: Family, transport: (typeof TRANSPORTS)[number]): () => Run {
    const client = { address: place.pod ? family.pod : family.client, port: 40_000 };
    const frontend = { address: family.lb, port: transport === "TCP" ? 80 : 53 };
    const opening = send(place.pod ? podFrame() : frame(), transport, client, frontend);
    const options: RunOptions = place.pod ? { device: "pod99" } : {};
    const { packet } = node.run(place.request, opening, options);
    node.run(place.reply, answer(packet), place.pod ? options : { ingressIfindex: node.ifindex("cni0") });
    const next = transport === "TCP" ? again(opening, { flags: "A" }) : opening;
    // The next hop is asked for, and then known.
    for (let i = 0; i < 2; i++) node.run(place.request, next, options);
    return () => node.run(place.later ?? place.request, next, options);
  }
  const policies = (): number[] => node.flows().flatMap(({ flow }) => (flow.answer ? [] : [flow.policy]));

  const cases = PLACES.flatMap((place) =>
    FAMILIES.flatMap((family) =>
      TRANSPORTS.map((transport) => [place.name, family.name, transport, place, family] as const),
    ),
  );

  it.each(cases)(
    "%s, %s %s: that change meet an established flow at its next packet",
    async (_p, _f, transport, place, family) => {
      await feed([place.backend]);
      const next = talk(place, family, transport);
      const served = next().verdict;
      expect(served).toMatch(/^VERDICT_(PASS|FORWARD)$/);
      const [before] = policies();

      await feed([place.backend], ELSEWHERE);
      // XDP leaves such a packet to tc.
      const byTc = (): Run => (place.later === undefined ? next() : talkOn(place, family, transport));
      if (place.later !== undefined) expect(next().verdict).toBe("VERDICT_NEXT");
      for (let i = 0; i < 2; i++) expect(byTc().verdict).toBe("DROP_SOURCE_RANGE");
      expect(policies()).toEqual([before]);

      await feed([place.backend], EVERYBODY);
      expect(byTc().verdict).toMatch(/^VERDICT_(PASS|FORWARD)$/);
      expect(policies()).not.toEqual([before]);
      expect(next().verdict).toBe(served);
    },
  );

  /** The next request of what talk() opened, to tc. */
  function talkOn(place: Place, family: Family, transport: (typeof TRANSPORTS)[number]): Run {
    const opening = send(
      frame(),
      transport,
      { address: family.client, port: 40_000 },
      { address: family.lb, port: transport === "TCP" ? 80 : 53 },
    );
    return node.run(place.request, transport === "TCP" ? again(opening, { flags: "A" }) : opening);
  }

  it("that change end no flow of a node port", async () => {
    await feed(["here"]);
    const opening = send(frame(), "TCP", { address: V4.client, port: 40_000 }, { address: V4.node, port: 30_080 });
    const { packet } = node.run("tc_uplink_ingress", opening);
    node.run("tc_uplink_egress", answer(packet), { ingressIfindex: node.ifindex("cni0") });
    await feed(["here"], ELSEWHERE);
    for (let i = 0; i < 2; i++)
      expect(node.run("tc_uplink_ingress", again(opening, { flags: "A" })).verdict).toBe("VERDICT_PASS");
  });

  it("a connection that opens while they change is measured by them at its next packet", async () => {
    await feed(["here"], EVERYBODY);
    const next = talk(PLACES[0]!, V4, "TCP");
    // As if its SYN had been let in just before they were raised.
    const serviceId = node.flows()[0]!.flow.service;
    await node.dataplane.apply([
      { op: "free-source-ranges", serviceId, ranges: [{ address: "0.0.0.0", length: 0 }] },
      { op: "raise-policy", serviceId },
    ]);
    expect(next().verdict).toBe("DROP_SOURCE_RANGE");
    await node.dataplane.apply([{ op: "put-source-ranges", serviceId, ranges: [{ address: "0.0.0.0", length: 0 }] }]);
  });

  it("more than the map holds close whom they name, and nobody else", async () => {
    const many = Array.from({ length: 100 }, (_, i) => `198.18.${i}.0/24`);
    await feed(["here"], many);
    const ask = (client: string): string =>
      node.run("tc_uplink_ingress", send(frame(), "TCP", { address: client, port: 1025 }, { address: V4.lb, port: 80 }))
        .verdict;
    // Where namespaces have to share, a sixteenth stays free.
    const { sourceRanges } = node.dataplane.capacity;
    expect(node.dataplane.map("source_ranges").countRows()).toBe(sourceRanges - sourceRanges / 16);
    expect([ask("198.18.0.9"), ask("198.18.99.9"), ask(V4.client)]).toEqual([
      "VERDICT_PASS",
      "DROP_SOURCE_RANGE",
      "DROP_SOURCE_RANGE",
    ]);
    await feed(["here"], [...many.slice(90), "192.168.122.0/24"]);
    expect([ask("198.18.0.9"), ask("198.18.99.9"), ask(V4.client)]).toEqual([
      "DROP_SOURCE_RANGE",
      "VERDICT_PASS",
      "VERDICT_PASS",
    ]);
    await feed(["here"]);
    expect(node.dataplane.map("source_ranges").countRows()).toBe(0);
    expect(ask("203.0.113.7")).toBe("VERDICT_PASS");
  });

  it("are read back as they were written", async () => {
    const ranges = ["10.0.0.0/8", "192.168.122.51/32", "0.0.0.0/0", "fd00::/8", "::/0"];
    await feed(["here"], ranges);
    const found = [...node.dataplane.readState().sourceRanges.values()].map((list) =>
      list.map(({ address, length }) => `${address}/${length}`).sort(),
    );
    const v4 = ["0.0.0.0/0", "10.0.0.0/8", "192.168.122.51/32"];
    expect(found.sort()).toEqual([v4, v4, ["::/0", "fd00::/8"], ["::/0", "fd00::/8"]].sort());
  });
});
