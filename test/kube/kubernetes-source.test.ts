// The whole way: an API server over HTTP, the thread that reads it, the events that the agent gets.
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { createKubernetesSource, type KubernetesSource } from "../../src/kube/kubernetes-source.ts";
import type { WorkerOptions } from "../../src/kube/worker-messages.ts";
import type { Notice, ObjectEvent } from "../../src/model/objects.ts";
import { ClusterObjects } from "../fakes/api-server/cluster-objects.ts";
import { FakeApiServer, type FakeApiServerOptions } from "../fakes/api-server/fake-api-server.ts";
import type { KubernetesObject } from "../fakes/api-server/object-store.ts";
import { isRunning } from "../is-running.ts";
import { writeKubeconfig, writeScript } from "./kubeconfig-file.ts";
import { advertisement, pool, service, slice } from "./objects.ts";

interface Batch {
  readonly events: readonly ObjectEvent[];
  readonly synced: boolean;
}

interface Running {
  readonly source: KubernetesSource;
  readonly batches: readonly Batch[];
  /** What there is after all events: "Kind key", EndpointSlices with their addresses. */
  state(): string[];
  until(holds: () => boolean, withinMs?: number): Promise<void>;
}

async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "millrace-kube-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

async function serve(
  options: FakeApiServerOptions = {},
  objects: readonly KubernetesObject[] = [],
): Promise<FakeApiServer> {
  const server = new FakeApiServer(options);
  server.put(...objects);
  await server.start();
  onTestFinished(() => server[Symbol.asyncDispose]());
  return server;
}

function describeEvent({ kind, object }: ObjectEvent): string {
  if (kind !== "EndpointSlice" || object === undefined) return "";
  return ` ${[...object.endpoints].map(({ addresses }) => addresses.join()).join(" ")}`;
}

async function run(server: FakeApiServer, options: Partial<WorkerOptions> = {}, thread?: URL): Promise<Running> {
  const batches: Batch[] = [];
  const state = new Map<string, string>();
  let wake = (): void => {};
  const settings: WorkerOptions = {
    apiServer: server.url,
    stateDir: await temporaryDirectory(),
    ...{ trustLists: false, nodeName: "node1", namespace: "kube-system" },
    ...options,
  };
  const source = createKubernetesSource(settings, thread);
  onTestFinished(() => source.stop());
  await source.start((events, _, synced) => {
    batches.push({ events, synced });
    for (const event of events) {
      const id = `${event.kind} ${event.key}`;
      if (event.object === undefined) state.delete(id);
      else state.set(id, describeEvent(event));
    }
    wake();
  });
  return {
    source,
    batches,
    state: () => [...state].map(([id, text]) => `${id}${text}`).sort(),
    async until(holds, withinMs = 10_000) {
      const deadline = Date.now() + withinMs;
      while (!holds()) {
        if (Date.now() > deadline)
          throw new Error(`not within ${withinMs} ms; ${state.size} objects, ${reasons(source.notices()).join()}`);
        // Notices and statistics come without an event.
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, 20);
          wake = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
    },
  };
}

function object(kind: string, fields: Record<string, unknown>): KubernetesObject {
  return { kind, ...fields } as unknown as KubernetesObject;
}

const WEB = [object("Service", service("web")), object("EndpointSlice", slice("web-1", { addresses: ["10.244.1.5"] }))];
const WEB_STATE = ["EndpointSlice default/web-1 10.244.1.5", "Service default/web"];

function reasons(notices: readonly Notice[]): string[] {
  return notices.map(({ reason }) => reason).sort();
}

const statsOf = (source: KubernetesSource, name: string) =>
  source.api()?.resources.find(({ resource }) => resource === name);

