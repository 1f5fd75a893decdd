// The systemd unit: systemd takes it as it is, and its directories are those of the settings' defaults.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { expect, it } from "vitest";
import { SETTINGS } from "../../src/cli/settings.ts";

const unit = readFileSync(resolve(import.meta.dirname, "../../deploy/systemd/millrace.service"), "utf8");
const settingOf = (key: string): string => new RegExp(`^${key}=(.*)$`, "m").exec(unit)?.[1] ?? "";
const machine = { nodeName: "", cgroup: "", memoryBytes: 0, cpus: 1 };
const defaultOf = (name: string): string =>
  SETTINGS.find((setting) => setting.name === name)?.defaultValue(machine) ?? "";

const ANALYZE = "/usr/bin/systemd-analyze";

it.skipIf(!existsSync(ANALYZE))("the unit has no line that systemd does not know", () => {
  const directory = mkdtempSync(join(tmpdir(), "millrace-unit-"));
  try {
    const path = join(directory, "millrace.service");
    // The program is not installed here, and systemd looks.
    writeFileSync(path, unit.replace(/^ExecStart=\S+/m, "ExecStart=/bin/true"));
    const { status, stdout, stderr } = spawnSync(ANALYZE, ["verify", path], { encoding: "utf8" });
    expect([status, stdout, stderr]).toEqual([0, "", ""]);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

it("the unit's directories are where the agent keeps its state and its socket, and the pins may be written", () => {
  expect(`/var/lib/${settingOf("StateDirectory")}`).toBe(defaultOf("state-dir"));
  expect(defaultOf("api-socket")).toMatch(new RegExp(`^/run/${settingOf("RuntimeDirectory")}/`));
  const written = settingOf("ReadWritePaths").split(" ");
  for (const path of [defaultOf("pin-dir"), "/run/xtables.lock"]) {
    expect(written.some((directory) => path.startsWith(`${directory}/`))).toBe(true);
  }
});

it("the unit gives the capabilities of the DaemonSet's agent, and a way to read manifests of others", () => {
  const capabilities = settingOf("CapabilityBoundingSet").split(" ");
  expect(capabilities).toEqual(["CAP_BPF", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_PERFMON", "CAP_DAC_READ_SEARCH"]);
  expect(settingOf("NoNewPrivileges")).toBe("yes");
});
