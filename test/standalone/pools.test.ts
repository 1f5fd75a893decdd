// LoadBalancer addresses by MetalLB's rules: who gets which, who shares, and why somebody gets none.
import { expect, test } from "vitest";
import { type Any, cluster, DUAL_STACK, documents, find, node, pool, service, temporaryDirectory } from "./build.ts";

const lb = (name: string, spec: Any = {}, annotations: Any = {}, metadata: Any = {}): Any =>
  service(name, { type: "LoadBalancer", ...spec }, { annotations, ...metadata });
const ten = pool("ten", ["192.168.122.110-192.168.122.119"]);

interface Case {
  readonly name: string;
  readonly given: Any[];
  /** Addresses by Service, or the reason why there is none. */
  readonly expected: Record<string, string>;
  readonly ranges?: string[];
  readonly field?: string;
}

const CASES: Case[] = [
  { name: "without any pool there is no address", given: [lb("a")], expected: { a: "no-pool" }, field: "" },
  {
    name: "an address asked for without any pool",
    given: [lb("a", { loadBalancerIP: "192.0.2.1" })],
    expected: { a: "no-pool" },
    field: "spec.loadBalancerIP",
  },
  {
    name: "the first free address is given",
    given: [ten, lb("a"), lb("b")],
    expected: { a: "192.168.122.110", b: "192.168.122.111" },
  },
  {
    name: "spec.loadBalancerIP is given before free ones",
    given: [ten, lb("a"), lb("b", { loadBalancerIP: "192.168.122.110" })],
    expected: { a: "192.168.122.111", b: "192.168.122.110" },
  },
  {
    name: "the annotation loadBalancerIPs",
    given: [ten, lb("a", {}, { "metallb.io/loadBalancerIPs": "192.168.122.115" })],
    expected: { a: "192.168.122.115" },
  },
  {
    name: "the annotation loadBalancerIPs of old",
    given: [ten, lb("a", {}, { "metallb.universe.tf/loadBalancerIPs": "192.168.122.115" })],
    expected: { a: "192.168.122.115" },
  },
  {
    name: "both ways to ask at once",
    given: [ten, lb("a", { loadBalancerIP: "192.168.122.110" }, { "metallb.io/loadBalancerIPs": "192.168.122.115" })],
    expected: { a: "invalid-request" },
    field: "spec.loadBalancerIP",
  },
  {
    name: "an address asked for that is none",
    given: [ten, lb("a", { loadBalancerIP: "x" })],
    expected: { a: "invalid-request" },
    field: "spec.loadBalancerIP",
  },
  {
    name: "an address outside every pool",
    given: [ten, lb("a", { loadBalancerIP: "192.168.122.120" })],
    expected: { a: "not-in-pool" },
    field: "spec.loadBalancerIP",
  },
  {
    name: "an address that another has",
    given: [ten, lb("a", { loadBalancerIP: "192.168.122.111" }), lb("b", { loadBalancerIP: "192.168.122.111" })],
    expected: { a: "192.168.122.111", b: "address-in-use" },
    field: "spec.loadBalancerIP",
  },
  {
    name: "a pool that is used up",
    given: [pool("one", ["192.0.2.7/32"]), lb("a"), lb("b")],
    expected: { a: "192.0.2.7", b: "pool-exhausted" },
    field: "",
  },
  {
    name: "a pool asked for by name",
    given: [ten, pool("two", ["192.0.2.0/30"]), lb("a", {}, { "metallb.io/address-pool": "two" })],
    expected: { a: "192.0.2.0" },
  },
  {
    name: "a pool asked for that there is not",
    given: [ten, lb("a", {}, { "metallb.io/address-pool": "two" })],
    expected: { a: "unknown-pool" },
    field: "metadata.annotations.metallb.io/address-pool",
  },
  {
    name: "an address and another pool",
    given: [
      ten,
      pool("two", ["192.0.2.0/30"]),
      lb("a", { loadBalancerIP: "192.0.2.1" }, { "metallb.io/address-pool": "ten" }),
    ],
    expected: { a: "not-in-pool" },
  },
  {
    name: "autoAssign: false gives only to those who ask",
    given: [
      pool("one", ["192.0.2.0/30"], { autoAssign: false }),
      lb("a"),
      lb("b", {}, { "metallb.io/address-pool": "one" }),
    ],
    expected: { a: "no-pool", b: "192.0.2.0" },
  },
  {
    name: "avoidBuggyIPs leaves out .0 and .255",
    given: [pool("one", ["192.0.2.255-192.0.3.1"], { avoidBuggyIPs: true }), lb("a")],
    expected: { a: "192.0.3.1" },
  },
  {
    name: "another class's Service",
    given: [ten, lb("a", { loadBalancerClass: "example.com/other" })],
    expected: { a: "wrong-class" },
    field: "spec.loadBalancerClass",
  },
  {
    name: "an address of a Node in a pool",
    given: [
      pool("one", ["192.168.122.11-192.168.122.12"]),
      node("n"),
      lb("a"),
      lb("b", { loadBalancerIP: "192.168.122.11" }),
    ],
    expected: { a: "192.168.122.12", b: "address-in-use" },
  },
  {
    name: "lower priority first, none given last, pools for this Service before others",
    given: [
      pool("a", ["192.0.2.10/32"]),
      pool("b", ["192.0.2.20/32"], { serviceAllocation: { priority: 20, namespaces: ["default"] } }),
      pool("c", ["192.0.2.30/32"], { serviceAllocation: { priority: 10, namespaces: ["default"] } }),
      pool("d", ["192.0.2.40/32"], { serviceAllocation: { namespaces: ["default"] } }),
      lb("a"),
      lb("b"),
      lb("c"),
      lb("d"),
    ],
    expected: { a: "192.0.2.30", b: "192.0.2.20", c: "192.0.2.40", d: "192.0.2.10" },
  },
  {
    name: "a pool for another namespace",
    given: [pool("one", ["192.0.2.0/30"], { serviceAllocation: { namespaces: ["other"] } }), lb("a")],
    expected: { a: "no-pool" },
  },
  {
    name: "an address of a pool for another namespace",
    given: [
      pool("one", ["192.0.2.0/30"], { serviceAllocation: { namespaces: ["other"] } }),
      lb("a", { loadBalancerIP: "192.0.2.1" }),
    ],
    expected: { a: "pool-not-allowed" },
  },
  {
    name: "a pool for Services by label, and for namespaces by theirs",
    given: [
      { apiVersion: "v1", kind: "Namespace", metadata: { name: "default", labels: { team: "x" } } },
      pool("one", ["192.0.2.10/32"], { serviceAllocation: { serviceSelectors: [{ matchLabels: { tier: "front" } }] } }),
      pool("two", ["192.0.2.20/32"], {
        serviceAllocation: {
          namespaceSelectors: [{ matchExpressions: [{ key: "team", operator: "In", values: ["x"] }] }],
        },
      }),
      lb("a", {}, {}, { labels: { tier: "front" } }),
      lb("b"),
      lb("c"),
    ],
    expected: { a: "192.0.2.10", b: "192.0.2.20", c: "pool-exhausted" },
  },
  {
    name: "a pool that overlaps another is not used",
    given: [pool("a", ["192.0.2.0/30"]), pool("b", ["192.0.2.3-192.0.2.9"]), lb("x", { loadBalancerIP: "192.0.2.5" })],
    expected: { x: "not-in-pool" },
  },
  {
    name: "sharing by key, with other ports",
    given: [
      ten,
      lb("a", {}, { "metallb.io/allow-shared-ip": "k" }),
      lb("b", { ports: [{ port: 443 }] }, { "metallb.io/allow-shared-ip": "k" }),
    ],
    expected: { a: "192.168.122.110", b: "192.168.122.110" },
  },
  {
    name: "the same port of another protocol may share",
    given: [
      ten,
      lb("a", {}, { "metallb.io/allow-shared-ip": "k" }),
      lb("b", { ports: [{ port: 80, protocol: "UDP" }] }, { "metallb.universe.tf/allow-shared-ip": "k" }),
    ],
    expected: { a: "192.168.122.110", b: "192.168.122.110" },
  },
  {
    name: "no sharing with the same port",
    given: [
      ten,
      lb("a", {}, { "metallb.io/allow-shared-ip": "k" }),
      lb("b", {}, { "metallb.io/allow-shared-ip": "k" }),
    ],
    expected: { a: "192.168.122.110", b: "192.168.122.111" },
  },
  {
    name: "no sharing with another key",
    given: [
      ten,
      lb("a", { loadBalancerIP: "192.168.122.110" }, { "metallb.io/allow-shared-ip": "k" }),
      lb("b", { loadBalancerIP: "192.168.122.110", ports: [{ port: 443 }] }, { "metallb.io/allow-shared-ip": "l" }),
    ],
    expected: { a: "192.168.122.110", b: "address-in-use" },
  },
  {
    name: "no sharing under policy Local with other pods",
    given: [
      ten,
      lb("a", { externalTrafficPolicy: "Local" }, { "metallb.io/allow-shared-ip": "k" }),
      lb("b", { externalTrafficPolicy: "Local", ports: [{ port: 443 }] }, { "metallb.io/allow-shared-ip": "k" }),
    ],
    expected: { a: "192.168.122.110", b: "192.168.122.111" },
  },
  {
    name: "sharing under policy Local with the same pods",
    given: [
      ten,
      lb("a", { externalTrafficPolicy: "Local" }, { "metallb.io/allow-shared-ip": "k" }),
      lb(
        "b",
        { externalTrafficPolicy: "Local", selector: { app: "a" }, ports: [{ port: 443 }] },
        { "metallb.io/allow-shared-ip": "k" },
      ),
    ],
    expected: { a: "192.168.122.110", b: "192.168.122.110" },
  },
  {
    name: "both families from one pool",
    ranges: DUAL_STACK,
    given: [pool("two", ["192.0.2.0/30", "fd00:5::/126"]), lb("a", { ipFamilyPolicy: "RequireDualStack" })],
    expected: { a: "192.0.2.0,fd00:5::" },
  },
  {
    name: "one family is enough where two are only preferred",
    ranges: DUAL_STACK,
    given: [ten, lb("a", { ipFamilyPolicy: "PreferDualStack" })],
    expected: { a: "192.168.122.110" },
  },
  {
    name: "an address of the wrong family",
    ranges: DUAL_STACK,
    given: [pool("two", ["192.0.2.0/30", "fd00:5::/126"]), lb("a", { loadBalancerIP: "fd00:5::1" })],
    expected: { a: "wrong-family" },
  },
  {
    name: "pools of the other family only",
    given: [pool("six", ["fd00:5::/126"]), lb("a")],
    expected: { a: "wrong-family" },
  },
];

