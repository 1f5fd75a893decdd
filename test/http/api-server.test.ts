import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { AgentView, FlowFilter, FlowView } from "../../src/agent/view.ts";
import { askAgent, askList } from "../../src/cli/api-client.ts";
import { createApiServer, namesThisMachine } from "../../src/http/api-server.ts";
import { Failure } from "../../src/lib/errors.ts";
import { agentStatus, agentView, backendView, dropView, flowView, silentLog } from "./view-fixture.ts";

let directory: string;
const open: { close(): Promise<void> }[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "millrace-api-"));
});
afterEach(async () => {
  for (const server of open.splice(0)) await server.close();
  rmSync(directory, { recursive: true, force: true });
});

function apiServer(view = agentView(), tcpAddress = "") {
  const socketPath = join(directory, "run/api.sock");
  const server = createApiServer({ view, socketPath, tcpAddress, log: silentLog, onNotice() {} });
  open.push(server);
  return { ...server, socketPath };
}

describe("the API", () => {
  it("says of each notice where to read on", async () => {
    const notice = {
      object: "Devices",
      file: "",
      field: "",
      reason: "no-uplink",
      message: "none",
      severity: "error",
    } as const;
    const { app } = apiServer(agentView({ status: () => agentStatus({ notices: [notice] }) }));
    const { notices } = (await app.inject("/api/v1/status")).json();
    expect(notices).toEqual([{ ...notice, see: "docs/troubleshooting.md#no-uplink" }]);
  });

  it.each([
    ["/api/v1/status", { node: "node1", healthy: true }],
    ["/api/v1/services", [{ namespace: "default", name: "web" }]],
    ["/api/v1/backends", [{ service: "default/web", address: "10.244.1.5" }]],
    ["/api/v1/flows", [{ client: "192.168.122.51:40000" }]],
    ["/api/v1/drops", [{ service: "default/web", verdict: "drop_no_local_backend" }]],
  ])("answers %s", async (path, expected) => {
    const response = await apiServer().app.inject(path);
    expect(response.statusCode).toBe(200);
    expect(response.headers["content-type"]).toContain("application/json");
    expect(response.json()).toMatchObject(expected);
  });

  it.each(["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"] as const)("refuses %s with 405", async (method) => {
    const response = await apiServer().app.inject({ method, url: "/api/v1/status" });
    expect([response.statusCode, response.headers["allow"]]).toEqual([405, "GET"]);
    if (method !== "HEAD") expect(response.json()).toMatchObject({ code: "usage" });
  });

  it.each([
    ["/api/v1/nothing", 404, "not_found", "/api/v1/nothing"],
    [
      "/api/v1/flows?limit=10001",
      400,
      "usage",
      "limit must be a whole number from 0 to 10000: current value is '10001'",
    ],
    ["/api/v1/flows?limit=-1", 400, "usage", "limit"],
    ["/api/v1/flows?limit=ten", 400, "usage", "'ten'"],
    ["/api/v1/flows?port=65536", 400, "usage", "port must be a whole number from 0 to 65535"],
    ["/api/v1/flows?address=nowhere", 400, "usage", "address must be an IPv4 or IPv6 address, or a network"],
    ["/api/v1/flows?client=10.0.0.0/33", 400, "usage", "client must be an IPv4 or IPv6 address, or a network"],
    ["/api/v1/flows?state=dead", 400, "usage", "state must be syn-sent or"],
    ["/api/v1/flows?protocol=icmp", 400, "usage", "protocol must be TCP or UDP or SCTP: current value is 'ICMP'"],
    ["/api/v1/flows?path=xdp", 400, "usage", "path must be packet or socket"],
    ["/api/v1/services?selector=a%20b", 400, "usage", "selector must be a label selector"],
    ["/api/v1/backends?selector=a%20b", 400, "usage", "selector must be a label selector"],
    ["/api/v1/flows?selector=a%20b", 400, "usage", "selector must be a label selector"],
    ["/api/v1/drops?selector=a%20b", 400, "usage", "selector must be a label selector"],
    ["/api/v1/backends?all=yes", 400, "usage", "all must be true or false"],
    ["/api/v1/flows?service=../x", 400, "usage", "service must be"],
    ["/api/v1/flows?limit=1&limit=2", 400, "usage", "given twice"],
    ["/api/v1/flows?color=red", 400, "usage", "'color'"],
    ["/api/v1/status?x=1", 400, "usage", "'x'"],
  ])("answers %s with %i", async (url, status, code, message) => {
    const response = await apiServer().app.inject(url);
    expect(response.statusCode).toBe(status);
    expect(response.json()).toEqual({ code, message: expect.stringContaining(message) });
  });

  it("hands the filter of flows on in canonical form", async () => {
    const flows = vi.fn((_: FlowFilter) => [flowView()]);
    const { app } = apiServer(agentView({ flows }));
    const query =
      "address=FD00:0:0::5&client=10.1.2.3/8&port=80&protocol=tcp&path=packet&pod=web-1&service=web&limit=3";
    await app.inject(`/api/v1/flows?${query}`);
    await app.inject("/api/v1/flows");
    expect(flows.mock.calls).toEqual([
      [
        {
          services: ["default/web"],
          address: { address: "fd00::5", length: 128 },
          client: { address: "10.0.0.0", length: 8 },
          port: 80,
          protocol: "TCP",
          path: "packet",
          pod: "default/web-1",
          limit: 3,
        },
      ],
      [{ limit: 1000 }],
    ]);
  });

  it.each(["tcp", "UDP", "sctp"])("hands on that only flows of %s are wanted", async (protocol) => {
    const flows = vi.fn((_: FlowFilter) => [flowView()]);
    const response = await apiServer(agentView({ flows })).app.inject(`/api/v1/flows?protocol=${protocol}`);
    expect(response.statusCode).toBe(200);
    expect(flows.mock.calls).toEqual([[{ protocol: protocol.toUpperCase(), limit: 1000 }]]);
  });

  it("tells behind the flows how many there are, those over the limit too", async () => {
    function* flows(): Generator<FlowView, number> {
      yield flowView();
      return 11;
    }
    const server = apiServer(agentView({ flows }));
    await server.listen();
    expect(await askList(server.socketPath, "/api/v1/flows?limit=1")).toEqual({ records: [flowView()], matched: 11 });
    expect(await askList(server.socketPath, "/api/v1/services")).toMatchObject({ matched: 1 });
  });

  it.each([
    ["services", "service=nope", /^could not find Service default\/nope: there is none$/],
    ["services", "service=wbe", /there is none; did you mean default\/web\?$/],
    ["backends", "service=db", /there is none; did you mean shop\/db\?$/],
    ["flows", "service=shop/web", /there is none; did you mean default\/web\?$/],
    ["drops", "service=web,shop/d", /^could not find Service shop\/d: there is none; did you mean shop\/db\?$/],
    ["flows", "namespace=shpo", /^could not find namespace shpo: no Service is in it; did you mean shop\?$/],
    ["services", "namespace=shpo", /^could not find namespace shpo: no Service is in it; did you mean shop\?$/],
  ])("answers %s?%s with 404: %s", async (path, query, message) => {
    const serviceNames = () => ["default/web", "shop/db"];
    const response = await apiServer(agentView({ serviceNames })).app.inject(`/api/v1/${path}?${query}`);
    expect([response.statusCode, response.json().code]).toEqual([404, "not_found"]);
    expect(response.json().message).toMatch(message);
  });

  describe("of some Services", () => {
    const LABELS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
      "default/web": { app: "web" },
      "shop/web": { app: "web" },
      "shop/db": { app: "db" },
    };
    const known = { serviceNames: () => Object.keys(LABELS), labelsOf: (key: string) => LABELS[key] };
    const CASES = [
      ["", "default/web shop/web shop/db"],
      ["namespace=shop", "shop/web shop/db"],
      ["selector=app%3Dweb", "default/web shop/web"],
      ["namespace=shop&selector=app!%3Dweb", "shop/db"],
      ["service=web,shop/db", "default/web shop/db"],
      ["service=web,shop/db&selector=app%3Ddb", "shop/db"],
      ["selector=app%3Dnone", ""],
    ] as const;
    const namesOf = (isWanted: (key: string) => boolean = () => true): string =>
      Object.keys(LABELS).filter(isWanted).join(" ");

    it.each(CASES)("?%s asks the agent only for %j", async (query, wanted) => {
      const asked: string[] = [];
      const note = (isWanted?: (key: string) => boolean): [] => {
        asked.push(namesOf(isWanted));
        return [];
      };
      const { app } = apiServer(agentView({ ...known, services: note, backends: note }));
      for (const path of ["services", "backends"]) await app.inject(`/api/v1/${path}?${query}`);
      expect(asked).toEqual([wanted, wanted]);
    });

    it.each(CASES)("?%s shows drops of %j alone", async (query, wanted) => {
      const drops = Object.keys(LABELS).map((service) => dropView({ service }));
      const { app } = apiServer(agentView({ ...known, drops: () => drops }));
      const shown = (await app.inject(`/api/v1/drops?${query}`)).json() as { service: string }[];
      expect(shown.map(({ service }) => service).join(" ")).toBe(wanted);
    });

    it("says of which flows are wanted: with a selector of those Services that match it", async () => {
      const flows = vi.fn((_: FlowFilter) => [flowView()]);
      const { app } = apiServer(agentView({ ...known, flows }));
      for (const query of ["selector=app%3Dweb", "service=web,shop/db&selector=app%3Ddb", "selector=app%3Dnone"])
        await app.inject(`/api/v1/flows?${query}`);
      expect(flows.mock.calls.map(([{ services }]) => services)).toEqual([
        ["default/web", "shop/web"],
        ["shop/db"],
        [],
      ]);
    });
  });

  it("names a Failure by its code, and keeps the text of a defect to the log", async () => {
    const full = () => {
      throw new Failure("exhausted", "flows", "could not read flows: too many");
    };
    const broken = () => {
      throw new Error("secret detail");
    };
    const { app } = apiServer(agentView({ flows: full, services: broken }));
    const [flows, services] = [await app.inject("/api/v1/flows"), await app.inject("/api/v1/services")];
    expect([flows.statusCode, flows.json().code]).toEqual([507, "exhausted"]);
    expect([services.statusCode, services.json().code]).toEqual([500, "internal"]);
    expect(services.body).not.toContain("secret");
  });

  it("streams a hundred thousand backends as one array, and lets the loop turn meanwhile", async () => {
    const backends = Array.from({ length: 100_000 }, (_, index) => backendView({ index }));
    const server = apiServer(agentView({ backends: () => backends }));
    await server.listen();
    let turns = 0;
    const ticking = setInterval(() => turns++, 1);
    const answer = await askAgent<{ index: number }[]>(server.socketPath, "/api/v1/backends");
    clearInterval(ticking);
    expect([answer.length, answer.at(-1)?.index]).toEqual([100_000, 99_999]);
    expect(turns).toBeGreaterThan(10);
  });
});

