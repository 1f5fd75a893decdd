// The controller against a cluster in memory: what it writes, when, and what it says.
import { expect, test } from "vitest";
import { addressesOf, advertisement, harness, node, pool, service } from "./objects.ts";

test("a Service gets an address from a pool, with MetalLB's annotation and event", async () => {
  const { clock, cluster, start, addresses, events } = harness();
  cluster.put("ipaddresspools", pool("p", ["192.0.2.10-192.0.2.12"]));
  cluster.put("l2advertisements", advertisement("l2"));
  cluster.put("services", service("a"));
  const { controller } = start();
  await clock.advance(3_000);
  expect(controller.view().problems).toEqual([]);
  expect(addresses("default/a")).toEqual(["192.0.2.10"]);
  expect(cluster.get("services", "default/a")?.metadata.annotations).toEqual({
    "metallb.io/ip-allocated-from-pool": "p",
  });
  expect(events("a")).toEqual(['IPAllocated Assigned IP ["192.0.2.10"]']);
  await clock.advance(5_000);
  expect(cluster.get("ipaddresspools", "metallb-system/p")?.["status"]).toEqual({
    assignedIPv4: 1,
    assignedIPv6: 0,
    availableIPv4: 2,
    availableIPv6: 0,
  });
});

test("nothing is given before Services, pools, Nodes and namespaces were listed to the end", async () => {
  const { clock, cluster, start, addresses } = harness();
  cluster.put("ipaddresspools", pool("p", ["192.0.2.10-192.0.2.12"]));
  cluster.put("services", service("a"));
  for (const resource of ["services", "ipaddresspools", "nodes", "namespaces"]) {
    cluster.absent.add(resource);
    const { controller, stop, ended } = start();
    await clock.advance(20_000);
    expect(controller.view().term?.synced, resource).toBe(false);
    expect(addresses("default/a")).toEqual([]);
    expect(controller.view().problems.join()).toMatch(new RegExp(`could not (list|watch) ${resource}`));
    stop();
    await clock.advance(1_000);
    await ended;
    cluster.absent.delete(resource);
  }
  start();
  await clock.advance(3_000);
  expect(addresses("default/a")).toEqual(["192.0.2.10"]);
});

test("what MetalLB gave is taken over unchanged, before anything new is given", async () => {
  const { clock, cluster, start, addresses } = harness();
  cluster.put("ipaddresspools", pool("p", ["192.0.2.10-192.0.2.12", "2001:db8::10-2001:db8::12"]));
  // The new one is the older, and would have the first address.
  cluster.put("services", service("new", {}, { creationTimestamp: "2020-01-01T00:00:00Z" }));
  const status = (...ips: string[]) => ({ loadBalancer: { ingress: ips.map((ip) => ({ ip, ipMode: "VIP" })) } });
  const annotations = { "metallb.io/ip-allocated-from-pool": "p" };
  cluster.put("services", { ...service("old", {}, { annotations }), status: status("192.0.2.10") });
  const both = { ipFamilies: ["IPv6", "IPv4"], ipFamilyPolicy: "PreferDualStack" };
  cluster.put("services", { ...service("both", both, { annotations }), status: status("192.0.2.11", "2001:db8::10") });
  const former = { "metallb.universe.tf/ip-allocated-from-pool": "p" };
  cluster.put("services", { ...service("older", {}, { annotations: former }), status: status("192.0.2.12") });
  start();
  await clock.advance(3_000);
  expect(addresses("default/old")).toEqual(["192.0.2.10"]);
  expect(addresses("default/both")).toEqual(["192.0.2.11", "2001:db8::10"]);
  expect(addresses("default/older")).toEqual(["192.0.2.12"]);
  expect(addresses("default/new")).toEqual([]);
  expect(cluster.get("services", "default/older")?.metadata.annotations).toEqual(annotations);
  const written = cluster.writes.filter((one) => one.includes("services/status"));
  expect(written).toEqual(["PATCH services/status default/older 200"]);
});

