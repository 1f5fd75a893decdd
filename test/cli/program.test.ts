import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, afterEach, describe, expect, it, vi } from "vitest";
import { cliPage } from "../../scripts/docs.ts";
import { chooseSocket } from "../../src/cli/agent-socket.ts";
import { reportError, runProgram } from "../../src/cli/program.ts";
import { createApiServer } from "../../src/http/api-server.ts";
import { FAILURES, Failure, type FailureCode } from "../../src/lib/errors.ts";
import { labSocketPath } from "../../src/lib/paths.ts";
import { agentView, serviceView, silentLog } from "../http/view-fixture.ts";

const directory = mkdtempSync(join(tmpdir(), "millrace-cli-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const server of open.splice(0)) await server.close();
  vi.restoreAllMocks();
  process.exitCode = undefined;
});

const wiring = {
  stopSignal: () => new AbortController().signal,
  registerLabCommands: vi.fn(),
  createServers: () => Promise.reject(new Error("no servers here")),
};

/** Runs one command line in this process. */
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
  await runProgram(args, wiring);
  const status = Number(process.exitCode ?? 0);
  process.exitCode = undefined;
  vi.restoreAllMocks();
  return { out, err, status };
}

async function agent(socketPath: string, view = agentView()): Promise<string> {
  const server = createApiServer({ view, socketPath, tcpAddress: "", log: silentLog, onNotice() {} });
  await server.listen();
  open.push(server);
  return socketPath;
}

describe("a command line", () => {
  it.each([
    [["services"], "NAMESPACE   NAME"],
    [["backends"], "SERVICE       PORT"],
    [["flows", "--limit", "5"], "PROTOCOL   CLIENT"],
    [["status"], "Node:     node1"],
    [["services", "-o", "json"], '"namespace": "default"'],
  ])("%j asks the agent at --socket", async (args, expected) => {
    const socket = await agent(join(directory, "api.sock"));
    const { out, err, status } = await millrace(...args, "--socket", socket);
    expect([err, status]).toEqual(["", 0]);
    expect(out).toContain(expected);
  });

  it("hands the agent's refusal on, with its exit status", async () => {
    const socket = await agent(join(directory, "api.sock"));
    const { err, status } = await millrace("flows", "--limit", "0", "--socket", socket);
    expect([err, status]).toEqual([
      "millrace: limit must be a whole number from 1 to 10000: current value is '0'\n",
      2,
    ]);
  });

  it("says in one sentence that no agent answers", async () => {
    const { err, status } = await millrace("status", "--socket", join(directory, "nobody.sock"));
    expect(err).toMatch(/^millrace: could not ask the agent at .*nobody\.sock: no agent is running there.*\n$/);
    expect(status).toBe(FAILURES.unreachable.exit);
  });

  it.each([
    [["nonsense"], "unknown command 'nonsense'"],
    [["services", "-o", "xml"], "argument 'xml' is invalid"],
    [["status", "--colour"], "unknown option '--colour'"],
    [["run", "--service-node-port-range", "x", "--manifests", "/m"], "--service-node-port-range must be first-last"],
    [["run", "--manifests", "/m", "--apiserver", "https://h"], "could not use --manifests together with --apiserver"],
    [["run", "--apiserver", "h:6443"], "--apiserver must be https://HOST:PORT"],
    [
      ["run", "--manifests", "/m", "--config", "/nonexistent.yaml"],
      "could not read the configuration /nonexistent.yaml",
    ],
    [["cleanup", "--pin-dir", "relative"], "--pin-dir must be an absolute path: current value is 'relative'"],
    [["bypass", "maybe"], "'maybe' is invalid"],
    [["bypass", "on", "--pin-dir", "relative"], "--pin-dir must be an absolute path: current value is 'relative'"],
    [["bypass", "--node", "node1"], "could not use --node: it belongs to --name LAB"],
    [["bypass", "--name", "a", "--pin-dir", "/p"], "could not use --pin-dir: it excludes --name LAB"],
    [["bypass", "off", "--name", "../x"], "--name must be a name"],
    [["status", "--node", "node1"], "could not use --node: it belongs to --name LAB"],
    [["status", "--name", "../x"], "--name must be a name"],
    [["status", "--name", "a", "--node", "$(id)"], "--node must be a name"],
    [["status", "--name", "a", "--socket", "/s"], "could not use --socket: it excludes --name LAB"],
  ])("%j is refused with status 2", async (args, message) => {
    const { out, err, status } = await millrace(...args);
    expect([out, status]).toEqual(["", 2]);
    expect(err).toContain(message);
  });

  it.skipIf(process.geteuid?.() !== 0)("says that no agent has run where bypass is to be", async () => {
    const pinDir = join(directory, "nothing-is-pinned-here");
    for (const state of [[], ["on"], ["off"]]) {
      const { out, err, status } = await millrace("bypass", ...state, "--pin-dir", pinDir);
      expect([out, status]).toEqual(["", FAILURES.not_found.exit]);
      expect(err).toContain(pinDir);
    }
  });

  it("prints its help and version on standard output with status 0", async () => {
    const help = await millrace("--help");
    expect([help.status, help.err]).toEqual([0, ""]);
    expect(help.out).toContain("Exit status: 0 done");
    const version = await millrace("version", "-o", "json");
    expect(JSON.parse(version.out)).toMatchObject({ version: "0.1.0" });
  });

  it("loads the lab only for the lab and for help", async () => {
    wiring.registerLabCommands.mockClear();
    await millrace("version");
    expect(wiring.registerLabCommands).not.toHaveBeenCalled();
    await millrace("lab");
    expect(wiring.registerLabCommands).toHaveBeenCalledOnce();
  });

  it("starts from the sources in a fraction of a second", () => {
    const main = resolve(import.meta.dirname, "../../src/main.ts");
    const start = performance.now();
    const { stdout, status } = spawnSync(process.execPath, [main, "version"], { encoding: "utf8" });
    expect([stdout.startsWith("millrace 0.1.0"), status]).toEqual([true, 0]);
    // About 100 ms; a busy machine may take ten times that.
    expect(performance.now() - start).toBeLessThan(4_000);
  });

  it("is documented in docs/cli.md as its help is", async () => {
    const page = readFileSync(resolve(import.meta.dirname, "../../docs/cli.md"), "utf8");
    expect(page).toBe(await cliPage());
  });
});

