// The fake API server against what kube-apiserver 1.34 does: a fake that answers differently would prove nothing.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import type { Access } from "./api-server/access.ts";
import { type CertificateRequest, TestAuthority } from "./api-server/certificates.ts";
import { ClusterObjects } from "./api-server/cluster-objects.ts";
import { CONTRACT } from "./api-server/contract.ts";
import { createControl } from "./api-server/control.ts";
import { FakeApiServer, type FakeApiServerOptions } from "./api-server/fake-api-server.ts";
import type { Fault } from "./api-server/faults.ts";
import type { KubernetesObject } from "./api-server/object-store.ts";

const STREAMING = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
const SERVICES = "/api/v1/services";

const running: { stop(): Promise<void> }[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((server) => server.stop()));
});

async function serve(options: FakeApiServerOptions = {}): Promise<FakeApiServer> {
  const server = await new FakeApiServer({ freshnessMs: 50, ...options }).start();
  running.push(server);
  return server;
}

/** Services a, b and c at revisions 2, 3 and 4; the odd ones are labelled. */
async function serveThree(options: FakeApiServerOptions = {}): Promise<FakeApiServer> {
  const server = await serve(options);
  server.put(service("a", { parity: "odd" }), service("b"), service("c", { parity: "odd", tier: "web" }));
  return server;
}

function service(name: string, labels: Readonly<Record<string, string>> = {}): KubernetesObject {
  return { kind: "Service", metadata: { namespace: "shop", name, labels }, spec: { type: "ClusterIP" } };
}

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: bodies are read as tests expect them to be
  readonly body: any;
}

async function get(server: FakeApiServer, path: string, headers: Record<string, string> = {}): Promise<Answer> {
  const response = await fetch(server.url + path, { headers });
  const text = await response.text();
  const isJson = response.headers.get("content-type") === "application/json";
  return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text };
}

function names(list: Answer): string[] {
  return list.body.items.map((item: KubernetesObject) => item.metadata.name);
}

interface WatchEvent {
  readonly type: string;
  // biome-ignore lint/suspicious/noExplicitAny: objects and Status bodies alike
  readonly object: any;
}

/** One watch; the text so far is kept, and whoever waits is asked at each chunk. */
class Watcher {
  text = "";
  end: "open" | "ended" | "broken" = "open";
  readonly chunks: Buffer[] = [];
  readonly #response: IncomingMessage;
  #changed: () => void = () => {};

  constructor(response: IncomingMessage) {
    this.#response = response;
    response.on("data", (chunk: Buffer) => {
      this.chunks.push(chunk);
      this.text += chunk.toString("latin1");
      this.#changed();
    });
    response.on("end", () => this.#finish("ended"));
    response.on("error", () => this.#finish("broken"));
  }

  get status(): number {
    return this.#response.statusCode ?? 0;
  }

  get events(): WatchEvent[] {
    const text = Buffer.concat(this.chunks).toString();
    return text
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line));
  }

  /** Short forms such as "ADDED a@2". */
  get log(): string[] {
    return this.events.map(({ type, object }) => {
      if (type === "ERROR") return `ERROR ${object.code}`;
      const end = object.metadata.annotations?.["k8s.io/initial-events-end"] === "true" ? " end" : "";
      return `${type} ${object.metadata.name ?? ""}@${object.metadata.resourceVersion}${end}`;
    });
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition())
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
  }

  async ended(): Promise<this> {
    await this.until(() => this.end !== "open");
    return this;
  }

  async count(events: number): Promise<this> {
    await this.until(() => this.text.split("\n").length > events);
    return this;
  }

  #finish(end: "ended" | "broken"): void {
    this.end = end;
    this.#changed();
  }
}

async function watch(server: FakeApiServer, query: string, path = SERVICES): Promise<Watcher> {
  const outgoing = httpRequest(`${server.url}${path}?${query}`);
  outgoing.end();
  const [response] = (await once(outgoing, "response")) as [IncomingMessage];
  return new Watcher(response);
}

