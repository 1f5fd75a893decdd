// Source ranges and session affinity in the maps: what is written, in what order, and what is said of ranges that cannot be served.
import { describe, expect, test } from "vitest";
import { createModel } from "../../src/model/model.ts";
import type { Service } from "../../src/model/objects.ts";
import { endpoint, eventsOf, service, slice } from "../flows/builders.ts";
import { bench, CAPACITY } from "./setup.ts";

const VIP = "192.168.122.111";
const VIP_6 = "fd00:192:168:122::111";
const slices = [slice({ endpoints: [endpoint("10.244.1.2")] })];

const balanced = (given: Partial<Pick<Service, "sourceRanges" | "affinitySeconds">>) => ({
  services: [
    service({
      type: "LoadBalancer",
      clusterIPs: ["10.96.0.10", "fd00:10:96::a"],
      loadBalancerAddresses: [VIP, VIP_6].map((address) => ({ address, ipMode: "VIP", fromPool: true })),
      ...given,
    }),
  ],
  slices,
});

const ranges = (dump: string): string[] => dump.split("\n").filter((line) => line.startsWith("source "));
const closed = (dump: string): string[] =>
  dump.split("\n").flatMap((line) => (line.includes(" restricted ") ? [line.split(" ")[1]!] : []));

const netsOf = (count: number, first = 0): string[] =>
  Array.from({ length: count }, (_, i) => `10.${first + (i >> 8)}.${i & 255}.0/24`);

/** A Service with one LoadBalancer address, in a namespace, and its endpoint. */
const inNamespace = (namespace: string, name: string, last: number, sourceRanges: readonly string[], has = true) => ({
  services: [
    service({
      ...{ namespace, name, type: "LoadBalancer", clusterIPs: [`10.96.0.${last}`], sourceRanges },
      loadBalancerAddresses: has ? [{ address: `192.168.122.${last}`, ipMode: "VIP", fromPool: true }] : [],
    }),
  ],
  slices: [slice({ namespace, service: name, endpoints: [endpoint(`10.244.1.${last}`)] })],
});

describe("namespaces share the map of source ranges", () => {
  const of = (dump: string, net: string): number => ranges(dump).filter((one) => one.includes(` ${net}`)).length;

  test("who asks for too many goes without first, whoever came first, and gets them back", () => {
    const { feed, feedEvents, dump, model } = bench({ capacity: { sourceRanges: 64 } });
    feed(inNamespace("greedy", "all", 120, netsOf(60, 50)));
    expect(of(dump(), "10.50.")).toBe(60);
    feed(inNamespace("default", "web", 121, netsOf(20, 60)));
    expect([of(dump(), "10.50."), of(dump(), "10.60.")]).toEqual([40, 20]);
    expect(model.notices()).toMatchObject([{ object: "Service greedy/all", reason: "table-full", severity: "error" }]);
    expect(model.notices()[0]?.message).toContain(
      'could serve only 40 of 60 source ranges of TCP port 80 (IPv4): map "source_ranges" is full for its namespace',
    );
    expect(closed(dump()).sort(), "what is left out stays closed").toEqual(["192.168.122.120", "192.168.122.121"]);
    feedEvents([{ kind: "Service", key: "default/web", object: undefined }]);
    expect(of(dump(), "10.50.")).toBe(60);
    expect(model.notices()).toEqual([]);
  });

  test("within a namespace its Services share, and keep those that they had", () => {
    const { feed, dump } = bench({ capacity: { sourceRanges: 32 } });
    feed(inNamespace("default", "b", 121, netsOf(12, 60)));
    feed(inNamespace("default", "a", 120, netsOf(40, 50)));
    expect([of(dump(), "10.50."), of(dump(), "10.60.")]).toEqual([18, 12]);
    const kept = ranges(dump());
    feed(inNamespace("default", "a", 120, [...netsOf(40, 50)].reverse()));
    expect(ranges(dump())).toEqual(kept);
  });

  test("ranges of a Service without a LoadBalancer address take nothing from others", () => {
    const { feed, dump, model } = bench({ capacity: { sourceRanges: 32 } });
    feed(inNamespace("greedy", "all", 120, netsOf(100, 50), false));
    feed(inNamespace("greedy", "web", 121, netsOf(30, 60)));
    expect(of(dump(), "10.60.")).toBe(30);
    expect(model.notices()).toEqual([]);
  });
});