describe("the API as a source", () => {
  it.each(["served", "refused", "ignored", "unsupported"] as const)(
    "delivers everything there is before it says so, from a server where streaming lists are %s",
    { timeout: 60_000 },
    async (streamingLists) => {
      const cluster = new ClusterObjects({ services: 120, endpoints: 30, nodes: 4, dualStack: true });
      const server = await serve({ streamingLists }, [...cluster.all()]);
      const running = await run(server);
      await running.until(() => running.source.status().synced, 45_000);
      const kinds = running.state().map((line) => line.split(" ")[0]);
      const count = (kind: string): number => kinds.filter((one) => one === kind).length;
      expect([count("Service"), count("EndpointSlice"), count("Node"), count("ServiceCIDR")]).toEqual([120, 240, 4, 1]);
      const firstSynced = running.batches.findIndex(({ synced }) => synced);
      expect(firstSynced).toBe(running.batches.length - 1);
      for (const { events } of running.batches) {
        const endpoints = events.reduce(
          (sum, event) => sum + (event.kind === "EndpointSlice" ? (event.object?.endpoints.length ?? 0) : 0),
          0,
        );
        expect(endpoints).toBeLessThanOrEqual(1_000);
      }
      expect(running.source.notices()).toEqual([]);
    },
  );

  it("starts without ServiceCIDRs where the server has none", async () => {
    const running = await run(await serve({ serviceCidrs: false }, WEB));
    await running.until(() => running.source.status().synced);
    expect(running.state()).toEqual(WEB_STATE);
    expect(running.source.notices()).toEqual([]);
  });

  it("follows changes, those of one moment in one batch, with the time of what led to them", async () => {
    const server = await serve({}, WEB);
    const running = await run(server);
    await running.until(() => running.source.status().synced);
    const before = running.batches.length;
    server.put(
      object("EndpointSlice", slice("web-1", { addresses: ["10.244.1.6"], trigger: "2026-01-01T00:00:01Z" })),
      object("EndpointSlice", slice("web-2", { addresses: ["10.244.1.7"] })),
    );
    await running.until(() => running.batches.length > before);
    expect(running.batches.slice(before)).toHaveLength(1);
    expect(running.batches.at(-1)?.events.map(({ key }) => key)).toEqual(["default/web-1", "default/web-2"]);
    expect(running.batches.at(-1)?.events[0]).toMatchObject({ triggerMs: Date.UTC(2026, 0, 1, 0, 0, 1) });
    server.delete("services", "default/web");
    server.delete("endpointslices", "default/web-2");
    await running.until(() => running.state().length === 1);
    expect(running.state()).toEqual(["EndpointSlice default/web-1 10.244.1.6"]);
  });

  it.each(["duplicates", "reversed"] as const)("ends right when events are %s", async (kind) => {
    const server = await serve({}, WEB);
    server.faults.set([{ fault: { kind } }]);
    const running = await run(server);
    await running.until(() => running.source.status().synced);
    server.put(object("EndpointSlice", slice("web-1", { addresses: ["10.244.1.9"] })));
    server.put(object("EndpointSlice", slice("web-0", { addresses: ["10.244.1.9"] })));
    await running.until(() => running.state().length === 3);
    expect(running.state()).toEqual([
      "EndpointSlice default/web-0 10.244.1.9",
      "EndpointSlice default/web-1 10.244.1.9",
      "Service default/web",
    ]);
  });

  it("reads characters and objects however they are cut", async () => {
    const named = object("Service", service("web", { spec: { externalName: "ü漢🎉" } }));
    const server = await serve({}, [named, WEB[1]!]);
    server.faults.set([{ fault: { kind: "chunks", size: "within-characters" } }]);
    const running = await run(server);
    await running.until(() => running.source.status().synced);
    expect(running.state()).toEqual(WEB_STATE);
  });
});