describe("a list", () => {
  it.each([
    { name: "is the latest state without a resourceVersion", query: "", names: ["a", "b", "c"], revision: "4" },
    {
      name: "is any state at 0, and ignores the limit there",
      query: "resourceVersion=0&limit=1",
      names: ["a", "b", "c"],
      revision: "4",
    },
    {
      name: "is not older than the revision asked for",
      query: "resourceVersion=2",
      names: ["a", "b", "c"],
      revision: "4",
    },
    {
      name: "is not older, said outright",
      query: "resourceVersion=3&resourceVersionMatch=NotOlderThan",
      names: ["a", "b", "c"],
      revision: "4",
    },
    {
      name: "is exact when asked",
      query: "resourceVersion=3&resourceVersionMatch=Exact",
      names: ["a", "b"],
      revision: "3",
    },
    {
      name: "is exact with a limit, by an old rule",
      query: "resourceVersion=3&limit=10",
      names: ["a", "b"],
      revision: "3",
    },
    {
      name: "holds what a label selector keeps",
      query: "labelSelector=parity%3Dodd",
      names: ["a", "c"],
      revision: "4",
    },
    {
      name: "holds what a field selector keeps",
      query: "fieldSelector=metadata.name%3Db",
      names: ["b"],
      revision: "4",
    },
    {
      name: "holds the Services that a field of spec keeps",
      query: "fieldSelector=spec.clusterIP!%3DNone%2Cmetadata.name!%3Da",
      names: ["b", "c"],
      revision: "4",
    },
    {
      name: "holds what both keep",
      query: "labelSelector=parity&fieldSelector=metadata.name!%3Da",
      names: ["c"],
      revision: "4",
    },
  ])("$name", async (line) => {
    const answer = await get(await serveThree(), `${SERVICES}?${line.query}`);
    expect(answer.status).toBe(200);
    expect(names(answer)).toEqual(line.names);
    expect(answer.body.metadata).toEqual({ resourceVersion: line.revision });
    expect(answer.body.items[0]).not.toHaveProperty("kind");
  });

  it("waits for a revision that is about to come", async () => {
    const server = await serveThree({ freshnessMs: 5000 });
    const answer = get(server, `${SERVICES}?resourceVersion=5`);
    await expect.poll(() => server.requests.length).toBe(1);
    server.put(service("d"));
    expect(names(await answer)).toEqual(["a", "b", "c", "d"]);
  });

  it("comes in pages of one state, whatever is written meanwhile", async () => {
    const server = await serveThree();
    const first = await get(server, `${SERVICES}?limit=1`);
    expect(first.body.metadata).toMatchObject({ resourceVersion: "4", remainingItemCount: 2 });
    server.put(service("b", { new: "yes" }), service("bb"));
    server.delete("services", "shop/c");
    const second = await get(server, `${SERVICES}?limit=1&continue=${first.body.metadata.continue}`);
    const third = await get(server, `${SERVICES}?limit=1&continue=${second.body.metadata.continue}`);
    expect([first, second, third].flatMap(names)).toEqual(["a", "b", "c"]);
    expect(second.body.items[0].metadata).toMatchObject({ resourceVersion: "3", labels: {} });
    expect(third.body.metadata).toEqual({ resourceVersion: "4" });
  });

  it("that cannot go on in its state is told how to go on in another", async () => {
    const server = await serveThree();
    const first = await get(server, `${SERVICES}?limit=1`);
    server.delete("services", "shop/b");
    server.compact();
    const gone = await get(server, `${SERVICES}?limit=1&continue=${first.body.metadata.continue}`);
    expect(gone).toMatchObject({ status: 410, body: { reason: "Expired", code: 410 } });
    expect(gone.body.message).toMatch(
      /^The provided continue parameter is too old to display a consistent list result\./,
    );
    const rest = await get(server, `${SERVICES}?limit=1&continue=${gone.body.metadata.continue}`);
    expect(names(rest)).toEqual(["c"]);
    expect(rest.body.metadata.resourceVersion).toBe("5");
  });

  it("tells no number of remaining items with a selector", async () => {
    const { metadata } = (await get(await serveThree(), `${SERVICES}?limit=1&labelSelector=parity`)).body;
    expect(Object.keys(metadata).sort()).toEqual(["continue", "resourceVersion"]);
  });

  it("can be of one namespace, whose pages go on in it", async () => {
    const server = await serveThree();
    server.put({ kind: "Service", metadata: { namespace: "zoo", name: "a" } });
    const first = await get(server, "/api/v1/namespaces/shop/services?limit=2");
    const path = `/api/v1/namespaces/shop/services?limit=2&continue=${first.body.metadata.continue}`;
    expect([...names(first), ...names(await get(server, path))]).toEqual(["a", "b", "c"]);
    expect(names(await get(server, "/api/v1/namespaces/zoo/services"))).toEqual(["a"]);
  });
});

describe("the contract with the real one", () => {
  it.each(CONTRACT)("$name", async ({ path, status, message, reason, retryAfter }) => {
    const server = await serveThree();
    server.compact();
    const response = await fetch(server.url + path);
    const text = await response.text();
    expect(response.status).toBe(status);
    expect(response.headers.get("retry-after") ?? undefined).toBe(retryAfter);
    if (status === 200 || !text.startsWith("{")) return expect(text).toMatch(message);
    const body = JSON.parse(text);
    expect(body).toMatchObject({ kind: "Status", apiVersion: "v1", metadata: {}, status: "Failure", code: status });
    expect(body.message).toMatch(message);
    expect(body.reason).toBe(reason);
  });
});

describe("a label selector", () => {
  it.each([
    { selector: "", names: ["a", "b", "c"] },
    { selector: "tier", names: ["c"] },
    { selector: "!tier", names: ["a", "b"] },
    { selector: "parity=odd,tier=web", names: ["c"] },
    { selector: "parity==odd,!tier", names: ["a"] },
    { selector: "tier!=web", names: ["a", "b"] },
    { selector: "tier in (db, web)", names: ["c"] },
    { selector: "tier notin (db,web),parity", names: ["a"] },
    { selector: "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name", names: ["a", "b", "c"] },
  ])("'$selector' keeps $names", async ({ selector, names: kept }) => {
    const answer = await get(await serveThree(), `${SERVICES}?labelSelector=${encodeURIComponent(selector)}`);
    expect(names(answer)).toEqual(kept);
  });
});