describe("what is filtered", () => {
  const LOOKED_AT = 50_000;

  it("lets the loop turn while nothing matches", async () => {
    let turns = 0;
    let turnsAtEnd = 0;
    function* flows(): Iterable<FlowView | undefined> {
      for (let i = 0; i < LOOKED_AT; i++) yield busy(i);
      turnsAtEnd = turns;
      yield flowView();
    }
    // A row of a map that is read and is none of those asked for.
    const busy = (i: number): undefined => {
      for (let x = 0; x < 200; x++) Math.hypot(i, x);
    };
    const server = apiServer(agentView({ flows }));
    await server.listen();
    const ticking = setInterval(() => turns++, 1);
    expect(await askAgent(server.socketPath, "/api/v1/flows")).toEqual([flowView()]);
    clearInterval(ticking);
    expect(turnsAtEnd).toBeGreaterThan(3);
  });

  it("has a status of its own when reading fails at its start", async () => {
    const { app } = apiServer(
      agentView({
        // biome-ignore lint/correctness/useYield: it fails before there is anything
        *flows() {
          throw new Failure("kernel", "flows", "could not read flows");
        },
      }),
    );
    const response = await app.inject("/api/v1/flows");
    expect([response.statusCode, response.json().code]).toEqual([500, "kernel"]);
  });

  it("is filtered by the agent, which need not look at backends of other Services", async () => {
    const asked: unknown[] = [];
    const backends: AgentView["backends"] = (isWanted, all) => {
      asked.push([["default/web", "shop/web"].filter((key) => isWanted?.(key)), all]);
      return [];
    };
    const { app } = apiServer(agentView({ backends, serviceNames: () => ["default/web", "shop/web"] }));
    for (const query of ["", "?service=web", "?namespace=shop&all=true"]) await app.inject(`/api/v1/backends${query}`);
    expect(asked).toEqual([
      [["default/web", "shop/web"], false],
      [["default/web"], false],
      [["shop/web"], true],
    ]);
  });

  it("leaves out drops of other Services, and those of none", async () => {
    const drops = [dropView(), dropView({ service: "" }), dropView({ service: "shop/db" })];
    const view = agentView({ drops: () => drops, serviceNames: () => ["default/web", "shop/db"] });
    const ask = async (query: string) => (await apiServer(view).app.inject(`/api/v1/drops${query}`)).json();
    expect(await ask("")).toEqual(drops);
    expect(await ask("?service=web")).toEqual([drops[0]]);
    expect(await ask("?namespace=shop")).toEqual([drops[2]]);
  });
});

