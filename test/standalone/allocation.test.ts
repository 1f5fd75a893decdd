// Cluster addresses and node ports: fixed before free, the upper part first, the API server's words, and a restart keeps all.
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { pickFree, reservedOffset } from "../../src/allocate/allocation-range.ts";
import type { ControlPlane } from "../../src/standalone/control-plane.ts";
import { ageOf } from "../../src/wire/normalise.ts";
import { createRandom } from "../model/random.ts";
import { type Any, cluster, DUAL_STACK, document, documents, find, service, temporaryDirectory } from "./build.ts";

test.each([
  { size: 16, expected: 0 },
  { size: 254, expected: 16 },
  { size: 1022, expected: 63 },
  { size: 1048574, expected: 256 },
])("KEP-3070 keeps $expected of $size addresses for those who ask", ({ size, expected }) => {
  expect(reservedOffset(size, { least: 16, step: 16, most: 256 })).toBe(expected);
});

test.each([
  { size: 16, expected: 0 },
  { size: 32, expected: 16 },
  { size: 2768, expected: 86 },
  { size: 32768, expected: 128 },
])("KEP-3668 keeps $expected of $size ports for those who ask", ({ size, expected }) => {
  expect(reservedOffset(size, { least: 16, step: 32, most: 128 })).toBe(expected);
});

test("free numbers come from the upper part until it is full, then from the lower, then there is none", () => {
  const taken = new Set<number>();
  for (let i = 0; i < 40; i++) {
    const picked = pickFree(40, 16, `seed ${i}`, (one) => taken.has(one));
    expect(taken.has(picked!)).toBe(false);
    if (i < 24) expect(picked).toBeGreaterThanOrEqual(16);
    else expect(picked).toBeLessThan(16);
    taken.add(picked!);
  }
  expect(pickFree(40, 16, "one more", (one) => taken.has(one))).toBeUndefined();
});

interface Case {
  readonly name: string;
  readonly given: Any[];
  readonly refused: {
    readonly object: string;
    readonly field: string;
    readonly reason: string;
    readonly message: string;
  };
}

