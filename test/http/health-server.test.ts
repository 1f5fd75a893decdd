import { once } from "node:events";
import { createServer } from "node:http";
import { connect } from "node:net";
import { afterEach, describe, expect, it, vi } from "vitest";
import { createHealthServer } from "../../src/http/health-server.ts";
import { createListener } from "../../src/http/listener.ts";
import { createProbeCounts } from "../../src/http/probe-counts.ts";
import type { Notice } from "../../src/model/objects.ts";
import { agentView, healthView, silentLog } from "./view-fixture.ts";

const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const server of open.splice(0)) await server.close();
});

/** Nothing but the value kept ready may be asked: a status is work for the main loop, and anybody may ask. */
const noStatus = vi.fn(() => {
  throw new Error("no status");
});

function healthServer(given: Parameters<typeof healthView>[0] = {}, health = () => healthView(given)) {
  const view = agentView({ health, status: noStatus });
  const server = createHealthServer({ view, address: "127.0.0.1:0", log: silentLog, onNotice() {} });
  open.push(server);
  return server;
}

/** What Go's http.Server of kube-proxy sends, of those that are its own. */
const KUBE_PROXY_HEADERS = { "content-type": "application/json", "x-content-type-options": "nosniff" };

describe("/healthz", () => {
  it("answers 200 with kube-proxy's fields and headers while the agent is healthy", async () => {
    const { app } = healthServer();
    const response = await app.inject("/healthz");
    expect(response.statusCode).toBe(200);
    expect(response.headers).toMatchObject(KUBE_PROXY_HEADERS);
    const body = response.json();
    const family = { lastUpdated: "2023-11-14T22:14:20.000Z", healthy: true };
    expect(body).toMatchObject({
      nodeEligible: true,
      healthy: true,
      status: { IPv4: family },
      reasons: [],
    });
    // While all is well "last updated" is now: what asks for it wants to know whether it is recent.
    expect(body.lastUpdated).toBe(body.currentTime);
    expect(Math.abs(Date.parse(body.currentTime) - Date.now())).toBeLessThan(5000);
  });

  it("answers 503 with the reasons when it is not, and /livez still answers 200", async () => {
    const { app } = healthServer({ healthy: false, reasons: ["a change could not be brought in force"] });
    const response = await app.inject("/healthz");
    expect([response.statusCode, response.json()]).toMatchObject([
      503,
      {
        healthy: false,
        lastUpdated: "2023-11-14T22:14:20.000Z",
        status: { IPv4: { healthy: false } },
        reasons: ["a change could not be brought in force"],
      },
    ]);
    expect(response.headers).toMatchObject(KUBE_PROXY_HEADERS);
    expect((await app.inject("/livez")).statusCode).toBe(200);
  });

  it("answers 503 while the node is about to go, though the agent is healthy, and /livez 200", async () => {
    const { app } = healthServer({ nodeEligible: false });
    const response = await app.inject("/healthz");
    expect([response.statusCode, response.json()]).toMatchObject([503, { nodeEligible: false, healthy: true }]);
    const livez = await app.inject("/livez");
    expect(livez.statusCode).toBe(200);
    expect(livez.headers).toMatchObject(KUBE_PROXY_HEADERS);
    expect(Object.keys(livez.json()).sort()).toEqual(["currentTime", "healthy", "lastUpdated", "status"]);
  });

  it("and /livez answer 503 when a change does not come into force", async () => {
    const { app } = healthServer({
      healthy: false,
      live: false,
      reasons: ["a change has not come into force for 60 s"],
    });
    const answers = [await app.inject("/healthz"), await app.inject("/livez")];
    expect(answers.map(({ statusCode }) => statusCode)).toEqual([503, 503]);
    expect(answers[1]!.json()).toMatchObject({ healthy: false, lastUpdated: "2023-11-14T22:14:20.000Z" });
  });

  it("answer HEAD too, and count what they answered", async () => {
    const probes = createProbeCounts();
    let healthy = true;
    const view = agentView({ health: () => healthView({ healthy }) });
    const server = createHealthServer({ view, address: "127.0.0.1:0", log: silentLog, onNotice() {}, probes });
    open.push(server);
    const head = await server.app.inject({ method: "HEAD", url: "/healthz" });
    expect([head.statusCode, head.body]).toEqual([200, ""]);
    healthy = false;
    await server.app.inject("/healthz");
    await server.app.inject("/healthz");
    await server.app.inject("/livez");
    expect((await server.app.inject({ method: "POST", url: "/livez" })).statusCode).toBe(405);
    expect(probes.of("healthz")).toEqual([
      { status: 200, answers: 1 },
      { status: 503, answers: 2 },
    ]);
    expect(probes.of("livez")).toEqual([{ status: 200, answers: 1 }]);
  });

  it("asks for what is kept ready alone", async () => {
    const { app } = healthServer();
    await app.inject("/healthz");
    await app.inject("/livez");
    expect(noStatus).not.toHaveBeenCalled();
    const failing = healthServer({}, () => {
      throw new Error("a path of this machine");
    });
    const response = await failing.app.inject("/healthz");
    expect([response.statusCode, response.body.includes("a path")]).toEqual([500, false]);
  });

  it("ends the connections that one client has beyond its share, and serves others", async () => {
    const server = healthServer();
    await server.listen();
    const port = server.port()!;
    const sockets = Array.from({ length: 40 }, () => connect(port, "127.0.0.1"));
    const ended = vi.fn();
    for (const socket of sockets) socket.on("error", () => undefined).once("close", ended);
    await vi.waitFor(() => expect(ended).toHaveBeenCalledTimes(8));
    const socket = connect({ port, host: "127.0.0.1", localAddress: "127.0.0.2" });
    socket.write("GET /livez HTTP/1.1\r\nHost: node\r\n\r\n");
    const [answer] = (await once(socket, "data")) as [Buffer];
    expect(String(answer)).toMatch(/^HTTP\/1\.1 200/);
    sockets[0]!.destroy();
    for (const one of [...sockets, socket]) one.destroy();
  });

  it("serves over its port, and ends open connections when it closes", async () => {
    const server = healthServer();
    await server.listen();
    expect((await fetch(`http://127.0.0.1:${server.port()}/livez`)).status).toBe(200);
    await server.close();
    expect(server.port()).toBeUndefined();
  });
});

