// Endpoints as Kubernetes' own controllers make them: from Pods, from Endpoints objects, and slices that people write.
import { expect, test } from "vitest";
import { normaliseHostPorts, normaliseObject } from "../../src/wire/normalise.ts";
import {
  type Any,
  cluster,
  DUAL_STACK,
  document,
  documents,
  endpoints,
  find,
  node,
  pod,
  service,
  slice,
  slicesOf,
} from "./build.ts";

const web = (spec: Any = {}, metadata: Any = {}): Any => service("web", spec, metadata);

interface Case {
  readonly name: string;
  readonly given: Any[];
  /** "address ready serving terminating" of each endpoint. */
  readonly expected: readonly string[];
}

const PODS: Case[] = [
  { name: "a ready Pod serves", given: [web(), pod("p")], expected: ["10.244.1.2 true true false"] },
  {
    name: "an unready Pod is in the slice, unready",
    given: [web(), pod("p", { ready: false })],
    expected: ["10.244.1.2 false false false"],
  },
  {
    name: "an unready Pod is ready where that is to be published",
    given: [web({ publishNotReadyAddresses: true }), pod("p", { ready: false })],
    expected: ["10.244.1.2 true false false"],
  },
  {
    name: "a Pod that ends serves but is not ready",
    given: [web(), pod("p", { metadata: { deletionTimestamp: "2026-01-01T00:00:00Z" } })],
    expected: ["10.244.1.2 false true true"],
  },
  {
    name: "a Pod that ended is in no slice",
    given: [web(), pod("p", { phase: "Succeeded" }), pod("q", { phase: "Failed" })],
    expected: [],
  },
  { name: "a Pod without address is in no slice", given: [web(), { ...pod("p"), status: {} }], expected: [] },
  {
    name: "a Pod on the host's network has the node's address",
    given: [web(), pod("p", { ip: "192.168.122.11", spec: { hostNetwork: true } })],
    expected: ["192.168.122.11 true true false"],
  },
  {
    name: "all labels of the selector must match",
    given: [
      web({ selector: { app: "web", tier: "front" } }),
      pod("p"),
      pod("q", { labels: { app: "web", tier: "front", more: "x" }, ip: "10.244.1.3" }),
    ],
    expected: ["10.244.1.3 true true false"],
  },
  {
    name: "Pods of another namespace are others",
    given: [web(), pod("p", { metadata: { namespace: "other" } })],
    expected: [],
  },
  { name: "an empty selector selects nothing", given: [web({ selector: {} }), pod("p")], expected: [] },
  {
    name: "ExternalName has no endpoints, selector or not",
    given: [web({ type: "ExternalName", externalName: "a.b" }), pod("p")],
    expected: [],
  },
  {
    name: "a Pod on loopback is left out",
    given: [web(), pod("p", { ip: "127.0.0.1" }), pod("q", { ip: "10.244.1.3" })],
    expected: ["10.244.1.3 true true false"],
  },
];

function lines(objects: Any, name = "web"): string[] {
  return slicesOf(objects, name).flatMap((one) =>
    one.endpoints.map(
      (e: Any) => `${e.addresses} ${e.conditions?.ready} ${e.conditions?.serving} ${e.conditions?.terminating}`,
    ),
  );
}

test.each(PODS)("$name", async ({ given, expected }) => {
  const { objects } = await (await cluster()).reconcile(documents(...given));
  expect(lines(objects)).toEqual(expected);
});

test("an endpoint says which Pod and node it is, its zone, and its host name where the subdomain is the Service's", async () => {
  const { objects } = await (await cluster()).reconcile(
    documents(
      service("web", { clusterIP: "None" }),
      node("node1", {}, { "topology.kubernetes.io/zone": "a" }),
      pod("p", { metadata: { uid: "u1" }, spec: { hostname: "first", subdomain: "web" } }),
      pod("q", { ip: "10.244.1.3", spec: { hostname: "second", subdomain: "other" } }),
    ),
  );
  const [only, ...others] = slicesOf(objects, "web");
  expect(others).toEqual([]);
  expect(only.metadata.labels).toMatchObject({
    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    "service.kubernetes.io/headless": "",
  });
  expect(only.endpoints[0]).toMatchObject({
    nodeName: "node1",
    zone: "a",
    hostname: "first",
    targetRef: { kind: "Pod", namespace: "default", name: "p", uid: "u1" },
  });
  expect(only.endpoints[1].hostname).toBeUndefined();
});