test("without any pool nobody's address is touched, unless it says that it came from a pool", async () => {
  const { clock, cluster, start, addresses, events } = harness();
  const status = { loadBalancer: { ingress: [{ ip: "203.0.113.5" }] } };
  cluster.put("services", { ...service("cloud"), status });
  const annotations = { "metallb.io/ip-allocated-from-pool": "gone" };
  cluster.put("services", {
    ...service("ours", {}, { annotations }),
    status: { loadBalancer: { ingress: [{ ip: "192.0.2.1" }] } },
  });
  start();
  await clock.advance(3_000);
  expect(addresses("default/cloud")).toEqual(["203.0.113.5"]);
  expect(addresses("default/ours")).toEqual([]);
  expect(events("ours")[0]).toMatch(
    /^ClearAssignment current IP \["192\.0\.2\.1"\] .*192\.0\.2\.1 is in no IPAddressPool/,
  );
});

test("of another class a Service is left as it is, and its address of our pool is not given", async () => {
  const { clock, cluster, start, addresses } = harness();
  cluster.put("ipaddresspools", pool("p", ["192.0.2.10-192.0.2.11"]));
  const status = { loadBalancer: { ingress: [{ ip: "192.0.2.10" }] } };
  cluster.put("services", { ...service("other", { loadBalancerClass: "example.com/other" }), status });
  cluster.put("services", service("a"));
  cluster.put("services", service("mine", { loadBalancerClass: "millrace.io/l2" }));
  const first = start();
  await clock.advance(3_000);
  expect(addresses("default/other")).toEqual(["192.0.2.10"]);
  expect(addresses("default/a")).toEqual(["192.0.2.11"]);
  expect(addresses("default/mine")).toEqual([]);
  first.stop();
  await clock.advance(3_000);
  cluster.put("ipaddresspools", pool("q", ["192.0.2.20-192.0.2.21"]));
  start({ loadBalancerClass: "millrace.io/l2" });
  await clock.advance(5_000);
  expect(addresses("default/mine")).toEqual(["192.0.2.20"]);
});

test("a Service that is no LoadBalancer any more loses its address, and another has it then", async () => {
  const { clock, cluster, start, addresses } = harness();
  cluster.put("ipaddresspools", pool("p", ["192.0.2.10/32"]));
  cluster.put("services", service("a"));
  start();
  await clock.advance(3_000);
  cluster.put("services", service("b"));
  await clock.advance(1_000);
  expect(addresses("default/b")).toEqual([]);
  const a = cluster.get("services", "default/a")!;
  cluster.put("services", { ...a, spec: { ...a["spec"], type: "ClusterIP" } });
  await clock.advance(1_000);
  expect(cluster.get("services", "default/a")).toMatchObject({ metadata: { annotations: {} }, status: {} });
  expect(addresses("default/a")).toEqual([]);
  expect(addresses("default/b")).toEqual(["192.0.2.10"]);
});

test("an address that is in use is refused by name, and the Service keeps what it has", async () => {
  const { clock, cluster, start, addresses, events } = harness();
  cluster.put("ipaddresspools", pool("p", ["192.0.2.10-192.0.2.12"]));
  cluster.put("services", service("a", { loadBalancerIP: "192.0.2.12" }));
  cluster.put("services", service("b"));
  start();
  await clock.advance(3_000);
  expect(addresses("default/b")).toEqual(["192.0.2.10"]);
  const b = cluster.get("services", "default/b")!;
  const annotations = { ...b.metadata.annotations, "metallb.io/loadBalancerIPs": "192.0.2.12" };
  cluster.put("services", { ...b, metadata: { ...b.metadata, annotations } });
  cluster.put("services", service("c", { loadBalancerIP: "192.0.2.12" }));
  await clock.advance(1_000);
  expect(addresses("default/b")).toEqual(["192.0.2.10"]);
  expect(addresses("default/c")).toEqual([]);
  const told = "192.0.2.12 is in use by the Service default/a (address-in-use)";
  expect(events("b")).toContainEqual(
    `AllocationFailed Failed to allocate IP for "default/b": metadata.annotations.metallb.io/loadBalancerIPs: ${told}; it keeps ["192.0.2.10"]`,
  );
  expect(events("c")).toEqual([`AllocationFailed Failed to allocate IP for "default/c": spec.loadBalancerIP: ${told}`]);
  cluster.remove("services", "default/a");
  await clock.advance(1_000);
  expect(addresses("default/b")).toEqual(["192.0.2.12"]);
  expect(addresses("default/c")).toEqual([]);
});

