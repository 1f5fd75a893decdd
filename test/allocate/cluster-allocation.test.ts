// The addresses of a cluster's Services by themselves: what may happen to an address while a write of it is on its way, and what a
// change costs among ten thousand.
import { expect, test } from "vitest";
import type { AllocationInput, ServiceRecord } from "../../src/allocate/allocation-records.ts";
import { type ClusterAllocation, createClusterAllocation } from "../../src/allocate/cluster-allocation.ts";
import { pool } from "../flows/builders.ts";

let versions = 0;

const record = (name: string, more: Partial<ServiceRecord> = {}, spec: object = {}): ServiceRecord => ({
  key: `default/${name}`,
  uid: `uid of ${name}`,
  version: String(++versions),
  created: "2026-01-01T00:00:00Z",
  request: {
    metadata: { name, namespace: "default" },
    spec: { type: "LoadBalancer", ipFamilies: ["IPv4"], ports: [{ port: 80 }], ...spec },
  },
  addresses: [],
  pool: "",
  hasFormerAnnotation: false,
  use: "",
  conditions: [],
  ...more,
});

const input = (...ranges: readonly string[]): AllocationInput => ({
  pools: ranges.map((range, i) => pool({ name: `p${i}`, ranges: [range] })),
  namespaceLabels: () => ({}),
  nodeAddresses: new Set(),
  isWhole: true,
});

function allocationOf(from: AllocationInput, ...records: readonly ServiceRecord[]): ClusterAllocation {
  const allocation = createClusterAllocation("");
  for (const one of records) allocation.put(one);
  allocation.configure(from);
  allocation.settle();
  return allocation;
}

const addresses = (allocation: ClusterAllocation, name: string): readonly string[] => {
  const outcome = allocation.outcome(`default/${name}`);
  return outcome !== undefined && "assigned" in outcome ? outcome.assigned.addresses : [];
};

test("an address whose write is in doubt is given to nobody, whatever becomes of its pool meanwhile", () => {
  const a = record("a");
  const allocation = allocationOf(input("192.0.2.1/32"), a);
  const write = allocation.begin("default/a")!;
  expect(write.addresses).toEqual(["192.0.2.1"]);
  allocation.end(write, "unknown");
  // For a while it has another address to go to; then all is as it was, and somebody asks for the one in doubt.
  allocation.configure(input("203.0.113.1/32"));
  allocation.settle();
  allocation.configure(input("192.0.2.1/32", "203.0.113.1/32"));
  allocation.put(record("b", {}, { loadBalancerIP: "192.0.2.1" }));
  allocation.settle();
  expect(addresses(allocation, "b")).toEqual([]);
  // It is said again, never something else.
  expect(allocation.begin("default/a")).toBe(write);
  // Even a refusal of the second attempt says nothing about the first.
  allocation.end(write, "failed");
  allocation.settle();
  expect(addresses(allocation, "b")).toEqual([]);
  // The API shows that somebody else changed it: the write is bound to a version that is gone.
  allocation.put(record("a", {}, { loadBalancerIP: "203.0.113.1" }));
  allocation.settle();
  expect(addresses(allocation, "a")).toEqual(["203.0.113.1"]);
  expect(addresses(allocation, "b")).toEqual(["192.0.2.1"]);
});

test("what failed for certain is free at once", () => {
  const allocation = allocationOf(input("192.0.2.1/32"), record("a"));
  const write = allocation.begin("default/a")!;
  expect(allocation.begin("default/a")).toBeUndefined();
  allocation.end(write, "failed");
  allocation.put(record("a", {}, { type: "ClusterIP" }));
  allocation.put(record("b"));
  allocation.settle();
  expect(addresses(allocation, "b")).toEqual(["192.0.2.1"]);
});

test("an answer to a write of before says nothing about the one of now", () => {
  const allocation = allocationOf(input("192.0.2.1-192.0.2.2"), record("a"));
  const first = allocation.begin("default/a")!;
  allocation.put(record("a", {}, { loadBalancerIP: "192.0.2.2" }));
  allocation.settle();
  const second = allocation.begin("default/a")!;
  expect(second.addresses).toEqual(["192.0.2.2"]);
  allocation.end(first, "failed");
  expect(allocation.begin("default/a")).toBeUndefined();
  allocation.put(record("b", {}, { loadBalancerIP: "192.0.2.2" }));
  allocation.settle();
  expect(addresses(allocation, "b")).toEqual([]);
});

test("an address is another's only once it is no longer to be seen with who had it", () => {
  const shown = { addresses: ["192.0.2.1"], pool: "p0" };
  const allocation = allocationOf(input("192.0.2.1/32"), record("a", shown));
  allocation.put(record("a", shown, { type: "ClusterIP" }));
  allocation.put(record("b"));
  expect(allocation.settle().writes).toEqual(["default/a"]);
  expect(addresses(allocation, "b")).toEqual([]);
  const write = allocation.begin("default/a")!;
  expect(write).toMatchObject({ addresses: [], pool: "" });
  allocation.end(write, "written");
  allocation.settle();
  expect(addresses(allocation, "b")).toEqual([]);
  allocation.put(record("a", {}, { type: "ClusterIP" }));
  expect(allocation.settle().writes).toEqual(["default/b"]);
  expect(addresses(allocation, "b")).toEqual(["192.0.2.1"]);
});

test("a node's address and a Service's cluster address are given to nobody, and taken from nobody", () => {
  const shown = { addresses: ["192.0.2.1"], pool: "p0" };
  const one = record("a", shown);
  const from = { ...input("192.0.2.0/30"), nodeAddresses: new Set(["192.0.2.0", "192.0.2.1"]) };
  const clustered = record("c", {}, { type: "ClusterIP", clusterIPs: ["192.0.2.2"] });
  const allocation = allocationOf(from, one, clustered, record("b"));
  expect(addresses(allocation, "a")).toEqual(["192.0.2.1"]);
  expect(addresses(allocation, "b")).toEqual(["192.0.2.3"]);
});