describe("a watch", () => {
  it("goes on after the revision that it is given", async () => {
    const server = await serveThree();
    const watcher = await watch(server, "watch=1&resourceVersion=2");
    await watcher.count(2);
    server.put(service("a", { parity: "even" }));
    server.delete("services", "shop/b");
    expect((await watcher.count(4)).log).toEqual(["ADDED b@3", "ADDED c@4", "MODIFIED a@5", "DELETED b@6"]);
    expect(watcher.events[0]?.object).toMatchObject({ kind: "Service", apiVersion: "v1" });
  });

  it("with a selector turns a change of labels into coming and going", async () => {
    const server = await serveThree();
    const watcher = await watch(server, "watch=1&resourceVersion=4&labelSelector=parity%3Dodd");
    server.put(service("b", { parity: "odd" }), service("a"), service("c", { parity: "odd" }), service("a"));
    server.delete("services", "shop/b");
    const log = ["ADDED b@5", "DELETED a@6", "MODIFIED c@7", "DELETED b@9"];
    expect((await watcher.count(4)).log).toEqual(log);
    expect(watcher.events[1]?.object.metadata.labels).toEqual({ parity: "odd" });
  });

  it.each(["", "&resourceVersion=0"])("without a starting point ('%s') begins with the state", async (version) => {
    const server = await serveThree();
    const watcher = await watch(server, `watch=1${version}`);
    expect((await watcher.count(3)).log).toEqual(["ADDED a@2", "ADDED b@3", "ADDED c@4"]);
  });

  it("from a forgotten revision is told so in its stream", async () => {
    const server = await serve({ historyLimit: 3 });
    for (let i = 0; i < 10; i++) server.put(service(`s${i}`));
    const { floor } = server.store.collection("services");
    const watcher = await (await watch(server, `watch=1&resourceVersion=${floor - 1}`)).ended();
    expect(watcher.status).toBe(200);
    const message = `too old resource version: ${floor - 1} (${floor})`;
    expect(watcher.events).toMatchObject([{ type: "ERROR", object: { reason: "Expired", code: 410, message } }]);
    const resumed = await watch(server, `watch=1&resourceVersion=${floor}`);
    expect((await resumed.count(server.store.revision - floor)).events[0]?.type).toBe("ADDED");
  });

  it("from a forgotten revision can be told so by the status", async () => {
    const server = await serveThree({ expiredAs: "status" });
    server.compact();
    const answer = await get(server, `${SERVICES}?watch=1&resourceVersion=2`);
    expect(answer).toMatchObject({ status: 410, body: { reason: "Expired" } });
  });

  it("from a revision to come hears nothing, no bookmark either, until it is reached", async () => {
    const server = await serveThree({ bookmarkMs: 10 });
    const watcher = await watch(server, "watch=1&resourceVersion=6&allowWatchBookmarks=true");
    const other = await watch(server, "watch=1&resourceVersion=4&allowWatchBookmarks=true");
    await other.count(3);
    expect(watcher.text).toBe("");
    server.put(service("d"), service("e"), service("f"));
    expect((await watcher.count(1)).log[0]).toBe("ADDED f@7");
  });

  it("from a revision to come can be refused", async () => {
    const server = await serveThree({ futureResume: "refused" });
    expect((await (await watch(server, "watch=1&resourceVersion=6")).ended()).log).toEqual(["ERROR 504"]);
  });

  it("gets bookmarks when it wants them, never ahead of a change", async () => {
    const server = await serveThree({ bookmarkMs: 20 });
    server.put({ kind: "Node", metadata: { name: "n" } });
    const plain = await watch(server, "watch=1&resourceVersion=4");
    const watcher = await watch(server, "watch=1&resourceVersion=4&allowWatchBookmarks=true");
    expect((await watcher.count(2)).log.slice(0, 2)).toEqual(["BOOKMARK @5", "BOOKMARK @5"]);
    server.put(service("d"));
    await watcher.until(() => watcher.log.includes("BOOKMARK @6"));
    expect(watcher.log.filter((line) => line.endsWith("@6")).slice(0, 2)).toEqual(["ADDED d@6", "BOOKMARK @6"]);
    expect(plain.log).toEqual(["ADDED d@6"]);
  });

  it("ends properly after its time", async () => {
    const started = performance.now();
    const watcher = await (await watch(await serveThree(), "watch=1&resourceVersion=4&timeoutSeconds=1")).ended();
    expect(watcher).toMatchObject({ end: "ended", text: "" });
    expect(performance.now() - started).toBeGreaterThan(950);
  });

  it("that runs lives on when the history is forgotten", async () => {
    const server = await serveThree();
    const watcher = await watch(server, "watch=1&resourceVersion=4");
    server.put({ kind: "Node", metadata: { name: "n" } });
    server.compact();
    server.put(service("d"));
    expect((await watcher.count(1)).log).toEqual(["ADDED d@6"]);
  });

  it("is gone from the server when its client has left", async () => {
    const server = await serveThree();
    const outgoing = httpRequest(`${server.url}${SERVICES}?watch=1`).end();
    await once(outgoing, "response");
    expect(server.watches("services")).toBe(1);
    outgoing.destroy();
    await expect.poll(() => server.watches()).toBe(0);
  });

  it("costs a reader who is slow its stream, not the server its memory", async () => {
    const server = await serve({ historyLimit: 10 });
    const outgoing = httpRequest(`${server.url}${SERVICES}?watch=1`).end();
    const [response] = (await once(outgoing, "response")) as [IncomingMessage];
    response.pause();
    const filler = "x".repeat(1_000_000);
    const ended = once(response, "close");
    for (let i = 0; i < 40; i++) {
      server.put({ ...service("big"), spec: { filler } });
      await new Promise((resolve) => setImmediate(resolve));
    }
    response.resume();
    await ended;
    expect(server.watches()).toBe(0);
  });
});