test("an edit takes nothing from a bystander that shares the address", async () => {
  const { clock, cluster, start, addresses } = harness();
  cluster.put("ipaddresspools", pool("p", ["192.0.2.10-192.0.2.12"]));
  const annotations = { "metallb.io/allow-shared-ip": "k" };
  cluster.put("services", service("a", { ports: [{ port: 80, protocol: "TCP" }] }, { annotations }));
  cluster.put("services", service("b", { ports: [{ port: 81, protocol: "TCP" }] }, { annotations }));
  start();
  await clock.advance(3_000);
  expect([addresses("default/a"), addresses("default/b")]).toEqual([["192.0.2.10"], ["192.0.2.10"]]);
  const a = cluster.get("services", "default/a")!;
  cluster.put("services", { ...a, spec: { ...a["spec"], ports: [{ port: 81, protocol: "TCP" }] } });
  await clock.advance(1_000);
  expect([addresses("default/a"), addresses("default/b")]).toEqual([["192.0.2.11"], ["192.0.2.10"]]);
});

test("an edit while no controller runs takes nothing from a bystander either", async () => {
  const { clock, cluster, start, addresses } = harness();
  cluster.put("ipaddresspools", pool("p", ["192.0.2.10-192.0.2.12"]));
  const annotations = { "metallb.io/allow-shared-ip": "k" };
  const older = { annotations, creationTimestamp: "2020-01-01T00:00:00Z" };
  const conditions = [
    {
      type: "example.com/other",
      status: "True",
      reason: "Is",
      message: "",
      lastTransitionTime: "2026-01-01T00:00:00Z",
    },
  ];
  cluster.put("services", { ...service("a", {}, older), status: { loadBalancer: {}, conditions } });
  cluster.put("services", service("b", { ports: [{ port: 81, protocol: "TCP" }] }, { annotations }));
  const first = start();
  await clock.advance(3_000);
  expect([addresses("default/a"), addresses("default/b")]).toEqual([["192.0.2.10"], ["192.0.2.10"]]);
  const shown = () => cluster.get("services", "default/a")?.["status"].conditions;
  expect(shown()).toMatchObject([conditions[0], { type: "millrace.io/AddressShared", status: "True" }]);
  first.stop();
  await clock.advance(3_000);
  const a = cluster.get("services", "default/a")!;
  const { "metallb.io/allow-shared-ip": _, ...rest } = a.metadata.annotations!;
  cluster.put("services", { ...a, metadata: { ...a.metadata, annotations: rest } });
  start();
  await clock.advance(5_000);
  expect([addresses("default/a"), addresses("default/b")]).toEqual([["192.0.2.11"], ["192.0.2.10"]]);
  expect(shown()).toEqual(conditions);
});