const REFUSALS: Case[] = [
  {
    name: "a node port below the range",
    given: [service("web", { type: "NodePort", ports: [{ port: 80, nodePort: 29999 }] })],
    refused: {
      object: "Service default/web",
      field: "spec.ports[0].nodePort",
      reason: "port-out-of-range",
      message:
        "spec.ports[0].nodePort: Invalid value: 29999: provided port is not in the valid range. The range of valid ports is 30000-32767",
    },
  },
  {
    name: "a node port above the range",
    given: [service("web", { type: "NodePort", ports: [{ port: 80, nodePort: 32768 }] })],
    refused: {
      object: "Service default/web",
      field: "spec.ports[0].nodePort",
      reason: "port-out-of-range",
      message:
        "spec.ports[0].nodePort: Invalid value: 32768: provided port is not in the valid range. The range of valid ports is 30000-32767",
    },
  },
  {
    name: "a node port that another Service has",
    given: [
      service("first", { type: "NodePort", ports: [{ port: 80, nodePort: 30001 }] }),
      service("second", {
        type: "NodePort",
        ports: [
          { name: "a", port: 80 },
          { name: "b", port: 81, nodePort: 30001 },
        ],
      }),
    ],
    refused: {
      object: "Service default/second",
      field: "spec.ports[1].nodePort",
      reason: "port-allocated",
      message: "spec.ports[1].nodePort: Invalid value: 30001: provided port is already allocated",
    },
  },
  {
    name: "a node port that another Service has for another protocol",
    given: [
      service("first", { type: "NodePort", ports: [{ port: 53, nodePort: 30053 }] }),
      service("second", { type: "NodePort", ports: [{ port: 53, protocol: "UDP", nodePort: 30053 }] }),
    ],
    refused: {
      object: "Service default/second",
      field: "spec.ports[0].nodePort",
      reason: "port-allocated",
      message: "spec.ports[0].nodePort: Invalid value: 30053: provided port is already allocated",
    },
  },
  {
    name: "a cluster address that another Service has",
    given: [service("first", { clusterIP: "10.96.5.5" }), service("second", { clusterIP: "10.96.5.5" })],
    refused: {
      object: "Service default/second",
      field: "spec.clusterIPs",
      reason: "address-allocated",
      message:
        'spec.clusterIPs: Invalid value: []string{"10.96.5.5"}: failed to allocate IP 10.96.5.5: provided IP is already allocated',
    },
  },
  {
    name: "a cluster address outside the range",
    given: [service("web", { clusterIP: "10.244.0.1" })],
    refused: {
      object: "Service default/web",
      field: "spec.clusterIPs",
      reason: "address-out-of-range",
      message:
        'spec.clusterIPs: Invalid value: []string{"10.244.0.1"}: failed to allocate IP 10.244.0.1: the provided IP (10.244.0.1) is not in the valid range. The range of valid IPs is 10.96.0.0/12',
    },
  },
  ...["10.96.0.1", "10.96.0.10"].map(
    (address): Case => ({
      name: `the reserved address ${address}`,
      given: [service("web", { clusterIP: address })],
      refused: {
        object: "Service default/web",
        field: "spec.clusterIPs",
        reason: "address-allocated",
        message: `spec.clusterIPs: Invalid value: []string{"${address}"}: failed to allocate IP ${address}: provided IP is already allocated`,
      },
    }),
  ),
  ...["10.96.0.0", "10.111.255.255"].map(
    (address): Case => ({
      name: `the range's own address ${address}`,
      given: [service("web", { clusterIP: address })],
      refused: {
        object: "Service default/web",
        field: "spec.clusterIPs",
        reason: "address-out-of-range",
        message: `spec.clusterIPs: Invalid value: []string{"${address}"}: failed to allocate IP ${address}: the provided IP (${address}) is not in the valid range. The range of valid IPs is 10.96.0.0/12`,
      },
    }),
  ),
  {
    name: "a health check node port that is somebody's node port",
    given: [
      service("first", { type: "NodePort", ports: [{ port: 80, nodePort: 30001 }] }),
      service("second", { type: "LoadBalancer", externalTrafficPolicy: "Local", healthCheckNodePort: 30001 }),
    ],
    refused: {
      object: "Service default/second",
      field: "spec.healthCheckNodePort",
      reason: "port-allocated",
      message: "spec.healthCheckNodePort: Invalid value: 30001: provided port is already allocated",
    },
  },
];

test.each(REFUSALS)("$name is refused in the API server's words", async ({ given, refused }) => {
  const { objects, notices } = await (await cluster()).reconcile(
    given.map((object, i) => document(object, `${i}.yaml`)),
  );
  const errors = notices.filter((one) => one.severity === "error");
  expect(errors).toEqual([{ ...refused, file: `${given.length - 1}.yaml`, severity: "error" }]);
  expect(find(objects, "Service", refused.object.slice("Service default/".length))).toBeUndefined();
  for (const one of given.slice(0, -1)) expect(find(objects, "Service", one.metadata.name)).toBeDefined();
});

test("kube-dns and kubernetes may have the addresses that are kept for them, and get them unasked", async () => {
  const { objects, notices } = await (await cluster()).reconcile(
    documents(service("kube-dns", {}, { namespace: "kube-system" }), service("kubernetes", { clusterIP: "10.96.0.1" })),
  );
  expect(notices).toEqual([]);
  expect(find(objects, "Service", "kube-dns").spec.clusterIP).toBe("10.96.0.10");
  expect(find(objects, "Service", "kubernetes").spec.clusterIP).toBe("10.96.0.1");
});

test("who asks for an address gets it before one who takes any could", async () => {
  // The only free address of the range after .1 and .10: whoever takes any would take what the other asks for.
  const one = await cluster({ serviceClusterIpRange: ["10.96.0.0/30"] });
  const { objects, notices } = await one.reconcile(
    documents(service("any"), service("fixed", { clusterIP: "10.96.0.2" })),
  );
  expect(find(objects, "Service", "fixed").spec.clusterIP).toBe("10.96.0.2");
  expect(find(objects, "Service", "any")).toBeUndefined();
  expect(notices).toMatchObject([
    {
      object: "Service default/any",
      reason: "exhausted",
      message: "spec.clusterIPs: failed to allocate a serviceIP: range is full",
    },
  ]);
});

