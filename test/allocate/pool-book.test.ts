// The search for a free address: it finds one exactly when there is one, however addresses are shared, and it stays short.
import { expect, test } from "vitest";
import { createClusterAllocation } from "../../src/allocate/cluster-allocation.ts";
import { createPoolBook } from "../../src/allocate/pool-book.ts";
import { mayShare, type Use } from "../../src/allocate/pool-request.ts";
import { pool } from "../flows/builders.ts";
import { seedOfRun, withSeed } from "../model/random.ts";

const ADDRESSES = ["192.0.2.0", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.8", "2001:db8::", "2001:db8::1"];

test("whatever was taken and left, a free address is found when there is one, and only such a one", () => {
  for (let i = 0; i < 200; i++) {
    withSeed((seedOfRun() + i) >>> 0, (random) => {
      const pools = [
        pool({ name: "p", ranges: ["192.0.2.0/30", "2001:db8::/127", "192.0.2.8/32"], avoidBuggyIPs: true }),
      ];
      const book = createPoolBook({
        pools,
        namespaceLabels: () => ({}),
        isForeign: (address) => address === "192.0.2.2",
      });
      const taken = new Map<string, Map<string, Use>>(ADDRESSES.map((one) => [one, new Map()]));
      for (let step = 0; step < 60; step++) {
        const key = `s${random.below(8)}`;
        const use: Use = {
          sharingKey: random.pick(["", "k", "l"]),
          backendKey: random.pick(["cluster", "local"]),
          ports: Array.from({ length: random.below(3) }, () => `TCP/${random.below(3)}`),
        };
        const family = random.pick(["IPv4", "IPv6"] as const);
        const isFree = (address: string): boolean =>
          address !== "192.0.2.2" &&
          address !== "192.0.2.0" &&
          [...taken.get(address)!].every(([other, theirs]) => other === key || mayShare(use, theirs));
        const free = ADDRESSES.filter((one) => one.includes(":") === (family === "IPv6") && isFree(one));
        const found = book.firstFree(book.pools[0]!, family, use, key);
        if (found === undefined) expect(free, `step ${step}`).toEqual([]);
        else expect(free, `step ${step}`).toContain(found);
        if (found !== undefined && random.chance(0.6)) {
          book.take(key, found, use);
          taken.get(found)!.set(key, use);
        } else {
          const address = random.pick(ADDRESSES);
          book.leave(key, address);
          taken.get(address)!.delete(key);
        }
      }
    });
  }
});

/** Processor time of this thread, milliseconds, of giving so many Services their addresses. */
function cost(count: number, annotation: (i: number) => string): number {
  const allocation = createClusterAllocation("");
  for (let i = 0; i < count; i++) {
    const metadata = {
      name: `s${i}`,
      namespace: "default",
      annotations: { "metallb.io/allow-shared-ip": annotation(i) },
    };
    const spec = { type: "LoadBalancer", ipFamilies: ["IPv4"] as const, ports: [{ port: 80 }] };
    allocation.put({
      ...{ key: `default/s${i}`, uid: `u${i}`, version: String(i), created: "", request: { metadata, spec } },
      ...{ addresses: [], pool: "", hasFormerAnnotation: false, use: "", conditions: [] },
    });
  }
  allocation.configure({
    pools: [pool({ name: "p", ranges: ["10.0.0.0/16"] })],
    namespaceLabels: () => ({}),
    nodeAddresses: new Set(),
    isWhole: true,
  });
  const before = process.threadCpuUsage();
  allocation.settle();
  const { user, system } = process.threadCpuUsage(before);
  expect(allocation.counts().assigned).toBe(count);
  return (user + system) / 1000;
}

test.each<[string, (i: number) => string]>([
  ["each with a key of its own", (i) => `k${i}`],
  ["all with one key and one port", () => "k"],
])("four thousand Services, %s, do not hold the controller up", (_, annotation) => {
  cost(500, annotation);
  const ms = cost(4_000, annotation);
  process.stdout.write(`4,000 Services with sharing keys, processor time: ${ms.toFixed(0)} ms\n`);
  expect(ms).toBeLessThan(3_000);
});