test.each<[string, () => ReturnType<typeof pool>[], string]>([
  [
    "overlapping pools",
    () => [pool("q", ["192.0.2.11/32"])],
    'overlaps with "192.0.2.10-192.0.2.12" of IPAddressPool p',
  ],
  ["a malformed pool", () => [pool("q", ["192.0.2.300/24"])], 'spec.addresses[0]: Invalid value: "192.0.2.300/24"'],
  [
    "a pool with a node's own address",
    () => [pool("q", ["198.51.100.0/24"])],
    "holds 198.51.100.7, an address of Node n1",
  ],
  ["a pool without a spec", () => [{ ...pool("q", []), spec: undefined }], "spec: Required value"],
])("%s are refused by name as a whole, and the last valid configuration stays", async (_, bad, told) => {
  const { clock, cluster, start, addresses, events } = harness();
  cluster.put("nodes", node("n1", "198.51.100.7"));
  cluster.put("ipaddresspools", pool("p", ["192.0.2.10-192.0.2.12"]));
  cluster.put("services", service("a"));
  const { controller } = start();
  await clock.advance(3_000);
  for (const one of bad()) cluster.put("ipaddresspools", one);
  cluster.put("ipaddresspools", pool("fresh", ["203.0.113.0/24"]));
  cluster.put("services", service("b"));
  cluster.put("services", service("c", {}, { annotations: { "metallb.io/address-pool": "fresh" } }));
  await clock.advance(3_000);
  expect(addresses("default/a")).toEqual(["192.0.2.10"]);
  expect(addresses("default/b")).toEqual(["192.0.2.11"]);
  expect(addresses("default/c")).toEqual([]);
  expect(events("q").join()).toContain(told);
  expect(controller.view().term?.isConfigurationValid).toBe(false);
  const state = () => cluster.get("configurationstates", "kube-system/controller")?.["status"];
  expect(state()).toMatchObject({ result: "Invalid", conditions: [{ status: "False", reason: "ConfigurationError" }] });
  expect(state().errorSummary).toContain(told);
  cluster.remove("ipaddresspools", "metallb-system/q");
  await clock.advance(3_000);
  expect(addresses("default/c")).toEqual(["203.0.113.0"]);
  expect(state()).toMatchObject({
    result: "Valid",
    errorSummary: "",
    conditions: [{ status: "True", reason: "Reconciled" }],
  });
});

test("a controller that starts with an invalid configuration gives from what is sound, and takes nothing away", async () => {
  const { clock, cluster, start, addresses } = harness();
  cluster.put("ipaddresspools", pool("p", ["192.0.2.10/31"]));
  cluster.put("ipaddresspools", pool("q", ["192.0.2.11/32"]));
  cluster.put("ipaddresspools", pool("sound", ["203.0.113.0/24"]));
  const annotations = { "metallb.io/ip-allocated-from-pool": "p" };
  cluster.put("services", {
    ...service("a", {}, { annotations }),
    status: { loadBalancer: { ingress: [{ ip: "192.0.2.10" }] } },
  });
  const asked = { "metallb.io/address-pool": "p", ...annotations };
  cluster.put("services", {
    ...service("c", {}, { annotations: asked }),
    status: { loadBalancer: { ingress: [{ ip: "192.0.2.11" }] } },
  });
  cluster.put("services", service("b"));
  start();
  await clock.advance(3_000);
  expect(addresses("default/b")).toEqual(["203.0.113.0"]);
  expect(addresses("default/c")).toEqual(["192.0.2.11"]);
  expect(addresses("default/a")).toEqual(["192.0.2.10"]);
});

test("a pool that goes or shrinks: its addresses are given up with a word, and others given where there are some", async () => {
  const { clock, cluster, start, addresses, events } = harness();
  cluster.put("ipaddresspools", pool("p", ["192.0.2.10-192.0.2.12"]));
  cluster.put("ipaddresspools", pool("q", ["203.0.113.1/32"]));
  cluster.put("services", service("a"));
  cluster.put("services", service("b"));
  start();
  await clock.advance(3_000);
  expect(addresses("default/a")).toEqual(["192.0.2.10"]);
  cluster.put("ipaddresspools", pool("p", ["192.0.2.12-192.0.2.13"]));
  await clock.advance(3_000);
  expect([addresses("default/a"), addresses("default/b")]).toEqual([["192.0.2.12"], ["192.0.2.13"]]);
  expect(events("a").join()).toContain("192.0.2.10 is in no IPAddressPool");
  cluster.remove("ipaddresspools", "metallb-system/p");
  await clock.advance(3_000);
  expect([addresses("default/a"), addresses("default/b")].flat()).toEqual(["203.0.113.1"]);
});

test("pools that another pool takes over keep their addresses", async () => {
  const { clock, cluster, start, addresses } = harness();
  cluster.put("ipaddresspools", pool("p", ["192.0.2.10-192.0.2.12"]));
  cluster.put("services", service("a", { loadBalancerIP: "192.0.2.12" }));
  cluster.put("services", service("b"));
  start();
  await clock.advance(3_000);
  cluster.remove("ipaddresspools", "metallb-system/p");
  cluster.put("ipaddresspools", pool("renamed", ["192.0.2.0/24"]));
  await clock.advance(3_000);
  expect([addresses("default/a"), addresses("default/b")]).toEqual([["192.0.2.12"], ["192.0.2.10"]]);
  const { metadata } = cluster.get("services", "default/a")!;
  expect(metadata.annotations).toEqual({ "metallb.io/ip-allocated-from-pool": "renamed" });
});

