// The whole way from files to the model's objects: allocating and read-only, the seeds, and what stays when things go wrong.

import { Resolver } from "node:dns/promises";
import { mkdir, readdir, readFile, rename, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import type { ObjectEvent } from "../../src/model/objects.ts";
import { createProvenance } from "../../src/model/provenance.ts";
import type { Deliver } from "../../src/model/source.ts";
import { readManifests } from "../../src/standalone/manifest-reader.ts";
import {
  createManifestSource,
  type ManifestSource,
  type ManifestSourceOptions,
} from "../../src/standalone/manifest-source.ts";
import { createManifestWork, type Told } from "../../src/standalone/manifest-work.ts";
import { type Any, cluster, collect, directoryDigest, find, pod, service, slice, temporaryDirectory } from "./build.ts";

const EXAMPLES = join(import.meta.dirname, "../../deploy/examples");

interface Running {
  readonly source: Pick<ManifestSource, "notices" | "status" | "bypassesSockets" | "stop">;
  readonly seen: ReturnType<typeof collect>;
  until(test: () => boolean): Promise<void>;
}

type Given = Partial<ManifestSourceOptions> & { readonly paths: readonly string[] };

async function defaults(options: Given): Promise<ManifestSourceOptions> {
  return {
    readOnly: false,
    stateDir: options.readOnly === true ? "/nonexistent/never-written" : await temporaryDirectory(),
    serviceClusterIpRange: ["10.96.0.0/12"],
    serviceNodePortRange: { first: 30000, last: 32767 },
    ...options,
  };
}

/** The work in this thread, as a source: most cases are about what it does, and a thread takes its time to start. */
function createUnthreaded(options: ManifestSourceOptions): ManifestSource {
  let deliver: Deliver = () => {};
  let last: Told | undefined;
  const work = createManifestWork(
    options,
    async (told) => {
      const isNew = last === undefined || told.events.length > 0 || told.digest !== last.digest;
      last = told;
      if (isNew) deliver(told.events, told.digest, true);
    },
    { warn() {} } as unknown as Parameters<typeof createManifestWork>[2],
  );
  return {
    start(onEvents) {
      deliver = onEvents;
      return work.start();
    },
    status: () => ({ kind: "manifests", synced: last !== undefined, lastEventMs: 0, digest: last?.digest ?? "" }),
    notices: () => last?.notices ?? [],
    bypassesSockets: (node) => last?.bypassing.includes(node) ?? false,
    setOwnNode: work.setOwnNode,
    stop: work.stop,
  };
}

async function watched(source: ManifestSource): Promise<Running> {
  onTestFinished(() => source.stop());
  const seen = collect();
  let wake: () => void = () => {};
  await source.start((events) => {
    seen.take(events);
    wake();
  });
  return {
    source,
    seen,
    until: (holds) =>
      new Promise((resolve) => {
        const look = (): void => {
          if (holds()) {
            clearInterval(timer);
            resolve();
          }
        };
        // Notices change without an event, so that there is nothing else to wait for.
        const timer = setInterval(look, 5);
        wake = look;
        look();
      }),
  };
}

const run = async (options: Given): Promise<Running> => watched(createUnthreaded(await defaults(options)));
const runThreaded = async (options: Given, url?: URL): Promise<Running> =>
  watched(createManifestSource(await defaults(options), url));

test("all seeds are read, each alone, without an error", async () => {
  const files = (await readdir(EXAMPLES)).sort();
  expect(files).toHaveLength(17);
  for (const file of files) {
    const { source, seen } = await run({
      paths: [join(EXAMPLES, file)],
      ownNode: { name: "node1", addresses: ["192.168.122.11"] },
    });
    expect(
      source.notices().filter((one) => one.severity === "error"),
      file,
    ).toEqual([]);
    expect(seen.batches, file).toHaveLength(1);
    expect(source.status()).toMatchObject({ kind: "manifests", synced: true });
    await source.stop();
  }
});

test.each([
  {
    file: "07-clusterip-fixed.yaml",
    key: "Service default/nginx-service",
    expected: { clusterIPs: ["10.96.100.100"] },
  },
  { file: "08-headless.yaml", key: "Service default/nginx-service", expected: { clusterIPs: [], headless: true } },
  {
    file: "10-nodeport-30001.yaml",
    key: "Service default/nginx-service",
    expected: { type: "NodePort", ports: [{ name: "", protocol: "TCP", port: 80, nodePort: 30001, targetPort: 80 }] },
  },
  {
    file: "12-external-name.yaml",
    key: "Service default/service-external-name",
    expected: { type: "ExternalName", externalName: "nginx-service.default.svc.cluster.local", clusterIPs: [] },
  },
  {
    file: "13-lb-pool.yaml",
    key: "AddressPool metallb-system/lb-ip-pool",
    expected: { ranges: ["192.168.122.110-192.168.122.119"], autoAssign: true },
  },
  {
    file: "13-lb-pool.yaml",
    key: "L2Advertisement metallb-system/l2adver",
    expected: { pools: ["lb-ip-pool"], nodeSelectors: [] },
  },
])("$file gives $key", async ({ file, key, expected }) => {
  const { seen } = await run({ paths: [join(EXAMPLES, file)] });
  expect(seen.objects.get(key)).toMatchObject(expected);
});

test("seeds 13 and 14 together give the address that is asked for, from the pool", async () => {
  const { seen, source } = await run({
    paths: [join(EXAMPLES, "13-lb-pool.yaml"), join(EXAMPLES, "14-loadbalancer.yaml")],
  });
  expect(seen.objects.get("Service default/nginxlb").grants.addresses).toEqual([
    { address: "192.168.122.111", ipMode: "VIP", by: "status" },
  ]);
  const events = [...seen.objects].map(([id, object]) => {
    const [kind, key] = id.split(" ");
    return { kind, key, object } as ObjectEvent;
  });
  const judged = createProvenance({ loadBalancerClass: "", serviceRanges: [] }).judge(events);
  expect(judged.find(({ key }) => key === "default/nginxlb")?.object).toMatchObject({
    grants: { addresses: [{ address: "192.168.122.111", by: "pool", pool: "metallb-system/lb-ip-pool" }] },
  });
  expect(source.notices()).toEqual([]);
});

test("seed 04 without a pool says no-pool and has its node port and cluster address", async () => {
  const { seen, source } = await run({ paths: [join(EXAMPLES, "04-rc-exposed.yaml")] });
  expect(source.notices()).toMatchObject([{ object: "Service default/my-second-service", reason: "no-pool" }]);
  const lb = seen.objects.get("Service default/my-second-service");
  expect(lb.grants.addresses).toEqual([]);
  expect(lb.clusterIPs).toHaveLength(1);
  expect(lb.ports[0].nodePort).toBeGreaterThanOrEqual(30000);
});

test("seed 11 gives its three addresses, and none under a port name that does not match", async () => {
  const directory = await temporaryDirectory();
  const text = await readFile(join(EXAMPLES, "11-no-selector.yaml"), "utf8");
  await writeFile(join(directory, "11.yaml"), text);
  const { seen, source, until } = await run({ paths: [directory] });
  const slices = (): Any[] => [...seen.objects.values()].filter((one) => one.service === "service-no-selector");
  expect(slices().flatMap((one) => one.endpoints.flatMap((e: Any) => e.addresses))).toEqual([
    "10.244.36.82",
    "10.244.169.141",
    "110.242.68.3",
  ]);
  await writeFile(join(directory, "11.yaml"), text.replace(/name: http(?=\n\s+port: 80\n\s+protocol)/, "name: web"));
  await until(() => source.notices().some((one) => one.reason === "no-matching-port"));
});

test("a change tells only what changed, with the digest of the directory that it is of", async () => {
  const directory = await temporaryDirectory();
  for (const name of ["a", "b", "c"]) await writeFile(join(directory, `${name}.json`), JSON.stringify(service(name)));
  const { source, seen, until } = await runThreaded({ paths: [directory] });
  expect(source.status().digest).toBe(await directoryDigest(directory));
  await writeFile(join(directory, "b.json"), JSON.stringify(service("b", { ports: [{ port: 81 }] })));
  await until(() => seen.batches.length > 1);
  expect(seen.batches[1]?.map((event) => `${event.kind} ${event.key}`)).toEqual(["Service default/b"]);
  expect(source.status().digest).toBe(await directoryDigest(directory));
  await unlink(join(directory, "c.json"));
  await until(() => !seen.objects.has("Service default/c"));
  expect([...seen.objects.keys()].some((key) => key.includes("/c"))).toBe(false);
});

test("a wrong change is told by file, object and field, and what it would have changed stays", async () => {
  const directory = await temporaryDirectory();
  await writeFile(join(directory, "a.json"), JSON.stringify(service("web", { clusterIP: "10.96.7.7" })));
  const { source, seen, until } = await run({ paths: [directory] });
  await writeFile(join(directory, "a.json"), JSON.stringify(service("web", { ports: [{ port: "x" }] })));
  await until(() => source.notices().length > 0);
  expect(source.notices()).toMatchObject([
    {
      object: "Service default/web",
      file: expect.stringMatching(/a\.json:1:\d+$/),
      field: "spec.ports[0].port",
      severity: "error",
    },
  ]);
  expect(seen.objects.get("Service default/web").clusterIPs).toEqual(["10.96.7.7"]);
});

test("a file that broke while nobody ran keeps its Services through a restart, and through the next one", async () => {
  const [directory, stateDir] = [await temporaryDirectory(), await temporaryDirectory()];
  const file = join(directory, "a.yaml");
  await writeFile(file, JSON.stringify(service("web")));
  const first = await run({ paths: [directory], stateDir });
  const [address] = first.seen.objects.get("Service default/web").clusterIPs;
  await writeFile(file, "kind: [");
  await first.until(() => first.source.notices().some((one) => one.reason === "malformed"));
  await first.source.stop();
  for (let restart = 0; restart < 2; restart++) {
    const next = await run({ paths: [directory], stateDir });
    expect(next.seen.objects.get("Service default/web").clusterIPs).toEqual([address]);
    expect(next.source.notices()).toMatchObject([{ file: `${file}:1:8`, reason: "malformed" }]);
    await next.source.stop();
  }
});

test("a state directory that cannot be written is told; what was delivered stays, and it goes on once it can be", async () => {
  const [directory, stateDir] = [await temporaryDirectory(), await temporaryDirectory()];
  await writeFile(join(directory, "a.json"), JSON.stringify(service("a")));
  const { source, seen, until } = await run({ paths: [directory], stateDir });
  const inTheWay = join(stateDir, "allocations.json.tmp");
  await mkdir(inTheWay);
  await writeFile(join(directory, "b.json"), JSON.stringify(service("b")));
  await until(() => source.notices().some((one) => one.reason === "state-not-written"));
  expect([...seen.objects.keys()].filter((key) => key.startsWith("Service"))).toEqual(["Service default/a"]);
  await rename(inTheWay, join(stateDir, "moved"));
  await until(() => seen.objects.has("Service default/b"));
  expect(source.notices()).toEqual([]);
});

test("the DNS server is a Service, and follows its port over a restart", async () => {
  const stateDir = await temporaryDirectory();
  const at = (port: number) => cluster({ stateDir, dns: { addresses: ["192.168.122.11"], port } });
  const before = await (await at(5301)).reconcile([]);
  expect(find(before.objects, "Service", "kube-dns").spec.clusterIP).toBe("10.96.0.10");
  const { objects } = await (await at(5302)).reconcile([]);
  expect(find(objects, "Service", "kube-dns").spec.clusterIP).toBe("10.96.0.10");
  expect(find(objects, "EndpointSlice", "kube-dns-ipv4")).toMatchObject({ ports: [{ port: 5302 }, { port: 5302 }] });
});

test("a node whose address is another is told", async () => {
  const directory = await temporaryDirectory();
  const source = createManifestSource(
    await defaults({ paths: [directory], ownNode: { name: "node1", addresses: ["192.168.122.11"] } }),
  );
  const { seen, until } = await watched(source);
  expect(seen.objects.get("Node node1").internalAddresses).toEqual(["192.168.122.11"]);
  source.setOwnNode({ name: "node1", addresses: ["192.168.122.77"] });
  await until(() => seen.objects.get("Node node1").internalAddresses[0] === "192.168.122.77");
});

test("the DNS server listens before the first state is told, and answers from it", async () => {
  const directory = await temporaryDirectory();
  await writeFile(join(directory, "a.json"), JSON.stringify(service("web", { clusterIP: "10.96.7.7" })));
  const dns = { addresses: ["127.0.0.1"], clusterDomain: "cluster.local", nodeName: "node1" };
  const { seen } = await runThreaded({ paths: [directory], dns });
  const [slice] = [...seen.objects].filter(([key]) => key.startsWith("EndpointSlice kube-system/"));
  // Loopback is no endpoint, and its port is told all the same.
  expect(slice?.[1]).toMatchObject({ endpoints: [] });
  const resolver = new Resolver();
  resolver.setServers([`127.0.0.1:${slice?.[1].ports[0].port}`]);
  expect(await resolver.resolve4("web.default.svc.cluster.local")).toEqual(["10.96.7.7"]);
});

test("a state directory that is damaged, and a range that is none, are Failures as they would be on the main loop", async () => {
  const [directory, stateDir] = [await temporaryDirectory(), await temporaryDirectory()];
  await writeFile(join(stateDir, "allocations.json"), "half");
  await expect(runThreaded({ paths: [directory], stateDir })).rejects.toMatchObject({
    code: "machine",
    message: expect.stringContaining("damaged"),
  });
  await expect(runThreaded({ paths: [directory], serviceClusterIpRange: ["x"] })).rejects.toMatchObject({
    code: "usage",
  });
});

test("a thread that ends is told and started anew; what went meanwhile is taken away, and addresses stay", async () => {
  const [directory, stateDir] = [await temporaryDirectory(), await temporaryDirectory()];
  for (const name of ["a", "b"]) await writeFile(join(directory, `${name}.json`), JSON.stringify(service(name)));
  // It ends by itself once a file of that name is there, as a thread does that has no memory left.
  const url = new URL(
    `data:text/javascript,${encodeURIComponent(`
    import { existsSync, rmSync } from "node:fs";
    const mark = ${JSON.stringify(join(stateDir, "end"))};
    setInterval(() => { if (existsSync(mark)) { rmSync(mark); process.exit(1); } }, 5).unref();
    await import(${JSON.stringify(new URL("../../src/standalone/manifest-thread.ts", import.meta.url).href)});
  `)}`,
  );
  const { source, seen, until } = await runThreaded({ paths: [directory], stateDir }, url);
  const before = seen.objects.get("Service default/a").clusterIPs;
  await writeFile(join(stateDir, "end"), "");
  await until(() => source.notices().some((one) => one.reason === "thread-lost"));
  await unlink(join(directory, "b.json"));
  await until(() => !seen.objects.has("Service default/b"));
  expect(seen.objects.get("Service default/a").clusterIPs).toEqual(before);
  expect(source.notices()).toEqual([]);
});

test("what one allocates and writes out, another reads without allocating, and sees the same", async () => {
  const [directory, out] = [await temporaryDirectory(), await temporaryDirectory()];
  await writeFile(
    join(directory, "pods.json"),
    JSON.stringify({
      kind: "List",
      items: [
        pod("p", { ports: [{ containerPort: 80, hostPort: 80 }] }),
        pod("q", { ip: "10.244.1.3", labels: { app: "web" } }),
      ],
    }),
  );
  for (const file of ["13-lb-pool.yaml", "14-loadbalancer.yaml", "11-no-selector.yaml"])
    await writeFile(join(directory, file), await readFile(join(EXAMPLES, file)));
  await writeFile(join(directory, "web.json"), JSON.stringify(service("web", { type: "NodePort" })));
  const ownNode = { name: "node1", addresses: ["192.168.122.11"] };
  const { documents } = await readManifests([directory]);
  const stateDir = await temporaryDirectory();
  const { objects } = await (await cluster({ ownNode, stateDir })).reconcile(documents);
  for (const [i, object] of objects.entries()) await writeFile(join(out, `${i}.json`), JSON.stringify(object));
  const writer = await run({ paths: [directory], ownNode, stateDir });
  const reader = await run({ paths: [out], readOnly: true });
  expect(reader.source.notices()).toEqual([]);
  expect(new Map([...reader.seen.objects].sort())).toEqual(new Map([...writer.seen.objects].sort()));
  expect(reader.seen.objects.get("HostPorts default/p")).toHaveLength(1);
});

const MESH = { containers: [{ name: "main" }, { name: "istio-proxy" }] };
test.each([
  { what: "an ordinary Pod", fields: {}, expected: false },
  ...["istio-proxy", "linkerd-proxy", "kuma-sidecar", "consul-dataplane", "envoy-sidecar"].map((name) => ({
    what: `the container ${name}`,
    fields: { spec: { containers: [{ name: "main" }, { name }] } },
    expected: true,
  })),
  ...["istio-init", "linkerd-init", "istio-proxy"].map((name) => ({
    what: `the init container ${name}`,
    fields: { spec: { initContainers: [{ name }] } },
    expected: true,
  })),
  ...[
    { key: "sidecar.istio.io/status", value: "{}", expected: true },
    { key: "linkerd.io/proxy-version", value: "", expected: true },
    { key: "millrace.io/sockets", value: "bypass", expected: true },
    { key: "millrace.io/sockets", value: "all", expected: false },
  ].map(({ key, value, expected }) => ({
    what: `the annotation ${key}: "${value}"`,
    fields: { metadata: { annotations: { [key]: value } } },
    expected,
  })),
  { what: "a sandbox", fields: { spec: { runtimeClassName: "gvisor" } }, expected: true },
  { what: "an empty runtime class", fields: { spec: { runtimeClassName: "" } }, expected: false },
  { what: "a mesh Pod that finished", fields: { spec: MESH, phase: "Succeeded" }, expected: false },
  { what: "a mesh Pod that failed", fields: { spec: MESH, phase: "Failed" }, expected: false },
])("$what: its packets bypass sockets: $expected", async ({ fields, expected }) => {
  const directory = await temporaryDirectory();
  await writeFile(join(directory, "p.json"), JSON.stringify(pod("p", { node: "node2", ...fields })));
  for (const readOnly of [true, false]) {
    const { source } = await run({ paths: [directory], readOnly });
    expect(source.notices()).toEqual([]);
    expect([source.bypassesSockets("node2"), source.bypassesSockets("node1")]).toEqual([expected, false]);
  }
});

test.each([{ readOnly: true }, { readOnly: false }])(
  "a node has Pods that bypass sockets from the first of them to the last (read-only: $readOnly)",
  async ({ readOnly }) => {
    const directory = await temporaryDirectory();
    const put = (name: string, fields: Any): Promise<void> =>
      writeFile(join(directory, `${name}.json`), JSON.stringify(pod(name, fields)));
    await put("a", { spec: MESH });
    await put("b", { spec: MESH, ip: "10.244.1.3" });
    await put("c", { spec: { ...MESH, nodeName: "" }, ip: "10.244.1.4" });
    const { source, seen, until } = await run({ paths: [directory], readOnly });
    expect(source.bypassesSockets("node1")).toBe(true);
    await unlink(join(directory, "a.json"));
    await writeFile(join(directory, "mark.json"), JSON.stringify(service("mark")));
    await until(() => seen.objects.has("Service default/mark"));
    expect(source.bypassesSockets("node1")).toBe(true);
    await put("b", { spec: MESH, ip: "10.244.1.3", node: "node2" });
    await until(() => source.bypassesSockets("node2"));
    expect(source.bypassesSockets("node1")).toBe(false);
    await put("b", { spec: MESH, ip: "10.244.1.3", node: "node2", phase: "Succeeded" });
    await until(() => !source.bypassesSockets("node2"));
    await put("c", { spec: MESH, ip: "10.244.1.4" });
    await until(() => source.bypassesSockets("node1"));
  },
);

test("read-only, nothing is allocated and nothing is written", async () => {
  const [directory, stateDir] = [await temporaryDirectory(), await temporaryDirectory()];
  await writeFile(join(directory, "a.json"), JSON.stringify(service("web")));
  await writeFile(
    join(directory, "s.json"),
    JSON.stringify(slice("s", "web", { endpoints: [{ addresses: ["127.0.0.1"] }, { addresses: ["10.1.1.1"] }] })),
  );
  const { seen, source } = await run({ paths: [directory], readOnly: true, stateDir });
  expect(seen.objects.get("Service default/web").clusterIPs).toEqual([]);
  expect(await readdir(stateDir)).toEqual([]);
  // The addresses that no endpoint may have are refused here too.
  expect(source.notices()).toMatchObject([
    {
      object: "EndpointSlice default/s",
      file: join(directory, "s.json"),
      field: "endpoints[0].addresses[0]",
      reason: "endpoint-refused",
    },
  ]);
  expect(seen.objects.get("EndpointSlice default/s").endpoints).toHaveLength(1);
});

test("the first object of a name stays, whatever the file of a later one is called", async () => {
  const directory = await temporaryDirectory();
  const web = service("web", { clusterIP: "10.96.7.7" });
  await writeFile(join(directory, "web.json"), JSON.stringify(web));
  const { source, seen, until } = await run({ paths: [directory] });
  await writeFile(join(directory, "b2.json"), JSON.stringify(service("web", { clusterIP: "10.96.8.8" })));
  await until(() => source.notices().length > 0);
  expect(source.notices()).toMatchObject([
    {
      object: "Service default/web",
      file: join(directory, "b2.json"),
      reason: "duplicate-object",
      message: `metadata.name: Duplicate value: ${join(directory, "web.json")} has it, and that one counts`,
    },
  ]);
  expect(seen.objects.get("Service default/web").clusterIPs).toEqual(["10.96.7.7"]);
  // When the first goes, the other is the only one.
  await unlink(join(directory, "web.json"));
  await until(() => seen.objects.get("Service default/web").clusterIPs[0] === "10.96.8.8");
  expect(source.notices()).toEqual([]);
});

test("a field that nobody has is a warning with its place, and the object counts", async () => {
  const directory = await temporaryDirectory();
  const path = join(directory, "web.yaml");
  await writeFile(
    path,
    "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  ports:\n  - port: 80\n    targetPrt: 8080\n",
  );
  const { source, seen } = await run({ paths: [directory] });
  expect(source.notices()).toMatchObject([
    {
      object: "Service default/web",
      file: `${path}:7:5`,
      field: "spec.ports[0].targetPrt",
      reason: "unknown-field",
      message: 'unknown field "spec.ports[0].targetPrt"; did you mean targetPort?',
      severity: "warning",
    },
  ]);
  expect(seen.objects.has("Service default/web")).toBe(true);
});
