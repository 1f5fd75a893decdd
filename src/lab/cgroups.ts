// The cgroups of a lab: made, entered, emptied and removed. A process is put into its cgroup before it opens a socket,
// since that decides which programs see the socket.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Failure } from "../lib/errors.ts";
import { patience } from "../lib/patience.ts";

/** Makes the cgroup with those above it. */
export function makeCgroup(directory: string): void {
  mkdirSync(directory, { recursive: true });
}

/** Program and arguments that run `command` inside the cgroup, from its first instruction on. */
export function inCgroup(directory: string, command: readonly string[]): [string, ...string[]] {
  return ["/bin/sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', directory, ...command];
}

/** SIGKILLs everything in the cgroup and below it. An absent one is empty. */
export function killCgroup(directory: string): void {
  if (!existsSync(directory)) return;
  const killFile = join(directory, "cgroup.kill");
  if (existsSync(killFile)) {
    writeFileSync(killFile, "1");
    return;
  }
  // Before Linux 5.14. Whoever forks meanwhile is found by the next call: removeCgroup calls until nobody is left.
  for (const child of children(directory)) killCgroup(child);
  for (const pid of processesIn(directory)) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {}
  }
}

function children(directory: string): string[] {
  try {
    return readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => join(directory, entry.name));
  } catch {
    return [];
  }
}

/** Processes of this one cgroup, those below it not counted. */
export function processesIn(directory: string): number[] {
  try {
    return readFileSync(join(directory, "cgroup.procs"), "utf8").split("\n").filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

function tryRemove(directory: string): boolean {
  for (const child of children(directory)) tryRemove(child);
  try {
    rmdirSync(directory);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT";
  }
}

/** Kills what is in it and removes it with all below. @throws timeout when something in it does not die. */
export async function removeCgroup(directory: string, timeoutMs = patience(10_000)): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  for (let waitMs = 1; ; waitMs = Math.min(waitMs * 2, 50)) {
    killCgroup(directory);
    if (tryRemove(directory)) return;
    if (Date.now() > deadline) {
      throw new Failure("timeout", directory, `could not remove cgroup ${directory}: its processes do not end`);
    }
    await delay(waitMs);
  }
}
