import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import {
  type AddressInfo,
  connect as connectTcp,
  createServer as createTcpServer,
  type LookupFunction,
  type Server,
  type Socket,
} from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { ApiError } from "../../src/kube/api-error.ts";
import { type Connection, type ConnectionOptions, createConnection } from "../../src/kube/connection.ts";
import {
  type ApiRequestOptions,
  type ApiResponse,
  type ApiTransport,
  createTransport,
} from "../../src/kube/transport.ts";
import { type Authority, createAuthority } from "./certificates.ts";
import { execCredential, writeKubeconfig, writeScript } from "./kubeconfig-file.ts";
import { ok, onlyWhen, startTlsServer, type TlsServer } from "./tls-server.ts";

const NAMES = ["IP:127.0.0.1", "DNS:kubernetes.default.svc"];

let authorities: string;
let authority: Authority;
let dir: string;
/** Ended after each test, newest first. */
let cleanups: (() => unknown)[];

beforeAll(() => {
  authorities = mkdtempSync(join(tmpdir(), "authorities-"));
  authority = createAuthority(authorities, "kubernetes");
  return () => rmSync(authorities, { recursive: true });
});

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "transport-"));
  cleanups = [];
});

afterEach(async () => {
  for (const cleanup of cleanups.reverse()) await cleanup();
  rmSync(dir, { recursive: true });
});

/** A server whose certificate is for `names`; asks for client certificates without insisting, as kube-apiserver. */
async function serve(options: { names?: string[]; by?: Authority; notAfter?: Date; strict?: boolean } = {}) {
  const { names = NAMES, by = authority, notAfter, strict = false } = options;
  const { certificate, key } = by.issue({ commonName: "kube-apiserver", names, ...(notAfter ? { notAfter } : {}) });
  const clients = { requestCert: true, rejectUnauthorized: strict, ca: authority.certificate };
  const server = await startTlsServer({ cert: certificate, key, ...clients });
  cleanups.push(() => server.close());
  return server;
}