test("two that show one address after a race of leaders: the older keeps it, the other goes on to another", () => {
  const shown = { addresses: ["192.0.2.1"], pool: "p0" };
  const older = record("z", { ...shown, created: "2025-01-01T00:00:00Z" });
  const allocation = createClusterAllocation("");
  for (const one of [record("a", shown), older]) allocation.put(one);
  allocation.configure(input("192.0.2.0/30"));
  const { news } = allocation.settle();
  expect(addresses(allocation, "z")).toEqual(["192.0.2.1"]);
  expect(addresses(allocation, "a")).toEqual(["192.0.2.0"]);
  expect(news.map(({ record: { key }, kind, refusal }) => `${key} ${kind} ${refusal.message}`)).toEqual([
    "default/a cleared 192.0.2.1: it is in use by the Service default/z",
  ]);
});

test("counters are those of MetalLB: each address once, without what avoidBuggyIPs leaves out", () => {
  const allocation = createClusterAllocation("");
  const pools = [
    pool({ name: "a", ranges: ["192.0.0.0/22", "198.51.100.250-198.51.101.5"], avoidBuggyIPs: true }),
    pool({ name: "b", ranges: ["2001:db8::/64", "203.0.113.0/30"] }),
  ];
  allocation.configure({ ...input(), pools });
  const sharing = { addresses: ["203.0.113.1"], pool: "b" };
  allocation.put(record("x", sharing));
  allocation.put(record("y", sharing, { type: "ClusterIP" }));
  allocation.settle();
  expect(allocation.pools()).toEqual([
    { name: "a", assigned: { IPv4: 0, IPv6: 0 }, available: { IPv4: 1024 - 8 + 12 - 2, IPv6: 0 } },
    { name: "b", assigned: { IPv4: 1, IPv6: 0 }, available: { IPv4: 3, IPv6: Number.MAX_SAFE_INTEGER } },
  ]);
});

/** Processor time of this thread, milliseconds. */
function cost(work: () => void): number {
  const before = process.threadCpuUsage();
  work();
  const { user, system } = process.threadCpuUsage(before);
  return (user + system) / 1000;
}

test("among ten thousand Services one change costs as much as among ten", () => {
  const many = Array.from({ length: 10_000 }, (_, i) => record(`s${i}`));
  const allocation = createClusterAllocation("");
  for (const one of many) allocation.put(one);
  allocation.configure(input("10.0.0.0/16"));
  const wholeMs = cost(() => allocation.settle());
  const given = new Set(many.flatMap(({ request }) => addresses(allocation, request.metadata.name)));
  expect(given.size).toBe(10_000);
  // All are written and seen.
  for (const one of many) {
    const write = allocation.begin(one.key)!;
    allocation.end(write, "written");
    allocation.put({ ...one, version: String(++versions), addresses: write.addresses, pool: write.pool });
  }
  const seenMs = cost(() => expect(allocation.settle().writes).toEqual([]));
  const rounds = 200;
  const newMs = cost(() => {
    for (let i = 0; i < rounds; i++) {
      allocation.put(record(`n${i}`));
      expect(allocation.settle().writes).toEqual([`default/n${i}`]);
    }
  });
  const goneMs = cost(() => {
    for (let i = 0; i < rounds; i++) {
      allocation.remove(`default/s${i * 7}`);
      allocation.put(record(`again${i}`));
      allocation.settle();
      expect(addresses(allocation, `again${i}`)).toHaveLength(1);
    }
  });
  const restartMs = cost(() => {
    const anew = createClusterAllocation("");
    for (const one of many) {
      const held = addresses(allocation, one.request.metadata.name);
      anew.put({ ...one, addresses: held, pool: held.length === 0 ? "" : "p0" });
    }
    anew.configure(input("10.0.0.0/16"));
    anew.settle();
  });
  process.stdout.write(
    `10,000 Services, processor time: first allocation ${wholeMs.toFixed(0)} ms, all seen ${seenMs.toFixed(0)} ms, ` +
      `one new ${(newMs / rounds).toFixed(2)} ms, one gone and one new ${(goneMs / rounds).toFixed(2)} ms, restart ${restartMs.toFixed(0)} ms\n`,
  );
  expect(wholeMs).toBeLessThan(3_000);
  expect(newMs / rounds).toBeLessThan(5);
  expect(goneMs / rounds).toBeLessThan(10);
});

test("a pool that is split by family leaves a Service that may have one family its first address, with a word", () => {
  const shown = { addresses: ["192.0.2.5", "2001:db8::5"], pool: "p0" };
  const both = { ipFamilies: ["IPv4", "IPv6"], ipFamilyPolicy: "PreferDualStack" };
  const allocation = createClusterAllocation("");
  allocation.put(record("a", shown, both));
  const whole = pool({ name: "p0", ranges: ["192.0.2.0/28", "2001:db8::/124"] });
  allocation.configure({ ...input(), pools: [whole] });
  expect(allocation.settle().writes).toEqual([]);
  allocation.configure(input("192.0.2.0/28", "2001:db8::/124"));
  const { news } = allocation.settle();
  expect(addresses(allocation, "a")).toEqual(["192.0.2.5"]);
  expect(news.map(({ kind, refusal }) => `${kind}: ${refusal.message}`)).toEqual([
    "cleared: 2001:db8::5 is not in the IPAddressPool p0 of its other address",
  ]);
});
