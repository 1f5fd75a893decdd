// What is bundled is what people run: each command of dist/millrace goes as far as it can without a kernel, so that what it
// loads is loaded.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createApiServer } from "../../src/http/api-server.ts";
import { run } from "../../src/lib/exec.ts";
import { agentView, silentLog } from "../http/view-fixture.ts";

const root = resolve(import.meta.dirname, "../..");
const program = join(root, "dist/millrace");
const directory = mkdtempSync(join(tmpdir(), "millrace-dist-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function millrace(...args: string[]) {
  const { stdout, stderr, status } = spawnSync(program, args, {
    encoding: "utf8",
    env: { PATH: "/usr/bin:/bin" },
    timeout: 60_000,
  });
  return { stdout, stderr, status };
}

function configFile(text: string): string {
  const path = join(directory, "c.yaml");
  writeFileSync(path, text);
  return path;
}

const nobody = join(directory, "nobody.sock");
const built = existsSync(program);
const required = process.env["REQUIRE_KERNEL"] === "1";

describe.skipIf(!built && !required)("dist/millrace", () => {
  it.each([
    ["a key that is none", "manifest: /m\n", "unknown key 'manifest'; did you mean manifests?"],
    ["a wrong value", "xdp: maybe\n", "xdp in FILE must be auto, on or off: current value is 'maybe'"],
    ["what is no YAML", "xdp: [\n", "could not read the configuration FILE: "],
  ])("run --config refuses %s with status 2", (_what, text, message) => {
    const path = configFile(text);
    const { stderr, status } = millrace("run", "--config", path);
    expect(stderr).toContain(message.replace("FILE", path));
    expect(status).toBe(2);
  });

  it("run --config takes a good file: every key of the reference, and a flag that contradicts it", () => {
    const reference = join(root, "deploy/config-reference.yaml");
    expect(millrace("run", "--config", reference, "--xdp", "x")).toMatchObject({
      stderr: "millrace: --xdp must be auto, on or off: current value is 'x'\n",
      status: 2,
    });
    const path = configFile("apiserver: https://h\n");
    const { stderr, status } = millrace("run", "--config", path, "--manifests", "/m");
    expect(stderr).toContain(`could not use --manifests together with apiserver in ${path}`);
    expect(status).toBe(2);
  });

  it.each([
    [["status", "--socket", nobody], 6, "no agent is running there"],
    [["services", "-o", "wide", "--socket", nobody], 6, "no agent is running there"],
    [["backends", "--socket", nobody], 6, "no agent is running there"],
    [["flows", "--socket", nobody], 6, "no agent is running there"],
    [["drops", "-n", "shop", "--socket", nobody], 6, "no agent is running there"],
    [["drops", "-n", "shop", "-A"], 2, "could not use --all-namespaces: it excludes --namespace"],
    [["doctor", "--xdp", "x"], 2, "--xdp must be auto, on or off"],
    [["doctor", "-o", "xml"], 2, "Allowed choices are text, json, yaml"],
    [["controller", "--lease-duration", "x"], 2, "--lease-duration must be"],
    [["controller", "--writes-per-second", "x"], 2, "--writes-per-second must be"],
    [["install", "--parallel", "0"], 2, "--parallel must be a number from 1"],
    [["install", "--set", "xdp"], 2, "--set must be NAME=VALUE"],
    [["install", "--kubeconfig", join(directory, "absent")], 6, "could not read the kubeconfig"],
    [["uninstall", "--drain-timeout", "x"], 2, "--drain-timeout must be a time"],
    [["uninstall", "--kubeconfig", join(directory, "absent")], 6, "could not read the kubeconfig"],
    [["prepare", "--conntrack-min", "x"], 2, "--conntrack-min must be a whole number"],
    [["prepare", "--config", join(directory, "absent")], 2, "could not read the configuration"],
    [["cleanup", "--force"], 2, "it belongs to --kube-proxy"],
    [["bypass", "on", "--pin-dir", "relative"], 2, "--pin-dir must be an absolute path"],
    [["cleanup", "--pin-dir", "relative"], 2, "--pin-dir must be an absolute path"],
    [["lab", "status", "--name", "nobody"], 1, "nobody"],
    [["lab", "apply", "--name", "nobody", "-f", "x.yaml"], 1, "nobody"],
    [["lab", "exec", "--name", "nobody", "node1", "--", "true"], 1, "nobody"],
    [["lab", "up", "--nodes", "x"], 2, "--nodes must be"],
    // No cgroup2 either: an agent must not start here, whatever else goes wrong.
    [
      ["run", "--cgroup", "/proc", "--manifests", join(directory, "absent")],
      2,
      "absent: there is no such file or directory",
    ],
  ])("%j ends with status %i and says why", (args, status, message) => {
    const found = millrace(...args);
    expect([found.stdout, found.status]).toEqual(["", status]);
    expect(found.stderr).toContain(message);
    expect(found.stderr).not.toContain("internal error");
  });

  it("version answers as text, JSON and YAML", () => {
    const text = millrace("version").stdout;
    expect(text).toMatch(/^millrace \S+, layout [0-9a-f]+, Node\.js \S+\n$/);
    const answer = JSON.parse(millrace("version", "-o", "json").stdout) as Record<string, string>;
    const lines = Object.entries(answer).map(([key, value]) => `${key}: ${value}\n`);
    expect(millrace("version", "-o", "yaml").stdout.replaceAll('"', "")).toBe(lines.join(""));
  });

  describe("asks an agent", () => {
    const socketPath = join(directory, "run/api.sock");
    const view = agentView({ serviceNames: () => ["default/web"] });
    const server = createApiServer({ view, socketPath, tcpAddress: "", log: silentLog, onNotice() {} });
    beforeAll(() => server.listen());
    afterAll(() => server.close());
    const ask = (...args: readonly string[]) => run(program, [...args, "--socket", socketPath], { timeoutMs: 60_000 });

    it.each([
      ["web"],
      ["-n", "default"],
      ["-A"],
      ["-l", "app=web"],
      ["--service", "svc/web"],
      ["--address", "10.0.0.0/8"],
      ["--client", "fd00::1"],
      ["--backend", "10.244.1.5"],
      ["--port", "80"],
      ["--pod", "web-1"],
      ["--backend-node", "node1"],
      ["--state", "established"],
      ["--protocol", "tcp"],
      ["--protocol", "udp"],
      ["--protocol", "sctp"],
      ["--path", "packet"],
      ["--path", "socket"],
      ["--limit", "0"],
    ])("flows %s %s is taken", async (...filter) => {
      expect(await ask("flows", ...filter)).toMatchObject({
        ok: true,
        text: expect.stringContaining("10.244.1.5:8080"),
      });
    });

    it.each([
      ["status", "node1"],
      ["services", "web"],
      ["backends", "10.244.1.5"],
      ["flows", "10.244.1.5:8080"],
      ["drops", "drop_no_local_backend"],
    ])("%s in every format", async (command, expected) => {
      for (const format of ["table", "wide", "json", "yaml"])
        expect((await ask(command, "-o", format)).text, format).toContain(expected);
      expect((await ask(command, "-o", "name")).ok).toBe(true);
    });

    it("drops -n a namespace that is not there is told which one is near", async () => {
      const { ok, text } = await ask("drops", "-n", "defualt");
      expect([ok, text]).toEqual([
        false,
        "millrace: could not find namespace defualt: no Service is in it; did you mean default?",
      ]);
    });
  });
});