describe("an agent of a lab", () => {
  const lab = `cli-test-${process.pid}`;
  const node = (name: string) => labSocketPath(lab, name);
  afterEach(() => rmSync(resolve(node("x"), "../.."), { recursive: true, force: true }));

  it("is the one of the lowest number when none is named", async () => {
    for (const name of ["node10", "node2"])
      await agent(node(name), agentView({ services: () => [serviceView({ name })] }));
    expect(chooseSocket({ name: lab })).toBe(node("node2"));
    expect(chooseSocket({ name: lab, node: "node10" })).toBe(node("node10"));
    expect((await millrace("services", "--name", lab)).out).toContain("node2");
    expect(() => chooseSocket({ name: lab, node: "node3" })).toThrow("it has node2, node10");
  });

  it("is not found when the lab is not up", () => {
    expect(() => chooseSocket({ name: lab })).toThrow(expect.objectContaining({ code: "not_found" }));
    mkdirSync(resolve(node("node1"), ".."), { recursive: true });
    expect(() => chooseSocket({ name: lab })).toThrow("no such lab is up");
  });
});

describe("an error", () => {
  it.each(Object.keys(FAILURES) as FailureCode[])("%s ends with the status of the catalogue", (code) => {
    vi.spyOn(process.stderr, "write").mockReturnValue(true);
    expect(reportError(new Failure(code, "x", "could not do x: because"))).toBe(FAILURES[code].exit);
  });

  it("shows its stack and cause only under MILLRACE_LOG_LEVEL=debug", () => {
    const write = vi.spyOn(process.stderr, "write").mockReturnValue(true);
    const error = new Error("outer", { cause: new Error("inner") });
    expect(reportError(error)).toBe(70);
    expect(write.mock.calls.flat()).toEqual(["millrace: internal error: outer\n"]);
    vi.stubEnv("MILLRACE_LOG_LEVEL", "debug");
    reportError(error);
    vi.unstubAllEnvs();
    expect(write.mock.calls.flat().join("")).toMatch(/at .*program\.test\.ts[\s\S]*caused by Error: inner/);
  });
});
