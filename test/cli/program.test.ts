import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { Command } from "commander";
import { afterAll, afterEach, describe, expect, it, vi } from "vitest";
import { cliPage } from "../../scripts/docs.ts";
import type { FlowView } from "../../src/agent/view.ts";
import { chooseSocket, nobodyThere } from "../../src/cli/agent-socket.ts";
import { candidates } from "../../src/cli/completion.ts";
import { EXAMPLES } from "../../src/cli/examples.ts";
import { createProgram, reportError, runProgram } from "../../src/cli/program.ts";
import { createApiServer } from "../../src/http/api-server.ts";
import { FAILURES, Failure, type FailureCode } from "../../src/lib/errors.ts";
import { labSocketPath } from "../../src/lib/paths.ts";
import { agentStatus, agentView, flowView, serviceView, silentLog } from "../http/view-fixture.ts";

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
  createControllerServers: () => Promise.reject(new Error("no servers here")),
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
    [["services", "svc/web", "-o", "name"], "service/default/web\n"],
    [["services", "-A", "-l", "app=web"], "NAMESPACE   NAME"],
    [["services", "-n", "default", "web"], "NAME   TYPE"],
    [["backends"], "SERVICE       PORT"],
    [["backends", "--service", "web"], "10.244.1.5:8080"],
    [["backends", "-l", "app=web"], "10.244.1.5:8080"],
    [["flows", "web", "-l", "app in (web,db)"], "PROTOCOL   CLIENT"],
    [["drops", "--selector", "app=web"], "drop_no_local_backend"],
    [["drops", "default/web"], "drop_no_local_backend"],
    [["status", "-o", "name"], "node/node1\n"],
    [["status", "-o", "yaml"], "node: node1\n"],
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
    const { err, status } = await millrace("flows", "--limit", "-1", "--socket", socket);
    expect([err, status]).toEqual([
      "millrace: limit must be a whole number from 0 to 10000: current value is '-1'\n",
      2,
    ]);
  });

  it.each([
    ["services", "nope"],
    ["backends", "--service", "nope"],
    ["flows", "-n", "default", "nope"],
    ["drops", "svc/nope"],
  ])("%s %s says that there is no such Service, with status 1", async (...args) => {
    const socket = await agent(
      join(directory, "api.sock"),
      agentView({ serviceNames: () => ["default/web", "shop/nope"] }),
    );
    const { out, err, status } = await millrace(...args, "--socket", socket);
    expect([out, err, status]).toEqual([
      "",
      "millrace: could not find Service default/nope: there is none; did you mean shop/nope?\n",
      1,
    ]);
  });

  it.each(["services", "backends", "flows", "drops"])(
    "%s -n says that no Service is in a namespace that is not there, with status 1",
    async (command) => {
      const view = agentView({ serviceNames: () => ["default/web", "shop/db"] });
      const socket = await agent(join(directory, "api.sock"), view);
      expect(await millrace(command, "-n", "shpo", "--socket", socket)).toEqual({
        out: "",
        err: "millrace: could not find namespace shpo: no Service is in it; did you mean shop?\n",
        status: 1,
      });
    },
  );

  it("flows says what the agent says of a pod or a Node that nobody knows, with status 1", async () => {
    const message = "could not find the node ndoe1: no endpoint is of it; did you mean node1?";
    // biome-ignore lint/correctness/useYield: it ends before there is a flow.
    function* flows(): Generator<FlowView, number> {
      throw new Failure("not_found", "ndoe1", message);
    }
    const socket = await agent(join(directory, "api.sock"), agentView({ flows }));
    const { out, err, status } = await millrace("flows", "--backend-node", "ndoe1", "--socket", socket);
    expect([out, err, status]).toEqual(["", `millrace: ${message}\n`, 1]);
  });

  it("passes names and filters on to the agent", async () => {
    const asked: unknown[] = [];
    const view = agentView({
      serviceNames: () => ["shop/web", "shop/db"],
      flows: (filter) => {
        asked.push(filter);
        return [flowView()];
      },
    });
    const socket = await agent(join(directory, "api.sock"), view);
    const flags = ["--client", "10.0.0.0/8", "--backend-node", "node2", "--state", "reset", "--limit", "0"];
    await millrace("flows", "-n", "shop", "web", "svc/shop/db", ...flags, "--socket", socket);
    expect(asked).toEqual([
      {
        services: ["shop/web", "shop/db"],
        client: { address: "10.0.0.0", length: 8 },
        backendNode: "node2",
        state: "reset",
        limit: 0,
      },
    ]);
  });

  it("says beside a table what it cut, and when there is nothing", async () => {
    function* flows(): Generator<FlowView, number> {
      yield flowView();
      return 11;
    }
    const socket = await agent(join(directory, "api.sock"), agentView({ flows, drops: () => [] }));
    expect((await millrace("flows", "--limit", "1", "--socket", socket)).err).toBe("1 of 11; --limit 0 shows all\n");
    expect(await millrace("drops", "--socket", socket)).toMatchObject({ out: "", err: "nothing found\n", status: 0 });
    expect((await millrace("drops", "-o", "json", "--socket", socket)).out).toBe("[]\n");
  });

  it("status --check ends with 1 while an error stands", async () => {
    const notice = { object: "Node", file: "", field: "", reason: "x", message: "m", severity: "error" } as const;
    const good = await agent(join(directory, "good.sock"));
    const bad = await agent(
      join(directory, "bad.sock"),
      agentView({ status: () => agentStatus({ notices: [notice] }) }),
    );
    expect((await millrace("status", "--check", "--socket", good)).status).toBe(0);
    const { out, status } = await millrace("status", "--check", "--socket", bad);
    expect([out.split("\n")[1], status]).toEqual(["Notices:  1 error", 1]);
    expect((await millrace("status", "--socket", bad)).status).toBe(0);
  });

  it("says in one sentence that no agent answers", async () => {
    const { err, status } = await millrace("status", "--socket", join(directory, "nobody.sock"));
    expect(err).toMatch(/^millrace: could not ask the agent at .*nobody\.sock: no agent is running there.*\n$/);
    expect(status).toBe(FAILURES.unreachable.exit);
  });

  it.each([
    [["nonsense"], "unknown command 'nonsense'"],
    [["statu"], "(Did you mean status?)\nSee millrace --help."],
    [["help", "nope"], "unknown command 'nope'"],
    [["help", "flwos"], "unknown command 'flwos'; did you mean flows?"],
    [["services", "-o", "xml"], "argument 'xml' is invalid"],
    [["services", "-A", "-n", "shop"], "could not use --all-namespaces: it excludes --namespace"],
    [["services", "-n", "shop", "default/web"], "could not use default/web: it is not of --namespace shop"],
    [["status", "--colour"], "(Did you mean --color?)\nSee millrace status --help."],
    [["completion", "tcsh"], "Allowed choices are bash, zsh, fish."],
    [["run", "--service-node-port-range", "x", "--manifests", "/m"], "--service-node-port-range must be first-last"],
    [["run", "--manifests", "/m", "--apiserver", "https://h"], "could not use --manifests together with --apiserver"],
    [["run", "--apiserver", "h:6443"], "--apiserver must be https://HOST:PORT"],
    [
      ["run", "--manifests", "/m", "--config", "/nonexistent.yaml"],
      "could not read the configuration /nonexistent.yaml",
    ],
    [["cleanup", "--pin-dir", "relative"], "--pin-dir must be an absolute path: current value is 'relative'"],
    [["cleanup", "--drain", "--kube-proxy"], "could not use --drain: it excludes --kube-proxy"],
    [["cleanup", "--force"], "could not use --force: it belongs to --kube-proxy"],
    [["cleanup", "--drain-timeout", "10m"], "could not use --drain-timeout: it belongs to --drain"],
    [["cleanup", "--drain", "--drain-timeout", "soon"], "--drain-timeout must be a time such as 90s"],
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
    expect((await millrace("version", "-o", "yaml")).out).toMatch(/^version: 0\.1\.0\nlayout: /);
  });

  it("writes YAML wherever it writes JSON", async () => {
    const { registerLabCommands } = await import("../../src/lab/commands.ts");
    const program = await createProgram({ ...wiring, registerLabCommands }, true);
    const all = (command: Command): Command[] => [command, ...command.commands.flatMap(all)];
    const choices = all(program).flatMap((command) =>
      command.options
        .filter(({ short }) => short === "-o")
        .map(({ argChoices }) => [command.name(), argChoices?.includes("json"), argChoices?.includes("yaml")]),
    );
    expect(choices.length).toBeGreaterThan(9);
    expect(choices.filter(([, json, yaml]) => json !== yaml)).toEqual([]);
  });

  it.each(["--version", "-V"])("%s prints the version", async (flag) => {
    expect(await millrace(flag)).toEqual({ out: "millrace 0.1.0\n", err: "", status: 0 });
  });

  it("help COMMAND is its --help", async () => {
    expect(await millrace("help", "flows")).toEqual(await millrace("flows", "--help"));
  });

  it("refuses a log level that there is not, and takes an empty one for none", async () => {
    vi.stubEnv("MILLRACE_LOG_LEVEL", "verbose");
    const { err, status } = await millrace("version");
    expect([err, status]).toEqual([
      "millrace: MILLRACE_LOG_LEVEL must be debug, info, warn or error: current value is 'verbose'\n",
      2,
    ]);
    vi.stubEnv("MILLRACE_LOG_LEVEL", "");
    expect((await millrace("version")).status).toBe(0);
    vi.unstubAllEnvs();
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

  it("says in its help no default that is none, and none twice", async () => {
    const said = (await cliPage()).replace(/\s+/g, " ");
    expect(said.match(/.{60}(default: (""|\[\]|false)|default: [^()]*\) \(default: ).{10}/g)).toBeNull();
    expect(said).toContain('nodes that change hands at once (default: "1")');
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

  it("that is down is started by a line that can be typed", async () => {
    expect(nobodyThere({ name: "lab", node: "node3" })).toContain("by millrace lab start node3, its agent alone by");
    expect(nobodyThere({ name: "x", node: "node3" })).toMatch(/millrace lab start agent node3 --name x$/);
    expect(nobodyThere({})).toBeUndefined();
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

describe("what a shell completes", () => {
  it.each([
    [["st"], ["status"]],
    [
      ["lab", "s"],
      ["scale", "start", "split", "status"],
    ],
    [["services", "--out"], ["--output"]],
    [
      ["services", "-o", ""],
      ["table", "wide", "json", "yaml", "name"],
    ],
    [["services", "-o", "y"], ["yaml"]],
    [["flows", "--socket", "/s", "--st"], ["--state"]],
    [
      ["bypass", ""],
      ["on", "off"],
    ],
    [["completion", "z"], ["zsh"]],
    [["__c"], []],
  ])("after %j is %j", async (words, expected) => {
    const { registerLabCommands } = await import("../../src/lab/commands.ts");
    expect(candidates(await createProgram({ ...wiring, registerLabCommands }, true), words)).toEqual(expected);
  });

  it.each(["bash", "zsh", "fish"])("is asked for by a script for %s", async (shell) => {
    expect((await millrace("completion", shell)).out).toContain("__complete -- ");
  });
});

describe("the help of every command", () => {
  it("ends with examples, whose flags there are", async () => {
    const { registerLabCommands } = await import("../../src/lab/commands.ts");
    const program = await createProgram({ ...wiring, registerLabCommands }, true);
    const seen: string[] = [];
    const walk = (command: Command, path: string): void => {
      seen.push(path);
      for (const [line] of EXAMPLES[path] ?? []) {
        const flags = [...line.split(" -- ")[0]!.matchAll(/ (--?[a-z][-a-z0-9]*)/gi)].map((match) => match[1]);
        const known = command.options.flatMap(({ long, short }) => [long, short]);
        if (!["millrace", "millrace lab"].includes(path))
          expect(
            flags.filter((flag) => !known.includes(flag)),
            line,
          ).toEqual([]);
      }
      const subs = command.createHelp().visibleCommands(command);
      // commander's own, under each command that has others.
      for (const sub of subs.filter((one) => command === program || one.name() !== "help"))
        walk(sub, `${path} ${sub.name()}`);
    };
    walk(program, "millrace");
    expect(seen.filter((path) => (EXAMPLES[path] ?? []).length === 0)).toEqual([]);
    expect(Object.keys(EXAMPLES).filter((path) => !seen.includes(path))).toEqual([]);
  });
});