describe("a streaming list", () => {
  it("sends the state, a bookmark at its end, then changes", async () => {
    const server = await serveThree();
    const watcher = await (await watch(server, STREAMING)).count(4);
    server.put(service("d"));
    const log = ["ADDED a@2", "ADDED b@3", "ADDED c@4", "BOOKMARK @4 end", "ADDED d@5"];
    expect((await watcher.count(5)).log).toEqual(log);
  });

  it("holds what its selectors keep", async () => {
    const watcher = await watch(await serveThree(), `${STREAMING}&labelSelector=!parity`);
    expect((await watcher.count(2)).log).toEqual(["ADDED b@3", "BOOKMARK @4 end"]);
  });

  it("of nothing is its bookmark", async () => {
    const watcher = await watch(await serve(), STREAMING, "/apis/networking.k8s.io/v1/servicecidrs");
    expect((await watcher.count(1)).log).toEqual(["BOOKMARK @1 end"]);
    expect(watcher.events[0]?.object).toMatchObject({ kind: "ServiceCIDR", apiVersion: "networking.k8s.io/v1" });
  });

  it("at a revision to come is an error in its stream", async () => {
    const watcher = await (await watch(await serveThree(), `${STREAMING}&resourceVersion=9`)).ended();
    expect(watcher.events[0]).toMatchObject({ type: "ERROR", object: { code: 504, reason: "Timeout" } });
    expect(watcher.events[0]?.object.details.causes[0].reason).toBe("ResourceVersionTooLarge");
  });

  it("is refused by a server that has none", async () => {
    const server = await serveThree({ streamingLists: "refused" });
    const answer = await get(server, `${SERVICES}?${STREAMING}`);
    const message =
      'ListOptions.meta.k8s.io "" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled';
    expect(answer).toMatchObject({ status: 422, body: { reason: "Invalid", message } });
    server.streamingLists = "served";
    expect((await (await watch(server, STREAMING)).count(4)).status).toBe(200);
  });
});

describe("a server without streaming lists", () => {
  it("may take one for a plain watch: the state, and no bookmark at its end", async () => {
    const server = await serveThree({ streamingLists: "ignored", bookmarkMs: 20 });
    const watcher = await watch(server, STREAMING);
    expect((await watcher.count(4)).log.slice(0, 4)).toEqual(["ADDED a@2", "ADDED b@3", "ADDED c@4", "BOOKMARK @4"]);
  });

  it("may find out only when its etcd is asked", async () => {
    const watcher = await (await watch(await serveThree({ streamingLists: "unsupported" }), STREAMING)).ended();
    expect(watcher.events).toMatchObject([{ type: "ERROR", object: { code: 500, reason: "InternalError" } }]);
  });
});

describe("a state restored from a backup", () => {
  it("breaks connections and gives out the same revisions again", async () => {
    const server = await serveThree();
    const backup = server.snapshot();
    server.put(service("d"), service("a", { lost: "yes" }));
    const watcher = await watch(server, "watch=1&resourceVersion=6");
    server.restore(backup);
    expect((await watcher.ended()).end).toBe("broken");
    server.put(service("e"));
    const list = await get(server, SERVICES);
    expect(names(list)).toEqual(["a", "b", "c", "e"]);
    expect(list.body.metadata.resourceVersion).toBe("5");
    expect(list.body.items[0].metadata.labels).toEqual({ parity: "odd" });
  });

  it("leaves a resume from a lost revision without an answer", async () => {
    const server = await serveThree();
    const backup = server.snapshot();
    server.put(service("d"), service("e"));
    server.restore(backup);
    const watcher = await watch(server, "watch=1&resourceVersion=6");
    server.put(service("f"), service("g"), service("h"));
    expect((await watcher.count(1)).log).toEqual(["ADDED h@7"]);
  });
});

