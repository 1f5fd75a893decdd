import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { type ConnectionOptions, createConnection } from "../../src/kube/connection.ts";
import { isRunning } from "../is-running.ts";
import { type Authority, createAuthority } from "./certificates.ts";
import { execCredential, writeKubeconfig, writeScript } from "./kubeconfig-file.ts";

const SERVER = "https://api.example.org:6443";
const IN_POD = { KUBERNETES_SERVICE_HOST: "10.96.0.1", KUBERNETES_SERVICE_PORT: "443" };

let dir: string;
let authority: Authority;

beforeAll(() => {
  const made = mkdtempSync(join(tmpdir(), "authority-"));
  authority = createAuthority(made, "kubernetes");
  return () => rmSync(made, { recursive: true });
});

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "connection-"));
});

afterEach(() => rmSync(dir, { recursive: true }));

/** Without a pod's environment unless the test gives one. */
function connect(options: Partial<ConnectionOptions>) {
  return createConnection({ stateDir: join(dir, "state"), serviceAccount: join(dir, "none"), env: {}, ...options });
}

function serviceAccount(token: string): string {
  const account = join(dir, "serviceaccount");
  mkdirSync(account, { recursive: true });
  writeFileSync(join(account, "ca.crt"), authority.certificate);
  writeFileSync(join(account, "token"), `${token}\n`);
  return account;
}

/** The user's Authorization header, now. */
async function authorization(connection: ReturnType<typeof createConnection>) {
  return (await connection.access()).credentials.headers["Authorization"];
}

