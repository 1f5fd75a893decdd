// What an agent writes: ServiceL2Status objects that follow what is announced, events that are counted; never faster than it may,
// whatever the API does.
import { describe, expect, it, onTestFinished } from "vitest";
import { statusName } from "../../src/kube/service-statuses.ts";
import { createWrites, EVENT_RATE, STATUS_RATE, type Writes } from "../../src/kube/writes.ts";
import type { Node } from "../../src/model/objects.ts";
import type { ObjectReport } from "../../src/model/source.ts";
import { node } from "../flows/builders.ts";
import { createManualClock, type ManualClock, settled } from "./manual-clock.ts";
import type { Json } from "./objects.ts";
import { createWritableApi, type WritableApi } from "./writable-api.ts";

const STATUSES = "/apis/metallb.io/v1beta1/namespaces/kube-system/servicel2statuses";
const EVENTS = "/api/v1/namespaces/default/events";

interface Setup {
  readonly api: WritableApi;
  readonly clock: ManualClock;
  readonly writes: Writes;
  /** "node service interfaces" of each object. */
  statuses(): string[];
  /** "reason count" of each event. */
  events(): string[];
  /** Turns the clock until nothing waits; gives the seconds that it took. */
  drain(withinMs?: number): Promise<number>;
}

function statusText({ metadata, status }: Json): string {
  const labels = (metadata as Json)["labels"] as Json;
  const { node: name, serviceName, serviceNamespace, interfaces } = (status ?? {}) as Json;
  const devices = ((interfaces ?? []) as Json[]).map((one) => one["name"]).join();
  expect([labels["metallb.io/service-namespace"], labels["metallb.io/service-name"]]).toEqual([
    serviceNamespace,
    serviceName,
  ]);
  expect(labels["metallb.io/node"]).toBe(name);
  return `${name} ${serviceNamespace}/${serviceName} ${devices}`;
}

function start(api = createWritableApi(), nodeName = "node1"): Setup {
  const clock = createManualClock();
  const stop = new AbortController();
  onTestFinished(() => stop.abort());
  const writes = createWrites({
    ...{ nodeName, namespace: "kube-system", transport: api, clock, random: () => 0.5, signal: stop.signal },
    onChange() {},
  });
  const under = (path: string): Json[] =>
    [...api.objects].flatMap(([key, one]) => (key.startsWith(`${path}/`) ? [one] : []));
  return {
    ...{ api, clock, writes },
    statuses: () => under(STATUSES).map(statusText).sort(),
    events: () =>
      under(EVENTS)
        .map((one) => `${one["reason"]} ${one["count"]}`)
        .sort(),
    async drain(withinMs = 3_600_000) {
      const began = clock.now();
      await settled();
      while (writes.pending() > 0 && clock.now() - began < withinMs) await clock.advance(1_000);
      expect(writes.pending(), "still waiting").toBe(0);
      return (clock.now() - began) / 1000;
    },
  };
}

function addService(api: WritableApi, name: string): void {
  api.objects.set(`/api/v1/namespaces/default/services/${name}`, {
    metadata: { name, namespace: "default", uid: `uid-${name}` },
  });
}

const on = (service: string, ...interfaces: string[]) => ({ service: `default/${service}`, interfaces });
const many = (count: number) => Array.from({ length: count }, (_, i) => on(`s${i}`, "eth0"));
const alive = (number: number, over: Partial<Node> = {}) => {
  const content = node(number, over);
  return { kind: "Node", key: content.name, content } as const;
};
const report = (over: Partial<ObjectReport> = {}): ObjectReport => ({
  ...{ kind: "Service", key: "default/web", reason: "AddressInUse", message: "192.0.2.1 is in use", type: "Warning" },
  ...over,
});