describe("a listener of all addresses", () => {
  /** As on a machine without IPv6: the first attempt at "::" is refused. */
  function withoutIPv6(code: string) {
    const server = createServer((_, response) => response.end("here"));
    const listen = server.listen.bind(server);
    const hosts: unknown[] = [];
    server.listen = ((options: { readonly host?: string; readonly port: number }) => {
      hosts.push(options.host);
      if (options.host !== "::") return listen(options);
      process.nextTick(() => server.emit("error", Object.assign(new Error(code), { code })));
      return server;
    }) as typeof server.listen;
    return { server, hosts };
  }

  it.each(["EAFNOSUPPORT", "EADDRNOTAVAIL"])(
    "takes those of IPv4 where there is no IPv6 (%s), without a word",
    async (code) => {
      const { server, hosts } = withoutIPv6(code);
      const onNotice = vi.fn();
      const subject = { object: "test", field: "", purpose: "a test" };
      const listener = createListener({ server, address: { host: "::", port: 0 }, subject, onNotice });
      open.push(listener);
      await listener.listen();
      expect(hosts).toEqual(["::", "0.0.0.0"]);
      expect(await (await fetch(`http://127.0.0.1:${listener.port()}/`)).text()).toBe("here");
      expect(onNotice.mock.calls).toEqual([[undefined]]);
    },
  );

  it("says what is wrong when it is something else", async () => {
    const { server, hosts } = withoutIPv6("EACCES");
    const onNotice = vi.fn();
    const subject = { object: "test", field: "", purpose: "a test" };
    const listener = createListener({ server, address: { host: "::", port: 0 }, subject, onNotice });
    open.push(listener);
    await listener.listen();
    expect(hosts).toEqual(["::"]);
    expect(onNotice).toHaveBeenCalledWith(expect.objectContaining({ reason: "listen-failed" }));
  });
});

