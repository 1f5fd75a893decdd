// Beside a MetalLB that runs the controller gives nothing, says so, and begins when it is gone; what was given stays as it is.
import { expect, test } from "vitest";
import type { Stored } from "./fake-cluster.ts";
import { advertisement, type Harness, harness, pool, service } from "./objects.ts";

const LOOK_MS = 5_000;

/** As MetalLB's manifests have them. */
function metallbController(more: Record<string, unknown> = {}): Stored {
  return {
    metadata: { name: "controller", namespace: "metallb-system", labels: { app: "metallb", component: "controller" } },
    spec: { replicas: 1, template: { spec: { containers: [{ image: "quay.io/metallb/controller:v0.16.0" }] } } },
    ...more,
  };
}

function metallbSpeaker(pods: number): Stored {
  return {
    metadata: { name: "speaker", namespace: "metallb-system", labels: { app: "metallb", component: "speaker" } },
    spec: { template: { spec: { containers: [{ image: "quay.io/metallb/speaker:v0.16.0" }] } } },
    status: { desiredNumberScheduled: pods },
  };
}

const given = (name: string, ip: string): Stored => ({
  ...service(name, {}, { annotations: { "metallb.io/ip-allocated-from-pool": "p" } }),
  status: { loadBalancer: { ingress: [{ ip }] } },
});

const state = ({ cluster }: Harness) => cluster.get("configurationstates", "kube-system/controller")?.["status"];
const statusWrites = ({ cluster }: Harness): string[] =>
  cluster.writes.filter((one) => /services\/status|ipaddresspools/.test(one));

function withMetallb(): Harness {
  const found = harness();
  found.cluster.put("ipaddresspools", pool("p", ["192.0.2.10-192.0.2.12"]));
  found.cluster.put("l2advertisements", advertisement("l2"));
  found.cluster.put("services", given("old", "192.0.2.10"));
  found.cluster.put("services", service("new"));
  found.cluster.put("deployments", metallbController());
  found.cluster.put("daemonsets", metallbSpeaker(3));
  return found;
}

const MESSAGE =
  /^no address is given while MetalLB runs \(DaemonSet metallb-system\/speaker, Deployment metallb-system\/controller\): .*--beside-metallb/;

test("while MetalLB runs no address is given, and its log, status, ConfigurationState and one event say why", async () => {
  const found = withMetallb();
  const { controller } = found.start();
  await found.clock.advance(180_000);
  expect(found.addresses("default/new")).toEqual([]);
  expect(found.addresses("default/old")).toEqual(["192.0.2.10"]);
  expect(statusWrites(found)).toEqual([]);
  expect(controller.view()).toMatchObject({
    leads: true,
    term: undefined,
    waitsFor: ["DaemonSet metallb-system/speaker", "Deployment metallb-system/controller"],
    problems: [expect.stringMatching(MESSAGE)],
  });
  expect(state(found)).toMatchObject({
    result: "Invalid",
    errorSummary: expect.stringMatching(MESSAGE),
    conditions: [{ status: "False", reason: "MetalLBRuns" }],
  });
  expect(found.cluster.list("events")).toMatchObject([
    {
      reason: "MetalLBRuns",
      count: 1,
      involvedObject: { apiVersion: "apps/v1", kind: "DaemonSet", namespace: "metallb-system", name: "speaker" },
    },
  ]);
  // What the agents prove to each other that they live by is not MetalLB's.
  expect(found.cluster.get("secrets", "kube-system/millrace-announcer")).toBeDefined();
});

test("it begins within ten seconds when MetalLB is gone, and keeps what MetalLB gave, without a write", async () => {
  const found = withMetallb();
  const { controller } = found.start();
  await found.clock.advance(60_000);
  found.cluster.put("services", given("later", "192.0.2.11"));
  found.cluster.remove("deployments", "metallb-system/controller");
  await found.clock.advance(10_000);
  // The speakers announce still.
  expect(found.addresses("default/new")).toEqual([]);
  expect(controller.view().waitsFor).toEqual(["DaemonSet metallb-system/speaker"]);
  found.cluster.put("daemonsets", metallbSpeaker(0));
  await found.clock.advance(10_000);
  expect(found.addresses("default/new")).toEqual(["192.0.2.12"]);
  expect([found.addresses("default/old"), found.addresses("default/later")]).toEqual([["192.0.2.10"], ["192.0.2.11"]]);
  expect(statusWrites(found).filter((one) => one.includes("services"))).toEqual([
    "PATCH services/status default/new 200",
  ]);
  expect(controller.view()).toMatchObject({ waitsFor: [], problems: [], term: { synced: true } });
  expect(state(found)).toMatchObject({ result: "Valid", errorSummary: "" });
});

