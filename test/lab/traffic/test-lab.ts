// A lab for a test: brought up and driven as a user does, asked through its agents' sockets. Always taken down: `down` in
// afterAll finds also what a failed `up` left.
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { AgentStatus, BackendView, FlowView, ServiceView } from "../../../src/agent/view.ts";
import { HOOK_VALUES, VERDICT_VALUES } from "../../../src/datapath/layout.gen.ts";
import { order } from "../../../src/lab/control-client.ts";
import { getJson } from "../../../src/lab/lab-node.ts";
import { labSocketPath } from "../../../src/lib/paths.ts";
import { openPinnedMap } from "../../../src/libbpf/mod.ts";

export const ROOT = join(import.meta.dirname, "../../..");
export const MILLRACE = join(ROOT, "dist/millrace");
const NODE = process.execPath;
/** The generators need little memory, and there are many of them. */
const NODE_FLAGS = ["--max-old-space-size=64", "--no-warnings"];

export interface Ran {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end; never throws for its exit status. */
export function run(
  file: string,
  args: readonly string[],
  options: { env?: Record<string, string>; timeoutMs?: number; cwd?: string } = {},
): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(
      file,
      [...args],
      {
        timeout: options.timeoutMs ?? 120_000,
        killSignal: "SIGKILL",
        env: { ...process.env, ...options.env },
        cwd: options.cwd ?? ROOT,
        maxBuffer: 64 << 20,
      },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === "number" ? error.code : -1;
        resolve({ status: code, stdout, stderr });
      },
    );
  });
}

export async function must(
  file: string,
  args: readonly string[],
  options?: Parameters<typeof run>[2],
): Promise<string> {
  const { status, stdout, stderr } = await run(file, args, options);
  if (status !== 0) throw new Error(`${file} ${args.join(" ")} ended with ${status}: ${stderr}${stdout}`);
  return stdout;
}

export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Writes a table of what was measured. */
export function show(title: string, rows: Readonly<Record<string, Readonly<Record<string, string | number>>>>): void {
  const columns = [...new Set(Object.values(rows).flatMap((row) => Object.keys(row)))];
  const lines = [
    ["", ...columns],
    ...Object.entries(rows).map(([name, row]) => [name, ...columns.map((column) => String(row[column] ?? ""))]),
  ];
  const widths = lines[0]!.map((_, i) => Math.max(...lines.map((line) => line[i]!.length)));
  const text = lines.map((line) =>
    line
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join("  ")
      .trimEnd(),
  );
  process.stdout.write(`${[title, ...text].join("\n")}\n`);
}

/** Asks again until the answer is not undefined. */
export async function until<T>(
  what: string,
  ask: () => Promise<T | undefined> | T | undefined,
  timeoutMs = 90_000,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (Date.now() > deadline) throw new Error(`waited ${timeoutMs / 1000} s in vain: ${what}`);
    await pause(20);
  }
}

/** A generator of traffic in a namespace of the lab. */
export class Program {
  readonly #child: ChildProcess;
  readonly #answers: string[] = [];
  readonly #ended: Promise<void>;
  #trouble = "";

  constructor(child: ChildProcess) {
    this.#child = child;
    createInterface({ input: child.stdout! }).on("line", (line) => void this.#answers.push(line));
    child.stderr!.on("data", (data: Buffer) => {
      this.#trouble = (this.#trouble + data.toString()).slice(-2000);
    });
    this.#ended = new Promise((resolve) => child.on("close", () => resolve()));
    child.stdin!.on("error", () => undefined);
  }

  answer<T>(): Promise<T> {
    return until(`the program's answer (${this.#child.spawnargs.slice(-3).join(" ")})`, () => {
      const line = this.#answers.shift();
      if (line !== undefined) return JSON.parse(line) as T;
      if (this.#child.exitCode !== null) throw new Error(`the program ended: ${this.#trouble}`);
      return undefined;
    });
  }

  say(text: string): void {
    this.#child.stdin!.write(`${text}\n`);
  }

  async report<T>(): Promise<Readonly<Record<string, T>>> {
    this.say("report");
    return (await this.answer<{ flows: Record<string, T> }>()).flows;
  }

  async end(): Promise<void> {
    this.#child.stdin!.end();
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), 3000);
    await this.#ended;
    clearTimeout(timer);
  }
}

export interface SocketCounts {
  readonly retransmitted: number;
  /** Of those, the ones that the other side had got: its duplicate SACKs say so. */
  readonly spurious: number;
  readonly resetsSent: number;
  /** Datagrams that arrived at a socket whose buffer was full: its process did not get the processor. */
  readonly noRoom: number;
}

export class TestLab {
  readonly name: string;
  readonly #programs: Program[] = [];
  /** Made when something is written. */
  #files = "";

  constructor(name: string) {
    this.name = name;
  }

  millrace(args: readonly string[], options?: Parameters<typeof run>[2]): Promise<Ran> {
    return run(MILLRACE, args, options);
  }

  /** `millrace lab COMMAND --name …`; throws unless it succeeds. */
  lab(command: string, ...args: readonly string[]): Promise<string> {
    return must(MILLRACE, ["lab", command, "--name", this.name, ...args]);
  }

  /** The same without a process of the command line. */
  order<T>(command: string, body: Readonly<Record<string, unknown>>): Promise<T> {
    return order<T>(this.name, command, body);
  }

