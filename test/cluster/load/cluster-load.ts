// Programs that make or answer traffic on a member of the cluster's LAN or in a pod, driven by lines on their standard input.
// Those of the lab run here unchanged: test/lab/traffic/.
import { spawn } from "node:child_process";
import { join } from "node:path";
import { inCgroup, makeCgroup } from "../../../src/lab/cgroups.ts";
import { Program } from "../../lab/traffic/test-lab.ts";
import type { Cluster } from "../cluster.ts";
import { enterPod } from "../cluster-pod.ts";
import type { Member } from "../member.ts";

const LAB = join(import.meta.dirname, "../../lab/traffic");
const SCRIPTS = {
  /** Numbered traffic and short questions, answered. */
  server: join(LAB, "server.ts"),
  /** Numbered flows held open, and new connections all the while. */
  client: join(LAB, "client.ts"),
  /** HTTP requests at full speed. */
  requests: join(import.meta.dirname, "requests.ts"),
} as const;

export type Script = keyof typeof SCRIPTS;

/** They need little memory, and there are many of them. */
const NODE_FLAGS = ["--max-old-space-size=96", "--no-warnings"];

function commandOf(script: Script, argument: unknown): string[] {
  return [process.execPath, ...NODE_FLAGS, SCRIPTS[script], JSON.stringify(argument)];
}

export class ClusterLoad implements AsyncDisposable {
  readonly #cluster: Cluster;
  readonly #programs: Program[] = [];

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  /** Starts a program on a node or the client outside; resolves when it is ready. */
  on(member: string, script: Script, argument: unknown): Promise<Program> {
    const place: Member = member === "client1" ? this.#cluster.client : this.#cluster.node(member);
    const cgroup = join(place.cgroup, "load");
    makeCgroup(cgroup);
    return this.#start(inCgroup(cgroup, place.enter(commandOf(script, argument))));
  }

  /** Starts a program of the machine with a pod's network and cgroup; resolves when it is ready. @throws not_found */
  async inPod(name: string, script: Script, argument: unknown): Promise<Program> {
    const pod = await this.#cluster.pod("default", name);
    const { cgroup } = this.#cluster.node(pod.spec.nodeName ?? "");
    return this.#start(enterPod(pod, cgroup, commandOf(script, argument), { tools: "machine" }));
  }

  /**
   * Each has a session of its own, as agents and kubelets have: the kernel shares a busy machine out among sessions, and programs
   * that measure must not go hungry together with the test that drives them.
   */
  async #start([file, ...args]: [string, ...string[]]): Promise<Program> {
    const program = new Program(spawn(file, args, { stdio: "pipe", detached: true }));
    this.#programs.push(program);
    await program.answer();
    return program;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#programs.map((program) => program.end()));
  }
}