test("BGP objects, and pools that no L2Advertisement announces, are said on the object and in the status", async () => {
  const { clock, cluster, start, addresses, events } = harness();
  cluster.absent.clear();
  cluster.put("ipaddresspools", pool("p", ["192.0.2.10-192.0.2.12"]));
  const bgp = {
    apiVersion: "metallb.io/v1beta1",
    kind: "BGPAdvertisement",
    metadata: { name: "x", namespace: "metallb-system" },
    spec: {},
  };
  cluster.put("bgpadvertisements", bgp);
  cluster.put("services", service("a"));
  const { controller } = start();
  await clock.advance(3_000);
  expect(addresses("default/a")).toEqual(["192.0.2.10"]);
  expect(events("x")).toEqual([
    "BGPNotSupported Millrace announces by layer 2 alone: this BGPAdvertisement has no effect",
  ]);
  expect(events("p").join()).toContain("no L2Advertisement announces them: BGP objects announce nothing here");
  expect(controller.view().problems).toHaveLength(2);
  cluster.put("l2advertisements", advertisement("l2"));
  cluster.remove("bgpadvertisements", "metallb-system/x");
  await clock.advance(3_000);
  expect(controller.view().problems).toEqual([]);
});

test("a write that is refused is told, and tried again until it is let in", async () => {
  const { clock, cluster, start, addresses } = harness();
  cluster.put("ipaddresspools", pool("p", ["192.0.2.10/32"]));
  cluster.put("l2advertisements", advertisement("l2"));
  cluster.put("services", service("a"));
  let status: number | undefined = 403;
  const { controller, client } = start({}, (one) => {
    one.fault = (_, path) => (path.includes("services/a/status") && status !== undefined ? { status } : {});
  });
  await clock.advance(30_000);
  expect(controller.view().problems.join()).toContain("could not write the status of Service default/a: 403");
  const tries = cluster.writes.filter((one) => one.endsWith("default/a 403")).length;
  expect(tries).toBeGreaterThan(3);
  expect(tries).toBeLessThan(40);
  status = 500;
  await clock.advance(60_000);
  expect(controller.view().problems.join()).toContain("could not write the status of Service default/a: 500");
  status = undefined;
  await clock.advance(40_000);
  expect(addresses("default/a")).toEqual(["192.0.2.10"]);
  expect(controller.view().problems).toEqual([]);
  expect(client.readStatus).toBeUndefined();
});

test("while a write's fate is unknown its address is nobody else's", async () => {
  const { clock, cluster, start, addresses } = harness();
  cluster.put("ipaddresspools", pool("p", ["192.0.2.10-192.0.2.11"]));
  cluster.put("services", service("a"));
  let first = true;
  start({}, (one) => {
    // The first write arrives long after its time was over; until then no other has an answer.
    one.fault = (_, path) => {
      if (!path.includes("services/a/status")) return {};
      if (!first) return { status: 500 };
      first = false;
      return { beforeMs: 6_000 };
    };
  });
  await clock.advance(3_500);
  expect(addresses("default/a")).toEqual([]);
  cluster.put("services", service("b"));
  cluster.put("services", service("c"));
  await clock.advance(1_500);
  expect([addresses("default/b"), addresses("default/c")].flat()).toEqual(["192.0.2.11"]);
  await clock.advance(10_000);
  expect(addresses("default/a")).toEqual(["192.0.2.10"]);
  expect([addresses("default/b"), addresses("default/c")].flat()).toEqual(["192.0.2.11"]);
});

