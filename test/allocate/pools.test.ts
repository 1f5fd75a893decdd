// Pools by themselves, with plain objects; the rules are tabled in test/standalone/pools.test.ts.
import { expect, test } from "vitest";
import { assignPoolAddresses, type PoolClient, type PoolHolding, usablePools } from "../../src/allocate/pools.ts";
import type { ServiceRequest } from "../../src/allocate/service-request.ts";
import type { AddressPool } from "../../src/model/objects.ts";
import { pool as poolOf } from "../flows/builders.ts";

const pool = (name: string, ranges: readonly string[]): AddressPool => poolOf({ name, ranges });

const client = (name: string, spec: ServiceRequest["spec"] = {}, key = "k"): PoolClient => ({
  key: `default/${name}`,
  service: {
    metadata: { name, namespace: "default", annotations: { "metallb.io/allow-shared-ip": key } },
    spec: { type: "LoadBalancer", ports: [{ port: 80 }], ...spec },
  },
  families: ["IPv4"],
  needsAllFamilies: false,
});

function assign(
  clients: readonly PoolClient[],
  held: ReadonlyMap<string, PoolHolding> = new Map(),
): Map<string, string> {
  const outcomes = assignPoolAddresses({
    pools: [pool("p", ["192.0.2.10-192.0.2.12"])],
    clients,
    held,
    namespaceLabels: () => ({}),
    isForeign: () => false,
  });
  return new Map(
    [...outcomes].map(([key, one]) => [key, "assigned" in one ? one.assigned.addresses.join(",") : one.refused]),
  );
}

test("what was kept before its use was kept too stays with whoever has it", () => {
  const held = new Map([
    ["default/a", { addresses: ["192.0.2.12"], pool: "p" }],
    ["default/b", { addresses: ["192.0.2.12"], pool: "p" }],
  ]);
  const shared = [client("a"), client("b", { ports: [{ port: 81 }] })];
  expect([...assign(shared, held).values()]).toEqual(["192.0.2.12", "192.0.2.12"]);
});

test("an address that nobody holds any longer is given again, however many were looked at before", () => {
  const three = ["a", "b", "c"].map((name) => client(name, {}, ""));
  const held = new Map([["default/c", { addresses: ["192.0.2.10"], pool: "p" }]]);
  expect([...assign([...three, client("d", {}, "")], held)].sort()).toEqual([
    ["default/a", "192.0.2.11"],
    ["default/b", "192.0.2.12"],
    ["default/c", "192.0.2.10"],
    ["default/d", "pool-exhausted"],
  ]);
});

test("ten thousand Services get ten thousand addresses in time that grows with their number", () => {
  const large = Array.from({ length: 10_000 }, (_, i) => client(`s${i}`, {}, ""));
  const pools = [pool("p", ["10.0.0.0/16"])];
  const before = process.threadCpuUsage();
  const input = { pools, clients: large, held: new Map(), namespaceLabels: () => ({}), isForeign: () => false };
  const addresses = [...assignPoolAddresses(input).values()].flatMap((one) =>
    "assigned" in one ? one.assigned.addresses : [],
  );
  const { user, system } = process.threadCpuUsage(before);
  expect(new Set(addresses).size).toBe(10_000);
  expect((user + system) / 1000).toBeLessThan(3_000);
});

test("a pool that overlaps an earlier one is told, with the range that does", () => {
  const { usable, overlapping } = usablePools([
    pool("b", ["192.0.2.0/28", "198.51.100.0/24"]),
    pool("a", ["198.51.100.7/32"]),
  ]);
  expect(usable.map((one) => one.name)).toEqual(["a"]);
  expect(overlapping).toMatchObject([{ pool: { name: "b" }, with: "a", range: 1 }]);
});