describe("the order of servers", () => {
  it("is --apiserver, kubeconfig, remembered endpoints, ClusterIP", async () => {
    const kubeconfig = writeKubeconfig(dir, { cluster: { server: SERVER, "tls-server-name": "kube" } });
    const connection = connect({ apiServer: "https://10.0.0.9:6443", kubeconfig, env: IN_POD });
    connection.remember(["https://10.0.0.1:6443", "https://[fd00::1]:6443"]);
    const { servers } = await connection.access();
    expect(servers.map(({ url, tlsName, origin }) => [url.origin, tlsName, origin])).toEqual([
      ["https://10.0.0.9:6443", undefined, "--apiserver"],
      [SERVER, "kube", "kubeconfig"],
      ["https://10.0.0.1:6443", "kubernetes.default.svc", "api-servers.json"],
      ["https://[fd00::1]:6443", "kubernetes.default.svc", "api-servers.json"],
      ["https://10.96.0.1", undefined, "KUBERNETES_SERVICE_HOST"],
    ]);
  });

  it.each([
    ["--apiserver", { apiServer: "https://10.96.0.1:443" }],
    ["--apiserver by IPv6", { apiServer: "https://[fd00:10:96::1]" }],
    ["--apiserver by its name in the cluster", { apiServer: "https://kubernetes.default.svc.cluster.local" }],
    ["the pod's environment", { env: IN_POD }],
  ])("has the endpoints in place of a ClusterIP once both are known: %s", async (_, options) => {
    const connection = connect(options);
    const origins = async () => (await connection.access()).servers.map(({ url }) => url.origin);
    const [given] = await origins();
    connection.remember([], ["10.96.0.1", "fd00:10:96::1"]);
    expect(await origins()).toEqual([given]);
    connection.remember(["https://10.0.0.1:6443"], ["10.96.0.1", "fd00:10:96::1"]);
    expect(await origins()).toEqual(["https://10.0.0.1:6443"]);
  });

  it("keeps a ClusterIP behind endpoints of another run, which may be stale, and one behind a proxy", async () => {
    connect({ apiServer: SERVER }).remember(["https://10.0.0.1:6443"]);
    const again = await connect({ env: IN_POD }).access();
    expect(again.servers.map(({ url }) => url.origin)).toEqual(["https://10.0.0.1:6443", "https://10.96.0.1"]);
    const proxied = { server: "https://10.96.0.1", "proxy-url": "http://10.0.0.7:3128" };
    const connection = connect({ kubeconfig: writeKubeconfig(dir, { cluster: proxied }) });
    connection.remember(["https://10.0.0.1:6443"], ["10.96.0.1"]);
    expect((await connection.access()).servers[0]?.url.origin).toBe("https://10.96.0.1");
  });

  it("names a server once", async () => {
    const kubeconfig = writeKubeconfig(dir, { cluster: { server: `${SERVER}/` } });
    const { servers } = await connect({ apiServer: SERVER, kubeconfig }).access();
    expect(servers.map(({ origin }) => origin)).toEqual(["--apiserver"]);
  });

  it("puts the ClusterIP of an IPv6 cluster in brackets", async () => {
    const env = { KUBERNETES_SERVICE_HOST: "fd00:10:96::1", KUBERNETES_SERVICE_PORT: "443" };
    const { servers } = await connect({ env }).access();
    expect(servers[0]?.url.href).toBe("https://[fd00:10:96::1]/");
  });

  it("survives a restart: what was remembered is found by the next connection", async () => {
    connect({ apiServer: SERVER }).remember(["https://10.0.0.1:6443"]);
    const { servers } = await connect({}).access();
    expect(servers.map(({ url }) => url.origin)).toEqual(["https://10.0.0.1:6443"]);
  });

  it("forgets nothing when the endpoints are said to be none", async () => {
    const connection = connect({ apiServer: SERVER });
    connection.remember(["https://10.0.0.1:6443"]);
    connection.remember([]);
    expect(readFileSync(join(dir, "state/api-servers.json"), "utf8")).toContain("10.0.0.1");
  });

  it.each([
    ["no JSON", "{servers"],
    ["no list", '{"servers": "https://10.0.0.1:6443"}'],
    ["servers in clear", '{"servers": ["http://10.0.0.1:6443", 5, "10.0.0.1"]}'],
  ])("takes nothing from a file of remembered servers with %s", (_, text) => {
    mkdirSync(join(dir, "state"));
    writeFileSync(join(dir, "state/api-servers.json"), text);
    expect(() => connect({})).toThrow("could not find the API server");
  });

  it("says in one sentence that there is none", () => {
    expect(() => connect({})).toThrow(
      expect.objectContaining({
        code: "usage",
        message:
          "could not find the API server: give --apiserver or --kubeconfig, or run in a pod with a service account",
      }),
    );
  });

  it("takes remembered servers at once, and says when they cannot be kept", async () => {
    writeFileSync(join(dir, "state"), "a file in the directory's place");
    const connection = connect({ apiServer: SERVER });
    expect(connection.remember(["https://10.0.0.1:6443"])).toMatchObject({
      code: "machine",
      message: expect.stringContaining("could not keep the API servers' addresses: "),
    });
    const { servers } = await connection.access();
    expect(servers.map(({ url }) => url.origin)).toEqual([SERVER, "https://10.0.0.1:6443"]);
    rmSync(join(dir, "state"));
    expect(connection.remember(["https://10.0.0.1:6443"])).toBeUndefined();
    expect(readFileSync(join(dir, "state/api-servers.json"), "utf8")).toContain("10.0.0.1");
  });

  it("refuses an --apiserver that is no URL", () => {
    expect(() => connect({ apiServer: "10.0.0.1:6443" })).toThrow("could not use --apiserver 10.0.0.1:6443");
  });
});