/** A TCP server that does with connections what the test says. */
async function serveTcp(take: (socket: Socket) => void): Promise<{ url: string; server: Server }> {
  const sockets = new Set<Socket>();
  const server = createTcpServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    take(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`, server };
}

/** A port that refuses connections. */
async function refusingUrl(): Promise<string> {
  const { url, server } = await serveTcp(() => {});
  await new Promise((done) => server.close(done));
  return url;
}

const base64 = (text: string) => Buffer.from(text).toString("base64");

function clusterAt(url: string, by = authority): Record<string, unknown> {
  return { server: url, "certificate-authority-data": base64(by.certificate) };
}

function transportTo(
  options: Partial<ConnectionOptions>,
  lookup?: LookupFunction,
): { transport: ApiTransport; connection: Connection } {
  const connection = createConnection({
    stateDir: join(dir, "state"),
    serviceAccount: join(dir, "none"),
    env: {},
    ...options,
  });
  const transport = createTransport(connection, "millrace/test", lookup);
  cleanups.push(() => transport.close());
  return { transport, connection };
}

/** A transport by a kubeconfig of this cluster and user. */
function transportBy(cluster: Record<string, unknown>, user: Record<string, unknown> = {}): ApiTransport {
  return transportTo({ kubeconfig: writeKubeconfig(dir, { cluster, user }) }).transport;
}

function get(transport: ApiTransport, options: Partial<ApiRequestOptions> = {}): Promise<ApiResponse> {
  const all = {
    signal: AbortSignal.timeout(20_000),
    headTimeoutMs: 5_000,
    resource: "services",
    verb: "LIST" as const,
  };
  return transport.get("/api/v1/services", { limit: "500" }, { ...all, ...options });
}

async function readAll(body: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
}

const text = ({ body }: ApiResponse) => readAll(body);

/** Status, once the body is read. */
async function status(transport: ApiTransport, options: Partial<ApiRequestOptions> = {}): Promise<number> {
  const response = await get(transport, options);
  await text(response);
  return response.status;
}

const seenClients = ({ seen }: TlsServer) => seen.map(({ client }) => client);
const seenTokens = ({ seen }: TlsServer) => seen.map(({ authorization }) => authorization);

/** Of this process' connection to a local port: what the kernel waits for (see proc_net_tcp), and how long. */
function tcpTimer(port: number): { kind: string; seconds: number } {
  const remote = `0100007F:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const line = readFileSync("/proc/self/net/tcp", "utf8")
    .split("\n")
    .find((row) => row.trim().split(/\s+/)[2] === remote);
  const [kind = "", ticks = ""] = line?.trim().split(/\s+/)[5]?.split(":") ?? [];
  return { kind: kind === "02" ? "keepalive" : kind, seconds: Number.parseInt(ticks, 16) / 100 };
}

describe("a GET", () => {
  it("brings path, query and headers there, and status, headers and body back", async () => {
    const server = await serve();
    const transport = transportBy({ ...clusterAt(`${server.url}/k8s/cluster-1/`) }, { token: "t1", as: "other" });
    const response = await get(transport);
    expect([response.status, response.headers["content-type"], await text(response)]).toEqual([
      200,
      "application/json",
      '{"kind":"List"}',
    ]);
    expect(server.seen).toMatchObject([
      {
        url: "/k8s/cluster-1/api/v1/services?limit=500",
        authorization: "Bearer t1",
        headers: { "user-agent": "millrace/test", accept: "application/json", "impersonate-user": "other" },
      },
    ]);
  });

  it("uses a connection again once an answer was read", async () => {
    const server = await serve();
    const transport = transportBy(clusterAt(server.url));
    for (let i = 0; i < 3; i++) await status(transport);
    expect(new Set(server.seen.map(({ connection }) => connection)).size).toBe(1);
  });

  it("is sent once more when the server closed the idle connection it was sent on", async () => {
    const server = await serve();
    const transport = transportBy(clusterAt(server.url));
    await status(transport);
    // The server's end closes at the very moment of the next request.
    server.answer = (request, response) => {
      server.answer = ok;
      request.socket.destroy();
      response.destroy();
    };
    expect(await status(transport)).toBe(200);
    expect(transport.stats().requests.map(({ code, count }) => [code, count])).toEqual([
      ["200", 2],
      ["<error>", 1],
    ]);
  });

  it("keeps its connection under TCP keep-alive while an answer lasts", async () => {
    const server = await serve();
    server.answer = (_, response) => void response.writeHead(200).write("event\n");
    const transport = transportBy(clusterAt(server.url));
    const response = await get(transport);
    const timer = tcpTimer(server.port);
    expect(timer.kind).toBe("keepalive");
    expect(timer.seconds).toBeGreaterThan(5);
    expect(timer.seconds).toBeLessThanOrEqual(10);
    await response.body[Symbol.asyncIterator]().return?.();
  });

  it("that is left early closes its connection", async () => {
    const server = await serve();
    const closed = Promise.withResolvers<void>();
    server.answer = (_, response) => {
      response.writeHead(200).write("event\n");
      response.once("close", closed.resolve);
    };
    for await (const chunk of (await get(transportBy(clusterAt(server.url)))).body) {
      expect(Buffer.from(chunk).toString()).toBe("event\n");
      break;
    }
    await closed.promise;
  });

  it.each([
    [429, { "retry-after": "7" }],
    [403, {}],
    [500, {}],
    [410, {}],
  ])("hands a %i through with its headers", async (code, headers) => {
    const server = await serve();
    server.answer = (_, response) => response.writeHead(code, headers).end("no");
    const response = await get(transportBy(clusterAt(server.url)));
    expect(response).toMatchObject({ status: code, headers });
    expect([await text(response), server.seen.length]).toEqual(["no", 1]);
  });

  it("asks a plain HTTP server, too", async () => {
    const server = createHttpServer(ok).listen(0, "127.0.0.1");
    cleanups.push(() => server.close());
    await once(server, "listening");
    const { transport } = transportTo({ apiServer: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
    expect(await status(transport)).toBe(200);
  });
});

describe("without the cluster's DNS", () => {
  const NAMED = "https://api.cluster.example:6443";
  const silent = () => vi.fn<LookupFunction>(() => undefined);

  it("a name that nobody resolves costs its share of the time, and the next way is taken", async () => {
    const server = await serve();
    const kubeconfig = writeKubeconfig(dir, { cluster: clusterAt(server.url), user: {} });
    const resolve = silent();
    const { transport } = transportTo({ kubeconfig, apiServer: NAMED }, resolve);
    const startedMs = performance.now();
    expect(await status(transport, { headTimeoutMs: 2_000 })).toBe(200);
    // Half of the time for two servers.
    expect(performance.now() - startedMs).toBeLessThan(1_900);
    expect(performance.now() - startedMs).toBeGreaterThan(900);
    // From now on the one that answers is asked first.
    expect(await status(transport)).toBe(200);
    expect(resolve).toHaveBeenCalledTimes(1);
  });

  it("a name is asked for once, however many wait for it", async () => {
    const resolve = silent();
    const { transport } = transportTo({ apiServer: NAMED }, resolve);
    const asked = Array.from({ length: 5 }, () => get(transport, { headTimeoutMs: 200 }).catch(String));
    for (const answer of await Promise.all(asked)) {
      expect(answer).toContain(
        "could not reach the API server api.cluster.example:6443 (--apiserver): no DNS server answers for its name; give an address, or a name that resolves without the cluster",
      );
    }
    await get(transport, { headTimeoutMs: 100 }).catch(String);
    expect(resolve).toHaveBeenCalledTimes(1);
  });

  it("a name that is resolved after all serves those who ask then", async () => {
    const server = await serve();
    const answers: (() => void)[] = [];
    const resolve = vi.fn<LookupFunction>((_name, _options, done) => {
      answers.push(() => done(null, [{ address: "127.0.0.1", family: 4 }]));
    });
    const cluster = {
      ...clusterAt(`https://api.cluster.example:${server.port}`),
      "tls-server-name": "kubernetes.default.svc",
    };
    const { transport } = transportTo({ kubeconfig: writeKubeconfig(dir, { cluster, user: {} }) }, resolve);
    await expect(get(transport, { headTimeoutMs: 100 })).rejects.toThrow("no DNS server answers");
    const second = status(transport);
    answers.shift()!();
    // A connection that the first one gave up may have been made by its question: the second has its own then.
    await vi.waitFor(async () => {
      answers.shift()?.();
      expect(await Promise.race([second, Promise.resolve(0)])).toBe(200);
    });
  });
});

describe("at the cluster's own address, before anybody serves it", () => {
  it.each([
    [
      "of the pod's environment",
      (port: number) => ({ env: { KUBERNETES_SERVICE_HOST: "127.0.0.1", KUBERNETES_SERVICE_PORT: String(port) } }),
    ],
    [
      "by its name in a kubeconfig",
      () => ({
        kubeconfig: writeKubeconfig(dir, {
          cluster: clusterAt("https://kubernetes.default.svc.cluster.local"),
          user: {},
        }),
      }),
    ],
  ])("the other ways are told: %s", async (_name, options) => {
    const { server } = await serveTcp(() => undefined);
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    const { transport } = transportTo(options(port), (_host, _options, done) => done(new Error("EAI_AGAIN"), []));
    await expect(get(transport)).rejects.toThrow(
      /nobody serves before the agent has read what to serve: .*--apiserver https:\/\/HOST:6443, or a kubeconfig .*ConfigMap kube-system\/kube-proxy/,
    );
  });

  it("another server's trouble comes with its own advice", async () => {
    const { server } = await serveTcp(() => undefined);
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    const env = { KUBERNETES_SERVICE_HOST: "127.0.0.1", KUBERNETES_SERVICE_PORT: String(port) };
    const { transport } = transportTo({ env, apiServer: `https://127.0.0.2:${port}` });
    await expect(get(transport)).rejects.toThrow("; check that kube-apiserver runs there");
  });
});

describe("credentials", () => {
  it("of a service account are those on disk now", async () => {
    const server = await serve();
    writeFileSync(join(dir, "ca.crt"), authority.certificate);
    writeFileSync(join(dir, "token"), "first");
    const env = { KUBERNETES_SERVICE_HOST: "127.0.0.1", KUBERNETES_SERVICE_PORT: String(server.port) };
    const { transport } = transportTo({ env, serviceAccount: dir });
    await status(transport);
    writeFileSync(join(dir, "token"), "second");
    await status(transport);
    expect(seenTokens(server)).toEqual(["Bearer first", "Bearer second"]);
    expect(transport.stats().reloads).toBe(1);
  });

  it("of client certificate files rotate, and the old certificate's idle connections end", async () => {
    const server = await serve({ strict: true });
    const put = (commonName: string) => {
      const { certificate, key } = authority.issue({ commonName });
      writeFileSync(join(dir, "agent.crt"), certificate);
      writeFileSync(join(dir, "agent.key"), key);
    };
    put("first");
    const transport = transportBy(clusterAt(server.url), {
      "client-certificate": "agent.crt",
      "client-key": "agent.key",
    });
    await status(transport);
    put("second");
    await status(transport);
    expect(seenClients(server)).toEqual(["first", "second"]);
    await vi.waitFor(async () => expect(await server.connections()).toBe(1));
  });

  it("a rotation leaves a running answer its connection", async () => {
    const server = await serve();
    server.answer = (_, response) => {
      response.writeHead(200).write("one");
      server.answer = (_next, other) => {
        ok(_next, other);
        response.end("two");
      };
    };
    const kubeconfig = { cluster: clusterAt(server.url), user: { token: "t" } };
    const { transport } = transportTo({ kubeconfig: writeKubeconfig(dir, kubeconfig) });
    const watch = await get(transport, { verb: "WATCH" });
    const second = authority.issue({ commonName: "second" });
    const user = { "client-certificate-data": base64(second.certificate), "client-key-data": base64(second.key) };
    writeKubeconfig(dir, { ...kubeconfig, user });
    await status(transport);
    expect([await text(watch), seenClients(server)]).toEqual(["onetwo", ["", "second"]]);
  });

  it("of a kubeconfig that names another server go there", async () => {
    const [first, second] = [await serve(), await serve()];
    const transport = transportBy(clusterAt(first.url), { token: "t1" });
    await status(transport);
    writeKubeconfig(dir, { cluster: clusterAt(second.url), user: { token: "t2" } });
    await status(transport);
    expect([seenTokens(first), seenTokens(second)]).toEqual([["Bearer t1"], ["Bearer t2"]]);
    expect(transport.stats().server).toBe(`127.0.0.1:${second.port}`);
  });

  it("of an exec plugin can be a certificate", async () => {
    const server = await serve({ strict: true });
    const { certificate, key } = authority.issue({ commonName: "by-plugin" });
    const said = execCredential({ clientCertificateData: certificate, clientKeyData: key });
    const command = writeScript(dir, "plugin", `cat <<'END'\n${said}\nEND`);
    await status(transportBy(clusterAt(server.url), { exec: { command } }));
    expect(seenClients(server)).toEqual(["by-plugin"]);
  });

  it("that an exec plugin does not give in time are a timeout, not a wait", async () => {
    const server = await serve();
    const command = writeScript(dir, "plugin", "exec sleep 2");
    const { transport } = transportTo({
      kubeconfig: writeKubeconfig(dir, { cluster: clusterAt(server.url), user: { exec: { command } } }),
      execTimeoutMs: 1_000,
    });
    await expect(get(transport, { headTimeoutMs: 100 })).rejects.toMatchObject({
      kind: "timeout",
      message: expect.stringContaining("nothing within 0.1 s; look at the exec plugin"),
    });
    await vi.waitFor(() => expect(transport.stats().execPluginCalls.plugin_execution_error).toBe(1), 5_000);
  });

  it("are left out over plain HTTP to another host, and sent to this one", async () => {
    const seen: (string | undefined)[] = [];
    const server = createHttpServer((request, response) => {
      seen.push(request.headers.authorization);
      ok(request, response);
    }).listen(0, "::");
    cleanups.push(() => server.close());
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    for (const host of ["127.0.0.1", "[::ffff:127.0.0.1]"]) {
      await status(transportBy({ server: `http://${host}:${port}` }, { token: "secret" }));
    }
    expect(seen).toEqual(["Bearer secret", undefined]);
  });
});

describe("a 401", () => {
  it("is retried once with fresh credentials", async () => {
    const server = await serve();
    const user = { tokenFile: join(dir, "token") };
    writeFileSync(user.tokenFile, "old");
    const transport = transportBy(clusterAt(server.url), user);
    server.answer = (request, response) => {
      writeFileSync(user.tokenFile, "new");
      onlyWhen(({ headers }) => headers.authorization === "Bearer new")(request, response);
    };
    expect(await status(transport)).toBe(200);
    expect(seenTokens(server)).toEqual(["Bearer old", "Bearer new"]);
  });

  it("makes an exec plugin run again", async () => {
    const server = await serve();
    server.answer = onlyWhen(({ headers }) => headers.authorization === "Bearer t2");
    const body = `n=$(cat '${dir}/n' 2>/dev/null || echo 0); n=$((n + 1)); echo $n >'${dir}/n'
printf '{"status":{"token":"t%s"}}' "$n"`;
    const transport = transportBy(clusterAt(server.url), { exec: { command: writeScript(dir, "plugin", body) } });
    expect(await status(transport)).toBe(200);
    expect([transport.stats().execPluginCalls.no_error, seenTokens(server)]).toEqual([2, ["Bearer t1", "Bearer t2"]]);
  });

  it("is an answer when there are no other credentials, and is asked once", async () => {
    const server = await serve();
    server.answer = onlyWhen(() => false);
    const response = await get(transportBy(clusterAt(server.url), { token: "bad" }));
    expect([response.status, JSON.parse(await text(response)).kind, server.seen.length]).toEqual([401, "Status", 1]);
  });

  it("is an answer when the fresh credentials are refused, too", async () => {
    const server = await serve();
    const user = { tokenFile: join(dir, "token") };
    writeFileSync(user.tokenFile, "1");
    const transport = transportBy(clusterAt(server.url), user);
    server.answer = (request, response) => {
      writeFileSync(user.tokenFile, String(server.seen.length + 1));
      onlyWhen(() => false)(request, response);
    };
    expect([await status(transport), server.seen.length]).toEqual([401, 2]);
  });
});

describe("an expired certificate of ours", () => {
  const expiredAt = new Date("2024-05-06T07:08:09Z");
  const user = { "client-certificate": "agent.crt", "client-key": "agent.key" };

  function put(notAfter?: Date): void {
    const { certificate, key } = authority.issue({ commonName: "agent", ...(notAfter ? { notAfter } : {}) });
    writeFileSync(join(dir, "agent.crt"), certificate);
    writeFileSync(join(dir, "agent.key"), key);
  }

  it.each([
    ["answers 401, as kube-apiserver does", false],
    ["hangs up", true],
  ])("is named with its date when the server %s, and its successor is used", async (_, strict) => {
    const server = await serve({ strict });
    server.answer = onlyWhen(({ socket }) => (socket as Socket & { authorized: boolean }).authorized);
    put(expiredAt);
    const transport = transportBy(clusterAt(server.url), user);
    await expect(get(transport)).rejects.toMatchObject({
      kind: "tls",
      message: `could not reach the API server 127.0.0.1:${server.port} (kubeconfig): the client certificate ${dir}/agent.crt (CN=agent) expired at 2024-05-06T07:08:09Z; renew it; it is read again at the next attempt`,
    });
    expect(transport.stats().certificateExpiresAt).toBe(expiredAt.getTime() / 1000);
    put();
    expect(await status(transport)).toBe(200);
    expect(transport.stats().certificateExpiresAt).toBeGreaterThan(Date.now() / 1000);
  });

  it("that expires while running is found at the next connection, and a running answer goes on", async () => {
    const server = await serve({ strict: true });
    // Whole seconds: from 1 to 2 s from now.
    const soon = new Date(Math.ceil(Date.now() / 1000) * 1000 + 1000);
    put(soon);
    const transport = transportBy(clusterAt(server.url), user);
    server.answer = (_, response) => void response.writeHead(200).write("one");
    const watch = await get(transport, { verb: "WATCH" });
    server.answer = ok;
    await vi.waitFor(
      () =>
        expect(get(transport)).rejects.toMatchObject({ kind: "tls", message: expect.stringContaining("expired at") }),
      {
        timeout: 5_000,
        interval: 200,
      },
    );
    const chunk = await watch.body[Symbol.asyncIterator]().next();
    expect(Buffer.from(chunk.value!).toString()).toBe("one");
  });

  /** A server that tells by a TLS alert what it thinks of a client's certificate, as those in Go do. */
  async function serveAlerts(): Promise<string> {
    const { certificate, key } = authority.issue({ commonName: "kube-apiserver", names: NAMES });
    const files = { cert: certificate, key, ca: authority.certificate };
    for (const [name, pem] of Object.entries(files)) writeFileSync(join(dir, `server.${name}`), pem);
    const tls = [
      "-cert",
      "server.cert",
      "-key",
      "server.key",
      "-CAfile",
      "server.ca",
      "-Verify",
      "1",
      "-verify_return_error",
    ];
    const server = spawn("openssl", ["s_server", "-accept", "127.0.0.1:0", "-www", ...tls], { cwd: dir });
    cleanups.push(async () => {
      server.kill();
      await once(server, "close");
    });
    for await (const chunk of server.stdout) {
      const port = /ACCEPT 127\.0\.0\.1:(\d+)/.exec(String(chunk))?.[1];
      if (port) return `https://127.0.0.1:${port}`;
    }
    throw new Error("openssl s_server did not start");
  }

  it("is named when the server says so by a TLS alert", async () => {
    put(expiredAt);
    await expect(get(transportBy(clusterAt(await serveAlerts()), user))).rejects.toMatchObject({
      kind: "tls",
      message: expect.stringContaining("(CN=agent) expired at 2024-05-06T07:08:09Z"),
    });
  });

  it("is told from one that another authority signed", async () => {
    const stranger = createAuthority(authorities, "stranger").issue({ commonName: "agent" });
    const data = { "client-certificate-data": base64(stranger.certificate), "client-key-data": base64(stranger.key) };
    await expect(get(transportBy(clusterAt(await serveAlerts()), data))).rejects.toMatchObject({
      kind: "tls",
      message: expect.stringContaining(
        `it refuses the client certificate in ${dir}/kubeconfig (CN=agent) (tlsv1 alert unknown ca); use one`,
      ),
    });
  });
});

describe("the server's certificate", () => {
  it("of another authority is refused, naming the file of ours", async () => {
    const server = await serve({ by: createAuthority(authorities, "other") });
    writeFileSync(join(dir, "ca.crt"), authority.certificate);
    const transport = transportBy({ server: server.url, "certificate-authority": "ca.crt" });
    await expect(get(transport)).rejects.toMatchObject({
      kind: "tls",
      message: expect.stringContaining(`its certificate is not signed by an authority of ${dir}/ca.crt; check that`),
    });
    expect(server.seen).toEqual([]);
  });

  it("is trusted once the authority's file was replaced", async () => {
    const other = createAuthority(authorities, "other");
    const server = await serve({ by: other });
    writeFileSync(join(dir, "ca.crt"), authority.certificate);
    const transport = transportBy({ server: server.url, "certificate-authority": "ca.crt" });
    await expect(get(transport)).rejects.toBeInstanceOf(ApiError);
    writeFileSync(join(dir, "ca.crt"), other.certificate);
    expect(await status(transport)).toBe(200);
  });

  it("for another name is refused, naming both", async () => {
    const server = await serve({ names: ["DNS:elsewhere.example.org"] });
    await expect(get(transportBy(clusterAt(server.url)))).rejects.toMatchObject({
      kind: "tls",
      message: expect.stringContaining(
        "its certificate is for DNS:elsewhere.example.org, not for 127.0.0.1; use one of these names",
      ),
    });
  });

  it("is checked against tls-server-name", async () => {
    const server = await serve({ names: ["DNS:kube.example.org"] });
    const at = (name: string) => status(transportBy({ ...clusterAt(server.url), "tls-server-name": name }));
    expect(await at("kube.example.org")).toBe(200);
    await expect(at("kube.example.com")).rejects.toThrow("not for kube.example.com");
  });

  it("is not checked with insecure-skip-tls-verify", async () => {
    const server = await serve({ names: ["DNS:elsewhere"], by: createAuthority(authorities, "other") });
    expect(await status(transportBy({ server: server.url, "insecure-skip-tls-verify": true }))).toBe(200);
  });

  it("that expired is refused with its name and date", async () => {
    const server = await serve({ notAfter: new Date("2024-05-06T07:08:09Z") });
    await expect(get(transportBy(clusterAt(server.url)))).rejects.toMatchObject({
      kind: "tls",
      message: expect.stringContaining("its certificate (CN=kube-apiserver) expired at 2024-05-06T07:08:09Z; renew"),
    });
    expect(server.seen).toEqual([]);
  });
});

describe("a server that does not answer", () => {
  it.each<[string, string, () => Promise<string>, string]>([
    ["refuses", "unreachable", refusingUrl, "it refuses connections; check that kube-apiserver runs there"],
    [
      "hangs up",
      "unreachable",
      async () => (await serveTcp((socket) => socket.destroy())).url,
      "it closed the connection",
    ],
    [
      "speaks no TLS",
      "tls",
      async () => (await serveTcp((socket) => socket.end("HTTP/1.1 400 Bad\r\n\r\n"))).url,
      "it does not speak TLS",
    ],
    [
      "never shakes hands",
      "timeout",
      async () => (await serveTcp(() => {})).url,
      "it takes no connection; check address",
    ],
    ["has no name", "unreachable", async () => "https://millrace.invalid:6443", "name"],
  ])("because it %s is named with what to do", async (_, kind, urlOf, reason) => {
    const url = await urlOf();
    const error = await get(transportBy(clusterAt(url)), { headTimeoutMs: 1_000 }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      kind,
      message: expect.stringContaining(`the API server ${new URL(url).host} (kubeconfig): `),
    });
    expect((error as Error).message).toContain(reason);
  });

  it("within the time for the head is a timeout", async () => {
    const server = await serve();
    server.answer = () => {};
    const transport = transportBy(clusterAt(server.url));
    await expect(get(transport, { headTimeoutMs: 1_000 })).rejects.toMatchObject({
      kind: "timeout",
      message: expect.stringContaining(
        "it took the connection but did not answer within 1 s; look at its load and log",
      ),
    });
    expect(transport.stats().requests).toMatchObject([{ code: "<error>", count: 1 }]);
  });

  it("to the end of a body ends the body with an error", async () => {
    const server = await serve();
    server.answer = (_, response) => {
      response.writeHead(200, { "content-length": "1000" }).write("part");
      setTimeout(() => response.destroy(), 50);
    };
    const response = await get(transportBy(clusterAt(server.url)));
    await expect(text(response)).rejects.toMatchObject({
      kind: "unreachable",
      message: expect.stringContaining("broke in the middle of an answer about services"),
    });
  });

  it("any more after the caller's signal rejects with the signal's reason, before the head and after", async () => {
    const server = await serve();
    const transport = transportBy(clusterAt(server.url));
    const reason = new Error("enough");
    server.answer = (_, response) => void response.writeHead(200).write("one");
    const abort = new AbortController();
    const { body } = await get(transport, { signal: abort.signal });
    server.answer = () => abort.abort(reason);
    await expect(get(transport, { signal: abort.signal })).rejects.toBe(reason);
    await expect(readAll(body)).rejects.toBe(reason);
    await expect(get(transport, { signal: abort.signal })).rejects.toBe(reason);
  });

  it("once the transport is closed, whose requests reject", async () => {
    const server = await serve();
    const transport = transportBy(clusterAt(server.url));
    server.answer = () => transport.close();
    await expect(get(transport)).rejects.toThrow("the transport is closed");
    await expect(get(transport)).rejects.toThrow("the transport is closed");
  });
});

describe("several servers", () => {
  it("are asked in turn, the one that answered first from then on", async () => {
    const server = await serve();
    const { transport } = transportTo({
      apiServer: await refusingUrl(),
      kubeconfig: writeKubeconfig(dir, { cluster: clusterAt(server.url) }),
    });
    await status(transport);
    await status(transport);
    const errors = transport.stats().requests.filter(({ code }) => code === "<error>");
    expect([server.seen.length, errors.map(({ count }) => count)]).toEqual([2, [1]]);
  });

  it("share the time: one that takes no connection leaves some for the next", async () => {
    const server = await serve();
    const { transport } = transportTo({
      apiServer: (await serveTcp(() => {})).url,
      kubeconfig: writeKubeconfig(dir, { cluster: clusterAt(server.url) }),
    });
    expect(await status(transport, { headTimeoutMs: 2_000 })).toBe(200);
  });

  it("have their turn at the next request when one took the connection and said nothing", async () => {
    const [dead, live] = [await serve(), await serve()];
    dead.answer = () => {};
    const { transport } = transportTo({
      apiServer: dead.url,
      kubeconfig: writeKubeconfig(dir, { cluster: clusterAt(live.url) }),
    });
    const first = await get(transport, { headTimeoutMs: 1_500 }).catch((error: unknown) => error);
    expect(first).toMatchObject({ kind: "timeout" });
    // On a busy machine the time was over before the connection stood: then the next request is the first that got so far.
    expect(await status(transport).catch(() => status(transport))).toBe(200);
  });

  it("that are endpoints of default/kubernetes are known by its name", async () => {
    const server = await serve({ names: ["DNS:kubernetes.default.svc"] });
    const kubeconfig = writeKubeconfig(dir, { cluster: clusterAt(await refusingUrl()) });
    const { transport, connection } = transportTo({ kubeconfig });
    await expect(get(transport)).rejects.toMatchObject({ kind: "unreachable" });
    connection.remember([server.url]);
    expect(await status(transport)).toBe(200);
    expect(readFileSync(join(dir, "state/api-servers.json"), "utf8")).toContain(server.url);
  });

  it("that all fail are all named", async () => {
    const [first, second] = [await refusingUrl(), await refusingUrl()];
    const { transport } = transportTo({
      apiServer: first,
      kubeconfig: writeKubeconfig(dir, { cluster: clusterAt(second) }),
    });
    const host = (url: string) => new URL(url).host;
    await expect(get(transport)).rejects.toThrow(
      `could not reach any API server: ${host(first)} (--apiserver): it refuses connections; ${host(second)} (kubeconfig): it refuses connections; check that`,
    );
  });
});

describe("a proxy-url", () => {
  /** An HTTP proxy that knows CONNECT; `tunnels` are the hosts asked for. */
  async function serveProxy() {
    const tunnels: string[] = [];
    const proxy = createHttpServer();
    const sockets = new Set<Socket>();
    proxy.on("connect", (request, socket: Socket) => {
      tunnels.push(request.url ?? "");
      const { hostname, port } = new URL(`http://${request.url}`);
      const upstream = connectTcp(Number(port), hostname, () => {
        socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
        upstream.pipe(socket).pipe(upstream);
      });
      for (const end of [upstream, socket]) sockets.add(end.on("error", () => {}));
    });
    proxy.listen(0, "127.0.0.1");
    await once(proxy, "listening");
    cleanups.push(() => {
      for (const socket of sockets) socket.destroy();
      proxy.close();
    });
    return { url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`, tunnels };
  }

  it("of a kubeconfig is honoured, and the server's certificate checked through the tunnel", async () => {
    const [server, proxy] = [await serve(), await serveProxy()];
    const transport = transportBy({ ...clusterAt(server.url), "proxy-url": proxy.url }, { token: "t1" });
    await status(transport);
    await status(transport);
    expect([proxy.tunnels, seenTokens(server)]).toEqual([[`127.0.0.1:${server.port}`], ["Bearer t1", "Bearer t1"]]);
    const stranger = await serve({ by: createAuthority(authorities, "other") });
    const other = transportBy({ ...clusterAt(stranger.url), "proxy-url": proxy.url });
    await expect(get(other)).rejects.toMatchObject({ kind: "tls" });
  });

  it("whose proxy refuses the tunnel is named without the proxy's password", async () => {
    const proxy = createHttpServer().on("connect", (_, socket) => socket.end("HTTP/1.1 403 Forbidden\r\n\r\n"));
    proxy.listen(0, "127.0.0.1");
    await once(proxy, "listening");
    cleanups.push(() => proxy.close());
    const { port } = proxy.address() as AddressInfo;
    const server = await serve();
    const cluster = { ...clusterAt(server.url), "proxy-url": `http://agent:sesame@127.0.0.1:${port}` };
    const error = await get(transportBy(cluster)).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ kind: "unreachable", message: expect.stringContaining("403") });
    expect((error as Error).message).toContain(`(kubeconfig, through the proxy http://127.0.0.1:${port}): `);
    expect((error as Error).message).not.toContain("sesame");
  });

  it("that leads nowhere is named", async () => {
    const server = await serve();
    const proxy = (await refusingUrl()).replace("https:", "http:");
    const error = await get(transportBy({ ...clusterAt(server.url), "proxy-url": proxy })).catch(
      (thrown: unknown) => thrown,
    );
    expect(error).toMatchObject({
      kind: "unreachable",
      message: expect.stringContaining(`through the proxy ${proxy}`),
    });
  });
});

describe("the numbers", () => {
  it("count requests by code and host, and their durations by method and host", async () => {
    const server = await serve();
    const transport = transportBy(clusterAt(server.url));
    await status(transport);
    server.answer = (_, response) => response.writeHead(500).end();
    await status(transport, { verb: "WATCH" });
    const host = `127.0.0.1:${server.port}`;
    const { requests, durations } = transport.stats();
    expect(requests).toEqual([
      { code: "200", method: "GET", host, count: 1 },
      { code: "500", method: "GET", host, count: 1 },
    ]);
    expect(durations.map((row) => [row.verb, row.host, row.count, row.buckets.reduce((a, b) => a + b)])).toEqual([
      ["GET", host, 2, 2],
    ]);
  });
});