test("a named target port is each Pod's own: other numbers make other slices, and a Pod without it serves nothing there", async () => {
  const { objects } = await (await cluster()).reconcile(
    documents(
      web({
        ports: [
          { name: "http", port: 80, targetPort: "web" },
          { name: "plain", port: 81 },
        ],
      }),
      pod("p", { ports: [{ name: "web", containerPort: 8080 }] }),
      pod("q", { ip: "10.244.1.3", ports: [{ name: "web", containerPort: 9090 }] }),
      pod("r", { ip: "10.244.1.4", ports: [{ name: "web", containerPort: 53, protocol: "UDP" }] }),
    ),
  );
  const found = slicesOf(objects, "web").map(
    (one) =>
      `${one.endpoints.map((e: Any) => e.addresses)}: ${one.ports.map((port: Any) => `${port.name}=${port.port}`)}`,
  );
  expect(found.sort()).toEqual([
    "10.244.1.2: http=8080,plain=81",
    "10.244.1.3: http=9090,plain=81",
    "10.244.1.4: plain=81",
  ]);
});

test("each family of the Service has slices of its own", async () => {
  const { objects } = await (await cluster({ serviceClusterIpRange: DUAL_STACK })).reconcile(
    documents(
      web({ ipFamilyPolicy: "PreferDualStack" }),
      pod("p", { ips: ["10.244.1.2", "fd00:10:244:1::2"] }),
      pod("q", { ip: "10.244.1.3" }),
    ),
  );
  expect(
    slicesOf(objects, "web").map((one) => [one.addressType, one.endpoints.flatMap((e: Any) => e.addresses)]),
  ).toEqual([
    ["IPv4", ["10.244.1.2", "10.244.1.3"]],
    ["IPv6", ["fd00:10:244:1::2"]],
  ]);
});

test("a slice holds at most 100 endpoints, and endpoints stay in the slice they are in", async () => {
  const pods = Array.from({ length: 250 }, (_, i) => pod(`p${i}`, { ip: `10.244.${i >> 7}.${(i & 127) + 1}` }));
  const one = await cluster();
  const where = (objects: Any): Map<string, string> =>
    new Map(slicesOf(objects, "web").flatMap((s) => s.endpoints.map((e: Any) => [e.targetRef.name, s.metadata.name])));
  const all = await one.reconcile(documents(web(), ...pods));
  expect(slicesOf(all.objects, "web").map((s) => s.endpoints.length)).toEqual([100, 100, 50]);
  const before = where(all.objects);
  const left = pods.filter((_, i) => i % 5 !== 0);
  const fewer = where((await one.reconcile(documents(web(), ...left))).objects);
  expect(fewer.size).toBe(200);
  for (const [name, sliceName] of fewer) expect(sliceName).toBe(before.get(name));
  const again = await one.reconcile(documents(web(), ...pods));
  expect(where(again.objects).size).toBe(250);
  expect(slicesOf(again.objects, "web").every((s) => s.endpoints.length <= 100)).toBe(true);
  for (const [name, sliceName] of fewer) expect(where(again.objects).get(name)).toBe(sliceName);
  const small = await one.reconcile(documents(web(), pods[249]));
  expect(slicesOf(small.objects, "web").map((s) => s.endpoints.length)).toEqual([1]);
});

test("a restart gives slices the same names", async () => {
  const given = documents(
    web(),
    pod("p"),
    service("bare", { selector: undefined }),
    endpoints("bare", [{ addresses: [{ ip: "10.1.1.1" }], ports: [{ port: 80 }] }]),
  );
  const names = async (): Promise<string[]> =>
    (await (await cluster()).reconcile(given)).objects
      .filter((one) => one.kind === "EndpointSlice")
      .map((one) => one.metadata.name);
  expect(await names()).toEqual(await names());
});

const bare = service("bare", { selector: undefined, ports: [{ name: "http", port: 80 }] });
const subset = (ip: string, fields: Any = {}): Any => ({
  addresses: [{ ip }],
  ports: [{ name: "http", port: 8080 }],
  ...fields,
});

const MIRRORED: Case[] = [
  {
    name: "Endpoints of a Service without selector are mirrored",
    given: [bare, endpoints("bare", [subset("10.1.1.1")])],
    expected: ["10.1.1.1 true"],
  },
  {
    name: "addresses that are not ready are mirrored so",
    given: [bare, endpoints("bare", [subset("10.1.1.1", { notReadyAddresses: [{ ip: "10.1.1.2" }] })])],
    expected: ["10.1.1.1 true", "10.1.1.2 false"],
  },
  {
    name: "Endpoints of a Service with selector are not",
    given: [service("bare"), endpoints("bare", [subset("10.1.1.1")])],
    expected: [],
  },
  { name: "Endpoints without Service are not", given: [endpoints("bare", [subset("10.1.1.1")])], expected: [] },
  {
    name: "Endpoints of a Service with a slice of its own are not",
    given: [
      bare,
      endpoints("bare", [subset("10.1.1.1")]),
      slice("mine", "bare", {
        endpoints: [{ addresses: ["10.1.1.9"], conditions: { ready: true } }],
        ports: [{ name: "http", port: 80 }],
      }),
    ],
    expected: ["10.1.1.9 true"],
  },
  {
    name: "Endpoints marked so are not",
    given: [
      bare,
      endpoints("bare", [subset("10.1.1.1")], { labels: { "endpointslice.kubernetes.io/skip-mirror": "true" } }),
    ],
    expected: [],
  },
];

