import { createServer } from "node:http";
import { afterEach, describe, expect, it, vi } from "vitest";
import { createHealthServer } from "../../src/http/health-server.ts";
import { createListener } from "../../src/http/listener.ts";
import type { Notice } from "../../src/model/objects.ts";
import { agentStatus, agentView, silentLog } from "./view-fixture.ts";

const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const server of open.splice(0)) await server.close();
});

function healthServer(
  status = agentStatus(),
  address = "127.0.0.1:0",
  onNotice: (n: Notice | undefined) => void = () => {},
) {
  const server = createHealthServer({ view: agentView({ status: () => status }), address, log: silentLog, onNotice });
  open.push(server);
  return server;
}

describe("/healthz", () => {
  it("answers 200 with kube-proxy's fields while the agent is healthy", async () => {
    const { app } = healthServer();
    const response = await app.inject("/healthz");
    expect(response.statusCode).toBe(200);
    const body = response.json();
    expect(body).toMatchObject({ lastUpdated: "2023-11-14T22:14:20.000Z", healthy: true, reasons: [] });
    expect(Math.abs(Date.parse(body.currentTime) - Date.now())).toBeLessThan(5000);
  });

  it("answers 503 with the reasons when it is not, and /livez still answers 200", async () => {
    const { app } = healthServer(agentStatus({ healthy: false, unhealthy: ["the last apply failed"] }));
    const response = await app.inject("/healthz");
    expect([response.statusCode, response.json().reasons]).toEqual([503, ["the last apply failed"]]);
    expect((await app.inject("/livez")).statusCode).toBe(200);
  });

  it("does not ask the agent for /livez: it answers while a status cannot be made", async () => {
    const status = vi.fn(() => {
      throw new Error("no status");
    });
    const server = createHealthServer({ view: agentView({ status }), address: ":0", log: silentLog, onNotice() {} });
    open.push(server);
    expect((await server.app.inject("/livez")).statusCode).toBe(200);
    expect((await server.app.inject("/healthz")).statusCode).toBe(500);
  });

  it("serves over its port, and ends open connections when it closes", async () => {
    const server = healthServer();
    await server.listen();
    expect((await fetch(`http://127.0.0.1:${server.port()}/livez`)).status).toBe(200);
    await server.close();
    expect(server.port()).toBeUndefined();
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
      onNotice(notice) {
        notices.push(notice);
        if (notice === undefined) over.resolve();
      },
    });
    open.push(listener);
    await listener.listen();
    expect(notices).toMatchObject([{ reason: "port-taken", severity: "warning" }]);
    expect(listener.port()).toBeUndefined();
    await new Promise((resolve) => holder.close(resolve));
    await over.promise;
    expect(await (await fetch(`http://127.0.0.1:${port}/`)).text()).toBe("here");
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