test("who asks for a node port gets it before one who takes any could", async () => {
  const one = await cluster({ serviceNodePortRange: { first: 30000, last: 30000 } });
  const given = documents(
    service("any", { type: "NodePort" }),
    service("fixed", { type: "NodePort", ports: [{ port: 80, nodePort: 30000 }] }),
  );
  const { objects, notices } = await one.reconcile(given);
  expect(find(objects, "Service", "fixed").spec.ports[0].nodePort).toBe(30000);
  expect(notices).toMatchObject([
    { object: "Service default/any", field: "spec.ports[0].nodePort", reason: "exhausted" },
  ]);
  expect(find(objects, "Service", "any")).toBeUndefined();
});

test("free addresses and ports come from the upper part of their ranges", async () => {
  const many = Array.from({ length: 60 }, (_, i) => service(`s${i}`, { type: "NodePort" }));
  const { objects } = await (await cluster({ serviceClusterIpRange: ["10.96.0.0/24"] })).reconcile(documents(...many));
  for (const { spec } of objects as Any[]) {
    if (spec?.clusterIP === undefined) continue;
    expect(Number(spec.clusterIP.split(".")[3])).toBeGreaterThan(16);
    expect(spec.ports[0].nodePort).toBeGreaterThanOrEqual(30086);
  }
});

test("a port on several protocols has one node port for all", async () => {
  const ports = [
    { name: "udp", port: 53, protocol: "UDP" },
    { name: "tcp", port: 53, protocol: "TCP" },
    { name: "web", port: 80 },
  ];
  const { objects } = await (await cluster()).reconcile(documents(service("dns", { type: "NodePort", ports })));
  const [udp, tcp, web] = find(objects, "Service", "dns").spec.ports.map((one: Any) => one.nodePort);
  expect(udp).toBe(tcp);
  expect(web).not.toBe(tcp);
});

test("a LoadBalancer Service of policy Local gets a health check node port, and allocateLoadBalancerNodePorts: false is obeyed", async () => {
  const { objects } = await (await cluster()).reconcile(
    documents(
      service("local", { type: "LoadBalancer", externalTrafficPolicy: "Local" }),
      service("none", {
        type: "LoadBalancer",
        allocateLoadBalancerNodePorts: false,
        ports: [
          { name: "a", port: 80 },
          { name: "b", port: 81, nodePort: 30007 },
        ],
      }),
    ),
  );
  const local = find(objects, "Service", "local").spec;
  expect(local.healthCheckNodePort).toBeGreaterThanOrEqual(30000);
  expect(local.healthCheckNodePort).not.toBe(local.ports[0].nodePort);
  expect(find(objects, "Service", "none").spec.ports.map((one: Any) => one.nodePort)).toEqual([undefined, 30007]);
});

test("a refused change leaves the version before in force, and takes effect once it can", async () => {
  const one = await cluster();
  const blocker = service("blocker", { type: "NodePort", ports: [{ port: 80, nodePort: 30002 }] });
  const before = service("web", { type: "NodePort", ports: [{ port: 80, nodePort: 30001 }] });
  const after = service("web", { type: "NodePort", ports: [{ port: 81, nodePort: 30002 }] });
  await one.reconcile(documents(blocker, before));
  const refused = await one.reconcile(documents(blocker, after));
  expect(find(refused.objects, "Service", "web").spec.ports[0]).toMatchObject({ port: 80, nodePort: 30001 });
  expect(refused.notices).toMatchObject([
    {
      object: "Service default/web",
      reason: "port-allocated",
      message: expect.stringContaining("last good version stays in force"),
    },
  ]);
  const granted = await one.reconcile(documents(after));
  expect(find(granted.objects, "Service", "web").spec.ports[0]).toMatchObject({ port: 81, nodePort: 30002 });
  expect(granted.notices).toEqual([]);
});