describe("MetalLB's objects", () => {
  const POOL = object("IPAddressPool", pool("lan"));
  const ALL = object("L2Advertisement", advertisement("all"));

  it("are read where the server has them, and refused by field, the last good state staying", async () => {
    const server = await serve({}, [...WEB, POOL, ALL]);
    const running = await run(server);
    await running.until(() => running.source.status().synced);
    const all = ["AddressPool metallb-system/lan", WEB_STATE[0]!, "L2Advertisement metallb-system/all", WEB_STATE[1]!];
    expect(running.state()).toEqual(all);
    server.put(object("IPAddressPool", pool("lan", { addresses: ["192.0.2.0/33"] })));
    await running.until(() => running.source.notices().length === 1);
    expect(running.source.notices()[0]).toMatchObject({
      ...{ object: "IPAddressPool metallb-system/lan", field: "spec.addresses[0]", reason: "invalid" },
    });
    expect(running.state()).toEqual(all);
    server.delete("ipaddresspools", "metallb-system/lan");
    await running.until(() => running.state().length === 3 && running.source.notices().length === 0);
  });

  it("need not be there for a start, or be allowed; what is missing shows", async () => {
    const rules = [{ verbs: ["list", "watch"], resources: ["services", "endpointslices", "nodes", "servicecidrs"] }];
    const server = await serve({ metallb: false }, [...WEB, POOL, ALL]);
    const running = await run(server);
    await running.until(() => running.source.status().synced);
    expect(running.state()).toEqual(WEB_STATE);
    expect(running.source.notices()).toEqual([]);
    await running.until(() => statsOf(running.source, "ipaddresspools")?.absent === true);
    server.metallb = true;
    server.access = { anonymous: true, rules };
    const withheld = await run(server);
    await withheld.until(() => withheld.source.status().synced && withheld.source.notices().length === 2);
    expect(reasons(withheld.source.notices())).toEqual(["forbidden", "forbidden"]);
    server.access = { anonymous: true };
    await withheld.until(() => withheld.state().length === 4, 40_000);
    await withheld.until(() => withheld.source.notices().length === 0);
  }, 60_000);
});

describe("what a node announces", () => {
  const written = (server: FakeApiServer): string[] =>
    server.store
      .collection("servicel2statuses")
      .list()
      .map(({ key }) => JSON.stringify(server.store.read("servicel2statuses", key)?.["status"]));

  it("becomes ServiceL2Status objects and an event; what is wrong with a Service, an event", async () => {
    const server = await serve({}, WEB);
    const running = await run(server);
    await running.until(() => running.source.status().synced);
    running.source.announced?.([{ service: "default/web", interfaces: ["eth0"] }]);
    running.source.report?.({
      ...{ kind: "Service", key: "default/web", reason: "AddressInUse", message: "by another MAC", type: "Warning" },
    });
    const events = (): string[] =>
      server.store
        .collection("events")
        .list()
        .map(({ key }) => String(server.store.read("events", key)?.["reason"]))
        .sort();
    await running.until(() => events().length === 2 && !written(server).includes("undefined"));
    expect(events()).toEqual(["AddressInUse", "nodeAssigned"]);
    expect(written(server).map((text) => JSON.parse(text))).toEqual([
      { node: "node1", serviceName: "web", serviceNamespace: "default", interfaces: [{ name: "eth0" }] },
    ]);
    running.source.announced?.([]);
    await running.until(() => written(server).length === 0);
    expect(running.source.notices()).toEqual([]);
    const methods = (): string[] =>
      running.source
        .api()
        ?.requests.map(({ method }) => method)
        .sort() ?? [];
    await running.until(() => methods().length === 4);
    expect(methods()).toEqual(["DELETE", "GET", "PATCH", "POST"]);
  });

  it("is written when the right comes; until then the verb and the resource are named, and everything else goes on", async () => {
    const read = { verbs: ["list", "watch"], resources: ["*"] };
    const server = await serve({ access: { anonymous: true, rules: [read] } }, WEB);
    const running = await run(server);
    await running.until(() => running.source.status().synced);
    running.source.announced?.([{ service: "default/web", interfaces: ["eth0"] }]);
    await running.until(() => running.source.notices().length === 2);
    expect(
      running.source
        .notices()
        .map(({ message }) => message.split(":")[0])
        .sort(),
    ).toEqual([
      "cannot create events in the core API group in namespace default",
      "cannot create servicel2statuses in API group metallb.io in namespace kube-system",
    ]);
    server.put(object("EndpointSlice", slice("web-1", { addresses: ["10.244.1.9"] })));
    await running.until(() => running.state()[0] === "EndpointSlice default/web-1 10.244.1.9");
    server.access = { anonymous: true };
    await running.until(() => written(server).length === 1 && running.source.notices().length === 0, 60_000);
  }, 90_000);
});