describe("a listener whose port is taken", () => {
  it("gives a notice, tries again, and takes the notice back once it listens", async () => {
    const holder = createServer();
    await new Promise<void>((resolve) => holder.listen(0, "127.0.0.1", resolve));
    const { port } = holder.address() as { port: number };
    const notices: (Notice | undefined)[] = [];
    const over = Promise.withResolvers<void>();
    const listener = createListener({
      server: createServer((_, response) => response.end("here")),
      address: { host: "127.0.0.1", port },
      subject: { object: "test", field: "", purpose: "a test" },
      retryMs: 10,
      holderOf: async () => "node (process 7)",
      onNotice(notice) {
        notices.push(notice);
        if (notice === undefined) over.resolve();
      },
    });
    open.push(listener);
    await listener.listen();
    expect(notices).toMatchObject([{ reason: "port-taken", severity: "warning" }]);
    expect(notices[0]?.message).toContain("node (process 7) has this port; trying again");
    expect(listener.port()).toBeUndefined();
    await new Promise((resolve) => holder.close(resolve));
    await over.promise;
    expect(await (await fetch(`http://127.0.0.1:${port}/`)).text()).toBe("here");
  });

  it("says that another process has it where that cannot be told, and asks seldom", async () => {
    const holder = createServer();
    await new Promise<void>((resolve) => holder.listen(0, "127.0.0.1", resolve));
    open.push({ close: () => new Promise((resolve) => holder.close(() => resolve())) });
    const { port } = holder.address() as { port: number };
    const notices: (Notice | undefined)[] = [];
    const third = Promise.withResolvers<void>();
    const holderOf = vi.fn(async () => "");
    const listener = createListener({
      server: createServer(),
      address: { host: "127.0.0.1", port },
      subject: { object: "test", field: "", purpose: "a test" },
      ...{ retryMs: 5, holderOf },
      onNotice(notice) {
        if (notices.push(notice) === 3) third.resolve();
      },
    });
    open.push(listener);
    await listener.listen();
    await third.promise;
    expect(notices[2]?.message).toBe(
      "could not serve a test: another process has this port; trying again every 0.005 s",
    );
    expect(holderOf).toHaveBeenCalledExactlyOnceWith(port);
  });

  it("does not wait for who takes long to find, and names it when it is found", async () => {
    const holder = createServer();
    await new Promise<void>((resolve) => holder.listen(0, "127.0.0.1", resolve));
    open.push({ close: () => new Promise((resolve) => holder.close(() => resolve())) });
    const { port } = holder.address() as { port: number };
    const search = Promise.withResolvers<string>();
    const messages: string[] = [];
    const named = Promise.withResolvers<void>();
    const listener = createListener({
      server: createServer(),
      address: { host: "127.0.0.1", port },
      subject: { object: "test", field: "", purpose: "a test" },
      ...{ retryMs: 5, holderOf: () => search.promise },
      onNotice(notice) {
        messages.push(notice?.message ?? "");
        search.resolve("kube-proxy (process 9)");
        if (messages.at(-1)?.includes("kube-proxy (process 9) has this port") === true) named.resolve();
      },
    });
    open.push(listener);
    await listener.listen();
    expect(messages[0]).toContain("another process has this port");
    await named.promise;
  });

  it("stops trying when it is closed", async () => {
    const holder = createServer();
    await new Promise<void>((resolve) => holder.listen(0, "127.0.0.1", resolve));
    open.push({ close: () => new Promise((resolve) => holder.close(() => resolve())) });
    const { port } = holder.address() as { port: number };
    const listener = createListener({
      server: createServer(),
      address: { host: "127.0.0.1", port },
      subject: { object: "test", field: "", purpose: "a test" },
      onNotice() {},
    });
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    try {
      await listener.listen();
      expect(vi.getTimerCount()).toBe(1);
      await listener.close();
      expect(vi.getTimerCount()).toBe(0);
    } finally {
      vi.useRealTimers();
    }
  });
});
