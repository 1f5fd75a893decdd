// A lab for one test file: brought up by the built executable, as people do it, and taken down whatever happens.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { resolve } from "node:path";
import { LabSession } from "../../src/lab/lab-session.ts";
import { patience } from "../../src/lib/patience.ts";

const MILLRACE = resolve(import.meta.dirname, "../../dist/millrace");

/** A lab's name that no other clone of the project uses at the same time, but the next run in this one does. */
export function labName(purpose: string): string {
  const clone = createHash("sha256")
    .update(import.meta.dirname)
    .digest("hex")
    .slice(0, 4);
  return `t-${purpose}-${clone}`;
}

export interface CliResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** `millrace …` with these arguments, to its end. */
export function millrace(args: readonly string[], input = ""): CliResult {
  if (!existsSync(MILLRACE)) throw new Error(`${MILLRACE} is missing: run \`make build\``);
  const { status, stdout, stderr } = spawnSync(MILLRACE, args, { encoding: "utf8", input, timeout: patience(170_000) });
  return { status, stdout, stderr };
}

/** Brings up lab `name`, having removed what an interrupted run left of it. @throws when it does not come up */
export function upLab(name: string, flags: readonly string[] = []): LabSession {
  downLab(name);
  const { status, stderr } = millrace(["lab", "up", "--name", name, ...flags]);
  if (status !== 0) throw new Error(`lab ${name} did not come up: ${stderr}`);
  return new LabSession(name);
}

export function downLab(name: string): void {
  const { status, stderr } = millrace(["lab", "down", "--name", name]);
  if (status !== 0) throw new Error(`lab ${name} was not taken down: ${stderr}`);
}

/** Everything on this machine that carries the lab's name; empty after `down`. */
export function tracesOf(name: string): string[] {
  const list = (directory: string) =>
    existsSync(directory) ? readdirSync(directory).map((entry) => `${directory}/${entry}`) : [];
  const places = [
    "/run/netns",
    "/etc/netns",
    "/run/millrace/lab",
    "/sys/fs/bpf",
    "/sys/fs/cgroup",
    "/sys/fs/cgroup/unified",
  ].flatMap(list);
  return places.filter(
    (path) => path.includes(`/mr-${name}-`) || path.endsWith(`/millrace-lab-${name}`) || path.endsWith(`/lab/${name}`),
  );
}