describe("a bad object", () => {
  it("is refused by name and field, its last good state stays, and so does everything else", async () => {
    const server = await serve({}, WEB);
    const running = await run(server);
    await running.until(() => running.source.status().synced);
    server.put(object("EndpointSlice", slice("web-1", { top: { ports: [{ port: "http" }] } })));
    server.put(object("EndpointSlice", slice("web-2", { addresses: ["127.0.0.1", "10.244.1.8"] })));
    await running.until(() => running.source.notices().length === 2);
    expect(running.source.notices().map(({ object: title, field, reason }) => [title, field, reason])).toEqual([
      ["EndpointSlice default/web-1", "ports[0].port", "wrong-type"],
      ["EndpointSlice default/web-2", "endpoints[0].addresses[0]", "endpoint-refused"],
    ]);
    // Notices and changes come by themselves.
    await running.until(() => running.state().length === 3);
    expect(running.state()).toEqual([WEB_STATE[0], "EndpointSlice default/web-2 10.244.1.8", WEB_STATE[1]]);
    server.put(object("EndpointSlice", slice("web-1", { addresses: ["10.244.1.9"] })));
    server.delete("endpointslices", "default/web-2");
    await running.until(() => running.source.notices().length === 0 && running.state().length === 2);
    expect(running.state()[0]).toBe("EndpointSlice default/web-1 10.244.1.9");
  });
});

