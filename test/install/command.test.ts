// The commands themselves, over HTTP: kubeconfigs, flags, output, exit statuses.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { createProgress } from "../../src/cli/install-progress.ts";
import { runProgram } from "../../src/cli/program.ts";
import type { Demand } from "../../src/kube/request-head.ts";
import { withKubeProxy } from "./clusters.ts";
import type { FakeCluster } from "./fake-cluster.ts";

const directory = mkdtempSync(join(tmpdir(), "millrace-install-"));
let server: Server;
let cluster: FakeCluster;
let url = "";

beforeAll(async () => {
  server = createServer((request, response) => {
    const pieces: Buffer[] = [];
    request.on("data", (piece: Buffer) => pieces.push(piece));
    request.on("end", async () => {
      const demand = {
        method: request.method as Demand["method"],
        body: Buffer.concat(pieces).toString() || undefined,
        contentType: request.headers["content-type"],
      };
      const answer = await cluster.send(demand as Demand, request.url ?? "");
      response.writeHead(answer.status, answer.headers);
      for await (const piece of answer.body) response.write(piece);
      response.end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.close();
  rmSync(directory, { recursive: true });
});
afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
  process.exitCode = undefined;
});

function kubeconfig(name: string, contexts: Readonly<Record<string, string>>, current: string): string {
  const path = join(directory, name);
  const names = Object.keys(contexts);
  const config = {
    clusters: names.map((one) => ({ name: one, cluster: { server: contexts[one] } })),
    users: [{ name: "admin", user: {} }],
    contexts: names.map((one) => ({ name: one, context: { cluster: one, user: "admin" } })),
    "current-context": current,
  };
  writeFileSync(path, JSON.stringify(config));
  return path;
}

async function millrace(...args: string[]): Promise<{ out: string; err: string; status: number }> {
  let [out, err] = ["", ""];
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    out += text;
    return true;
  });
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    err += text;
    return true;
  });
  process.exitCode = undefined;
  await runProgram(args, {
    stopSignal: () => new AbortController().signal,
    registerLabCommands() {},
    createControllerServers: () => Promise.reject(new Error("no servers here")),
    createServers: () => Promise.reject(new Error("no servers here")),
  });
  const status = Number(process.exitCode ?? 0);
  process.exitCode = undefined;
  vi.restoreAllMocks();
  return { out, err, status };
}