test.each(MIRRORED)("$name", async ({ given, expected }) => {
  const { objects } = await (await cluster()).reconcile(documents(...given));
  expect(
    slicesOf(objects, "bare").flatMap((one) => one.endpoints.map((e: Any) => `${e.addresses} ${e.conditions?.ready}`)),
  ).toEqual(expected);
  expect(objects.filter((one) => one.kind === "Endpoints")).toEqual([]);
});

const REFUSED = [
  "127.0.0.1",
  "169.254.1.1",
  "224.0.0.1",
  "255.255.255.255",
  "0.0.0.0",
  "10.96.8.8",
  "::1",
  "fe80::1",
  "ff02::1",
  "::",
];

test.each(REFUSED)(
  "the address %s is left out of Endpoints and slices, by field, and its neighbours stay",
  async (address) => {
    const six = address.includes(":");
    const good = six ? "fd00::9" : "10.1.1.9";
    const { objects, notices } = await (await cluster({ serviceClusterIpRange: DUAL_STACK })).reconcile([
      document(bare, "s.yaml"),
      document(service("taken", { clusterIP: "10.96.8.8" }), "s.yaml", 1),
      document(service("sliced", { selector: undefined }), "s.yaml", 2),
      document(
        endpoints("bare", [{ addresses: [{ ip: good }, { ip: address }], ports: [{ name: "http", port: 80 }] }]),
        "e.yaml",
      ),
      document(
        slice("mine", "sliced", {
          addressType: six ? "IPv6" : "IPv4",
          endpoints: [{ addresses: [address] }, { addresses: [good] }],
        }),
        "m.yaml",
      ),
    ]);
    const errors = notices.filter((one) => one.severity === "error");
    expect(errors).toEqual([
      expect.objectContaining({
        file: "m.yaml",
        object: "EndpointSlice default/mine",
        field: "endpoints[0].addresses[0]",
        reason: "endpoint-refused",
      }),
      expect.objectContaining({
        file: "e.yaml",
        object: "Endpoints default/bare",
        field: "subsets[0].addresses[1].ip",
        reason: "endpoint-refused",
      }),
    ]);
    expect(slicesOf(objects, "bare").flatMap((one) => one.endpoints.flatMap((e: Any) => e.addresses))).toEqual([good]);
    expect(slicesOf(objects, "sliced").flatMap((one) => one.endpoints.flatMap((e: Any) => e.addresses))).toEqual([
      good,
    ]);
  },
);

test("a port name that matches none of the Service's gives a notice by field, one that matches gives none", async () => {
  const one = await cluster();
  const right = await one.reconcile(documents(bare, endpoints("bare", [subset("10.1.1.1")])));
  expect(right.notices).toEqual([]);
  const wrong = await one.reconcile(
    documents(bare, endpoints("bare", [{ addresses: [{ ip: "10.1.1.1" }], ports: [{ name: "web", port: 8080 }] }])),
  );
  expect(wrong.notices).toMatchObject([
    {
      object: "Endpoints default/bare",
      field: "subsets[0].ports[0].name",
      reason: "no-matching-port",
      severity: "warning",
    },
  ]);
  const written = await one.reconcile(documents(bare, slice("mine", "bare", { ports: [{ name: "web", port: 80 }] })));
  expect(written.notices).toMatchObject([
    { object: "EndpointSlice default/mine", field: "ports[0].name", reason: "no-matching-port" },
  ]);
});

test("objects that did not change are the same objects after the next change", async () => {
  const one = await cluster();
  const first = await one.reconcile(documents(web(), pod("p"), service("other")));
  const second = await one.reconcile(documents(web(), pod("p", { ready: false }), service("other")));
  for (const kind of ["Service"])
    for (const name of ["web", "other"]) expect(find(second.objects, kind, name)).toBe(find(first.objects, kind, name));
  expect(slicesOf(second.objects, "other")[0]).toBe(slicesOf(first.objects, "other")[0]);
  expect(slicesOf(second.objects, "web")[0]).not.toBe(slicesOf(first.objects, "web")[0]);
});