test("the version before a refused change outlives a restart", async () => {
  const stateDir = await temporaryDirectory();
  const after = service("web", { clusterIP: "10.1.1.1" });
  const first = await cluster({ stateDir });
  await first.reconcile(documents(service("web", { clusterIP: "10.96.3.3" })));
  await first.reconcile(documents(after));
  const { objects, notices } = await (await cluster({ stateDir })).reconcile(documents(after));
  expect(find(objects, "Service", "web").spec.clusterIP).toBe("10.96.3.3");
  expect(notices).toMatchObject([{ reason: "address-out-of-range" }]);
});

test("an address moves to another Service in the change in which its holder lets go of it", async () => {
  const one = await cluster();
  await one.reconcile(documents(service("a", { clusterIP: "10.96.1.1" }), service("b", { clusterIP: "10.96.2.2" })));
  const { objects, notices } = await one.reconcile(
    documents(service("a", { clusterIP: "10.96.2.2" }), service("b", { clusterIP: "10.96.3.3" })),
  );
  expect(notices).toEqual([]);
  expect(find(objects, "Service", "a").spec.clusterIP).toBe("10.96.2.2");
  expect(find(objects, "Service", "b").spec.clusterIP).toBe("10.96.3.3");
});

test("a changed cluster address makes another Service; other changes do not", async () => {
  const one = await cluster();
  const uid = async (spec: Any): Promise<Any> => {
    const { objects, notices } = await one.reconcile(documents(service("web", spec), service("other")));
    expect(notices).toEqual([]);
    return find(objects, "Service", "web");
  };
  const auto = await uid({});
  const same = await uid({ ports: [{ port: 81 }] });
  expect(same.metadata.uid).toBe(auto.metadata.uid);
  expect(same.spec.clusterIP).toBe(auto.spec.clusterIP);
  const fixed = await uid({ clusterIP: "10.96.100.100" });
  expect(fixed.metadata.uid).not.toBe(auto.metadata.uid);
  expect(Number(fixed.metadata.annotations["millrace.io/age"])).toBeGreaterThan(
    Number(auto.metadata.annotations["millrace.io/age"]),
  );
  const unset = await uid({});
  expect(unset.spec.clusterIP).toBe("10.96.100.100");
  expect(unset.metadata.uid).toBe(fixed.metadata.uid);
  const headless = await uid({ clusterIP: "None" });
  expect(headless.spec.clusterIPs).toEqual(["None"]);
  expect(headless.metadata.uid).not.toBe(fixed.metadata.uid);
  const nodePort = await uid({ type: "NodePort" });
  expect(nodePort.spec.clusterIP).toMatch(/^10\./);
  const port = nodePort.spec.ports[0].nodePort;
  expect((await uid({ type: "NodePort" })).spec.ports[0].nodePort).toBe(port);
  expect((await uid({ type: "ClusterIP" })).spec.ports[0].nodePort).toBeUndefined();
  expect((await uid({ type: "ExternalName", externalName: "example.com" })).spec.clusterIP).toBeUndefined();
});

test("an age is the time of first sight, and those seen at once keep the order of their files, whatever the clock does", async () => {
  const stateDir = await temporaryDirectory();
  let now = 1_800_000_000_000;
  const names = ["b", "c", "a"];
  const agesOf = async (one: ControlPlane, given: string[]): Promise<number[]> => {
    const { objects } = await one.reconcile(documents(...given.map((name) => service(name))));
    return given.map((name) => ageOf(find(objects, "Service", name)));
  };
  const first = await agesOf(await cluster({ stateDir, now: () => now }), names);
  expect(first).toEqual([...new Set(first)].sort((a, b) => a - b));
  for (const age of first) expect(Math.floor(age)).toBe(now);
  now -= 3_600_000;
  const again = await cluster({ stateDir, now: () => now });
  const [younger = 0, ...same] = await agesOf(again, ["z", ...names]);
  expect(same).toEqual(first);
  expect(younger).toBeGreaterThan(Math.max(...first));
  expect(younger - Math.max(...first)).toBeLessThan(1);
  now += 7_200_000;
  expect((await agesOf(again, ["z", "y"]))[1]).toBe(now);
});

