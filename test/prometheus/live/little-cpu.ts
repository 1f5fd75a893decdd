// A process whose main thread gets a small share of a processor, by the cgroup controller "cpu" of version 1, which takes single threads.
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** The kernel takes no quota below a millisecond. */
const PERIOD_US = 500_000;
const V1 = "/sys/fs/cgroup/cpu";

/**
 * Gives the main thread of each of these processes, which are of one cgroup, `share` of a processor, all of them together. Returns what
 * gives them back what they had. @throws where there is no such controller
 */
export function giveLittleCpu(pids: readonly number[], share: number): () => void {
  if (!existsSync(join(V1, "cpu.cfs_quota_us"))) throw new Error(`${V1} is no hierarchy that limits processors`);
  const group = join(V1, `millrace-little-${process.pid}`);
  const before = cpuGroupOf(pids[0]!);
  mkdirSync(group);
  writeFileSync(join(group, "cpu.cfs_period_us"), String(PERIOD_US));
  writeFileSync(join(group, "cpu.cfs_quota_us"), String(Math.round(PERIOD_US * share)));
  for (const pid of pids) writeFileSync(join(group, "tasks"), String(pid));
  return () => {
    // What they began meanwhile is in it too.
    for (let left = tasksOf(group); left.length > 0; left = tasksOf(group)) {
      for (const id of left) if (existsSync(`/proc/${id}`)) writeFileSync(join(V1, before, "tasks"), id);
    }
    rmdirSync(group);
  };
}

function tasksOf(group: string): string[] {
  return readFileSync(join(group, "tasks"), "utf8")
    .split("\n")
    .filter((id) => id !== "");
}

/** As /proc/PID/cgroup has it: ID:CONTROLLERS:PATH. */
function cpuGroupOf(pid: number): string {
  for (const line of readFileSync(`/proc/${pid}/cgroup`, "utf8").split("\n")) {
    const [, controllers = "", path = ""] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (controllers.split(",").includes("cpu")) return path;
  }
  return "";
}
