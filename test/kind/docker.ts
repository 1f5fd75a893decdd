// A Docker daemon of the tests' own: in a network namespace that is its machine, with its own files. What it does to networks goes with the
// namespace; what else it makes is taken away here.
import { spawn } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { cgroupRoot } from "../../src/lab/lab-paths.ts";
import { type RunOptions, type RunResult, runChecked, runProgram } from "../../src/lab/shell.ts";
import { olderHierarchies } from "../cluster/cgroup-hierarchies.ts";
import { waitUntil } from "../cluster/wait-until.ts";
import {
  DOCKER_DATA,
  DOCKER_LOG,
  DOCKER_PID,
  DOCKER_RANGE,
  DOCKER_SOCKET,
  HOST,
  HOST_NAMESPACE,
  NETWORK,
  PROGRAMS,
  STATE,
  SUBNETS,
} from "./paths.ts";

const FILTER = join(import.meta.dirname, "runc-filter.ts");
const RUNTIME = join(STATE, "runc");
/** Not the machine's own. */
const DOCKER_CONFIG = join(STATE, "daemon.json");
/** Docker's cgroups are below this one, in every hierarchy, beside those of a Docker that the machine may have. */
const CGROUP = "millrace-kind";

/** What programs on that machine find in their environment. */
export function hostEnvironment(): NodeJS.ProcessEnv {
  return {
    ...process.env,
    DOCKER_HOST: `unix://${DOCKER_SOCKET}`,
    // The client of the daemon's own package, whatever else there is.
    PATH: `${PROGRAMS}:/usr/bin:${process.env["PATH"] ?? ""}`,
    KIND_EXPERIMENTAL_DOCKER_NETWORK: NETWORK,
  };
}

/** Program and arguments that run `command` on that machine: in its network, with this one's files. */
export function onHost(command: readonly string[]): [string, ...string[]] {
  return ["nsenter", `--net=${HOST_NAMESPACE}`, "--", ...command];
}

/** Runs a program on that machine. Never throws for its status. */
export function runOnHost(command: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const [file, ...args] = onHost(command);
  return runProgram(file, args, { env: hostEnvironment(), ...options });
}

/** As runOnHost, and a status other than 0 is a failure. @throws machine */
export async function checkedOnHost(command: readonly string[], options: RunOptions = {}): Promise<string> {
  const [file, ...args] = onHost(command);
  return await runChecked(file, args, { env: hostEnvironment(), ...options });
}

export function docker(...args: readonly string[]): Promise<string> {
  return checkedOnHost(["docker", ...args]);
}

export async function isUp(): Promise<boolean> {
  return existsSync(DOCKER_SOCKET) && (await runOnHost(["docker", "info"])).status === 0;
}

/** Starts it unless it runs. */
export async function dockerUp(): Promise<void> {
  if (await isUp()) return;
  await dockerDown();
  mkdirSync(STATE, { recursive: true, mode: 0o711 });
  mkdirSync(DOCKER_DATA, { recursive: true });
  await runChecked("ip", ["netns", "add", HOST]);
  await checkedOnHost(["ip", "link", "set", "lo", "up"]);
  writeFileSync(DOCKER_CONFIG, "{}\n");
  writeFileSync(RUNTIME, `#!/bin/sh\nexec ${process.execPath} --no-warnings ${FILTER} "$@"\n`);
  chmodSync(RUNTIME, 0o755);
  const [file, ...args] = onHost(["unshare", "--mount", "--propagation=private", "--", "dockerd", ...daemonFlags()]);
  const log = openSync(DOCKER_LOG, "a");
  const daemon = spawn(file, args, { detached: true, stdio: ["ignore", log, log], cwd: "/" });
  daemon.unref();
  const from = {
    name: "dockerd",
    get pid() {
      return daemon.exitCode === null ? daemon.pid : undefined;
    },
    lastWords: () => lastLines(DOCKER_LOG),
  };
  const answers = async () => (await isUp()) || undefined;
  await waitUntil("Docker to answer", answers, { timeoutMs: 120_000, everyMs: 200, from });
  const [v4, v6] = SUBNETS;
  if ((await runOnHost(["docker", "network", "inspect", NETWORK])).status !== 0) {
    const options = ["--driver=bridge", "--ipv6", `--subnet=${v4}`, `--ip-range=${DOCKER_RANGE}`, `--subnet=${v6}`];
    await docker("network", "create", ...options, NETWORK);
  }
}

function daemonFlags(): string[] {
  return [
    ...[`--data-root=${DOCKER_DATA}`, `--exec-root=${STATE}/exec`, `--host=unix://${DOCKER_SOCKET}`],
    ...[`--pidfile=${DOCKER_PID}`, `--config-file=${DOCKER_CONFIG}`, "--exec-opt=native.cgroupdriver=cgroupfs"],
    ...[`--cgroup-parent=/${CGROUP}`, `--add-runtime=filtered=${RUNTIME}`, "--default-runtime=filtered"],
  ];
}

export function lastLines(file: string): string {
  return existsSync(file) ? readFileSync(file, "utf8").trim().split("\n").slice(-5).join("\n") : "";
}

/** Ends it and everything in it. What it has of images stays in the cache. */
export async function dockerDown(): Promise<void> {
  if (await isUp()) {
    const containers = (await docker("ps", "--all", "--quiet")).split("\n").filter(Boolean);
    if (containers.length > 0) await docker("rm", "--force", "--volumes", ...containers);
  }
  await endDaemon();
  if (existsSync(HOST_NAMESPACE)) await runChecked("ip", ["netns", "delete", HOST]);
  for (const root of [cgroupRoot(), ...olderHierarchies()]) await removeCgroups(join(root, CGROUP));
  rmSync(STATE, { recursive: true, force: true });
}

/** What there still is of it: namespace, files, cgroups, mounts. Empty when all was taken away. */
export function leftOfDocker(): readonly string[] {
  const mounts = readFileSync("/proc/self/mounts", "utf8").split("\n");
  const roots = [cgroupRoot(), ...olderHierarchies()];
  return [
    ...[HOST_NAMESPACE, STATE, ...roots.map((root) => join(root, CGROUP))].filter((path) => existsSync(path)),
    ...mounts.filter((line) => line.includes(STATE) || line.includes(DOCKER_DATA)),
  ];
}

/** The daemon that its file names, if it is one. */
async function endDaemon(): Promise<void> {
  if (!existsSync(DOCKER_PID)) return;
  const pid = Number(readFileSync(DOCKER_PID, "utf8"));
  const isDaemon = () => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")[0]?.endsWith("dockerd") === true;
    } catch {
      return false;
    }
  };
  if (isDaemon()) process.kill(pid, "SIGTERM");
  for (let i = 0; i < 300 && isDaemon(); i++) await delay(100);
  if (isDaemon()) process.kill(pid, "SIGKILL");
}

/** A cgroup that was just left may be in use for a moment. */
async function removeCgroups(directory: string): Promise<void> {
  if (!existsSync(directory)) return;
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    if (entry.isDirectory()) await removeCgroups(join(directory, entry.name));
  }
  for (let i = 0; ; i++) {
    try {
      rmdirSync(directory);
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
      if (i === 50) throw error;
      await delay(100);
    }
  }
}