describe("a path", () => {
  it.each([
    { path: "/version", status: 200, body: { gitVersion: "v1.34.1" } },
    { path: "/readyz", status: 200, body: "ok" },
    { path: "/api/v1/services/x/y/z", status: 404, body: "404 page not found\n" },
    { path: "/apis/networking.k8s.io/v1/servicecidrs", status: 404, body: "404 page not found\n" },
    { path: "/api/v1/namespaces/shop/services/a", status: 200, body: { kind: "Service", metadata: { name: "a" } } },
    {
      path: "/api/v1/nodes/x",
      status: 404,
      body: { message: 'nodes "x" not found', reason: "NotFound", details: { name: "x", kind: "nodes" } },
    },
    {
      path: "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/x",
      status: 404,
      body: { message: 'endpointslices.discovery.k8s.io "x" not found' },
    },
  ])("$path is answered with $status", async ({ path, status, body }) => {
    const answer = await get(await serveThree({ serviceCidrs: false }), path);
    expect(answer.status).toBe(status);
    if (typeof body === "string") expect(answer.body).toBe(body);
    else expect(answer.body).toMatchObject(body);
  });
});

const RULES: Access = {
  tokens: { secret: "system:serviceaccount:kube-system:millrace", other: "x" },
  rules: [
    { verbs: ["list", "watch"], resources: ["services"], user: "system:serviceaccount:kube-system:millrace" },
    { verbs: ["*"], resources: ["nodes"] },
  ],
};

describe("access", () => {
  it.each([
    {
      name: "is open without rules",
      access: { anonymous: true },
      token: "",
      path: SERVICES,
      status: 200,
      message: undefined,
    },
    { name: "needs credentials", access: RULES, token: "", path: SERVICES, status: 401, message: "Unauthorized" },
    {
      name: "needs the right ones",
      access: { ...RULES, anonymous: true },
      token: "wrong",
      path: SERVICES,
      status: 401,
      message: "Unauthorized",
    },
    {
      name: "is given by a rule for a user",
      access: RULES,
      token: "secret",
      path: SERVICES,
      status: 200,
      message: undefined,
    },
    {
      name: "is given by a rule for everybody",
      access: RULES,
      token: "other",
      path: "/api/v1/nodes",
      status: 200,
      message: undefined,
    },
    {
      name: "is refused by user, verb and resource",
      access: RULES,
      token: "other",
      path: SERVICES,
      status: 403,
      message: 'services is forbidden: User "x" cannot list resource "services" in API group "" at the cluster scope',
    },
    {
      name: "names group and verb",
      access: RULES,
      token: "other",
      path: "/apis/discovery.k8s.io/v1/endpointslices?watch=true",
      status: 403,
      message:
        'endpointslices.discovery.k8s.io is forbidden: User "x" cannot watch resource "endpointslices" in API group "discovery.k8s.io" at the cluster scope',
    },
    {
      name: "names a namespace",
      access: RULES,
      token: "other",
      path: "/api/v1/namespaces/shop/services",
      status: 403,
      message:
        'services is forbidden: User "x" cannot list resource "services" in API group "" in the namespace "shop"',
    },
    {
      name: "names an object",
      access: RULES,
      token: "other",
      path: "/api/v1/namespaces/shop/services/a",
      status: 403,
      message:
        'services "a" is forbidden: User "x" cannot get resource "services" in API group "" in the namespace "shop"',
    },
    {
      name: "names who has no name",
      access: { anonymous: true, rules: [] },
      token: "",
      path: "/api/v1/nodes",
      status: 403,
      message:
        'nodes is forbidden: User "system:anonymous" cannot list resource "nodes" in API group "" at the cluster scope',
    },
  ])("$name", async ({ access, token, path, status, message }) => {
    const server = await serveThree({ access });
    const answer = await get(server, path, token === "" ? {} : { authorization: `Bearer ${token}` });
    expect(answer.status).toBe(status);
    expect(answer.body.message).toBe(message);
  });

  it("changes while the server runs", async () => {
    const server = await serveThree({ access: RULES });
    expect((await get(server, SERVICES)).status).toBe(401);
    server.access = { anonymous: true };
    expect((await get(server, SERVICES)).status).toBe(200);
  });
});