test("a write that meets an edited Service is not applied, and decided anew", async () => {
  const { clock, cluster, start, addresses } = harness();
  cluster.put("ipaddresspools", pool("p", ["192.0.2.10-192.0.2.12"]));
  cluster.put("services", service("a"));
  start({}, (one) => {
    one.fault = (_, path) => (path.includes("services/a/status") ? { beforeMs: 1_000 } : {});
  });
  await clock.advance(600);
  const a = cluster.get("services", "default/a")!;
  cluster.put("services", { ...a, spec: { ...a["spec"], loadBalancerIP: "192.0.2.12" } });
  await clock.advance(600);
  expect(addresses("default/a")).toEqual([]);
  await clock.advance(5_000);
  expect(addresses("default/a")).toEqual(["192.0.2.12"]);
  expect(cluster.writes.filter((one) => one.includes("services/status"))).toEqual([
    "PATCH services/status default/a 409",
    "PATCH services/status default/a 200",
  ]);
});

test("the announcers' Secret is made once, and rotated with two keys valid at each step", async () => {
  const { clock, cluster, start } = harness();
  const { stop } = start({ rotateSecretAfterMs: 3_600_000 });
  const keys = () => {
    const { data } = cluster.get("secrets", "kube-system/millrace-announcer")!;
    return Object.fromEntries(
      Object.entries(data as Record<string, string>).map(([k, v]) => [k, Buffer.from(v, "base64").toString()]),
    );
  };
  await clock.advance(3_000);
  const made = keys();
  expect(Object.keys(made)).toEqual(["current"]);
  expect(made["current"]).toMatch(/^[0-9a-f]{32}$/);
  stop();
  await clock.advance(3_000);
  start({ rotateSecretAfterMs: 3_600_000 });
  await clock.advance(3_000_000);
  expect(keys()).toEqual(made);
  await clock.advance(630_000);
  const next = keys();
  expect(next).toMatchObject({ current: made["current"], next: expect.stringMatching(/^[0-9a-f]{32}$/) });
  await clock.advance(200_000);
  expect(keys()).toEqual({ current: next["next"], previous: made["current"] });
  await clock.advance(200_000);
  expect(keys()).toEqual({ current: next["next"] });
});

test("keys that somebody spoilt are made anew", async () => {
  const { clock, cluster, start } = harness();
  const data = { current: Buffer.from("short").toString("base64") };
  cluster.put("secrets", { metadata: { name: "millrace-announcer", namespace: "kube-system" }, data });
  start();
  await clock.advance(3_000);
  const { current } = cluster.get("secrets", "kube-system/millrace-announcer")!["data"];
  expect(Buffer.from(current, "base64").toString()).toMatch(/^[0-9a-f]{32}$/);
});

test("Services that vanish from a list at once free no address before a second list agrees", async () => {
  const { clock, cluster, start, addresses } = harness();
  cluster.put("ipaddresspools", pool("p", ["192.0.2.0/25"]));
  for (let i = 0; i < 120; i++) cluster.put("services", service(`s${i}`));
  const { client, controller } = start();
  await clock.advance(5_000);
  expect(new Set(cluster.list("services").flatMap(addressesOf)).size).toBe(120);
  // Another etcd, emptied: what was known of the last change is not in it, so everything is listed anew.
  const before = cluster.list("services").slice(0, 110);
  cluster.forget(
    "services",
    before.map((one) => one.metadata.name),
  );
  client.cut();
  await clock.advance(3_000);
  const asked = service("late", { loadBalancerIP: "192.0.2.0" });
  cluster.put("services", asked);
  await clock.advance(1_000);
  expect(controller.view().problems.join()).toContain("a full list of services would take away 110 of 120");
  expect(addresses("default/late")).toEqual([]);
  await clock.advance(10_000);
  expect(addresses("default/late")).toEqual(["192.0.2.0"]);
});

test("labels of namespaces decide at once which pools are for their Services", async () => {
  const { clock, cluster, start, addresses } = harness();
  const namespaceSelectors = [{ matchLabels: { team: "a" } }];
  cluster.put("ipaddresspools", pool("p", ["192.0.2.10/32"], { serviceAllocation: { namespaceSelectors } }));
  cluster.put("services", service("a"));
  const { controller } = start();
  await clock.advance(3_000);
  expect(addresses("default/a")).toEqual([]);
  expect(controller.view().term?.refusals).toMatchObject([{ key: "default/a", refusal: { refused: "no-pool" } }]);
  cluster.put("namespaces", { metadata: { name: "default", labels: { team: "a" } } });
  await clock.advance(1_000);
  expect(addresses("default/a")).toEqual(["192.0.2.10"]);
});

