// Endpoints dealt out to zones by the CPUs of their nodes: the shares, the rules for when not, and what slices say of it.
import { describe, expect, it, test } from "vitest";
import { dealOut, parseCpu, ZONE_LABEL, zoneShares } from "../../src/standalone/zone-hints.ts";
import type { NodeObject, SliceEndpoint } from "../../src/wire/kubernetes.ts";
import { cluster, documents, node, pod, service, slicesOf } from "./build.ts";

const zoned = (name: string, zone: string, cpu: string | number, labels: Record<string, string> = {}): NodeObject => {
  const object = node(name, {}, { ...labels, ...(zone !== "" && { [ZONE_LABEL]: zone }) }) as NodeObject;
  return { ...object, status: { ...object.status, ...(cpu !== "" && { allocatable: { cpu } }) } };
};

describe("zoneShares", () => {
  it("is the part of the CPUs that each zone's ready nodes have", () => {
    const down = zoned("d", "c", 64);
    const shares = zoneShares([
      zoned("a", "b", "500m"),
      zoned("b", "a", 1),
      zoned("c", "b", "0.5"),
      { ...down, status: { ...down.status, conditions: [{ type: "Ready", status: "False" }] } },
      zoned("e", "", 64, { "node-role.kubernetes.io/control-plane": "" }),
    ]);
    expect([...(shares as ReadonlyMap<string, number>)]).toEqual([
      ["a", 0.5],
      ["b", 0.5],
    ]);
  });

  it.each([
    ["a node without zone", [zoned("x", "", 1), zoned("y", "b", 1)], `Node x has no label ${ZONE_LABEL}`],
    ["a node without CPUs", [zoned("x", "a", ""), zoned("y", "b", 1)], "Node x has no status.allocatable.cpu"],
    ["one zone", [zoned("x", "a", 1), zoned("y", "a", 1)], "every ready Node is in zone a"],
    ["no node", [], "no Node is ready"],
  ])("is not known with %s", (_name, nodes, why) => {
    expect(zoneShares(nodes)).toBe(why);
  });
});

test.each([
  ["4", 4],
  [4, 4],
  ["500m", 0.5],
  [".5", 0.5],
  ["2e1", 20],
  ["1k", 1000],
  ["", undefined],
  ["-1", undefined],
  ["4Gi", undefined],
  ["four", undefined],
])("the quantity %j is %j CPUs", (text, cpus) => {
  expect(parseCpu(text)).toBe(cpus);
});

/** Ready endpoints, so many in each zone. */
const spread = (counts: Readonly<Record<string, number>>): SliceEndpoint[] =>
  Object.entries(counts).flatMap(([zone, count]) =>
    Array.from({ length: count }, (_, i) => ({ addresses: [`${zone}${i}`], zone, conditions: { ready: true } })),
  );
const shares = (parts: Readonly<Record<string, number>>): ReadonlyMap<string, number> => new Map(Object.entries(parts));
const nobody = (): undefined => undefined;

function dealt(counts: Readonly<Record<string, number>>, parts: Readonly<Record<string, number>>): unknown {
  const zones = dealOut(spread(counts), shares(parts), nobody);
  if (typeof zones === "string") return zones;
  const found: Record<string, number> = {};
  for (const zone of zones.values()) found[zone] = (found[zone] ?? 0) + 1;
  return found;
}