function outcome(result: Any, name: string): string {
  const ips = (find(result.objects, "Service", name).status?.loadBalancer?.ingress ?? []).map((one: Any) => one.ip);
  return ips.length > 0
    ? ips.join(",")
    : result.notices.find((one: Any) => one.object === `Service default/${name}`)?.reason;
}

test.each(CASES)("$name", async ({ given, expected, ranges, field }) => {
  const one = await cluster(ranges === undefined ? {} : { serviceClusterIpRange: ranges });
  const result = await one.reconcile(documents(...given));
  expect(Object.fromEntries(Object.keys(expected).map((name) => [name, outcome(result, name)]))).toEqual(expected);
  if (field !== undefined)
    expect(result.notices.find((notice) => notice.object.startsWith("Service"))).toMatchObject({
      field,
      file: "a.yaml",
    });
  // Said once more, the same comes out.
  const again = await one.reconcile(documents(...given));
  expect(again.objects).toEqual(result.objects);
});

test("where an address is from stands on the Service, and is taken away with it", async () => {
  const one = await cluster();
  const annotated = find((await one.reconcile(documents(ten, lb("a")))).objects, "Service", "a");
  expect(annotated.metadata.annotations["metallb.io/ip-allocated-from-pool"]).toBe("ten");
  expect(annotated.status.loadBalancer.ingress).toEqual([{ ip: "192.168.122.110", ipMode: "VIP" }]);
  const without = await one.reconcile(documents(lb("a", {}, { "metallb.io/ip-allocated-from-pool": "forged" })));
  expect(
    find(without.objects, "Service", "a").metadata.annotations["metallb.io/ip-allocated-from-pool"],
  ).toBeUndefined();
  expect(outcome(without, "a")).toBe("no-pool");
});