test("a restart gives the same addresses, ports, ages and identities, in whatever order the files are now", async () => {
  const stateDir = await temporaryDirectory();
  const given = documents(
    service("a", { type: "NodePort" }),
    service("b", { type: "LoadBalancer", externalTrafficPolicy: "Local" }),
    service("c"),
  );
  const first = await (await cluster({ stateDir })).reconcile(given);
  const again = await (await cluster({ stateDir })).reconcile([...given].reverse());
  const byName = (list: readonly Any[]): Any[] =>
    [...list].sort((x, y) => (x.metadata.name < y.metadata.name ? -1 : 1));
  expect(byName(again.objects)).toEqual(byName(first.objects));
});

test("an address given back may be given to another", async () => {
  const one = await cluster({ serviceClusterIpRange: ["10.96.0.0/30"] });
  await one.reconcile(documents(service("a", { clusterIP: "10.96.0.2" })));
  const { objects } = await one.reconcile(documents(service("b")));
  expect(find(objects, "Service", "b").spec.clusterIP).toBe("10.96.0.2");
});

test("the state is on the disk, whole, before its effect is told", async () => {
  const stateDir = await temporaryDirectory();
  const one = await cluster({ stateDir });
  const { objects } = await one.reconcile(documents(service("web")));
  const state = JSON.parse(await readFile(join(stateDir, "allocations.json"), "utf8"));
  expect(state.services["default/web"].clusterIPs).toEqual([find(objects, "Service", "web").spec.clusterIP]);
});

test("a state that cannot be written changes nothing, and says so; later it can", async () => {
  const stateDir = await temporaryDirectory();
  const one = await cluster({ stateDir });
  const first = await one.reconcile(documents(service("web")));
  const inTheWay = join(stateDir, "allocations.json.tmp");
  await mkdir(inTheWay);
  await expect(one.reconcile(documents(service("web"), service("more")))).rejects.toMatchObject({
    code: "machine",
    message: expect.stringContaining("could not write"),
  });
  await rm(inTheWay, { recursive: true });
  const second = await one.reconcile(documents(service("web"), service("more")));
  expect(find(second.objects, "Service", "web")).toEqual(find(first.objects, "Service", "web"));
  expect(find(second.objects, "Service", "more").spec.clusterIP).toMatch(/^10/);
});

test.each([
  ["half a file", '{"version":2,"last', /damaged/],
  ["another version", '{"version":99}', /version 99/],
  ["another thing altogether", "[]", /version none/],
  ["services that are a list", '{"version":2,"lastAge":1,"firstSeen":{},"services":[]}', /damaged/],
  ["no last age", '{"version":2,"firstSeen":{},"services":{}}', /damaged/],
])("a state file that is %s is not overwritten, and the message says what to do", async (_name, content, message) => {
  const stateDir = await temporaryDirectory();
  await writeFile(join(stateDir, "allocations.json"), content);
  await expect(cluster({ stateDir })).rejects.toThrow(message);
  await expect(cluster({ stateDir })).rejects.toThrow(/remove it to allocate all addresses anew/);
  expect(await readFile(join(stateDir, "allocations.json"), "utf8")).toBe(content);
});

test("another cluster range takes new addresses where the old ones no longer fit", async () => {
  const stateDir = await temporaryDirectory();
  await (await cluster({ stateDir })).reconcile(documents(service("web")));
  const { objects, notices } = await (await cluster({ stateDir, serviceClusterIpRange: ["172.20.0.0/16"] })).reconcile(
    documents(service("web")),
  );
  expect(find(objects, "Service", "web").spec.clusterIP).toMatch(/^172\.20\./);
  expect(notices).toEqual([]);
});