describe("source ranges", () => {
  test("are those of each family's service id, and close LoadBalancer addresses alone", () => {
    const { feed, maps } = bench();
    feed(balanced({ sourceRanges: ["192.0.2.9/24", " 192.0.2.0/24 ", "2001:db8::/32"] }));
    expect(ranges(maps.dump())).toEqual(["source 1 192.0.2.0/24", "source 2 2001:db8::/32"]);
    expect(closed(maps.dump())).toEqual([VIP, VIP_6]);
    feed(balanced({ sourceRanges: ["2001:db8::/32"] }));
    expect(ranges(maps.dump())).toEqual(["source 2 2001:db8::/32"]);
    expect(closed(maps.dump()), "no range of its family").toEqual([VIP, VIP_6]);
  });

  test("of one family alone are said to close the other one's addresses", () => {
    const { feed, model } = bench();
    const told = () => model.notices().map(({ message, field, severity }) => `${severity} ${field} ${message}`);
    feed(balanced({ sourceRanges: ["192.0.2.0/24"] }));
    expect(told()).toEqual([
      `warning status.loadBalancer.ingress[1].ip no source range is of IPv6: ${VIP_6} is closed to every client`,
    ]);
    feed(balanced({ sourceRanges: ["::/0"] }));
    expect(told()).toEqual([
      `warning status.loadBalancer.ingress[0].ip no source range is of IPv4: ${VIP} is closed to every client`,
    ]);
    feed(inNamespace("default", "web", 120, ["192.0.2.0/24"]));
    expect(told(), "of a Service with one family").toEqual([]);
    feed(balanced({ sourceRanges: ["192.0.2.0/24", "::/0"] }));
    expect(told()).toEqual([]);
  });

  test("come before they restrict and go after they do, and flows are told behind both", () => {
    const { feed } = bench();
    feed(balanced({}));
    const names = (given: readonly string[]): string[] => feed(balanced({ sourceRanges: given })).map(({ op }) => op);
    const one = ["192.0.2.0/24"];
    expect(names(one)).toEqual(["put-source-ranges", "set-row", "set-row", "raise-policy", "raise-policy"]);
    expect(names(["198.51.100.0/24"])).toEqual(["put-source-ranges", "free-source-ranges", "raise-policy"]);
    expect(names([])).toEqual(["set-row", "set-row", "free-source-ranges", "raise-policy", "raise-policy"]);
  });

  test("that cannot be read are named, and close the address when there is no other", () => {
    const { feed, maps, model } = bench();
    const told = () => model.notices().map(({ reason, field, severity }) => [reason, field, severity]);
    feed(balanced({ sourceRanges: ["192.0.2.0/24", "192.0.2.1", "10.0.0.0/33"] }));
    expect(told()).toEqual([
      ["invalid-source-range", "spec.loadBalancerSourceRanges[1]", "warning"],
      ["invalid-source-range", "spec.loadBalancerSourceRanges[2]", "warning"],
      ["no-source-range", "status.loadBalancer.ingress[1].ip", "warning"],
    ]);
    feed(balanced({ sourceRanges: ["lan"] }));
    expect(told()).toEqual([
      ["invalid-source-range", "spec.loadBalancerSourceRanges[0]", "warning"],
      ["invalid-source-range", "spec.loadBalancerSourceRanges", "error"],
    ]);
    expect([closed(maps.dump()), ranges(maps.dump())]).toEqual([[VIP, VIP_6], []]);
    feed(balanced({}));
    expect([told(), closed(maps.dump())]).toEqual([[], []]);
  });

  test("that find no room are left out and said, and come when there is some", () => {
    const { feed, maps, model } = bench({ capacity: { sourceRanges: 3 } });
    const list = ["192.0.2.0/26", "192.0.2.64/26", "192.0.2.128/26", "192.0.2.192/26"];
    const other = service({
      name: "other",
      type: "LoadBalancer",
      clusterIPs: ["10.96.0.11"],
      loadBalancerAddresses: [{ address: "192.168.122.112", ipMode: "VIP", fromPool: true }],
      sourceRanges: list.slice(0, 2),
    });
    feed({ services: [other] });
    feed(inNamespace("default", "web", 111, list));
    expect(ranges(maps.dump())).toHaveLength(3);
    expect(model.notices().map(({ reason, object, message }) => `${reason} ${object}: ${message}`)).toEqual([
      'table-full Service default/web: could serve only 1 of 4 source ranges of TCP port 80 (IPv4): map "source_ranges" is full for its namespace; raise --max-frontends',
    ]);
    model.update([{ kind: "Service", key: "default/other", object: undefined }]);
    maps.apply(model.plan());
    expect(ranges(maps.dump()).toSorted()).toEqual(
      list
        .slice(0, 3)
        .map((text) => `source 2 ${text}`)
        .toSorted(),
    );
    expect(model.usage().sourceRanges).toBe(3);
    feed(inNamespace("default", "web", 111, list.slice(3)));
    expect(ranges(maps.dump())).toEqual([`source 2 ${list[3]}`]);
    expect(model.notices()).toEqual([]);
  });
});