const HOST_PORTS: { name: string; pod: Any; expected: string[] }[] = [
  {
    name: "a host port",
    pod: pod("p", { ports: [{ containerPort: 80, hostPort: 8080 }, { containerPort: 81 }] }),
    expected: ["node1 :8080/TCP -> 10.244.1.2:80"],
  },
  {
    name: "a host port on one address",
    pod: pod("p", { ports: [{ containerPort: 53, hostPort: 53, protocol: "UDP", hostIP: "192.168.122.11" }] }),
    expected: ["node1 192.168.122.11:53/UDP -> 10.244.1.2:53"],
  },
  {
    name: "a host port on the unspecified address",
    pod: pod("p", { ports: [{ containerPort: 80, hostPort: 80, hostIP: "0.0.0.0" }] }),
    expected: ["node1 :80/TCP -> 10.244.1.2:80"],
  },
  {
    name: "both families",
    pod: pod("p", { ips: ["10.244.1.2", "fd00::2"], ports: [{ containerPort: 80, hostPort: 80 }] }),
    expected: ["node1 :80/TCP -> 10.244.1.2:80", "node1 :80/TCP -> fd00::2:80"],
  },
  {
    name: "the host's network",
    pod: pod("p", { ports: [{ containerPort: 80, hostPort: 80 }], spec: { hostNetwork: true } }),
    expected: [],
  },
  {
    name: "a Pod that ended",
    pod: pod("p", { ports: [{ containerPort: 80, hostPort: 80 }], phase: "Succeeded" }),
    expected: [],
  },
  { name: "a Pod on no node", pod: pod("p", { ports: [{ containerPort: 80, hostPort: 80 }], node: "" }), expected: [] },
  {
    name: "a Pod without address",
    pod: pod("p", { ports: [{ containerPort: 80, hostPort: 80 }], ips: [] }),
    expected: [],
  },
];

test.each(HOST_PORTS)("host port records of $name", ({ pod: given, expected }) => {
  expect(
    normaliseHostPorts(given as Any).map(
      (one) => `${one.node} ${one.hostAddress}:${one.hostPort}/${one.protocol} -> ${one.podAddress}:${one.podPort}`,
    ),
  ).toEqual(expected);
});

test("absent conditions of an endpoint are what Kubernetes says they are", () => {
  const conditions = [{}, { ready: false }, { ready: false, serving: true, terminating: true }, { serving: false }];
  const result = normaliseObject(
    slice("s", "web", {
      endpoints: conditions.map((one, i) => ({ addresses: [`10.1.1.${i + 1}`], conditions: one })),
    }) as Any,
  );
  const found = result?.event.kind === "EndpointSlice" ? result.event.object?.endpoints : undefined;
  expect([...(found ?? [])].map((one) => `${one.ready} ${one.serving} ${one.terminating}`)).toEqual([
    "true true false",
    "false false false",
    "false true true",
    "true false false",
  ]);
});

const DISTRIBUTIONS: readonly [string, Any, Any][] = [
  ["PreferClose", {}, { forZones: [{ name: "a" }] }],
  ["PreferSameZone", {}, { forZones: [{ name: "a" }] }],
  ["PreferSameNode", {}, { forZones: [{ name: "a" }], forNodes: [{ name: "node1" }] }],
  ["PreferSameNode", { "service.kubernetes.io/topology-mode": "Auto" }, undefined],
  ["PreferSameZone", { "service.kubernetes.io/topology-mode": "Disabled" }, { forZones: [{ name: "a" }] }],
];

test.each(DISTRIBUTIONS)(
  "trafficDistribution %s with annotations %j hints a ready endpoint's own place",
  async (trafficDistribution, annotations, hints) => {
    const { objects } = await (await cluster()).reconcile(
      documents(
        web({ trafficDistribution }, { annotations }),
        node("node1", {}, { "topology.kubernetes.io/zone": "a" }),
        pod("p"),
        pod("q", { ip: "10.244.1.3", ready: false }),
      ),
    );
    expect(slicesOf(objects, "web").flatMap((one) => one.endpoints.map((e: Any) => e.hints))).toEqual([
      hints,
      undefined,
    ]);
  },
);

test("PreferSameNode hints the node alone where no zone is known, PreferSameZone nothing", async () => {
  const hintsFor = async (trafficDistribution: string): Promise<Any> => {
    const { objects } = await (await cluster()).reconcile(documents(web({ trafficDistribution }), pod("p")));
    return slicesOf(objects, "web")[0]?.endpoints[0].hints;
  };
  expect(await hintsFor("PreferSameNode")).toEqual({ forNodes: [{ name: "node1" }] });
  expect(await hintsFor("PreferSameZone")).toBeUndefined();
});
