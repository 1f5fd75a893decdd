// The API as `millrace doctor` meets it: an API server over HTTP, of which parts fail.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { type ApiExamination, aheadMs, type ExaminationOptions, examineApi } from "../../src/kube/api-examination.ts";
import { FakeApiServer, type FakeApiServerOptions } from "../fakes/api-server/fake-api-server.ts";
import type { KubernetesObject } from "../fakes/api-server/object-store.ts";
import { service, slice } from "./objects.ts";

const object = (kind: string, fields: Record<string, unknown>): KubernetesObject =>
  ({ kind, ...fields }) as unknown as KubernetesObject;

const NODE = object("Node", {
  metadata: { name: "node1", labels: { zone: "a" } },
  spec: { providerID: "kind://docker/x/node1" },
  status: { addresses: [{ type: "InternalIP", address: "192.168.122.11" }] },
});
const WEB = [object("Service", service("web")), object("EndpointSlice", slice("web-1", { addresses: ["10.244.1.5"] }))];

async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "millrace-doctor-api-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

async function serve(options: FakeApiServerOptions = {}, objects: readonly KubernetesObject[] = [NODE, ...WEB]) {
  const server = new FakeApiServer(options);
  server.put(...objects);
  await server.start();
  onTestFinished(() => server[Symbol.asyncDispose]());
  return server;
}

async function examine(
  server: FakeApiServer | undefined,
  given: Partial<ExaminationOptions> = {},
): Promise<ApiExamination> {
  return examineApi({
    ...(server === undefined ? {} : { apiServer: server.url }),
    ...{ stateDir: await temporaryDirectory(), nodeName: "node1", namespace: "kube-system" },
    ...{ signal: AbortSignal.timeout(60_000), env: {}, serviceAccount: "/nowhere" },
    ...given,
  });
}

it("everything is learnt from a server that answers, and nothing is changed there", async () => {
  const server = await serve();
  const found = await examine(server);
  expect(found.ways).toMatchObject([{ server: new URL(server.url).host, origin: "--apiserver", problem: "" }]);
  expect(found).toMatchObject({ noWay: "", version: "v1.34.1", clockAheadMs: 0 });
  expect(found.latencyMs).toBeGreaterThan(0);
  expect(found.node).toMatchObject({ spec: { providerID: "kind://docker/x/node1" } });
  expect(found.rights.length).toBeGreaterThan(10);
  expect(found.rights.filter(({ allowed }) => allowed !== true)).toEqual([]);
  expect(found.objects.events.map(({ kind, key }) => `${kind} ${key}`).sort()).toEqual([
    "EndpointSlice default/web-1",
    "Node node1",
    "Service default/web",
  ]);
  expect(found.objects).toMatchObject({ complete: true, absent: [], notices: [] });
  const wrote = server.requests.filter(
    ({ verb, path }) => !["get", "list"].includes(verb) && !path.includes("selfsubject"),
  );
  expect(wrote).toEqual([]);
});

it("rights that are lacking are told one by one, and what they keep from being read", async () => {
  const rules = [{ verbs: ["list", "watch"], resources: ["services", "nodes", "servicecidrs"] }];
  const server = await serve({ access: { tokens: { secret: "agent" }, anonymous: true, rules: [...rules] } });
  const found = await examine(server, await withToken(server, "secret"));
  const denied = found.rights
    .filter(({ allowed }) => allowed === false)
    .map(({ right, verb }) => `${verb} ${right.resource}`);
  expect(denied).toContain("list endpointslices");
  expect(denied).toContain("patch servicel2statuses/status");
  expect(denied).not.toContain("list services");
  expect(found.objects.complete).toBe(false);
  expect(found.objects.notices.map(({ reason, severity }) => `${severity} ${reason}`).sort()).toEqual([
    "error forbidden",
    "warning forbidden",
    "warning forbidden",
  ]);
  expect(found.objects.notices[0]!.message).toContain("cannot list endpointslices");
});