  file(name: string, content: string): string {
    if (this.#files === "") this.#files = mkdtempSync(join(tmpdir(), "millrace-restart-"));
    const path = join(this.#files, name);
    writeFileSync(path, content);
    return path;
  }

  async up(manifests: string, ...flags: readonly string[]): Promise<void> {
    await run(MILLRACE, ["lab", "down", "--name", this.name]);
    await must(MILLRACE, ["lab", "up", "--name", this.name, ...flags, "-f", this.file("objects.yaml", manifests)]);
  }

  async down(): Promise<void> {
    await Promise.all(this.#programs.map((program) => program.end()));
    await run(MILLRACE, ["lab", "down", "--name", this.name]);
    this.forget();
  }

  /** Removes its files, of a lab that somebody else takes down. */
  forget(): void {
    if (this.#files !== "") rmSync(this.#files, { recursive: true, force: true });
    this.#files = "";
  }

  exec(target: string, ...command: readonly string[]): Promise<Ran> {
    return run(MILLRACE, ["lab", "exec", "--name", this.name, target, "--", ...command]);
  }

  /** Starts one of the generators in a pod, on a node or an outside client; resolves when it is ready. */
  async program(
    target: string,
    script: "server.ts" | "client.ts" | "hammer.ts" | "keeper.ts" | "resolver.ts" | "flood.ts",
    argument: unknown,
  ): Promise<Program> {
    const command = [NODE, ...NODE_FLAGS, join(import.meta.dirname, script), JSON.stringify(argument)];
    const args = ["lab", "exec", "--name", this.name, target, "--", ...command];
    // A session of its own: the kernel shares a busy machine out among sessions, and the agents' are not the test's.
    const child = spawn(MILLRACE, args, { stdio: "pipe", detached: true });
    const program = new Program(child);
    this.#programs.push(program);
    await program.answer();
    return program;
  }

  async ask<T>(node: string, path: string): Promise<T> {
    return (await getJson(labSocketPath(this.name, node), `/api/v1/${path}`, 5000)) as T;
  }

  status = (node: string): Promise<AgentStatus> => this.ask(node, "status");
  services = (node: string): Promise<ServiceView[]> => this.ask(node, "services");
  backends = (node: string): Promise<BackendView[]> => this.ask(node, "backends");
  flows = (node: string): Promise<FlowView[]> => this.ask(node, "flows?path=packet");

  /** Kills the agents with SIGKILL. */
  async killAgents(nodes: readonly string[]): Promise<void> {
    await Promise.all(nodes.map((target) => this.order("kill-agent", { target })));
  }

  /** Starts the agents, of the build `dist` when given; resolves when everything is in force. Milliseconds that it took. */
  async startAgents(nodes: readonly string[], dist = ""): Promise<number> {
    const began = Date.now();
    await Promise.all(
      nodes.map(async (target) => {
        await this.order("start-agent", { target, dist });
        await this.inForce(target, began);
      }),
    );
    return Date.now() - began;
  }

  async inForce(node: string, sinceMs = 0): Promise<void> {
    await until(`the agent of ${node} to have everything in force`, async () => {
      try {
        const { healthy, appliedDigest, source, startedMs } = await this.status(node);
        return healthy && appliedDigest === source.digest && startedMs >= sinceMs ? true : undefined;
      } catch {
        return undefined;
      }
    });
  }

  /** Packets by name of what was decided for them, at `hook` or over all, as the node's programs count them. */
  verdicts(node: string, hook?: keyof typeof HOOK_VALUES): Record<string, number> {
    const directory = `/sys/fs/bpf/millrace-lab-${this.name}/${node}`;
    const maps = readdirSync(directory).find((name) => name.startsWith("maps-"));
    using map = openPinnedMap(join(directory, maps ?? "", "verdicts"));
    const found: Record<string, number> = {};
    for (const [key, value] of map.entries()) {
      const index = new DataView(key.buffer, key.byteOffset).getUint32(0, true);
      if (hook !== undefined && Math.floor(index / VERDICT_VALUES.VERDICT_MAX) !== HOOK_VALUES[hook]) continue;
      const verdict = index % VERDICT_VALUES.VERDICT_MAX;
      const name = Object.entries(VERDICT_VALUES).find(([, number]) => number === verdict)?.[0] ?? "";
      const cpus = new BigUint64Array(value.buffer, value.byteOffset, value.byteLength / 8);
      found[name] = cpus.reduce((sum, count) => sum + Number(count), found[name] ?? 0);
    }
    return found;
  }

  /** Datagrams that sockets of the target's namespace took over IPv4. */
  async datagramsIn(target: string): Promise<number> {
    const { stdout } = await this.exec(target, "cat", "/proc/net/snmp");
    const [names, counts] = stdout.split("\n").flatMap((line) => (line.startsWith("Udp: ") ? [line.split(" ")] : []));
    return Number(counts?.[names?.indexOf("InDatagrams") ?? -1]);
  }

  async socketCounts(target: string): Promise<SocketCounts> {
    const { stdout } = await this.exec(
      target,
      "cat",
      "/proc/self/net/snmp",
      "/proc/self/net/netstat",
      "/proc/self/net/snmp6",
    );
    const value = (group: string, name: string): number => {
      const [names, values] = stdout.split("\n").filter((line) => line.startsWith(`${group}:`));
      const at = names?.split(" ").indexOf(name) ?? -1;
      return at < 0 ? 0 : Number(values!.split(" ")[at]);
    };
    return {
      retransmitted: value("Tcp", "RetransSegs"),
      spurious: value("TcpExt", "TCPDSACKRecv"),
      resetsSent: value("Tcp", "OutRsts"),
      noRoom: value("Udp", "RcvbufErrors") + Number(/^Udp6RcvbufErrors\s+(\d+)/m.exec(stdout)?.[1] ?? 0),
    };
  }
}
