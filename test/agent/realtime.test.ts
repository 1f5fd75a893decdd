import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { realtimeProblem } from "../../src/agent/realtime.ts";

const WITH = "CONFIG_PREEMPT_RT=y\nCONFIG_PREEMPT_RT_NEEDS_BH_LOCK=y\n";
const WITHOUT = "CONFIG_PREEMPT_RT=y\n# CONFIG_PREEMPT_RT_NEEDS_BH_LOCK is not set\n";
const BEFORE = "CONFIG_PREEMPT_RT=y\n";

interface Machine {
  readonly realtime?: string;
  readonly packed?: string;
  readonly boot?: string;
}

function problem({ realtime, packed, boot }: Machine, version: string): string {
  const files: Record<string, Buffer | undefined> = {
    "/sys/kernel/realtime": realtime === undefined ? undefined : Buffer.from(realtime),
    "/proc/config.gz": packed === undefined ? undefined : gzipSync(packed),
    [`/boot/config-${version}`]: boot === undefined ? undefined : Buffer.from(boot),
  };
  return realtimeProblem((path) => files[path], version);
}

describe("a kernel with PREEMPT_RT", () => {
  it.each([
    ["is none when it does not say so", {}, "6.18.1", ""],
    ["is none when it says no", { realtime: "0\n", boot: WITHOUT }, "6.18.1", ""],
    ["is fine with the lock, by /proc", { realtime: "1\n", packed: WITH }, "6.18.1-rt", ""],
    ["is fine with the lock, by /boot", { realtime: "1\n", boot: WITH }, "6.18.1-rt", ""],
    [
      "is a problem without it, by /proc",
      { realtime: "1\n", packed: WITHOUT, boot: WITH },
      "6.18.1",
      "was built without",
    ],
    ["is a problem without it, by /boot", { realtime: "1\n", boot: WITHOUT }, "6.18.1-rt", "was built without"],
    ["is fine before the lock was an option", { realtime: "1\n", boot: BEFORE }, "6.12.3-rt1", ""],
    ["is fine before it was one, with no configuration to read", { realtime: "1\n" }, "6.12.3-rt1", ""],
    ["is suspected with no configuration to read", { realtime: "1\n" }, "7.0.0", "cannot be asked"],
  ])("%s", (_name, machine, version, expected) => {
    const found = problem(machine, version);
    expect(found === "" ? "" : found).toContain(expected);
    expect(found === "").toBe(expected === "");
  });

  it("is found out on the running machine without an error", () => {
    expect(typeof realtimeProblem()).toBe("string");
  });
});
