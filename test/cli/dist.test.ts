// What is bundled is what people run: each command of dist/millrace goes as far as it can without a kernel, so that what it
// loads is loaded.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, describe, expect, it } from "vitest";

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
});