describe("millrace install", () => {
  it("takes a cluster over and gives it back", async () => {
    ({ cluster } = withKubeProxy(["n1"]));
    const config = kubeconfig("one", { here: url }, "here");
    const installed = await millrace("install", "--kubeconfig", config, "--yes");
    expect([installed.out, installed.status]).toEqual(["", 0]);
    expect(installed.err).toMatch(/node n1: served by Millrace, kube-proxy's rules are gone \(1\/1, \d+ s\)\n/);
    expect(installed.err).toMatch(/self-test: \d+ of \d+ ways to a Service answer, from pods and nodes of 1 node/);
    expect(cluster.nodes.get("n1")).toMatchObject({ hasRules: false, hasMillrace: true });
    // kube-proxy's own settings are the agents' now.
    const { data } = cluster.get("ConfigMap", "millrace", "kube-system");
    expect(data["config.yaml"]).toMatch(/^nodeport-addresses: 192\.168\.0\.0\/24/m);
    const removed = await millrace("uninstall", "--kubeconfig", config, "--yes", "--drain-timeout", "0");
    expect([removed.out, removed.status]).toEqual(["", 0]);
    expect(removed.err).toMatch(/Nothing of Millrace is left\. kube-proxy serves the cluster's Services\.\n$/);
    expect(cluster.nodes.get("n1")).toMatchObject({ hasRules: true, hasMillrace: false });
  });

  it("prints nothing but objects on standard output in a dry run", async () => {
    ({ cluster } = withKubeProxy(["n1"]));
    const config = kubeconfig("two", { here: url }, "here");
    const { out, err, status } = await millrace("install", "--kubeconfig", config, "--dry-run", "--set", "xdp=off");
    expect(status).toBe(0);
    expect(out).toMatch(/^---\napiVersion: /);
    expect(out).toMatch(/^ {4}xdp: "off"$/m);
    expect(err).toMatch(/What will be done:/);
  });

  it("keeps what it was told, for a run without flags, until an empty value drops it", async () => {
    ({ cluster } = withKubeProxy(["n1", "n2"]));
    const yes = ["install", "--kubeconfig", kubeconfig("kept", { here: url }, "here"), "--yes", "--no-test"];
    const config = (): string => cluster.get("ConfigMap", "millrace", "kube-system").data["config.yaml"];
    const agents = () => cluster.get("DaemonSet", "millrace", "kube-system").spec.template.spec;
    const first = ["--set", "xdp=off", "--set", "max-flows=65536", "--except", "n2", "--image-pull-secret", "a,b"];
    expect((await millrace(...yes, ...first)).status).toBe(0);
    expect(config()).toMatch(/^max-flows: .*65536/m);
    const again = await millrace(...yes, "--set", "", "--set", "xdp=on", "--except", "");
    expect(again.status).toBe(0);
    expect(again.err).toContain("\nKept from before: --image-pull-secret a --image-pull-secret b.\n");
    expect(config()).toMatch(/^xdp: "on"$/m);
    expect(config()).not.toMatch(/max-flows/);
    expect(agents().imagePullSecrets).toEqual([{ name: "a" }, { name: "b" }]);
    expect(cluster.nodes.get("n2")).toMatchObject({ hasMillrace: true });
    // kube-proxy's own settings are kept when its ConfigMap is gone, and the way to the API server that it had.
    cluster.delete("ConfigMap", "kube-proxy", "kube-system");
    const { out } = await millrace(...yes, "--dry-run", "--image-pull-secret", "");
    expect(out).toContain(config().replace(/^/gm, "    ").trimEnd());
    expect(config()).toMatch(/^nodeport-addresses: 192\.168\.0\.0\/24$/m);
    expect(out).not.toContain("imagePullSecrets");
  });

  it("judges no setting of kube-proxy's for which another is kept, and takes none where that is wanted", async () => {
    ({ cluster } = withKubeProxy(["n1"]));
    const yes = ["install", "--kubeconfig", kubeconfig("judge", { here: url }, "here"), "--yes", "--no-test"];
    const config = (): string => cluster.get("ConfigMap", "millrace", "kube-system").data["config.yaml"];
    const theirs = cluster.get("ConfigMap", "kube-proxy", "kube-system");
    const text: string = theirs.data["config.conf"].replace("192.168.0.0/24", "eth0");
    expect(text).toContain("eth0");
    cluster.put({ ...theirs, data: { ...theirs.data, "config.conf": text } });
    const refused = await millrace(...yes);
    expect([refused.status, refused.err]).toEqual([1, expect.stringMatching(/nodePortAddresses in .*eth0/)]);
    expect((await millrace(...yes, "--set", "nodeport-addresses=primary")).status).toBe(0);
    const again = await millrace(...yes);
    expect([again.status, again.err]).toEqual([0, expect.stringContaining("--set nodeport-addresses=primary")]);
    expect(config()).toMatch(/^nodeport-addresses: primary$/m);
    expect(config()).toMatch(/^conntrack-tcp-timeout-established: /m);
    expect((await millrace(...yes, "--set", "", "--ignore-kube-proxy-config")).status).toBe(0);
    expect(config()).not.toMatch(/^(nodeport-addresses|conntrack)/m);
  });

  it("gives the controller a class beside MetalLB, in a later run too, so that it does not wait for that to go", async () => {
    ({ cluster } = withKubeProxy(["n1"]));
    const metadata = { namespace: "metallb-system", name: "controller", labels: { app: "metallb" } };
    cluster.put({ apiVersion: "apps/v1", kind: "Deployment", metadata, spec: { replicas: 1 } });
    const yes = ["install", "--kubeconfig", kubeconfig("beside", { here: url }, "here"), "--yes", "--no-test"];
    expect(await millrace(...yes)).toMatchObject({ status: 1, err: expect.stringMatching(/MetalLB runs/) });
    for (const flags of [["--beside-metallb"], []]) {
      expect((await millrace(...yes, ...flags)).status).toBe(0);
      const { spec } = cluster.get("Deployment", "millrace-controller", "kube-system");
      expect(spec.template.spec.containers[0].args).toContain("--load-balancer-class=millrace.io/l2");
    }
  });

  it("wants --yes where nobody can be asked", async () => {
    ({ cluster } = withKubeProxy(["n1"]));
    const { err, status } = await millrace("install", "--kubeconfig", kubeconfig("three", { here: url }, "here"));
    expect(err).toMatch(/could not ask whether to do this: there is no terminal; say --yes\n$/);
    expect(status).toBe(2);
  });

  it("finds its kubeconfig as kubectl does, several files of KUBECONFIG among them, and another context", async () => {
    ({ cluster } = withKubeProxy(["n1"]));
    const away = kubeconfig("away", { away: "http://127.0.0.1:1" }, "away");
    const near = kubeconfig("near", { near: url }, "near");
    vi.stubEnv("KUBECONFIG", `${away}:${join(directory, "none")}:${near}`);
    expect((await millrace("uninstall", "--context", "near")).err).toMatch(/Millrace is not installed/);
    const refused = await millrace("uninstall");
    expect(refused.err).toMatch(/^millrace: could not reach the API server/m);
    expect(refused.status).toBe(6);
    vi.stubEnv("KUBECONFIG", "");
    vi.stubEnv("HOME", directory);
    mkdirSync(join(directory, ".kube"));
    writeFileSync(join(directory, ".kube/config"), JSON.stringify({ contexts: [], "current-context": "x" }));
    expect((await millrace("uninstall")).err).toMatch(/current-context "x" is not among its contexts/);
    rmSync(join(directory, ".kube"), { recursive: true });
    const none = await millrace("uninstall");
    expect(none.err).toMatch(/could not find a cluster: there is no --kubeconfig, KUBECONFIG is not set/);
    expect(none.status).toBe(2);
  });

  it.each([
    [["--parallel", "0"], /--parallel must be a number from 1/],
    [["--timeout", "soon"], /--timeout must be a time such as 5m or 90s/],
    [["--set", "xdq=off"], /could not use --set xdq=off: there is no such setting; did you mean xdp\?/],
    [["--set", "xdp"], /--set must be NAME=VALUE, such as xdp=off: current value is 'xdp'/],
    [["--set", "=off"], /--set must be NAME=VALUE, such as xdp=off: current value is '=off'/],
    [["--set", "node-name=a"], /could not use --set node-name=a: the installer decides it/],
    [["--set", "xdp=maybe"], /could not use --set xdp=maybe: it must be /],
    [["--sys-admin", "perhaps"], /Allowed choices are auto, on, off, in-place/],
  ])("refuses %j", async (flags, expected) => {
    const { err, status } = await millrace("install", ...flags);
    expect(err).toMatch(expected);
    expect(status).toBe(2);
  });
});

describe("what the installer's pods run", () => {
  const agent = async (status: object): Promise<string> => {
    const socket = join(directory, `agent-${Math.random()}.sock`);
    const own = createServer((_, response) => void response.end(JSON.stringify(status)));
    await new Promise<void>((resolve) => own.listen(socket, resolve));
    open.push(own);
    return socket;
  };
  const open: Server[] = [];
  afterEach(() => {
    for (const one of open.splice(0)) one.close();
  });

  it("looks at the node", async () => {
    const { out, status } = await millrace("node-check", "look");
    expect(status).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ kernel: expect.any(String), missingCapabilities: expect.any(Array) });
  });

  it("ends with the status of a timeout, and one sentence, where the agent is not well", async () => {
    const well = { healthy: true, unhealthy: [], bypass: false, source: { synced: true } };
    const good = await millrace("node-check", "agent", "--wait", "0", "--socket", await agent(well));
    expect(good).toEqual({ out: "", err: "", status: 0 });
    const bad = { ...well, source: { synced: false } };
    expect(await millrace("node-check", "agent", "--wait", "0", "--socket", await agent(bad))).toEqual({
      out: "",
      err: "millrace: the agent is not well after 0 s: it has not read all objects of the API yet\n",
      status: 7,
    });
  });

  it("asks what it is given, and leaves what became of it, short enough for a pod's message", async () => {
    const targets = Array.from({ length: 40 }, (_, at) => ({
      name: `target ${at} ${"x".repeat(40)}`,
      protocol: "tcp",
      host: "127.0.0.1",
      port: 1,
    }));
    vi.stubEnv("TARGETS", JSON.stringify(targets));
    const { out, status } = await millrace("node-check", "ask", "--wait", "0");
    expect(status).toBe(0);
    expect(out.length).toBeLessThan(4096);
    const { good, bad } = JSON.parse(out) as { good: number; bad: { name: string }[] };
    expect([good, bad.length, bad.at(-1)?.name]).toEqual([0, 11, "30 more"]);
  });

  it("is no command for people", async () => {
    expect((await millrace("--help")).out).not.toMatch(/node-check/);
  });
});