test("a MetalLB that comes later has it give nothing more; what was given stays, and what MetalLB gives meanwhile", async () => {
  const found = harness();
  found.cluster.put("ipaddresspools", pool("p", ["192.0.2.10-192.0.2.13"]));
  found.cluster.put("services", service("first"));
  const { controller } = found.start();
  await found.clock.advance(3_000);
  expect(found.addresses("default/first")).toEqual(["192.0.2.10"]);
  found.cluster.put("deployments", metallbController());
  await found.clock.advance(LOOK_MS + 100);
  expect(controller.view().waitsFor).toEqual(["Deployment metallb-system/controller"]);
  const written = statusWrites(found).length;
  found.cluster.put("services", service("second"));
  await found.clock.advance(60_000);
  expect(found.addresses("default/second")).toEqual([]);
  expect(found.addresses("default/first")).toEqual(["192.0.2.10"]);
  expect(statusWrites(found)).toHaveLength(written);
  found.cluster.put("services", {
    ...found.cluster.get("services", "default/second")!,
    ...given("second", "192.0.2.13"),
  });
  found.cluster.put("deployments", metallbController({ spec: { replicas: 0 } }));
  found.cluster.put("services", service("third"));
  await found.clock.advance(10_000);
  expect(["first", "second", "third"].map((name) => found.addresses(`default/${name}`))).toEqual([
    ["192.0.2.10"],
    ["192.0.2.13"],
    ["192.0.2.11"],
  ]);
});

test("it is known by its image alone too, at the start, and looked for where it was found", async () => {
  const found = harness();
  found.cluster.put("ipaddresspools", pool("p", ["192.0.2.10-192.0.2.12"]));
  found.cluster.put("services", service("a"));
  found.cluster.put("deployments", { ...metallbController(), metadata: { name: "lb", namespace: "x" } });
  const { controller } = found.start();
  await found.clock.advance(60_000);
  expect(controller.view().waitsFor).toEqual(["Deployment x/lb"]);
  found.cluster.remove("deployments", "x/lb");
  await found.clock.advance(10_000);
  expect(found.addresses("default/a")).toEqual(["192.0.2.10"]);
});

test.each([
  ["for Services of a class", { loadBalancerClass: "a.b/c" }, { loadBalancerClass: "a.b/c" }],
  ["when it is told to", { besideMetallb: true }, {}],
])("it gives beside MetalLB %s, and does not look", async (_, options, spec) => {
  const found = withMetallb();
  found.cluster.put("services", service("mine", spec));
  const { client } = found.start(options);
  const paths: string[] = [];
  const { send } = client;
  client.send = (demand, path, more) => {
    paths.push(path);
    return send(demand, path, more);
  };
  await found.clock.advance(10_000);
  expect(found.addresses("default/mine")).toHaveLength(1);
  expect(paths.filter((path) => path.includes("/apps/"))).toEqual([]);
});

/** Answers the looks of a client so, until it is told otherwise. */
function answering(client: { send: ReturnType<Harness["start"]>["client"]["send"] }, status: () => number): void {
  const { send } = client;
  client.send = async (demand, path, options) => {
    const isLook = path.startsWith("/apis/apps/") && status() !== 200;
    if (!isLook) return send(demand, path, options);
    const body = Buffer.from(JSON.stringify({ kind: "Status", code: status(), message: "as the test has it" }));
    return {
      status: status(),
      headers: {},
      body: (async function* () {
        yield body;
      })(),
    };
  };
}

test("with the rights of before it gives addresses, and says that it may not look", async () => {
  const found = withMetallb();
  const { controller } = found.start({}, (client) => answering(client, () => 403));
  await found.clock.advance(5_000);
  expect(found.addresses("default/new")).toEqual(["192.0.2.11"]);
  expect(controller.view().problems).toEqual([
    "could not look whether MetalLB runs: could not list deployments: as the test has it (403)",
  ]);
});

test("it gives nothing before it could look", async () => {
  const found = harness();
  found.cluster.put("ipaddresspools", pool("p", ["192.0.2.10-192.0.2.12"]));
  found.cluster.put("services", service("a"));
  let status = 500;
  const { controller } = found.start({}, (client) => answering(client, () => status));
  await found.clock.advance(30_000);
  expect(found.addresses("default/a")).toEqual([]);
  expect(controller.view().problems.join()).toContain("could not look whether MetalLB runs");
  status = 200;
  await found.clock.advance(3_000);
  expect(found.addresses("default/a")).toEqual(["192.0.2.10"]);
  // An API that is away later takes nothing back.
  status = 500;
  found.cluster.put("services", service("b"));
  await found.clock.advance(30_000);
  expect(found.addresses("default/b")).toEqual(["192.0.2.11"]);
});

test("told to go while it waits, it goes at once, and the other one waits too", async () => {
  const found = withMetallb();
  const first = found.start();
  const second = found.start();
  await found.clock.advance(30_000);
  const [leader, other] = first.controller.view().leads ? [first, second] : [second, first];
  leader.stop();
  await found.clock.advance(1_000);
  await leader.ended;
  await found.clock.advance(5_000);
  expect(other.controller.view()).toMatchObject({ leads: true, waitsFor: [expect.anything(), expect.anything()] });
  expect(found.addresses("default/new")).toEqual([]);
});