describe("the statuses of what a node announces", () => {
  it("come, change and go with it, one for each Service", async () => {
    const { api, writes, statuses, drain } = start();
    writes.announced([on("web", "eth0"), on("db", "eth1", "eth0")]);
    await drain();
    expect(statuses()).toEqual(["node1 default/db eth0,eth1", "node1 default/web eth0"]);
    writes.announced([on("web", "eth2"), on("db", "eth0", "eth1")]);
    await drain();
    expect(statuses()).toEqual(["node1 default/db eth0,eth1", "node1 default/web eth2"]);
    writes.announced([on("db", "eth0", "eth1")]);
    await drain();
    expect(statuses()).toEqual(["node1 default/db eth0,eth1"]);
    expect(api.requests.filter((one) => one.startsWith("PATCH"))).toHaveLength(3);
  });

  it("of an agent before are taken over as they are, and its leftovers go, but only once this one announces", async () => {
    const before = start();
    addService(before.api, "web");
    before.writes.announced([on("web", "eth0"), on("old", "eth0")]);
    await before.drain();
    before.api.objects.set(`${STATUSES}/l2-strange`, {
      metadata: {
        name: "l2-strange",
        labels: {
          "metallb.io/node": "node1",
          "metallb.io/service-name": "web",
          "metallb.io/service-namespace": "default",
        },
      },
      status: { node: "node1", serviceName: "web", serviceNamespace: "default" },
    });
    before.api.requests.length = 0;
    const { api, clock, writes, statuses, drain } = start(before.api);
    await clock.advance(30_000);
    expect(api.requests, "nothing is known of what is announced").toEqual([]);
    writes.announced([on("web", "eth0")]);
    await drain();
    expect(statuses()).toEqual(["node1 default/web eth0"]);
    expect(api.requests.map((one) => one.split(" ")[0])).toEqual(["GET", "DELETE", "DELETE"]);
  });

  it("that a dead node has left of the same Services are deleted; those of a live one, and of other Services, stay", async () => {
    const api = createWritableApi();
    for (const [name, services] of [
      ["node2", ["web", "other"]],
      ["node3", ["web"]],
    ] as const) {
      const other = start(api, name);
      other.writes.announced(services.map((one) => on(one, "eth0")));
      await other.drain();
    }
    const { clock, writes, statuses, drain } = start(api);
    for (const number of [1, 2, 3]) writes.takeNode(alive(number));
    writes.announced([on("web", "eth0")]);
    await clock.advance(15_000);
    await drain();
    expect(statuses()).toHaveLength(4);
    writes.takeNode(alive(2, { ready: false }));
    await clock.advance(15_000);
    await drain();
    expect(statuses()).toEqual(["node1 default/web eth0", "node2 default/other eth0", "node3 default/web eth0"]);
    writes.takeNode({ kind: "Node", key: "node3", content: undefined });
    await clock.advance(15_000);
    await drain();
    expect(statuses()).toEqual(["node1 default/web eth0", "node2 default/other eth0"]);
  });

  it("of others stay while no Node is known: the list of them may still be to come", async () => {
    const api = createWritableApi();
    const other = start(api, "node2");
    other.writes.announced([on("web", "eth0")]);
    await other.drain();
    const { clock, writes, statuses } = start(api);
    writes.announced([on("web", "eth0")]);
    await clock.advance(60_000);
    expect(statuses()).toEqual(["node1 default/web eth0", "node2 default/web eth0"]);
    writes.takeNode(alive(1));
    await clock.advance(60_000);
    expect(statuses()).toEqual(["node1 default/web eth0"]);
  });

  it("that somebody deletes come again", async () => {
    const { api, clock, writes, statuses, drain } = start();
    writes.announced([on("web", "eth0")]);
    await drain();
    api.objects.delete(`${STATUSES}/${statusName("node1", "default/web")}`);
    writes.announced([on("web", "eth1")]);
    await drain();
    expect(statuses()).toEqual(["node1 default/web eth1"]);
    api.objects.clear();
    await clock.advance(600_000);
    await drain();
    expect(statuses()).toEqual(["node1 default/web eth1"]);
  });

  it.each([
    {
      name: "the answer of the creation is lost",
      fault: (request: string) => (request.startsWith("POST") ? "lost" : undefined),
    },
    {
      name: "the answer of the status is lost",
      fault: (request: string) => (request.startsWith("PATCH") ? "lost" : undefined),
    },
    { name: "the API is away", fault: () => "no answer" },
    { name: "the API fails", fault: () => 500 },
    { name: "the API asks to wait", fault: () => 429 },
    { name: "a write conflicts", fault: (request: string) => (request.startsWith("PATCH") ? 409 : undefined) },
    {
      name: "the right to create is missing",
      fault: (request: string) => (request.startsWith("POST") ? 403 : undefined),
    },
  ] as readonly { name: string; fault: WritableApi["fault"] }[])(
    "are right in the end when $name, each object once",
    async ({ fault }) => {
      const setup = start();
      const { api, clock, writes } = setup;
      api.fault = fault;
      writes.announced([on("web", "eth0"), on("db", "eth0")]);
      await clock.advance(20_000);
      // A creation whose answer is lost is made good by the next write.
      expect(writes.problems()).toHaveLength(
        api.requests.some((one) => one.startsWith("PATCH")) && fault("PATCH") === undefined ? 0 : 1,
      );
      writes.announced([on("web", "eth1")]);
      await clock.advance(20_000);
      api.fault = () => undefined;
      await setup.drain();
      expect(setup.statuses()).toEqual(["node1 default/web eth1"]);
      expect(writes.problems()).toEqual([]);
    },
  );

  it("that fail are asked again ever more rarely", async () => {
    const { api, clock, writes } = start();
    api.fault = () => 500;
    writes.announced(many(100));
    await clock.advance(600_000);
    expect(api.requests.length).toBeGreaterThan(20);
    expect(api.requests.length).toBeLessThan(60);
  });

  it("are none where the server has no such resource, and nothing is said against it", async () => {
    const setup = start();
    setup.api.absent.add("servicel2statuses");
    addService(setup.api, "web");
    setup.writes.announced([on("web", "eth0")]);
    await setup.drain();
    expect(setup.writes.problems()).toEqual([]);
    expect(setup.events(), "the event comes nevertheless").toEqual(["nodeAssigned 1"]);
  });

  it("of 1,000 addresses that fail over are written at a bounded rate, and once, however often they move meanwhile", async () => {
    const api = createWritableApi();
    for (const { service } of many(1_000)) {
      const [serviceNamespace, serviceName] = service.split("/") as [string, string];
      addService(api, serviceName);
      const name = statusName("node2", service);
      const labels = {
        "metallb.io/node": "node2",
        "metallb.io/service-name": serviceName,
        "metallb.io/service-namespace": serviceNamespace,
      };
      const status = { node: "node2", serviceName, serviceNamespace, interfaces: [{ name: "eth0" }] };
      api.objects.set(`${STATUSES}/${name}`, { metadata: { name, labels }, status });
    }
    const { clock, writes, statuses, events, drain } = start(api);
    for (const number of [1, 2]) writes.takeNode(alive(number));
    writes.announced([]);
    await drain();
    writes.takeNode(alive(2, { ready: false }));
    for (let i = 0; i < 20; i++) {
      writes.announced(i % 2 === 0 ? many(1_000) : []);
      await clock.advance(100);
    }
    writes.announced(many(1_000));
    await clock.advance(1_000);
    const most = EVENT_RATE.burst + STATUS_RATE.burst + 4 * (EVENT_RATE.perSecond + STATUS_RATE.perSecond);
    expect(api.requests.length).toBeLessThanOrEqual(most);
    let seconds = 0;
    for (let last = -1; api.requests.length !== last; ) {
      last = api.requests.length;
      await clock.advance(20_000);
      seconds += 20 + (await drain());
    }
    expect(statuses()).toEqual(
      many(1_000)
        .map(({ service }) => `node1 ${service} eth0`)
        .sort(),
    );
    expect(events()).toHaveLength(1_000);
    const count = (method: string, path: string): number =>
      api.requests.filter((one) => one.startsWith(`${method} `) && one.includes(path)).length;
    const wrote = ["POST", "PATCH", "DELETE"].map((method) => count(method, "servicel2statuses"));
    expect(wrote[2]).toBeGreaterThanOrEqual(1_000);
    expect(wrote.reduce((a, b) => a + b)).toBeLessThan(3_300);
    process.stdout.write(
      `1,000 addresses failed over: ServiceL2Status ${wrote[0]} POST, ${wrote[1]} PATCH, ${wrote[2]} DELETE; ` +
        `events ${count("POST", "events")} POST and as many reads; ${api.requests.length} requests in ${Math.round(seconds)} s\n`,
    );
  });
});