describe("HTTPS", () => {
  const authority = new TestAuthority("cluster");
  const strangers = new TestAuthority("strangers");
  const tls = {
    ...authority.issue({
      commonName: "api",
      usage: "server",
      names: ["kubernetes.default.svc"],
      addresses: ["127.0.0.1"],
    }),
    clientCa: authority.cert,
  };
  const access: Access = { clientCertificates: true };

  async function status(server: FakeApiServer, client: object, servername = "kubernetes.default.svc"): Promise<number> {
    const outgoing = httpsRequest(server.url + SERVICES, { ca: authority.cert, servername, agent: false, ...client });
    const [response] = (await once(outgoing.end(), "response")) as [IncomingMessage];
    response.resume();
    return response.statusCode ?? 0;
  }

  it.each<{ name: string; by: TestAuthority; request: Partial<CertificateRequest>; status: number }>([
    { name: "knows a client by its certificate", by: authority, request: {}, status: 200 },
    { name: "may refuse the user of a certificate", by: authority, request: { commonName: "somebody" }, status: 403 },
    { name: "lets in no stranger", by: strangers, request: {}, status: 401 },
    { name: "lets in no expired certificate", by: authority, request: { notAfter: Date.now() - 5000 }, status: 401 },
  ])("$name", async ({ by, request, status: expected }) => {
    const rules = [{ user: "millrace", verbs: ["*"], resources: ["*"] }];
    const server = await serveThree({ tls, access: { ...access, rules } });
    const client = by.issue({ commonName: "millrace", usage: "client", ...request });
    expect(await status(server, client)).toBe(expected);
  });

  it("answers to its names only", async () => {
    const server = await serveThree({ tls });
    expect(await status(server, {})).toBe(200);
    await expect(status(server, {}, "kubernetes.example")).rejects.toThrow(/does not match certificate's altnames/);
    await expect(status(server, { ca: strangers.cert })).rejects.toThrow(/signature|certificate/);
  });
});

describe("a fault", () => {
  const strike = async (fault: Fault, times?: number): Promise<FakeApiServer> => {
    const server = await serveThree();
    server.faults.set([{ fault, ...(times === undefined ? {} : { times }) }]);
    return server;
  };

  it.each([
    { code: 500, retryAfterSeconds: undefined, reason: undefined },
    { code: 503, retryAfterSeconds: undefined, reason: "ServiceUnavailable" },
    { code: 429, retryAfterSeconds: 7, reason: "TooManyRequests" },
  ])("answers $code", async ({ code, retryAfterSeconds, reason }) => {
    const server = await strike({
      kind: "status",
      code,
      ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
    });
    const answer = await get(server, SERVICES);
    expect(answer).toMatchObject({ status: code, body: { kind: "Status", code } });
    expect(answer.body.reason).toBe(reason);
    expect(answer.headers.get("retry-after")).toBe(retryAfterSeconds === undefined ? null : "7");
  });

  it("strikes so many times, and only what it is for", async () => {
    const server = await serveThree();
    server.faults.set([{ fault: { kind: "status", code: 500 }, verb: "list", resource: "services", times: 2 }]);
    const paths = ["/api/v1/nodes", SERVICES, "/version", SERVICES, SERVICES];
    const statuses: number[] = [];
    for (const path of paths) statuses.push((await get(server, path)).status);
    expect(statuses).toEqual([200, 500, 200, 500, 200]);
    expect(server.requests.map(({ status }) => status)).toEqual(statuses);
  });

  it.each<{ fault: Fault; end: string; text: RegExp }>([
    { fault: { kind: "garbage" }, end: "ended", text: /not json/ },
    { fault: { kind: "html" }, end: "ended", text: /^<!doctype html>/ },
    { fault: { kind: "truncated", afterBytes: 40 }, end: "ended", text: /^.{40}$/ },
    { fault: { kind: "cut", afterBytes: 40 }, end: "broken", text: /^.{40}$/ },
  ])("$fault.kind leaves a body that cannot be used", async ({ fault, end, text }) => {
    for (const query of ["", STREAMING]) {
      const watcher = await (await watch(await strike(fault), query)).ended();
      expect(watcher.end).toBe(end);
      expect(watcher.text).toMatch(text);
    }
  });

  it("drops the connection", async () => {
    await expect(get(await strike({ kind: "drop" }), SERVICES)).rejects.toThrow();
  });

  it("never answers, while others are answered", async () => {
    const server = await strike({ kind: "hang" }, 1);
    const hung = fetch(server.url + SERVICES, { signal: AbortSignal.timeout(200) });
    await expect.poll(() => server.requests.length).toBe(1);
    expect((await get(server, SERVICES)).status).toBe(200);
    await expect(hung).rejects.toThrow(/timeout/);
  });

  it("goes silent after so many bytes, or when told", async () => {
    const server = await strike({ kind: "silent", afterBytes: 100 }, 1);
    const silent = await watch(server, STREAMING);
    const healthy = await (await watch(server, STREAMING)).count(4);
    server.put(service("d"));
    await healthy.count(5);
    server.silence("services");
    server.put(service("e"));
    const third = await (await watch(server, "watch=1&resourceVersion=5")).count(1);
    expect([silent.text.length, healthy.log.length, third.log]).toEqual([100, 5, ["ADDED e@6"]]);
    expect([silent.end, healthy.end]).toEqual(["open", "open"]);
  });

  it.each<{ size: number | "within-characters"; expected: (chunks: Buffer[]) => boolean }>([
    { size: 1, expected: (chunks) => chunks.every(({ length }) => length === 1) },
    { size: "within-characters", expected: (chunks) => chunks.some((chunk) => (chunk[0]! & 0xc0) === 0x80) },
  ])("delivers chunks by $size", async ({ size, expected }) => {
    const server = await strike({ kind: "chunks", size });
    server.put(service("d", { größe: "5 € 😀" }));
    const watcher = await (await watch(server, STREAMING)).count(5);
    expect(expected(watcher.chunks)).toBe(true);
    expect(watcher.events[3]?.object.metadata.labels).toEqual({ größe: "5 € 😀" });
  });

  it("sends events twice, and states in reverse", async () => {
    const server = await serveThree();
    server.faults.set([{ fault: { kind: "duplicates" } }, { fault: { kind: "reversed" } }]);
    const watcher = await (await watch(server, STREAMING)).count(4);
    server.put(service("d"));
    const log = ["ADDED c@4", "ADDED b@3", "ADDED a@2", "BOOKMARK @4 end", "ADDED d@5", "ADDED d@5"];
    expect((await watcher.count(6)).log).toEqual(log);
    expect(names(await get(server, SERVICES))).toEqual(["d", "c", "b", "a"]);
  });

  it("puts a line into running watches that is none", async () => {
    const server = await serveThree();
    const watcher = await watch(server, "watch=1&resourceVersion=4");
    await server.inject("services", "{not json\n");
    server.put(service("d"));
    await watcher.count(2);
    expect(watcher.text).toMatch(/^\{not json\n\{"type":"ADDED"/);
  });

  it("is an API server that goes away and comes back at the same address", async () => {
    const server = await serveThree();
    const { url } = server;
    const watcher = await watch(server, "watch=1&resourceVersion=4");
    await server.stop();
    expect((await watcher.ended()).end).toBe("broken");
    await expect(get(server, SERVICES)).rejects.toThrow();
    await server.start();
    expect(server.url).toBe(url);
    expect(names(await get(server, SERVICES))).toEqual(["a", "b", "c"]);
  });
});

interface SliceShape {
  readonly metadata: { readonly name: string; readonly namespace: string };
  readonly addressType: string;
  readonly endpoints: readonly { readonly addresses: readonly string[]; readonly nodeName: string }[];
}

describe("a generated cluster", () => {
  const slicesOf = (cluster: ClusterObjects): SliceShape[] =>
    [...cluster.all()].filter(({ kind }) => kind === "EndpointSlice") as unknown as SliceShape[];

  it("gives each endpoint an address of its own in its node's range, at most a hundred to a slice", () => {
    const cluster = new ClusterObjects({ services: 7, endpoints: 250, nodes: 5, dualStack: true });
    const slices = slicesOf(cluster);
    expect(slices.length).toBe(7 * 2 * 3);
    expect(Math.max(...slices.map(({ endpoints }) => endpoints.length))).toBe(100);
    const addresses = slices.flatMap(({ endpoints }) => endpoints.flatMap((endpoint) => endpoint.addresses));
    expect(new Set(addresses).size).toBe(7 * 250 * 2);
    expect(new Set(slices.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`)).size).toBe(slices.length);
    // 700 addresses a node and room: 1,024.
    expect(cluster.node(1)["spec"]).toEqual({
      podCIDR: "10.128.4.0/22",
      podCIDRs: ["10.128.4.0/22", "fd00:10:128::400/118"],
    });
    const onNode1 = slices.flatMap(({ endpoints }) =>
      endpoints.filter(({ nodeName }) => nodeName.startsWith("ip-10-0-0-11.")),
    );
    expect(
      onNode1.every(({ addresses: [address] }) => /^(10\.128\.[4-7]\.|fd00:10:128::[4-7])/.test(address ?? "")),
    ).toBe(true);
  });

  it("is the same in every run", () => {
    const shape = { services: 3, endpoints: 5, nodes: 2, apiServer: { address: "10.0.0.1", port: 6443 } };
    expect(JSON.stringify([...new ClusterObjects(shape).all()])).toBe(
      JSON.stringify([...new ClusterObjects(shape).all()]),
    );
  });

  it("is as heavy as a real one", async () => {
    const server = await serve();
    server.put(...new ClusterObjects({ services: 3, endpoints: 100, nodes: 10 }).all());
    const bytes = server.store
      .collection("endpointslices")
      .list()
      .reduce((sum, { tail }) => sum + tail.length, 0);
    expect(bytes / 300).toBeGreaterThan(330);
    expect(bytes / 300).toBeLessThan(450);
  });

  it("moves an endpoint to an address that nobody else has, and back", () => {
    const cluster = new ClusterObjects({ services: 2, endpoints: 3, nodes: 2 });
    const before = slicesOf(cluster).flatMap(({ endpoints }) => endpoints.flatMap(({ addresses }) => addresses));
    const { slice, removed, added } = cluster.move(4, Date.UTC(2026, 0, 2));
    expect(before).toContain(removed);
    expect(before).not.toContain(added);
    const now = (slice as unknown as SliceShape).endpoints.flatMap(({ addresses }) => addresses);
    expect(now).toEqual(before.slice(3).map((address) => (address === removed ? added : address)));
    expect(slice.metadata["annotations"]).toEqual({
      "endpoints.kubernetes.io/last-change-trigger-time": "2026-01-02T00:00:00.000Z",
    });
    expect(cluster.move(4, 0)).toMatchObject({ removed: added, added: removed });
  });

  it("is refused when it does not fit into the pods' range", () => {
    expect(() => new ClusterObjects({ services: 100_000, endpoints: 100, nodes: 10 })).toThrow(RangeError);
  });
});

describe("the control paths", () => {
  const cluster = new ClusterObjects({ services: 2, endpoints: 1, nodes: 1 });
  async function serveControlled(): Promise<{
    server: FakeApiServer;
    control: (name: string, body?: object) => Promise<Answer>;
  }> {
    const server: FakeApiServer = await serve({ control: createControl(() => server, cluster) });
    server.put(...cluster.all());
    const control = async (name: string, body: object = {}): Promise<Answer> => {
      const response = await fetch(`${server.url}/control/${name}`, { method: "POST", body: JSON.stringify(body) });
      return { status: response.status, headers: response.headers, body: await response.json() };
    };
    return { server, control };
  }

  it("write and delete any object, and tell the revision and the time", async () => {
    const { server, control } = await serveControlled();
    const { revision } = server.store;
    const put = await control("put", { objects: [service("x")] });
    expect(put.body).toEqual({ revision: revision + 1, timeMs: expect.closeTo(Date.now(), -4) });
    expect((await get(server, "/api/v1/namespaces/shop/services/x")).status).toBe(200);
    const deleted = await control("delete", { resource: "services", key: "shop/x" });
    expect(deleted.body.revision).toBe(revision + 2);
    expect((await get(server, "/api/v1/namespaces/shop/services/x")).status).toBe(404);
  });

  it("go back to a saved state, and forget history", async () => {
    const { server, control } = await serveControlled();
    const saved = await control("snapshot");
    await control("change");
    expect((await control("compact")).body.revision).toBe(saved.body.revision + 1);
    expect(server.store.collection("endpointslices").floor).toBe(saved.body.revision + 1);
    expect((await control("restore")).body.revision).toBe(saved.body.revision);
    await expect.poll(() => server.store.revision).toBe(saved.body.revision);
  });

  it("change who may do what, silence watches and break connections", async () => {
    const { server, control } = await serveControlled();
    const watcher = await watch(server, "watch=1&resourceVersion=1");
    await watcher.count(2);
    await control("silence", { resource: "services" });
    await control("put", { objects: [service("unheard")] });
    await control("disconnect");
    expect((await watcher.ended()).end).toBe("broken");
    expect(watcher.text).not.toContain("unheard");
    await control("access", RULES);
    expect((await get(server, SERVICES)).status).toBe(401);
    expect((await control("requests")).body.at(-1)).toMatchObject({ verb: "list", resource: "services", status: 401 });
  });

  it.each([
    { name: "nothing", body: {}, status: 404, error: "no such path" },
    { name: "restore", body: {}, status: 400, error: "nothing was saved: POST /control/snapshot first" },
    { name: "delete", body: { resource: "nodes", key: "x" }, status: 400, error: "there is no nodes x" },
    {
      name: "put",
      body: { objects: [{ kind: "Pod", metadata: { name: "x" } }] },
      status: 400,
      error: "the fake API server holds no Pod",
    },
  ])("refuse $name with a sentence when it cannot be", async ({ name, body, status, error }) => {
    const { control } = await serveControlled();
    expect(await control(name, body)).toMatchObject({ status, body: { error } });
  });
});

describe("the fake as a process", () => {
  it("serves a cluster, and changes it when told", async () => {
    const main = join(import.meta.dirname, "api-server/main.ts");
    const child = spawn(process.execPath, [main, "--services", "20", "--endpoints", "3", "--nodes", "2"]);
    running.push({ stop: async () => void (child.exitCode ?? child.kill("SIGKILL")) });
    const [line] = (await once(child.stdout, "data")) as [Buffer];
    const { url } = JSON.parse(line.toString());
    const control = async (name: string, body: object = {}): Promise<Record<string, unknown>> =>
      (await fetch(`${url}/control/${name}`, { method: "POST", body: JSON.stringify(body) })).json() as never;

    expect(await control("status")).toMatchObject({ objects: { services: 20, endpointslices: 20, nodes: 2 } });
    const { revision } = (await control("status")) as { revision: number };
    const outgoing = httpRequest(
      `${url}/apis/discovery.k8s.io/v1/endpointslices?watch=1&resourceVersion=${revision}`,
    ).end();
    const [response] = (await once(outgoing, "response")) as [IncomingMessage];
    const watcher = new Watcher(response);
    const change = await control("change");
    await watcher.count(1);
    expect(change["revision"]).toBe(revision + 1);
    expect(Math.abs((change["timeMs"] as number) - Date.now())).toBeLessThan(5000);
    expect(watcher.text).toContain(`"${change["added"]}"`);
    const churn = await control("churn", { changes: 10, perSecond: 200 });
    expect(churn).toMatchObject({ changes: 10, revision: revision + 11 });
    expect((churn["endMs"] as number) - (churn["startMs"] as number)).toBeGreaterThan(40);
    await watcher.count(11);
    await control("faults", { rules: [{ fault: { kind: "status", code: 503 } }] });
    expect((await fetch(`${url}${SERVICES}`)).status).toBe(503);
    child.kill("SIGTERM");
    const [code] = await once(child, "exit");
    expect(code).toBe(0);
  });
});