describe("dealOut", () => {
  const even = { a: 0.5, b: 0.5 };

  it.each([
    ["each serves its own zone where that is even", { a: 2, b: 2 }, even, { a: 2, b: 2 }],
    ["who has too many gives", { a: 4, b: 0 }, even, { a: 2, b: 2 }],
    ["a difference of less than one stays", { a: 4, b: 3 }, even, { a: 4, b: 3 }],
    ["by CPUs", { a: 3, b: 3 }, { a: 2 / 3, b: 1 / 3 }, { a: 4, b: 2 }],
    ["three zones", { a: 6, b: 0, c: 0 }, { a: 1 / 3, b: 1 / 3, c: 1 / 3 }, { a: 2, b: 2, c: 2 }],
    ["an endpoint of a zone without ready nodes keeps to it", { a: 2, b: 1, x: 1 }, even, { a: 2, b: 1, x: 1 }],
    ["fewer than zones", { a: 1 }, even, "1 ready endpoint for 2 zones"],
    [
      "where a zone would be overloaded",
      { a: 1, b: 2 },
      { a: 0.5, b: 0.25, c: 0.25 },
      "3 ready endpoints for 3 zones would leave one of them more than 20 % overloaded",
    ],
  ])("%s", (_name, counts, parts, result) => {
    expect(dealt(counts, parts)).toEqual(result);
  });

  it("has nobody serve a zone whose endpoint's node has none", () => {
    const endpoints = [...spread({ a: 3 }), { addresses: ["10.0.0.1"], conditions: { ready: true } }];
    expect(dealOut(endpoints, shares(even), nobody)).toBe("the node of endpoint 10.0.0.1 has no zone");
  });

  it("leaves who served another zone where it is when others come", () => {
    const before = (one: SliceEndpoint): string => (one.addresses[0] === "a3" ? "b" : "a");
    const zones = dealOut(spread({ a: 5 }), shares({ a: 0.8, b: 0.2 }), before) as ReadonlyMap<SliceEndpoint, string>;
    expect([...zones].filter(([, zone]) => zone === "b").map(([{ addresses }]) => addresses[0])).toEqual(["a3"]);
  });
});

const AUTO = { annotations: { "service.kubernetes.io/topology-mode": "Auto" } };
const pods = (count: number, ...notReady: number[]) =>
  Array.from({ length: count }, (_, i) => pod(`p${i}`, { ip: `10.244.1.${i + 2}`, ready: !notReady.includes(i) }));
const hints = (objects: Parameters<typeof slicesOf>[0]): unknown[] =>
  slicesOf(objects, "web").flatMap(({ endpoints }) =>
    endpoints.map((one: SliceEndpoint) => one.hints?.forZones?.map(({ name }) => name).join()),
  );

describe("a Service with topology-mode Auto", () => {
  const nodes = [zoned("node1", "a", 2), zoned("node2", "b", 2)];

  it("has its ready endpoints dealt out, and follows the CPUs", async () => {
    const plane = await cluster();
    const { objects, notices } = await plane.reconcile(documents(service("web", {}, AUTO), ...nodes, ...pods(5, 4)));
    expect(notices).toEqual([]);
    expect(hints(objects).sort()).toEqual(["a", "a", "b", "b", undefined]);
    const more = [zoned("node1", "a", 6), zoned("node2", "b", 2)];
    const after = await plane.reconcile(documents(service("web", {}, AUTO), ...more, ...pods(5, 4)));
    expect(hints(after.objects).sort()).toEqual(["a", "a", "a", "b", undefined]);
  });

  it("says why it has none, and has some when the reason is gone", async () => {
    const plane = await cluster();
    const few = await plane.reconcile(documents(service("web", {}, AUTO), ...nodes, ...pods(1)));
    expect(hints(few.objects)).toEqual([undefined]);
    expect(few.notices).toMatchObject([
      {
        object: "Service default/web",
        field: "metadata.annotations[service.kubernetes.io/topology-mode]",
        reason: "no-topology-hints",
        severity: "warning",
      },
    ]);
    expect(few.notices[0]?.message).toContain("(IPv4)");
    expect(few.notices[0]?.message).toContain("1 ready endpoint for 2 zones");
    const enough = await plane.reconcile(documents(service("web", {}, AUTO), ...nodes, ...pods(2)));
    expect(hints(enough.objects).sort()).toEqual(["a", "b"]);
    expect(enough.notices).toEqual([]);
  });
});

test("a Node whose CPUs are no number is told", async () => {
  const { notices } = await (await cluster()).reconcile(documents(zoned("node1", "a", "many")));
  expect(notices).toMatchObject([{ object: "Node node1", field: "status.allocatable.cpu" }]);
});