describe("the unix socket", () => {
  it("is 0600 in a directory of 0700, and is gone after close", async () => {
    const server = apiServer();
    await server.listen();
    const mode = (path: string) => (statSync(path).mode & 0o777).toString(8);
    expect([mode(server.socketPath), mode(join(directory, "run"))]).toEqual(["600", "700"]);
    await server.close();
    expect(existsSync(server.socketPath)).toBe(false);
  });

  it("replaces the socket of a process that ended", async () => {
    const server = apiServer();
    await server.listen();
    await server.close();
    await leaveStaleSocket(server.socketPath);
    const next = apiServer();
    await next.listen();
    expect(await askAgent(next.socketPath, "/api/v1/status")).toMatchObject({ node: "node1" });
  });

  it("is refused while another process answers on it, which goes on answering", async () => {
    const server = apiServer();
    await server.listen();
    await expect(apiServer().listen()).rejects.toMatchObject({ code: "conflict", subject: server.socketPath });
    expect(await askAgent(server.socketPath, "/api/v1/status")).toMatchObject({ node: "node1" });
  });

  it("never removes a file that is no socket", async () => {
    const server = createApiServer({
      view: agentView(),
      socketPath: join(directory, "precious"),
      tcpAddress: "",
      log: silentLog,
      onNotice() {},
    });
    open.push(server);
    writeFileSync(join(directory, "precious"), "text");
    await expect(server.listen()).rejects.toMatchObject({ code: "conflict" });
    expect(existsSync(join(directory, "precious"))).toBe(true);
  });
});