test("an address is kept while it is right: through a restart, and through others that come and go", async () => {
  const stateDir = await temporaryDirectory();
  const one = await cluster({ stateDir });
  await one.reconcile(documents(ten, lb("a"), lb("b")));
  expect(outcome(await one.reconcile(documents(ten, lb("b"), lb("c"))), "b")).toBe("192.168.122.111");
  const again = await (await cluster({ stateDir })).reconcile(documents(ten, lb("d"), lb("b"), lb("c")));
  expect(outcome(again, "b")).toBe("192.168.122.111");
  expect(outcome(again, "c")).toBe("192.168.122.110");
  expect(outcome(again, "d")).toBe("192.168.122.112");
});

test("a holder does not lose its address to a newcomer who asks for it", async () => {
  const one = await cluster();
  await one.reconcile(documents(ten, lb("a")));
  const result = await one.reconcile(documents(ten, lb("a"), lb("b", { loadBalancerIP: "192.168.122.110" })));
  expect(outcome(result, "a")).toBe("192.168.122.110");
  expect(outcome(result, "b")).toBe("address-in-use");
});

test("a Service whose request changes gets the new address, and the old one when the request goes nowhere it keeps none", async () => {
  const one = await cluster();
  await one.reconcile(documents(ten, lb("a")));
  expect(outcome(await one.reconcile(documents(ten, lb("a", { loadBalancerIP: "192.168.122.119" }))), "a")).toBe(
    "192.168.122.119",
  );
  expect(outcome(await one.reconcile(documents(ten, lb("a", { loadBalancerIP: "192.0.2.1" }))), "a")).toBe(
    "not-in-pool",
  );
});

