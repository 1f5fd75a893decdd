// What a number was measured on. No host names: results are published.
import fs from "node:fs";
import os from "node:os";

export interface Machine {
  readonly kernel: string;
  readonly architecture: string;
  readonly cpu: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly virtual: boolean;
  readonly node: string;
  readonly jit: boolean;
  /** Load of the last minute when the run began: others disturb. */
  readonly load: number;
}

function read(path: string): string {
  try {
    return fs.readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

export function readMachine(): Machine {
  const cpuinfo = read("/proc/cpuinfo");
  return {
    kernel: os.release(),
    architecture: os.arch(),
    cpu: os.cpus()[0]?.model.trim() ?? "unknown",
    cores: os.availableParallelism(),
    memoryBytes: os.totalmem(),
    virtual: /^flags.*\bhypervisor\b/m.test(cpuinfo),
    node: process.version,
    jit: read("/proc/sys/net/core/bpf_jit_enable").trim() !== "0",
    load: os.loadavg()[0] ?? 0,
  };
}
