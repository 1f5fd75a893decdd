// One machine for `millrace run` and `millrace cleanup`, by themselves and without a lab: a network namespace with an uplink,
// a pin directory, a cgroup and a state directory of its own. All is removed by close(), also what an agent left.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { AgentStatus } from "../../../src/agent/view.ts";
import { findCgroup2 } from "../../../src/cli/cgroup2.ts";
import { getJson } from "../../../src/lab/lab-node.ts";
import { mountBpffs } from "../../../src/libbpf/mod.ts";
import { createNamespace, type Namespace } from "../../kernel/datapath/namespace.ts";
import { MILLRACE, type Ran, ROOT, run, until } from "./test-lab.ts";

let serial = 0;

export interface RunOptions {
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Program and arguments in front of nsenter. */
  readonly within?: readonly string[];
}

export class Agent {
  readonly child: ChildProcess;
  readonly #machine: TestMachine;
  readonly ended: Promise<Ran>;
  stderr = "";
  isRunning = true;

  constructor(child: ChildProcess, machine: TestMachine) {
    this.child = child;
    this.#machine = machine;
    child.stderr!.on("data", (data: Buffer) => {
      this.stderr += data.toString();
    });
    child.stdout!.resume();
    this.ended = new Promise((resolve) =>
      child.on("close", (code) => {
        this.isRunning = false;
        resolve({ status: code ?? -1, stdout: "", stderr: this.stderr });
      }),
    );
  }

  /** Resolves when everything is in force. */
  healthy(): Promise<AgentStatus> {
    return until(`the agent to be healthy; it said: ${this.stderr.slice(-500)}`, async () => {
      if (!this.isRunning) throw new Error(`the agent ended: ${this.stderr}`);
      try {
        const status = await this.#machine.status();
        return status.healthy && status.appliedDigest === status.source.digest ? status : undefined;
      } catch {
        return undefined;
      }
    });
  }

  /** SIGTERM; resolves with how it ended. */
  stop(): Promise<Ran> {
    this.child.kill("SIGTERM");
    const timer = setTimeout(() => this.child.kill("SIGKILL"), 10_000);
    return this.ended.finally(() => clearTimeout(timer));
  }
}

export class TestMachine {
  readonly net: Namespace;
  readonly directory: string;
  readonly pinDir: string;
  readonly cgroup: string;
  readonly stateDir: string;
  readonly manifests: string;
  readonly socket: string;
  readonly #agents: Agent[] = [];

  private constructor(cgroupRoot: string) {
    const name = `millrace-rs-${process.pid}-${serial++}`;
    this.directory = mkdtempSync(join(tmpdir(), `${name}-`));
    this.pinDir = `/sys/fs/bpf/${name}`;
    this.cgroup = join(cgroupRoot, name);
    this.stateDir = join(this.directory, "state");
    this.manifests = join(this.directory, "manifests");
    this.socket = join(this.directory, "api", "api.sock");
    mkdirSync(this.manifests);
    mkdirSync(this.cgroup);
    this.net = createNamespace();
  }

  /** up0 (veth, 192.168.122.11 and fd00:192:168:122::11, default route) leads to nobody. */
  static async create(objects = ""): Promise<TestMachine> {
    mountBpffs("/sys/fs/bpf");
    const machine = new TestMachine(await findCgroup2());
    const { net } = machine;
    net.ip("link add up0 type veth peer name far0");
    for (const device of ["far0", "up0"]) net.ip(`link set ${device} up`);
    net.ip("addr add 192.168.122.11/24 dev up0");
    net.ip("-6 addr add fd00:192:168:122::11/64 dev up0 nodad");
    net.ip("route add default via 192.168.122.1");
    net.ip("-6 route add default via fd00:192:168:122::1");
    net.sysctl("net.ipv4.ip_forward", 1);
    writeFileSync(join(machine.manifests, "objects.yaml"), objects);
    return machine;
  }

  get places(): readonly string[] {
    return ["--pin-dir", this.pinDir, "--state-dir", this.stateDir, "--cgroup", this.cgroup];
  }

  /** The command line of `millrace ARGS` in this machine's network. */
  command(args: readonly string[], within: readonly string[] = []): readonly string[] {
    return [...within, "nsenter", `--net=/run/netns/${this.net.name}`, "--", MILLRACE, ...args];
  }

  runArgs(flags: readonly string[] = []): readonly string[] {
    return [
      "run",
      "--manifests",
      this.manifests,
      "--node-name",
      "node1",
      "--api-socket",
      this.socket,
      ...this.places,
      ...flags,
    ];
  }

  start({ flags = [], env = {}, within = [] }: RunOptions = {}): Agent {
    const [file = "", ...args] = this.command(this.runArgs(flags), within);
    const child = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...env }, cwd: ROOT });
    const agent = new Agent(child, this);
    this.#agents.push(agent);
    return agent;
  }

  /** Runs `millrace ARGS` to its end. */
  millrace(args: readonly string[], { env = {}, within = [] }: RunOptions = {}): Promise<Ran> {
    const [file = "", ...rest] = this.command(args, within);
    return run(file, rest, { env: { ...env }, timeoutMs: 20_000 });
  }

  cleanup(options: RunOptions = {}): Promise<Ran> {
    return this.millrace(["cleanup", ...this.places], options);
  }

  status(): Promise<AgentStatus> {
    return getJson(this.socket, "/api/v1/status", 2000) as Promise<AgentStatus>;
  }

  async close(): Promise<void> {
    for (const agent of this.#agents) agent.child.kill("SIGKILL");
    await Promise.all(this.#agents.map(({ ended }) => ended));
    execFileSync("rm", ["-rf", this.pinDir]);
    await until("the cgroup to be empty", () => {
      try {
        if (existsSync(this.cgroup)) rmdirSync(this.cgroup);
        return true;
      } catch {
        return undefined;
      }
    });
    this.net[Symbol.dispose]();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** What a failed command said: its last line, which must be the only one that is no log, and its exit status. */
export function sentenceOf({ status, stderr }: Ran): {
  readonly status: number;
  readonly sentences: readonly string[];
} {
  const lines = stderr.split("\n").filter((line) => line !== "" && !line.startsWith("{"));
  return { status, sentences: lines };
}