test("session affinity is a live change of the rows", () => {
  const { feed, maps } = bench();
  feed(balanced({}));
  const operations = feed(balanced({ affinitySeconds: 60 }));
  expect(new Set(operations.map(({ op }) => op))).toEqual(new Set(["set-row"]));
  const rows = maps
    .dump()
    .split("\n")
    .filter((line) => line.startsWith("frontend "));
  expect(rows.filter((line) => !line.includes(" affinity 60 "))).toEqual([]);
  expect(feed(balanced({ affinitySeconds: 60 }))).toEqual([]);
});

test.each([
  ["before", true],
  ["after", false],
])(
  "new ranges come when a row that another Service takes over is switched, be that looked at %s theirs",
  (_when, isFirst) => {
    const other = "other";
    const model = createModel({
      ...{ nodeName: "node1", capacity: CAPACITY, serviceRanges: [] },
      externalIPRanges: [{ address: "192.168.122.0", length: 24 }],
    });
    const given = (port: number, sourceRanges: readonly string[]) =>
      eventsOf({
        services: [
          service({
            ...{ name: "m", type: "LoadBalancer", clusterIPs: ["10.96.0.10"], sourceRanges },
            loadBalancerAddresses: [{ address: VIP, ipMode: "VIP", fromPool: true }],
            ports: [{ name: "", protocol: "TCP", port, targetPort: 8080 }],
          }),
          service({
            ...{ name: other, clusterIPs: ["10.96.0.11"], externalIPs: [VIP] },
            ports: [{ name: "", protocol: "TCP", port: 80, targetPort: 8080 }],
          }),
        ],
        slices: ["m", other].map((name) => slice({ name, service: name, endpoints: [endpoint("10.244.1.2")] })),
      });
    model.update(given(80, ["10.0.0.0/8"]));
    model.plan();
    const changes = given(81, ["192.0.2.128/25"]);
    model.update(isFirst ? changes.toReversed() : changes);
    const operations = model.plan();
    const at = (found: (one: (typeof operations)[number]) => boolean): number => operations.findIndex(found);
    const switched = at((one) => one.op === "put-frontend" && one.key.address === VIP && one.key.port === 80);
    const ranged = at((one) => one.op === "put-source-ranges");
    expect(switched).toBeGreaterThan(-1);
    expect(ranged).toBeGreaterThan(switched);
  },
);