describe("a server in trouble", () => {
  it("that goes and comes back takes nothing away, and is caught up with", async () => {
    const server = await serve({}, WEB);
    const running = await run(server);
    await running.until(() => running.source.status().synced);
    await server.stop();
    await running.until(() => reasons(running.source.notices()).includes("unreachable"));
    expect(running.state()).toEqual(WEB_STATE);
    expect(running.source.status().synced).toBe(true);
    server.put(object("EndpointSlice", slice("web-1", { addresses: ["10.244.1.7"] })));
    await server.start();
    await running.until(() => running.state()[0] === "EndpointSlice default/web-1 10.244.1.7", 30_000);
    await running.until(() => running.source.notices().length === 0, 20_000);
  }, 60_000);

  it.each(["refused", "waits"] as const)(
    "whose etcd was restored to an older state is followed there (resumes from the future: %s)",
    async (futureResume) => {
      const server = await serve({ futureResume }, WEB);
      const snapshot = server.snapshot();
      const running = await run(server);
      await running.until(() => running.source.status().synced);
      for (let i = 0; i < 20; i++)
        server.put(object("EndpointSlice", slice("web-1", { addresses: [`10.244.2.${i}`] })));
      server.put(object("Service", service("later")));
      await running.until(() => running.state().includes("Service default/later"));
      server.restore(snapshot);
      await running.until(() => running.state().join() === WEB_STATE.join(), 30_000);
    },
    60_000,
  );

  it("tells what was asked of it, and how each resource stands", async () => {
    const server = await serve({}, WEB);
    const running = await run(server);
    await running.until(() => running.source.status().synced);
    await running.until(() => running.source.api()?.resources.every((one) => one.connected && one.synced) === true);
    const { requests, durations, resources, server: host } = running.source.api()!;
    expect(requests).toEqual([{ code: "200", method: "GET", host, count: 6 }]);
    expect(durations.map(({ verb, count }) => `${verb} ${count}`)).toEqual(["GET 6"]);
    expect(resources.map(({ resource, lists, watches }) => `${resource} ${lists} ${watches}`)).toEqual([
      "services 1 1",
      "endpointslices 1 1",
      "nodes 1 1",
      "servicecidrs 1 1",
      "ipaddresspools 1 1",
      "l2advertisements 1 1",
    ]);
  });

  it("that forgot our version is listed anew", async () => {
    const server = await serve({}, [object("Service", service("old")), ...WEB]);
    const running = await run(server);
    await running.until(() => running.source.status().synced);
    await server.stop();
    server.delete("services", "default/old");
    server.put(object("Service", service("other")));
    server.compact();
    await server.start();
    await running.until(() => running.state().includes("Service default/other"), 30_000);
    await running.until(() => running.state().length === WEB.length + 1);
    await running.until(() => statsOf(running.source, "services")?.relists["gone"] === 1);
  }, 60_000);

  it.each([
    { name: "garbage", fault: { kind: "garbage" }, reason: "garbage" },
    { name: "a page of a proxy", fault: { kind: "html" }, reason: "garbage" },
    { name: "500", fault: { kind: "status", code: 500 }, reason: "server-error" },
    { name: "429 with Retry-After", fault: { kind: "status", code: 429, retryAfterSeconds: 1 }, reason: "throttled" },
    { name: "half of an answer", fault: { kind: "truncated", afterBytes: 150 }, reason: "truncated" },
    { name: "a broken connection", fault: { kind: "drop" }, reason: "unreachable" },
  ] as const)(
    "that answers with $name says so, and costs nothing but the wait",
    async ({ fault, reason }) => {
      const server = await serve({}, WEB);
      server.faults.set([{ fault }]);
      const running = await run(server);
      await running.until(() => reasons(running.source.notices()).includes(reason));
      expect(running.source.status().synced).toBe(false);
      server.faults.set([]);
      await running.until(() => running.source.status().synced, 30_000);
      await running.until(() => running.source.notices().length === 0, 20_000);
      expect(running.state()).toEqual(WEB_STATE);
    },
    60_000,
  );

  it("that gives us no rights is named with verb and resource, for each", async () => {
    const rules = [{ verbs: ["list", "watch"], resources: ["services", "servicecidrs"] }];
    const server = await serve({ access: { anonymous: true, rules } }, WEB);
    const running = await run(server);
    await running.until(() => running.source.notices().length === 4);
    expect(
      running.source
        .notices()
        .map(({ message }) => message.split(":")[0])
        .sort(),
    ).toEqual([
      "cannot watch endpointslices in API group discovery.k8s.io at cluster scope",
      "cannot watch ipaddresspools in API group metallb.io at cluster scope",
      "cannot watch l2advertisements in API group metallb.io at cluster scope",
      "cannot watch nodes in the core API group at cluster scope",
    ]);
    server.access = { anonymous: true };
    await running.until(() => running.source.status().synced && running.source.notices().length === 0, 30_000);
  }, 60_000);

  it("that does not take our credentials is said once, and asked on", async () => {
    const server = await serve({ access: { anonymous: false } }, WEB);
    const running = await run(server);
    await running.until(() => reasons(running.source.notices()).includes("unauthorized"));
    server.access = { anonymous: true };
    await running.until(() => running.source.status().synced, 30_000);
    expect(running.state()).toEqual(WEB_STATE);
  }, 60_000);

  it("whose relist has lost most Services is believed when a second list agrees", async () => {
    const many = Array.from({ length: 80 }, (_, i) => object("Service", service(`s${i}`)));
    const server = await serve({}, many);
    const running = await run(server);
    await running.until(() => running.source.status().synced);
    await server.stop();
    for (let i = 0; i < 80; i++) server.delete("services", `default/s${i}`);
    server.compact();
    await server.start();
    await running.until(() => reasons(running.source.notices()).includes("list-held"), 30_000);
    expect(running.state()).toHaveLength(80);
    await running.until(() => running.state().length === 0, 20_000);
    await running.until(() => statsOf(running.source, "services")?.heldLists === 1);
  }, 60_000);

  it("whose first list lacks most of what an agent before had read is believed when a second list agrees", async () => {
    const many = Array.from({ length: 80 }, (_, i) => object("Service", service(`s${i}`)));
    const server = await serve({}, many);
    const stateDir = await temporaryDirectory();
    const first = await run(server, { stateDir });
    await first.until(() => first.source.status().synced);
    await first.source.stop();
    for (let i = 0; i < 60; i++) server.delete("services", `default/s${i}`);
    const second = await run(server, { stateDir });
    await second.until(() => reasons(second.source.notices()).includes("list-held"));
    expect(second.batches.some(({ synced }) => synced)).toBe(false);
    await second.until(() => second.source.status().synced, 20_000);
    expect(second.state()).toHaveLength(20);
    await second.until(() => statsOf(second.source, "services")?.heldLists === 1);
    await second.source.stop();
    const third = await run(server, { stateDir });
    await third.until(() => statsOf(third.source, "services")?.synced === true);
    expect(statsOf(third.source, "services")).toMatchObject({ heldLists: 0 });
  }, 60_000);

  it("is believed at once by an agent whose memory of it is unusable", async () => {
    const server = await serve({}, WEB);
    const stateDir = await temporaryDirectory();
    for (const text of ["", "[1]", "null", '{"services":"many","endpointslices":-3}']) {
      await writeFile(join(stateDir, "api-totals.json"), text);
      const running = await run(server, { stateDir });
      await running.until(() => running.source.status().synced, 3_000);
      await running.source.stop();
    }
  });
});

