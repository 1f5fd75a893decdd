import { createServer } from "node:http";
import { afterEach, describe, expect, it, vi } from "vitest";
import { createServiceHealthServers } from "../../src/http/service-health-servers.ts";
import { silentLog } from "./view-fixture.ts";

const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const server of open.splice(0)) await server.close();
});

function servers() {
  const made = createServiceHealthServers(silentLog);
  open.push(made);
  return made;
}

/** A port that nobody has at the moment. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const ask = (port: number, method = "GET") =>
  fetch(`http://127.0.0.1:${port}/`, { method, headers: { connection: "close" } });

describe("a health check node port", () => {
  it("answers 200 with the number of local endpoints, 503 when there is none", async () => {
    const port = await freePort();
    const made = servers();
    made.update([{ service: "shop/web", port, localEndpoints: 2 }], true);
    const response = await vi.waitFor(() => ask(port));
    expect(response.status).toBe(200);
    expect(response.headers.get("x-load-balancing-endpoint-weight")).toBe("2");
    expect(await response.json()).toEqual({
      service: { namespace: "shop", name: "web" },
      localEndpoints: 2,
      serviceProxyHealthy: true,
    });
    made.update([{ service: "shop/web", port, localEndpoints: 0 }], true);
    expect((await ask(port)).status).toBe(503);
    expect((await ask(port, "POST")).status).toBe(405);
  });

  it("answers 503 while the proxy is not healthy, with its endpoints all the same, and 200 again after that", async () => {
    const port = await freePort();
    const made = servers();
    const list = [{ service: "shop/web", port, localEndpoints: 2 }];
    made.update(list, false);
    const response = await vi.waitFor(() => ask(port));
    expect(response.status).toBe(503);
    expect(await response.json()).toMatchObject({ localEndpoints: 2, serviceProxyHealthy: false });
    made.update(list, true);
    expect((await ask(port)).status).toBe(200);
  });

  it("closes when its Service is gone, and passes to another Service", async () => {
    const port = await freePort();
    const made = servers();
    made.update([{ service: "shop/old", port, localEndpoints: 1 }], true);
    await vi.waitFor(() => ask(port));
    made.update([{ service: "shop/new", port, localEndpoints: 1 }], true);
    const body = await vi.waitFor(async () => (await ask(port)).json());
    expect(body).toMatchObject({ service: { name: "new" } });
    made.update([], true);
    await vi.waitFor(() => expect(ask(port)).rejects.toThrow());
  });

  it("that is taken gives a notice naming Service and field, and the others go on", async () => {
    const holder = createServer();
    await new Promise<void>((resolve) => holder.listen(0, resolve));
    open.push({ close: () => new Promise((resolve) => holder.close(() => resolve())) });
    const { port: taken } = holder.address() as { port: number };
    const free = await freePort();
    const made = servers();
    made.update(
      [
        { service: "shop/a", port: taken, localEndpoints: 1 },
        { service: "shop/b", port: free, localEndpoints: 1 },
      ],
      true,
    );
    expect((await vi.waitFor(() => ask(free))).status).toBe(200);
    await vi.waitFor(() => expect(made.notices()).toHaveLength(1));
    expect(made.notices()).toMatchObject([
      { object: "Service shop/a", field: "spec.healthCheckNodePort", reason: "port-taken" },
    ]);
    made.update([], true);
    expect(made.notices()).toEqual([]);
  });
});