test("another class's addresses stay as they are written", async () => {
  const other = {
    ...lb("a", { loadBalancerClass: "example.com/other" }),
    status: { loadBalancer: { ingress: [{ ip: "192.0.2.77" }] } },
  };
  const result = await (await cluster()).reconcile(documents(ten, other));
  expect(find(result.objects, "Service", "a").status.loadBalancer.ingress).toEqual([{ ip: "192.0.2.77" }]);
});

test("a manifest that carries the address it had in a cluster keeps it", async () => {
  const taken = {
    ...lb("a", {}, { "metallb.io/ip-allocated-from-pool": "ten" }),
    status: { loadBalancer: { ingress: [{ ip: "192.168.122.117" }] } },
  };
  expect(outcome(await (await cluster()).reconcile(documents(ten, taken)), "a")).toBe("192.168.122.117");
});

const three = [
  pool("a-only-four", ["192.168.122.150-192.168.122.159"]),
  pool("b-both", ["192.168.122.160-192.168.122.169", "fd00:5::160-fd00:5::169"]),
  pool("c-only-six", ["fd00:5::170-fd00:5::179"]),
];
const PREFERENCES: { name: string; pools: Any[]; spec: Any; expected: string }[] = [
  {
    name: "preferred",
    pools: three,
    spec: { ipFamilyPolicy: "PreferDualStack" },
    expected: "192.168.122.160,fd00:5::160",
  },
  {
    name: "required",
    pools: three,
    spec: { ipFamilyPolicy: "RequireDualStack" },
    expected: "192.168.122.160,fd00:5::160",
  },
  { name: "not asked for", pools: three, spec: { ipFamilyPolicy: "SingleStack" }, expected: "192.168.122.150" },
  {
    name: "preferred, IPv6 first",
    pools: three,
    spec: { ipFamilyPolicy: "PreferDualStack", ipFamilies: ["IPv6", "IPv4"] },
    expected: "fd00:5::160,192.168.122.160",
  },
  {
    name: "preferred, IPv6 first, but no pool has both",
    pools: [three[0], three[2]],
    spec: { ipFamilyPolicy: "PreferDualStack", ipFamilies: ["IPv6", "IPv4"] },
    expected: "fd00:5::170",
  },
  {
    name: "preferred, and a pool for this Service has one",
    pools: [...three, pool("d", ["192.0.2.1/32"], { serviceAllocation: { namespaces: ["default"] } })],
    spec: { ipFamilyPolicy: "PreferDualStack" },
    expected: "192.0.2.1",
  },
];