describe("a service account", () => {
  it("gives its token, and the next one after it rotated", async () => {
    const connection = connect({ env: IN_POD, serviceAccount: serviceAccount("first") });
    expect(await authorization(connection)).toBe("Bearer first");
    serviceAccount("second");
    expect(await authorization(connection)).toBe("Bearer second");
    expect(connection.reloads()).toBe(1);
  });

  it.each(["token", "ca.crt"])("keeps its last token while its %s is away", async (file) => {
    const account = serviceAccount("first");
    const connection = connect({ env: IN_POD, serviceAccount: account });
    await connection.access();
    rmSync(join(account, file));
    expect(await authorization(connection)).toBe("Bearer first");
  });

  it("tells what is wrong with the files once the server refused the token", async () => {
    const account = serviceAccount("first");
    const connection = connect({ env: IN_POD, serviceAccount: account });
    const { credentials } = await connection.access();
    rmSync(join(account, "ca.crt"));
    await expect(connection.renew(credentials)).rejects.toMatchObject({
      kind: "credentials",
      message: expect.stringContaining(`could not read the cluster's certificate authority ${account}/ca.crt`),
    });
  });
});

describe("a kubeconfig", () => {
  const cluster = { server: SERVER };

  it.each([
    ["token", { token: "t1" }, { Authorization: "Bearer t1" }],
    ["user name and password", { username: "u", password: "p" }, { Authorization: "Basic dTpw" }],
    [
      "impersonation",
      { token: "t1", as: "other", "as-groups": ["a", "b"], "as-uid": "7" },
      {
        Authorization: "Bearer t1",
        "Impersonate-User": "other",
        "Impersonate-Group": ["a", "b"],
        "Impersonate-Uid": "7",
      },
    ],
    ["nothing", {}, {}],
  ])("with %s gives its headers", async (_, user, headers) => {
    const { credentials } = await connect({ kubeconfig: writeKubeconfig(dir, { cluster, user }) }).access();
    expect(credentials.headers).toEqual(headers);
  });

  it("reads its tokenFile, relative to itself, each time", async () => {
    writeFileSync(join(dir, "token"), "t1\n");
    const connection = connect({ kubeconfig: writeKubeconfig(dir, { cluster, user: { tokenFile: "token" } }) });
    expect(await authorization(connection)).toBe("Bearer t1");
    writeFileSync(join(dir, "token"), "t2\n");
    expect(await authorization(connection)).toBe("Bearer t2");
  });

  it("replaced while running gives the new server and user", async () => {
    const connection = connect({ kubeconfig: writeKubeconfig(dir, { cluster, user: { token: "t1" } }) });
    await connection.access();
    writeKubeconfig(dir, { cluster: { server: "https://10.0.0.2:6443" }, user: { token: "t2" } });
    const { servers, credentials } = await connection.access();
    expect([servers[0]?.url.origin, credentials.headers["Authorization"]]).toEqual([
      "https://10.0.0.2:6443",
      "Bearer t2",
    ]);
  });

  it("half written is as it was before", async () => {
    const kubeconfig = writeKubeconfig(dir, { cluster, user: { token: "t1" } });
    const connection = connect({ kubeconfig });
    await connection.access();
    writeFileSync(kubeconfig, readFileSync(kubeconfig, "utf8").slice(0, 150));
    expect(await authorization(connection)).toBe("Bearer t1");
  });

  it("with key and certificate of different rotations is as it was before, until both are there", async () => {
    const [first, second] = [1, 2].map(() => authority.issue({ commonName: "agent" }));
    const put = (certificate: string, key: string) => {
      writeFileSync(join(dir, "agent.crt"), certificate);
      writeFileSync(join(dir, "agent.key"), key);
    };
    put(first!.certificate, first!.key);
    const user = { "client-certificate": "agent.crt", "client-key": "agent.key" };
    const connection = connect({ kubeconfig: writeKubeconfig(dir, { cluster, user }) });
    const before = await connection.access();
    put(second!.certificate, first!.key);
    expect((await connection.access()).credentials.digest).toBe(before.credentials.digest);
    await expect(connection.renew(before.credentials)).rejects.toThrow(
      `could not use ${dir}/agent.crt, ${dir}/agent.key: key values mismatch; do key and certificate belong together?`,
    );
    put(second!.certificate, second!.key);
    expect((await connection.access()).credentials.digest).not.toBe(before.credentials.digest);
  });

  it("tells when its client certificate ends", async () => {
    const notAfter = new Date("2031-02-03T04:05:06Z");
    const { certificate, key } = authority.issue({ commonName: "agent", notAfter });
    const base64 = (text: string) => Buffer.from(text).toString("base64");
    const user = { "client-certificate-data": base64(certificate), "client-key-data": base64(key) };
    const connection = connect({ kubeconfig: writeKubeconfig(dir, { cluster, user }) });
    expect(connection.certificateExpiresAt()).toBeUndefined();
    await connection.access();
    expect(connection.certificateExpiresAt()).toBe(notAfter.getTime() / 1000);
  });

  it.each([
    [
      "a CA file that is absent",
      { server: SERVER, "certificate-authority": "ca.crt" },
      {},
      "could not read the certificate authority",
    ],
    ["a server that is no URL", { server: "somewhere" }, {}, 'its server "somewhere" is no http or https URL'],
    ["no server", {}, {}, "clusters[0].cluster.server is missing"],
    ["a token of two lines", cluster, { token: "a\nb" }, "for the header Authorization: it holds characters"],
    ["an auth-provider", cluster, { "auth-provider": { name: "oidc" } }, "use an exec plugin"],
    ["a SOCKS proxy", { server: SERVER, "proxy-url": "socks5://127.0.0.1:1" }, {}, "is no HTTP proxy"],
    [
      "a certificate that is none",
      cluster,
      { "client-certificate-data": "eA==", "client-key-data": "eA==" },
      "it is no PEM certificate",
    ],
  ])("with %s is refused by a sentence that says so", async (_, badCluster, user, reason) => {
    const connection = connect({ kubeconfig: writeKubeconfig(dir, { cluster: badCluster, user }) });
    await expect(connection.access()).rejects.toMatchObject({
      kind: "credentials",
      message: expect.stringContaining(reason),
    });
  });

  it("that is absent is refused by name, and used once it is there", async () => {
    const connection = connect({ kubeconfig: join(dir, "kubeconfig") });
    await expect(connection.access()).rejects.toThrow(`could not read the kubeconfig ${dir}/kubeconfig`);
    writeKubeconfig(dir, { cluster, user: { token: "t1" } });
    expect(await authorization(connection)).toBe("Bearer t1");
  });
});

