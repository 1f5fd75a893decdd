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

const ask = (port: number, { method = "GET", host = "127.0.0.1" } = {}) =>
  fetch(`http://${host}:${port}/`, { method, headers: { connection: "close" } });

/** So many local endpoints of IPv4. */
const ofIPv4 = (count: number) => ({ IPv4: count, IPv6: 0 });

describe("a health check node port", () => {
  it("answers 200 with the number of local endpoints, 503 when there is none", async () => {
    const port = await freePort();
    const made = servers();
    made.update([{ service: "shop/web", port, localEndpoints: ofIPv4(2) }], true);
    const response = await vi.waitFor(() => ask(port));
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({
      service: { namespace: "shop", name: "web" },
      localEndpoints: 2,
      serviceProxyHealthy: true,
    });
    made.update([{ service: "shop/web", port, localEndpoints: ofIPv4(0) }], true);
    expect((await ask(port)).status).toBe(503);
  });

  it("answers of the family that it is asked in", async () => {
    const port = await freePort();
    const made = servers();
    for (const localEndpoints of [
      { IPv4: 2, IPv6: 0 },
      { IPv4: 0, IPv6: 1 },
    ]) {
      made.update([{ service: "shop/web", port, localEndpoints }], true);
      for (const [family, host] of [
        ["IPv4", "127.0.0.1"],
        ["IPv6", "[::1]"],
      ] as const) {
        const response = await vi.waitFor(() => ask(port, { host }));
        const count = localEndpoints[family];
        expect(response.status).toBe(count > 0 ? 200 : 503);
        expect(response.headers.get("x-load-balancing-endpoint-weight")).toBe(String(count));
        expect(await response.json()).toMatchObject({ localEndpoints: count });
      }
    }
  });

  it.each(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])("answers %s as kube-proxy does", async (method) => {
    const port = await freePort();
    const made = servers();
    for (const count of [2, 0]) {
      made.update([{ service: "shop/web", port, localEndpoints: ofIPv4(count) }], true);
      const response = await vi.waitFor(() => ask(port, { method }));
      const names = ["connection", "content-length", "content-type", "date", "x-content-type-options"];
      expect(response.status).toBe(count > 0 ? 200 : 503);
      expect([...response.headers.keys()]).toEqual([...names, "x-load-balancing-endpoint-weight"]);
      expect(Object.fromEntries(response.headers)).toMatchObject({
        "content-type": "application/json",
        "x-content-type-options": "nosniff",
        "x-load-balancing-endpoint-weight": String(count),
      });
      expect((await response.text()) === "").toBe(method === "HEAD");
    }
  });

  it("answers 503 while the proxy is not healthy, with its endpoints all the same, and 200 again after that", async () => {
    const port = await freePort();
    const made = servers();
    const list = [{ service: "shop/web", port, localEndpoints: ofIPv4(2) }];
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
    made.update([{ service: "shop/old", port, localEndpoints: ofIPv4(1) }], true);
    await vi.waitFor(() => ask(port));
    made.update([{ service: "shop/new", port, localEndpoints: ofIPv4(1) }], true);
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
        { service: "shop/a", port: taken, localEndpoints: ofIPv4(1) },
        { service: "shop/b", port: free, localEndpoints: ofIPv4(1) },
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