test("a ConfigurationState is written once its CRD is there", async () => {
  const { clock, cluster, start } = harness();
  cluster.absent.add("configurationstates");
  const { controller } = start();
  await clock.advance(5_000);
  expect(controller.view().problems).toEqual([]);
  cluster.absent.delete("configurationstates");
  await clock.advance(70_000);
  expect(cluster.get("configurationstates", "kube-system/controller")?.["status"]).toMatchObject({ result: "Valid" });
});

test("a malformed L2Advertisement is refused by name, and pools serve on", async () => {
  const { clock, cluster, start, addresses, events } = harness();
  cluster.put("ipaddresspools", pool("p", ["192.0.2.10-192.0.2.12"]));
  cluster.put("l2advertisements", advertisement("good"));
  const nodeSelectors = [{ matchExpressions: [{ key: "zone", operator: "Near", values: ["a"] }] }];
  cluster.put("l2advertisements", advertisement("bad", { nodeSelectors }));
  cluster.put("services", service("a"));
  const { controller } = start();
  await clock.advance(3_000);
  expect(addresses("default/a")).toEqual(["192.0.2.10"]);
  expect(controller.view().term?.isConfigurationValid).toBe(true);
  expect(events("bad").join()).toMatch(
    /^InvalidConfiguration spec\.nodeSelectors\[0\]\.matchExpressions\[0\]\.operator/,
  );
  expect(cluster.get("configurationstates", "kube-system/controller")?.["status"]).toMatchObject({ result: "Invalid" });
});

test("a thousand events are written at a bounded rate, and what says the same is one event with a count", async () => {
  const { clock, cluster, start, events } = harness();
  cluster.put("l2advertisements", advertisement("l2"));
  cluster.put("ipaddresspools", pool("p", ["192.0.2.10/32"]));
  for (let i = 0; i < 300; i++) cluster.put("services", service(`s${i}`));
  const { stop, ended } = start();
  await clock.advance(5_000);
  const written = () => cluster.writes.filter((one) => one.startsWith("POST events")).length;
  expect(written()).toBeLessThanOrEqual(50 + 10 * 5 + 1);
  await clock.advance(40_000);
  expect(written()).toBe(300);
  expect(events("s0")).toHaveLength(1);
  stop();
  await clock.advance(5_000);
  await ended;
  start();
  await clock.advance(60_000);
  // Another process says the same again.
  const counts = cluster
    .list("events")
    .filter((one) => one["reason"] === "AllocationFailed")
    .map((one) => one["count"]);
  expect(counts).toHaveLength(299);
  expect(new Set(counts)).toEqual(new Set([2]));
});

test("lists in pages are read to the end, and a watch that breaks is gone on with", async () => {
  const { clock, cluster, start } = harness();
  cluster.put("ipaddresspools", pool("p", ["10.0.0.0/16"]));
  for (let i = 0; i < 1_100; i++) cluster.put("services", service(`s${i}`));
  const status = { loadBalancer: { ingress: [{ ip: "10.0.0.0" }] } };
  cluster.put("services", {
    ...service("zz-last", {}, { annotations: { "metallb.io/ip-allocated-from-pool": "p" } }),
    status,
  });
  const { client } = start({ writesPerSecond: 10_000 }, (one) => {
    one.listsInPages = true;
  });
  await clock.advance(10_000);
  expect(new Set(cluster.list("services").flatMap(addressesOf)).size).toBe(1_101);
  expect(addressesOf(cluster.get("services", "default/zz-last"))).toEqual(["10.0.0.0"]);
  client.cut();
  cluster.put("services", service("later"));
  cluster.remove("services", "default/s0");
  await clock.advance(10_000);
  expect(addressesOf(cluster.get("services", "default/later"))).toHaveLength(1);
});