describe("events", () => {
  it("are about an object by its uid, and tell of the node", async () => {
    const { api, writes, drain } = start();
    addService(api, "web");
    writes.report(report());
    await drain();
    const [event] = [...api.objects].flatMap(([key, one]) => (key.startsWith(EVENTS) ? [one] : []));
    expect(event).toMatchObject({
      kind: "Event",
      metadata: { namespace: "default" },
      involvedObject: { apiVersion: "v1", kind: "Service", namespace: "default", name: "web", uid: "uid-web" },
      ...{ reason: "AddressInUse", message: "192.0.2.1 is in use", type: "Warning", count: 1 },
      source: { component: "millrace", host: "node1" },
      firstTimestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
    });
  });

  it("of an IPAddressPool name its API", async () => {
    const { api, writes, drain } = start();
    api.objects.set("/apis/metallb.io/v1beta1/namespaces/metallb-system/ipaddresspools/lan", {
      metadata: { name: "lan", namespace: "metallb-system", uid: "uid-lan" },
    });
    writes.report(report({ kind: "IPAddressPool", key: "metallb-system/lan", reason: "PoolCoversReserved" }));
    await drain();
    const [event] = [...api.objects.values()].filter(({ kind }) => kind === "Event");
    expect(event).toMatchObject({
      involvedObject: { apiVersion: "metallb.io/v1beta1", kind: "IPAddressPool", uid: "uid-lan" },
    });
  });

  it("that come again are counted on the one that there is, once a minute at most", async () => {
    const { api, clock, writes, events, drain } = start();
    addService(api, "web");
    for (let i = 0; i < 100; i++) {
      writes.report(report());
      await clock.advance(100);
    }
    expect(events()).toEqual(["AddressInUse 1"]);
    await clock.advance(60_000);
    await drain();
    expect(events()).toEqual(["AddressInUse 100"]);
    expect(api.requests.map((one) => one.split(" ")[0])).toEqual(["GET", "POST", "PATCH"]);
  });

  it("that the API has forgotten are made anew", async () => {
    const { api, clock, writes, events, drain } = start();
    addService(api, "web");
    writes.report(report());
    await drain();
    for (const key of [...api.objects.keys()]) if (key.startsWith(EVENTS)) api.objects.delete(key);
    await clock.advance(120_000);
    writes.report(report());
    await drain();
    expect(events()).toEqual(["AddressInUse 2"]);
  });

  it("about an object that is gone are none", async () => {
    const { writes, events, drain } = start();
    writes.report(report());
    await drain();
    expect(events()).toEqual([]);
  });

  it("whose answer is lost are not doubled", async () => {
    const { api, clock, writes, events, drain } = start();
    addService(api, "web");
    api.fault = (request) => (request.startsWith("POST") ? "lost" : undefined);
    writes.report(report());
    await clock.advance(5_000);
    api.fault = () => undefined;
    await drain();
    expect(events()).toEqual(["AddressInUse 1"]);
  });

  it("without the right to write them are said to be missing it, and hold nothing up", async () => {
    const { api, clock, writes, statuses } = start();
    addService(api, "web");
    api.fault = (request) => (request.includes("/events") ? 403 : undefined);
    writes.report(report());
    writes.announced([on("web", "eth0")]);
    await clock.advance(1_000);
    expect(statuses()).toEqual(["node1 default/web eth0"]);
    expect(writes.problems().map(({ reason, message }) => `${reason}: ${message.split(":")[0]}`)).toEqual([
      "forbidden: cannot create events in the core API group in namespace default",
    ]);
  });

  it("of a storm that finds no room are counted and said", async () => {
    const { api, clock, writes, drain } = start();
    api.fault = () => "no answer";
    for (let i = 0; i < 5_000; i++) writes.report(report({ key: `default/s${i}` }));
    await clock.advance(1_000);
    expect(writes.problems().map(({ message }) => message)).toContainEqual(
      expect.stringMatching(/^\d+ events found no room and are lost$/),
    );
    api.fault = () => undefined;
    await drain();
  });
});