describe("a thread that is lost", () => {
  it("is started anew; what it read stays until the next one has read everything, then what is gone goes", async () => {
    const server = await serve();
    const running = await run(server, {}, new URL("./mortal-worker.ts", import.meta.url));
    await running.until(() => running.source.status().synced);
    expect(running.state()).toEqual(["Node a", "Node b"]);
    await running.until(() => reasons(running.source.notices()).includes("thread-lost"));
    expect(running.source.notices()[0]?.message).toBe(
      "the thread that reads the Kubernetes API ended (out of luck): started anew in 1 s",
    );
    expect(running.state()).toEqual(["Node a", "Node b"]);
    await running.until(() => running.state().includes("Node c"));
    expect(running.state()).toEqual(["Node a", "Node b", "Node c"]);
    expect(running.batches.at(-1)?.synced, "what is served stays in force").toBe(true);
    await running.until(() => running.state().length === 2);
    expect(running.state()).toEqual(["Node b", "Node c"]);
    expect(running.source.notices()).toEqual([]);
  });
});

describe("a source that is stopped", () => {
  it("ends an exec plugin that hangs, with all it started", async () => {
    const directory = await temporaryDirectory();
    writeScript(
      directory,
      "plugin",
      `sleep 600 & echo $! >'${directory}/made'; mv '${directory}/made' '${directory}/child'; wait`,
    );
    const exec = { apiVersion: "client.authentication.k8s.io/v1", command: "./plugin" };
    const server = await serve();
    const kubeconfig = writeKubeconfig(directory, { cluster: { server: server.url }, user: { exec } });
    const running = await run(server, { kubeconfig });
    const file = join(directory, "child");
    await running.until(() => existsSync(file));
    const child = await readFile(file, "utf8");
    expect(isRunning(Number(child))).toBe(true);
    await running.source.stop();
    await vi.waitFor(() => expect(isRunning(Number(child))).toBe(false));
  });
});

describe("the way back to the API", () => {
  it("is kept where default/kubernetes points", async () => {
    const stateDir = await temporaryDirectory();
    const cluster = new ClusterObjects({
      services: 1,
      endpoints: 1,
      nodes: 1,
      apiServer: { address: "10.0.0.2", port: 6443 },
    });
    const running = await run(await serve({}, [...cluster.all()]), { stateDir });
    await running.until(() => running.source.status().synced);
    const kept = JSON.parse(await readFile(join(stateDir, "api-servers.json"), "utf8")) as unknown;
    expect(kept).toEqual({ servers: ["https://10.0.0.2:6443"] });
  });

  it("that nothing leads to is a failure in one sentence", async () => {
    const source = createKubernetesSource({
      ...{ stateDir: await temporaryDirectory(), trustLists: false, nodeName: "node1", namespace: "kube-system" },
    });
    onTestFinished(() => source.stop());
    await expect(source.start(() => {})).rejects.toThrow(
      /^could not find the API server: give --apiserver or --kubeconfig/,
    );
  });
});