describe("an exec plugin", () => {
  /** A kubeconfig whose plugin is a script that counts its runs in `runs`. */
  function withPlugin(body: string, exec: Readonly<Record<string, unknown>> = {}) {
    writeScript(dir, "plugin", `echo run >>'${dir}/runs'\n${body}`);
    const section = { apiVersion: "client.authentication.k8s.io/v1", command: "./plugin", ...exec };
    return writeKubeconfig(dir, { cluster: { server: SERVER }, user: { exec: section } });
  }
  const print = (status: Readonly<Record<string, unknown>>) => `cat <<'END'\n${execCredential(status)}\nEND`;
  const runs = () => readFileSync(join(dir, "runs"), "utf8").split("\n").length - 1;
  const inFuture = () => new Date(Date.now() + 3_600_000).toISOString();

  it("is run once while its credentials last, also for requests at the same time", async () => {
    const connection = connect({ kubeconfig: withPlugin(print({ token: "t1", expirationTimestamp: inFuture() })) });
    const all = await Promise.all([authorization(connection), authorization(connection), authorization(connection)]);
    expect([...all, await authorization(connection)]).toEqual(new Array(4).fill("Bearer t1"));
    expect([runs(), connection.execPluginCalls().no_error]).toEqual([1, 1]);
  });

  it("is run again when its credentials have expired", async () => {
    const kubeconfig = withPlugin(print({ token: "t1", expirationTimestamp: new Date(Date.now() - 1).toISOString() }));
    const connection = connect({ kubeconfig });
    await connection.access();
    await connection.access();
    expect(runs()).toBe(2);
  });

  it("is run again when the certificate it gave has expired", async () => {
    const { certificate, key } = authority.issue({ commonName: "agent", notAfter: new Date(Date.now() - 1000) });
    const status = { clientCertificateData: certificate, clientKeyData: key };
    const connection = connect({ kubeconfig: withPlugin(print(status)) });
    await connection.access();
    expect([runs(), connection.certificateExpiresAt()! < Date.now() / 1000]).toEqual([2, true]);
  });

  it("is run again when the server refused what it gave", async () => {
    const connection = connect({ kubeconfig: withPlugin(print({ token: "t1" })) });
    const { credentials } = await connection.access();
    await connection.renew(credentials);
    expect(runs()).toBe(2);
  });

  it("is run again once for all requests that were refused together", async () => {
    const connection = connect({ kubeconfig: withPlugin(print({ token: "t1" })) });
    const { credentials } = await connection.access();
    await Promise.all([1, 2, 3, 4].map(() => connection.renew(credentials)));
    await connection.access();
    expect(runs()).toBe(2);
  });

  it("is told what it is asked for, and gets its own environment", async () => {
    const body = `printf '{"status":{"token":"%s"}}' "$COLOUR $(echo "$KUBERNETES_EXEC_INFO" | tr -d '"')"`;
    const exec = { env: [{ name: "COLOUR", value: "blue" }], provideClusterInfo: true };
    const said = await authorization(connect({ kubeconfig: withPlugin(body, exec) }));
    expect(said).toContain(
      "Bearer blue {apiVersion:client.authentication.k8s.io/v1,kind:ExecCredential,spec:{interactive:false",
    );
    expect(said).toContain(`server:${SERVER}`);
  });

  it.each([
    ["fails", "echo no network >&2; exit 1", {}, "it failed: no network"],
    ["fails without a word", "exit 3", {}, "it failed: it wrote no reason"],
    ["answers no JSON", "echo hello", {}, "it failed: "],
    ["answers nothing of use", "echo '{\"status\":{}}'", {}, "neither a token nor a certificate"],
    ["has no status", "echo '{}'", {}, "it failed: "],
    ["hangs", "sleep 600", {}, "it did not end within 0.2 s"],
    [
      "dies of a signal while another holds its output",
      "setsid sleep 2 & kill -9 $$",
      {},
      "it did not end within 0.2 s",
    ],
    [
      "is missing",
      "",
      { command: "./absent", installHint: "install it from there" },
      "it is not installed: install it from there",
    ],
  ])("that %s is named with its reason, and counted", async (name, body, exec, reason) => {
    const limit = reason.includes("0.2 s") ? { execTimeoutMs: 200 } : {};
    const connection = connect({ kubeconfig: withPlugin(body, exec), ...limit });
    await expect(connection.access()).rejects.toMatchObject({
      kind: "credentials",
      message: expect.stringMatching(/^could not get credentials from the exec plugin \S+ of \S+: /),
    });
    await expect(connection.access()).rejects.toThrow(reason);
    const expected = name === "is missing" ? "plugin_not_found_error" : "plugin_execution_error";
    expect(connection.execPluginCalls()).toMatchObject({ no_error: 0, [expected]: 2 });
  });

  it("that hangs is ended with all it started", async () => {
    const connection = connect({
      kubeconfig: withPlugin(`sleep 600 & echo $! >'${dir}/child'; wait`),
      execTimeoutMs: 1_000,
    });
    await expect(connection.access()).rejects.toThrow("it did not end within 1 s");
    const child = Number(readFileSync(join(dir, "child"), "utf8"));
    await vi.waitFor(() => expect(isRunning(child)).toBe(false));
  });

  it("that failed is used once it works again", async () => {
    const connection = connect({ kubeconfig: withPlugin("exit 1") });
    await expect(connection.access()).rejects.toThrow("could not get credentials");
    withPlugin(print({ token: "t1" }));
    expect(await authorization(connection)).toBe("Bearer t1");
  });
});