it("credentials that are not accepted are the server's problem, said once", async () => {
  const server = await serve({ access: { tokens: { secret: "agent" } } });
  const found = await examine(server, await withToken(server, "wrong"));
  expect(found.ways).toMatchObject([{ problem: "it does not accept our credentials; renew them" }]);
  expect(found).toMatchObject({ version: "", rights: [], node: undefined });
});

it("each server is asked by itself, and the first that answers is looked at", async () => {
  const server = await serve();
  const gone = await serve();
  await gone.stop();
  const { port } = new URL(server.url);
  const env = { KUBERNETES_SERVICE_HOST: "127.0.0.1", KUBERNETES_SERVICE_PORT: port };
  const found = await examine(gone, { env });
  expect(found.ways.map(({ origin }) => origin)).toEqual(["--apiserver", "KUBERNETES_SERVICE_HOST"]);
  expect(found.ways[0]!.problem).toContain("it refuses connections");
  // The fake speaks HTTP, and a ClusterIP is asked by TLS.
  expect(found.ways[1]!.problem).toContain("it does not speak TLS on this port");
  expect(found.version).toBe("");
});

it("without a word of where the API is, that is said", async () => {
  const found = await examine(undefined);
  expect(found).toMatchObject({ ways: [], version: "" });
  expect(found.noWay).toContain("could not find the API server: give --apiserver or --kubeconfig");
});

it("a server without MetalLB's resources lacks them, and is whole", async () => {
  const found = await examine(await serve({ metallb: false, serviceCidrs: false }));
  expect(found.objects.absent.slice().sort()).toEqual(["ipaddresspools", "l2advertisements", "servicecidrs"]);
  expect(found.objects.complete).toBe(true);
});

it("objects that cannot be used are told by field", async () => {
  const bad = object("Service", {
    ...service("bad"),
    spec: { ...(service("bad") as { spec: object }).spec, ports: [{ port: 70000 }] },
  });
  const found = await examine(await serve({}, [NODE, bad]));
  expect(found.objects.notices).toMatchObject([
    { object: "Service default/bad", field: "spec.ports[0].port", severity: "error" },
  ]);
});

it("a server that hangs costs its time and no more", async () => {
  const server = await serve();
  server.faults.set([{ fault: { kind: "hang" } }]);
  const began = performance.now();
  const found = await examine(server, { requestMs: 300 });
  expect(found.ways[0]!.problem).toContain("did not answer within 0.3 s");
  expect(performance.now() - began).toBeLessThan(20_000);
});

it("lists of many pages are read whole", { timeout: 60_000 }, async () => {
  const many = Array.from({ length: 1_203 }, (_, i) => object("Service", service(`web-${i}`)));
  const found = await examine(await serve({}, [NODE, ...many]));
  expect(found.objects.events.filter(({ kind }) => kind === "Service")).toHaveLength(1_203);
});

it.each([
  ["a second that fits", 10_000, 10_200, 10_300, 0],
  ["a second that ends before the question", 8_000, 10_200, 10_300, -1_200],
  ["a second that begins after the answer", 12_000, 10_200, 10_300, 1_700],
] as const)("the server's clock: %s", (_name, date, asked, answered, ahead) => {
  expect(aheadMs(date, asked, answered)).toBe(ahead);
});

async function withToken(server: FakeApiServer, token: string): Promise<Partial<ExaminationOptions>> {
  const { writeFile } = await import("node:fs/promises");
  const kubeconfig = join(await temporaryDirectory(), "kubeconfig");
  const config = {
    ...{ apiVersion: "v1", kind: "Config", "current-context": "x" },
    clusters: [{ name: "x", cluster: { server: server.url } }],
    users: [{ name: "x", user: { token } }],
    contexts: [{ name: "x", context: { cluster: "x", user: "x" } }],
  };
  await writeFile(kubeconfig, JSON.stringify(config));
  return { kubeconfig };
}