/** A bound socket whose process ended without removing it: another name for it outlives the listener's own. */
async function leaveStaleSocket(path: string): Promise<void> {
  const { linkSync } = await import("node:fs");
  const holder = createServer();
  await new Promise<void>((resolve) => holder.listen(`${path}.old`, resolve));
  linkSync(`${path}.old`, path);
  await new Promise((resolve) => holder.close(resolve));
}

describe("over TCP", () => {
  it.each([
    ["localhost", true],
    ["localhost:10255", true],
    ["127.0.0.1", true],
    ["127.0.0.9:80", true],
    ["[::1]:10255", true],
    ["192.168.122.11:10255", true],
    ["192.168.122.12", false],
    ["evil.example", false],
    ["localhost.evil.example", false],
    ["127.0.0.1.evil.example:80", false],
    ["", false],
    [undefined, false],
  ])("the host %s is answered: %s", (host, answered) => {
    expect(namesThisMachine(host, "192.168.122.11")).toBe(answered);
  });

  it("answers by address and refuses a name that was rebound to it", async () => {
    const server = apiServer(agentView(), "127.0.0.1:0");
    await server.listen();
    const port = server.tcp?.port() ?? 0;
    expect((await fetch(`http://127.0.0.1:${port}/api/v1/status`)).status).toBe(200);
    expect(await statusWithHost(port, "evil.example")).toBe(403);
  });

  it("is off when no address is given", () => {
    expect(apiServer().tcp).toBeUndefined();
  });
});

function statusWithHost(port: number, host: string): Promise<number | undefined> {
  const { promise, resolve, reject } = Promise.withResolvers<number | undefined>();
  request({ port, host: "127.0.0.1", path: "/api/v1/status", headers: { host } }, (response) => {
    response.resume();
    resolve(response.statusCode);
  })
    .on("error", reject)
    .end();
  return promise;
}
