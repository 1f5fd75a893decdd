// Services that share an address, one of which is edited: the others keep it, whenever the edit was and whatever is decided next.
import { expect, test } from "vitest";
import type { AllocationInput, ServiceRecord } from "../../src/allocate/allocation-records.ts";
import { type ClusterAllocation, createClusterAllocation } from "../../src/allocate/cluster-allocation.ts";
import { pool } from "../flows/builders.ts";

let versions = 0;

const use = (port: number): string =>
  JSON.stringify({ sharingKey: "k", backendKey: "cluster", ports: [`TCP/${port}`] });

/** Has 192.0.2.1; `key`: what it shares by now. */
const sharer = (name: string, port: number, key: string, got = use(port)): ServiceRecord => ({
  key: `default/${name}`,
  uid: `uid of ${name}`,
  version: String(++versions),
  created: name === "edited" ? "2026-01-01T00:00:00Z" : "2026-01-02T00:00:00Z",
  request: {
    metadata: {
      name,
      namespace: "default",
      ...(key === "" ? {} : { annotations: { "metallb.io/allow-shared-ip": key } }),
    },
    spec: { type: "LoadBalancer", ipFamilies: ["IPv4"], ports: [{ port }] },
  },
  addresses: ["192.0.2.1"],
  pool: "p",
  hasFormerAnnotation: false,
  use: got,
  conditions: [],
});

const input = (range: string): AllocationInput => ({
  pools: [pool({ name: "p", ranges: [range] })],
  namespaceLabels: () => ({}),
  nodeAddresses: new Set(),
  isWhole: true,
});

const addresses = (allocation: ClusterAllocation, name: string): readonly string[] => {
  const outcome = allocation.outcome(`default/${name}`);
  return outcome !== undefined && "assigned" in outcome ? outcome.assigned.addresses : [];
};

/** As a label changes it. */
const touched = (one: ServiceRecord): ServiceRecord => ({ ...one, version: String(++versions) });

test.each(["192.0.2.1-192.0.2.9", "192.0.2.1/32"])(
  "edited while no controller ran, %s: whoever is touched before that is written keeps the address",
  (range) => {
    const allocation = createClusterAllocation("");
    const other = sharer("other", 81, "k");
    for (const one of [sharer("edited", 80, ""), other]) allocation.put(one);
    allocation.configure(input(range));
    allocation.settle();
    expect(allocation.begin("default/edited")?.addresses).toEqual(range.endsWith("/32") ? [] : ["192.0.2.2"]);
    allocation.put(touched(other));
    expect(allocation.settle().news.filter(({ record }) => record.key === other.key)).toEqual([]);
    expect(addresses(allocation, "other")).toEqual(["192.0.2.1"]);
  },
);

test("edited just before the pools change: whoever is touched then keeps the address", () => {
  const allocation = createClusterAllocation("");
  const edited = sharer("edited", 80, "k");
  const other = sharer("other", 81, "k");
  for (const one of [edited, other]) allocation.put(one);
  allocation.configure(input("192.0.2.1-192.0.2.9"));
  allocation.settle();
  allocation.put(sharer("edited", 80, ""));
  allocation.settle();
  allocation.configure(input("192.0.2.1-192.0.2.8"));
  allocation.settle();
  allocation.put(touched(other));
  allocation.settle();
  expect([addresses(allocation, "edited"), addresses(allocation, "other")]).toEqual([["192.0.2.2"], ["192.0.2.1"]]);
});

test("what is decided anew while a bystander's write is under way takes nothing from it", () => {
  const allocation = createClusterAllocation("");
  // It has still to say what it did with the address when it got it.
  for (const one of [sharer("edited", 80, "k"), sharer("other", 81, "k", "")]) allocation.put(one);
  allocation.configure(input("192.0.2.1-192.0.2.9"));
  allocation.settle();
  expect(allocation.begin("default/other")?.addresses).toEqual(["192.0.2.1"]);
  allocation.put(sharer("edited", 81, "k", use(80)));
  allocation.configure(input("192.0.2.1-192.0.2.8"));
  allocation.settle();
  expect(addresses(allocation, "edited")).toEqual(["192.0.2.2"]);
});

test("a newcomer may not have what somebody who was edited is still seen with, by what that one was", () => {
  const allocation = createClusterAllocation("");
  for (const one of [sharer("edited", 80, "k"), sharer("other", 81, "k")]) allocation.put(one);
  allocation.configure(input("192.0.2.1-192.0.2.2"));
  allocation.settle();
  allocation.put(sharer("edited", 82, "", use(80)));
  const asking = sharer("asking", 82, "k", "");
  allocation.put({ ...asking, addresses: [], pool: "" });
  allocation.settle();
  expect(addresses(allocation, "edited")).toEqual(["192.0.2.2"]);
  expect(addresses(allocation, "asking")).toEqual([]);
});