const FAMILIES: { name: string; spec: Any; families: string[]; policy: string }[] = [
  { name: "nothing said", spec: {}, families: ["IPv4"], policy: "SingleStack" },
  {
    name: "PreferDualStack",
    spec: { ipFamilyPolicy: "PreferDualStack" },
    families: ["IPv4", "IPv6"],
    policy: "PreferDualStack",
  },
  {
    name: "RequireDualStack",
    spec: { ipFamilyPolicy: "RequireDualStack" },
    families: ["IPv4", "IPv6"],
    policy: "RequireDualStack",
  },
  { name: "IPv6 alone", spec: { ipFamilies: ["IPv6"] }, families: ["IPv6"], policy: "SingleStack" },
  {
    name: "IPv6 first",
    spec: { ipFamilies: ["IPv6", "IPv4"], ipFamilyPolicy: "RequireDualStack" },
    families: ["IPv6", "IPv4"],
    policy: "RequireDualStack",
  },
  { name: "an address of IPv6", spec: { clusterIP: "fd00:10:96::77" }, families: ["IPv6"], policy: "SingleStack" },
  {
    name: "an address of each",
    spec: { clusterIPs: ["10.96.7.7", "fd00:10:96::7"], ipFamilyPolicy: "PreferDualStack" },
    families: ["IPv4", "IPv6"],
    policy: "PreferDualStack",
  },
];

test.each(FAMILIES)("in a cluster of both families, $name gives $families", async ({ spec, families, policy }) => {
  const { objects, notices } = await (await cluster({ serviceClusterIpRange: DUAL_STACK })).reconcile(
    documents(service("web", spec)),
  );
  expect(notices).toEqual([]);
  const full = find(objects, "Service", "web").spec;
  expect(full.ipFamilies).toEqual(families);
  expect(full.ipFamilyPolicy).toBe(policy);
  expect(full.clusterIPs.map((one: string) => (one.includes(":") ? "IPv6" : "IPv4"))).toEqual(families);
  expect(full.clusterIP).toBe(full.clusterIPs[0]);
  if (spec.clusterIPs !== undefined) expect(full.clusterIPs).toEqual(spec.clusterIPs);
});

test("a Service may gain a second family and lose it again, its first address staying", async () => {
  const one = await cluster({ serviceClusterIpRange: DUAL_STACK });
  const get = async (spec: Any): Promise<Any> =>
    find((await one.reconcile(documents(service("web", spec)))).objects, "Service", "web");
  const single = await get({});
  const dual = await get({ ipFamilyPolicy: "PreferDualStack" });
  expect(dual.spec.clusterIPs[0]).toBe(single.spec.clusterIP);
  expect(dual.spec.clusterIPs).toHaveLength(2);
  expect(dual.metadata.uid).toBe(single.metadata.uid);
  expect((await get({ ipFamilyPolicy: "SingleStack" })).spec.clusterIPs).toEqual([single.spec.clusterIP]);
});

test.each([[["10.96.0.0"]], [["10.96.0.0/32"]], [["x"]], [[]], [["10.0.0.0/16", "10.1.0.0/16"]]])(
  "the ranges %j are refused",
  async (serviceClusterIpRange) => {
    await expect(cluster({ serviceClusterIpRange })).rejects.toMatchObject({ code: "usage" });
  },
);

test("the DNS server's Service and slices are ordinary objects, and a manifest's kube-dns comes before them", async () => {
  const one = await cluster({
    serviceClusterIpRange: DUAL_STACK,
    dns: { addresses: ["192.168.122.11", "fd00:192:168:122::11"], port: 5301 },
  });
  const { objects, notices } = await one.reconcile([]);
  expect(notices).toEqual([]);
  const dns = find(objects, "Service", "kube-dns");
  expect(dns.metadata.namespace).toBe("kube-system");
  expect(dns.spec.clusterIPs).toEqual(["10.96.0.10", "fd00:10:96::a"]);
  expect(dns.spec.ports.map((port: Any) => `${port.protocol} ${port.port}`)).toEqual(["UDP 53", "TCP 53"]);
  const slices = objects.filter((object) => object.kind === "EndpointSlice") as Any[];
  expect(slices.map((object) => [object.addressType, object.endpoints[0].addresses[0], object.ports[0].port])).toEqual([
    ["IPv4", "192.168.122.11", 5301],
    ["IPv6", "fd00:192:168:122::11", 5301],
  ]);
  const theirs = await one.reconcile(
    documents(service("kube-dns", { clusterIP: "10.96.0.53" }, { namespace: "kube-system" })),
  );
  expect(find(theirs.objects, "Service", "kube-dns").spec.clusterIP).toBe("10.96.0.53");
  expect(theirs.objects.filter((object) => object.metadata.name.startsWith("kube-dns-ip"))).toEqual([]);
});