test.each(PREFERENCES)(
  "two families are $name: the pool that can give most of them",
  async ({ pools, spec, expected }) => {
    const one = await cluster({ serviceClusterIpRange: DUAL_STACK });
    expect(outcome(await one.reconcile(documents(...pools, lb("a", spec))), "a")).toBe(expected);
  },
);

test("who got one family stays with it when a pool of both comes, and gets the second where its own pool has one", async () => {
  const one = await cluster({ serviceClusterIpRange: DUAL_STACK });
  const prefers = lb("a", { ipFamilyPolicy: "PreferDualStack" });
  await one.reconcile(documents(three[0], prefers));
  expect(outcome(await one.reconcile(documents(...three, prefers)), "a")).toBe("192.168.122.150");
  const grown = pool("a-only-four", ["192.168.122.150-192.168.122.159", "fd00:6::/126"]);
  expect(outcome(await one.reconcile(documents(grown, prefers)), "a")).toBe("192.168.122.150,fd00:6::");
});

const shares = (name: string, protocol: string, spec: Any = {}, key = "d"): Any =>
  lb(
    name,
    { loadBalancerIP: "192.168.122.115", ports: [{ port: 53, protocol }], selector: { app: "dns" }, ...spec },
    { "metallb.io/allow-shared-ip": key },
  );
const UDP = shares("older", "UDP");
const TCP = shares("younger", "TCP");
const LOCAL = { externalTrafficPolicy: "Local" };
const both = [
  { name: "u", port: 53, protocol: "UDP" },
  { name: "t", port: 53, protocol: "TCP" },
];
const EDITS: { name: string; edited: "older" | "younger"; given: Any }[] = [
  { name: "another policy", edited: "older", given: shares("older", "UDP", LOCAL) },
  { name: "another policy", edited: "younger", given: shares("younger", "TCP", LOCAL) },
  { name: "another key", edited: "older", given: shares("older", "UDP", {}, "other") },
  { name: "another key", edited: "younger", given: shares("younger", "TCP", {}, "other") },
  { name: "a port that the other serves", edited: "older", given: shares("older", "UDP", { ports: both }) },
  { name: "a port that the other serves", edited: "younger", given: shares("younger", "TCP", { ports: both }) },
];

test.each(EDITS)(
  "the $edited of two that share an address asks for $name: the other, untouched, keeps it, and both have it again later",
  async ({ edited, given }) => {
    const stateDir = await temporaryDirectory();
    for (const restarts of [false, true]) {
      let one = await cluster({ stateDir });
      const before = await one.reconcile(documents(ten, UDP, TCP));
      expect([outcome(before, "older"), outcome(before, "younger")]).toEqual(["192.168.122.115", "192.168.122.115"]);
      if (restarts) one = await cluster({ stateDir });
      const pair = edited === "older" ? [given, TCP] : [UDP, given];
      const after = await one.reconcile(documents(ten, ...pair));
      expect(outcome(after, edited === "older" ? "younger" : "older")).toBe("192.168.122.115");
      expect(outcome(after, edited)).toBe("address-in-use");
      const again = await one.reconcile(documents(ten, UDP, TCP));
      expect([outcome(again, "older"), outcome(again, "younger")]).toEqual(["192.168.122.115", "192.168.122.115"]);
    }
  },
);

test("both follow to another policy one after the other, and share again", async () => {
  const one = await cluster();
  await one.reconcile(documents(ten, UDP, TCP));
  await one.reconcile(documents(ten, shares("older", "UDP", LOCAL), TCP));
  const result = await one.reconcile(documents(ten, shares("older", "UDP", LOCAL), shares("younger", "TCP", LOCAL)));
  expect([outcome(result, "older"), outcome(result, "younger")]).toEqual(["192.168.122.115", "192.168.122.115"]);
});

test("a second family is not taken from who holds it", async () => {
  const one = await cluster({ serviceClusterIpRange: DUAL_STACK });
  const small = pool("p", ["192.0.2.0/30", "fd00:5::1/128"]);
  const six = lb("younger", { ipFamilies: ["IPv6"] });
  await one.reconcile(documents(small, lb("older"), six));
  const result = await one.reconcile(documents(small, lb("older", { ipFamilyPolicy: "PreferDualStack" }), six));
  expect([outcome(result, "older"), outcome(result, "younger")]).toEqual(["192.0.2.0", "fd00:5::1"]);
});