describe("progress", () => {
  function terminal(isTTY: boolean): { written: string; write(text: string): void; isTTY: boolean; columns: number } {
    return {
      written: "",
      isTTY,
      columns: 30,
      write(text) {
        this.written += text;
      },
    };
  }

  it("changes in its place on a terminal, and leaves lines alone", () => {
    const screen = terminal(true);
    const progress = createProgress(screen);
    progress.live("node w1: the agent: it is pending, and more than fits");
    progress.line("node w1 is done");
    progress.close();
    expect(screen.written).toBe("\r\x1b[K/ node w1: the agent: it is p\r\x1b[Knode w1 is done\n");
  });

  it("is a line now and then elsewhere", () => {
    const file = terminal(false);
    let now = 0;
    const progress = createProgress(file, () => now);
    progress.live("waits for 0123456789ab");
    now = 20_000;
    progress.live("waits for 0123456789ab");
    progress.live("waits for ba9876543210");
    now = 50_000;
    progress.live("waits for ba9876543210");
    progress.live("waits for another");
    expect(file.written).toBe("waits for 0123456789ab\nwaits for another\n");
  });

  it("shows no control characters of others", () => {
    const screen = terminal(false);
    createProgress(screen).line("a\x1b[2Jb\nc");
    expect(screen.written).toBe("a?[2Jb\nc\n");
  });
});