test("the agent's own Node is made only while no manifest has one of its name", async () => {
  const one = await cluster({ ownNode: { name: "node1", addresses: ["192.0.2.1"] } });
  const made = find((await one.reconcile([])).objects, "Node", "node1");
  expect(made.status.addresses[0]).toEqual({ type: "InternalIP", address: "192.0.2.1" });
  const manifest = {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: "node1" },
    status: { addresses: [{ type: "InternalIP", address: "192.0.2.9" }] },
  };
  expect(find((await one.reconcile(documents(manifest))).objects, "Node", "node1").status.addresses[0].address).toBe(
    "192.0.2.9",
  );
});

test.each([1, 2, 3, 4, 5])(
  "whatever changes, nothing is held twice and nobody unchanged loses anything (seed %i)",
  async (seed) => {
    const stateDir = await temporaryDirectory();
    const { below: next } = createRandom(seed);
    const options = {
      stateDir,
      serviceClusterIpRange: ["10.96.0.0/26"],
      serviceNodePortRange: { first: 30000, last: 30039 },
    };
    let one = await cluster(options);
    const wanted = new Map<string, Any>();
    const before = new Map<string, { spec: Any; source: Any }>();
    for (let step = 0; step < 60; step++) {
      const changed = new Set<string>();
      for (let i = next(4); i >= 0; i--) {
        const name = `s${next(40)}`;
        changed.add(name);
        if (next(4) === 0) wanted.delete(name);
        else {
          const type = ["ClusterIP", "NodePort", "LoadBalancer"][next(3)];
          const port = { port: 80, ...(type !== "ClusterIP" && next(3) === 0 ? { nodePort: 30000 + next(40) } : {}) };
          const ip = [{}, {}, { clusterIP: `10.96.0.${next(64)}` }, type === "ClusterIP" ? { clusterIP: "None" } : {}][
            next(4)
          ];
          wanted.set(name, service(name, { type, ports: [port], ...ip }));
        }
      }
      if (next(8) === 0) one = await cluster(options);
      const { objects } = await one.reconcile([...wanted].map(([name, object]) => document(object, `${name}.yaml`)));
      const addresses: string[] = [];
      const ports: number[] = [];
      for (const { kind, metadata, spec } of objects as Any[]) {
        if (kind !== "Service") continue;
        addresses.push(...spec.clusterIPs.filter((ip: string) => ip !== "None"));
        ports.push(...spec.ports.flatMap((port: Any) => port.nodePort ?? []));
        const earlier = before.get(metadata.name);
        if (earlier !== undefined && !changed.has(metadata.name) && earlier.source === wanted.get(metadata.name)) {
          expect(spec.clusterIPs, `${metadata.name} in step ${step}`).toEqual(earlier.spec.clusterIPs);
          expect(spec.ports).toEqual(earlier.spec.ports);
        }
      }
      expect(new Set(addresses).size).toBe(addresses.length);
      expect(new Set(ports).size).toBe(ports.length);
      expect(addresses).not.toContain("10.96.0.1");
      before.clear();
      // Only versions in force are held; one that is refused may come into force later, with other addresses.
      for (const object of objects as Any[]) {
        const source = wanted.get(object.metadata.name);
        const asked = source?.spec.clusterIP;
        const inForce = asked === undefined || object.spec.clusterIPs[0] === asked;
        if (
          object.kind === "Service" &&
          inForce &&
          source.spec.type === object.spec.type &&
          (source.spec.ports[0].nodePort ?? object.spec.ports[0].nodePort) === object.spec.ports[0].nodePort
        ) {
          before.set(object.metadata.name, { spec: object.spec, source });
        }
      }
    }
  },
);
