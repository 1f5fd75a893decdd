// A real agent, dist/millrace, in a namespace, cgroup and pin directory of its own, for measuring: started with the flags
// asked for, ended and cleaned up after by its own cleanup.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import type { AgentStatus } from "../src/agent/view.ts";
import { askAgent } from "../src/cli/api-client.ts";
import { isCgroup2 } from "../src/libbpf/mod.ts";
import { createNamespace, type Namespace } from "../test/kernel/datapath/namespace.ts";

const EXECUTABLE = path.resolve(import.meta.dirname, "../dist/millrace");
const POLL_MS = 100;

export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export interface AgentProcess {
  readonly pid: number;
  /** By performance.now() of this process. */
  readonly startedMs: number;
  status(): Promise<AgentStatus | undefined>;
  /** Resolves to the first status that `holds`. Throws with the end of the log when it ends before, or after `limitMs`. */
  until(holds: (status: AgentStatus) => boolean, limitMs: number): Promise<AgentStatus>;
  signal(name: NodeJS.Signals): void;
  stop(): Promise<void>;
}

export interface AgentPlace extends AsyncDisposable {
  /** A scratch directory, removed at the end. */
  readonly directory: string;
  readonly namespace: Namespace;
  /** Starts an agent over what the last one left. `flags` as on the command line. */
  start(flags: readonly string[], environment?: Readonly<Record<string, string>>): AgentProcess;
  /** Takes out what agents left in the kernel, so that the next one starts anew. */
  cleanup(): void;
  /** Runs a command in the namespace. The caller ends it. */
  spawn(command: readonly string[]): ChildProcess;
}

/** Makes the place. Its namespace has an uplink up0 with 192.168.122.11/24 and a default route. */
export function createAgentPlace(): AgentPlace {
  const cgroupRoot = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].find(isCgroup2);
  if (cgroupRoot === undefined) throw new Error("no cgroup2 is mounted");
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "millrace-bench-agent-"));
  const name = path.basename(directory);
  const cgroup = path.join(cgroupRoot, name);
  const pinDir = `/sys/fs/bpf/${name}`;
  const stateDir = path.join(directory, "state");
  const socket = path.join(directory, "api.sock");
  const logPath = path.join(directory, "log");
  const log = (): string => fs.readFileSync(logPath, "utf8").split("\n").slice(-5).join("\n");
  fs.mkdirSync(cgroup);
  const namespace = createNamespace();
  namespace.ip("link add up0 type veth peer name lan0");
  namespace.ip("link set lan0 up");
  namespace.ip("link set up0 up");
  namespace.ip("addr add 192.168.122.11/24 dev up0");
  namespace.ip("route add default via 192.168.122.1");
  const inNamespace = (command: readonly string[]): string[] => [`--net=/run/netns/${namespace.name}`, ...command];
  const places = [`--pin-dir=${pinDir}`, `--state-dir=${stateDir}`, `--cgroup=${cgroup}`];
  const children = new Set<ChildProcess>();

  const track = (child: ChildProcess): ChildProcess => {
    children.add(child);
    child.once("exit", () => children.delete(child));
    return child;
  };
  const end = async (child: ChildProcess): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGTERM");
    await ended;
  };
  const cleanup = (): void => {
    execFileSync("nsenter", inNamespace([EXECUTABLE, "cleanup", ...places]), { stdio: "ignore" });
  };

  return {
    directory,
    namespace,
    cleanup,
    spawn: (command) => track(spawn("nsenter", inNamespace(command), { stdio: ["ignore", "pipe", "inherit"] })),
    start(flags, environment = {}) {
      const out = fs.openSync(logPath, "a");
      const startedMs = performance.now();
      const command = [EXECUTABLE, "run", "--node-name=node1", ...places, `--api-socket=${socket}`, ...flags];
      const child = track(
        spawn("nsenter", inNamespace(command), {
          stdio: ["ignore", out, out],
          env: { ...process.env, ...environment },
        }),
      );
      fs.closeSync(out);
      const status = (): Promise<AgentStatus | undefined> =>
        askAgent<AgentStatus>(socket, "/api/v1/status").catch(() => undefined);
      return {
        pid: child.pid!,
        startedMs,
        status,
        async until(holds, limitMs) {
          for (const limit = performance.now() + limitMs; performance.now() < limit; await pause(POLL_MS)) {
            if (child.exitCode !== null) throw new Error(`the agent ended with ${child.exitCode}: ${log()}`);
            const now = await status();
            if (now !== undefined && holds(now)) return now;
          }
          throw new Error(`the agent was not there after ${limitMs / 1000} s: ${log()}`);
        },
        signal: (signal) => void child.kill(signal),
        stop: () => end(child),
      };
    },
    async [Symbol.asyncDispose]() {
      for (const child of children) await end(child);
      cleanup();
      namespace[Symbol.dispose]();
      fs.rmdirSync(cgroup);
      fs.rmSync(directory, { recursive: true, force: true });
    },
  };
}
