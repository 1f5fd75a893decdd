// A real agent, dist/millrace, in a namespace, cgroup and pin directory of its own: how soon it has everything in force, and
// what it has resident when it then has nothing to do. It is ended and cleaned up after by its own cleanup.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import type { AgentStatus } from "../src/agent/view.ts";
import { askAgent } from "../src/cli/api-client.ts";
import { isCgroup2 } from "../src/libbpf/mod.ts";
import { createNamespace } from "../test/kernel/datapath/namespace.ts";
import { clusterManifests, ENDPOINTS } from "./cluster.ts";
import { type ResidentMemory, residentMemory } from "./memory.ts";

export interface AgentResult extends ResidentMemory {
  readonly services: number;
  /** From the start of the process until all is in force. */
  readonly startMs: number;
  /** Its own part: resident less the mapped arrays. */
  readonly ownBytes: number;
}

const EXECUTABLE = path.resolve(import.meta.dirname, "../dist/millrace");
const START_LIMIT_MS = 120_000;
const POLL_MS = 20;
/** The engine gives memory back some seconds after the work; then the smallest of a few readings counts. */
const IDLE_MS = 30_000;
const IDLE_POLL_MS = 1_000;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function untilInForce(child: ChildProcess, socket: string, services: number, log: () => string): Promise<void> {
  const limit = performance.now() + START_LIMIT_MS;
  while (performance.now() < limit) {
    if (child.exitCode !== null) throw new Error(`the agent ended with ${child.exitCode}: ${log()}`);
    const status = await askAgent<AgentStatus>(socket, "/api/v1/status").catch(() => undefined);
    const backends = status?.capacity.find(({ map }) => map === "backends")?.used;
    // The allocator has its own DNS Service besides.
    if (status?.healthy === true && backends !== undefined && backends >= services * ENDPOINTS) return;
    await pause(POLL_MS);
  }
  throw new Error(`the agent had not ${services} Services in force after ${START_LIMIT_MS / 1000} s: ${log()}`);
}

/** Starts an agent over a directory that holds `services` Services, waits until it is idle, and takes it away again. */
export async function benchAgent(services: number): Promise<AgentResult> {
  const cgroupRoot = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].find(isCgroup2);
  if (cgroupRoot === undefined) throw new Error("no cgroup2 is mounted");
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "millrace-bench-agent-"));
  const name = path.basename(directory);
  const cgroup = path.join(cgroupRoot, name);
  const pinDir = `/sys/fs/bpf/${name}`;
  const stateDir = path.join(directory, "state");
  const manifests = path.join(directory, "manifests");
  const socket = path.join(directory, "api.sock");
  const logPath = path.join(directory, "log");
  const log = (): string => fs.readFileSync(logPath, "utf8").split("\n").slice(-5).join("\n");
  fs.mkdirSync(manifests);
  fs.mkdirSync(cgroup);
  using namespace = createNamespace();
  namespace.ip("link add up0 type veth peer name lan0");
  namespace.ip("link set lan0 up");
  namespace.ip("link set up0 up");
  namespace.ip("addr add 192.168.122.11/24 dev up0");
  namespace.ip("route add default via 192.168.122.1");
  const files = services === 0 ? [] : clusterManifests(services);
  files.forEach((text, i) => {
    fs.writeFileSync(path.join(manifests, `${i}.json`), text);
  });
  const inNamespace = (args: readonly string[]): string[] => [
    `--net=/run/netns/${namespace.name}`,
    EXECUTABLE,
    ...args,
  ];
  let child: ChildProcess | undefined;
  try {
    const out = fs.openSync(logPath, "a");
    const start = performance.now();
    child = spawn(
      "nsenter",
      inNamespace([
        "run",
        `--manifests=${manifests}`,
        // With nothing to read it is allocator and DNS server too.
        ...(services === 0 ? [] : ["--read-only"]),
        `--state-dir=${stateDir}`,
        "--node-name=node1",
        `--cgroup=${cgroup}`,
        `--pin-dir=${pinDir}`,
        `--api-socket=${socket}`,
      ]),
      { stdio: ["ignore", out, out] },
    );
    fs.closeSync(out);
    await untilInForce(child, socket, services, log);
    const startMs = performance.now() - start;
    let best: ResidentMemory | undefined;
    for (const end = performance.now() + IDLE_MS; performance.now() < end; await pause(IDLE_POLL_MS)) {
      const now = residentMemory(child.pid!);
      if (best === undefined || now.residentBytes < best.residentBytes) best = now;
    }
    return { services, startMs, ...best!, ownBytes: best!.residentBytes - best!.mappedArrayBytes };
  } finally {
    if (child !== undefined && child.exitCode === null) {
      const ended = new Promise((resolve) => child!.once("exit", resolve));
      child.kill("SIGTERM");
      await ended;
    }
    const cleanup = ["cleanup", `--pin-dir=${pinDir}`, `--state-dir=${stateDir}`, `--cgroup=${cgroup}`];
    execFileSync("nsenter", inNamespace(cleanup), { stdio: "ignore" });
    fs.rmdirSync(cgroup);
    fs.rmSync(directory, { recursive: true, force: true });
  }
}
