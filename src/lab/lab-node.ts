// One node of a lab: a namespace on the LAN, and the agent that runs in it. Knows whether node, link and agent are up;
// decides nothing.
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import type { AgentStatus } from "../agent/view.ts";
import type { Address } from "../lib/address.ts";
import type { Log } from "../lib/log.ts";
import { patience } from "../lib/patience.ts";
import { lanAddresses, podPrefixes } from "./addressing.ts";
import { inCgroup, killCgroup, makeCgroup } from "./cgroups.ts";
import { type LabPaths, namespaceName, nodeDir, nodeSocket } from "./lab-paths.ts";
import { type LabNetwork, uplinks } from "./network.ts";
import { millraceCommand } from "./programs.ts";
import { cannot } from "./refusals.ts";
import { inNamespace, spawnLogged } from "./shell.ts";

export interface AgentSettings {
  readonly sockets: string;
  readonly xdp: string;
  /** Value of MILLRACE_WITHOUT, "" for none. */
  readonly without: string;
  /** Further flags, as they are. */
  readonly flags: readonly string[];
  /** "auto": the agent finds its uplinks itself. */
  readonly devices: "named" | "auto";
}

/** What a node needs of the lab around it. */
export interface NodeSurroundings {
  readonly paths: LabPaths;
  readonly network: LabNetwork;
  readonly agent: AgentSettings;
  readonly log: Log;
  changed(): void;
}

export class LabNode {
  readonly number: number;
  readonly name: string;
  readonly addresses: readonly Address[];
  readonly prefixes: readonly string[];
  readonly createdMs = Date.now();
  /** Powered: false after `kill NODE`. */
  up = true;
  link = true;
  changedMs = Date.now();
  /** Last octet given to a pod, so that the next gets another one. */
  lastPodAddress = 1;
  /** Why the agent ended by itself, "" when it did not. */
  agentTrouble = "";
  readonly #around: NodeSurroundings;
  #agent: ChildProcess | undefined;
  #agentLeft: Promise<void> = Promise.resolve();

  constructor(number: number, around: NodeSurroundings) {
    this.number = number;
    this.name = `node${number}`;
    this.addresses = lanAddresses("node", number, around.network.ipv6);
    this.prefixes = podPrefixes(number, around.network.ipv6);
    this.#around = around;
  }

  get netns(): string {
    return namespaceName(this.#around.network.lab, this.name);
  }

  get cgroup(): string {
    return join(this.#around.paths.cgroup, this.name);
  }

  get socket(): string {
    return nodeSocket(this.#around.paths, this.name);
  }

  get agentRunning(): boolean {
    return this.#agent !== undefined;
  }

  /** Where the agent's log is. */
  get agentLog(): string {
    return join(nodeDir(this.#around.paths, this.name), "agent.log");
  }

  /** Makes the cgroups; the namespace is the network's. */
  prepare(): void {
    for (const part of ["agent", "exec", "pods"]) makeCgroup(join(this.cgroup, part));
    mkdirSync(join(nodeDir(this.#around.paths, this.name), "state"), { recursive: true, mode: 0o700 });
  }

  /** Starts the agent, of another build when `dist` names one. @throws conflict when it runs already or the node is down. */
  async startAgent(dist = ""): Promise<void> {
    const refuse = (reason: string) => cannot("conflict", "start the agent of", this.name, reason);
    if (!this.up) throw refuse(`the node is down, start it with \`millrace lab start ${this.name}\``);
    if (this.#agent !== undefined) throw refuse("it runs already");
    await this.#agentLeft;
    const { paths, network, agent, log } = this.#around;
    const flags: Record<string, string> = {
      manifests: paths.stateDir,
      "node-name": this.name,
      cgroup: this.cgroup,
      "pin-dir": join(paths.pinDir, this.name),
      "state-dir": join(nodeDir(paths, this.name), "state"),
      "api-socket": this.socket,
      "announcer-secret": paths.secretDir,
      sockets: agent.sockets,
      xdp: agent.xdp,
      ...(agent.devices === "named" ? { devices: uplinks(network).join(",") } : {}),
      ...(network.ipv6 && !agent.flags.includes("--service-cluster-ip-range")
        ? { "service-cluster-ip-range": "10.96.0.0/12,fd00:10:96::/112" }
        : {}),
    };
    const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]);
    const command = millraceCommand(["run", "--read-only", ...args, ...agent.flags], dist);
    const within = inCgroup(join(this.cgroup, "agent"), inNamespace(this.netns, command));
    const env = agent.without === "" ? process.env : { ...process.env, MILLRACE_WITHOUT: agent.without };
    const child = spawnLogged(within, this.agentLog, { env });
    this.#agent = child;
    this.agentTrouble = "";
    this.#agentLeft = new Promise((resolve) => {
      const left = (how: string) => {
        resolve();
        if (this.#agent !== child) return;
        this.#agent = undefined;
        this.agentTrouble = `its agent ended (${how}): ${this.#lastWords()}`;
        log.warn({ node: this.name, how }, "agent ended");
        this.#around.changed();
      };
      child.on("error", (error) => left(error.message));
      child.on("exit", (code, signal) => left(signal ?? `status ${code}`));
    });
  }

  /** SIGKILL, as a crash would. @throws not_found when no agent runs. */
  async killAgent(): Promise<void> {
    if (this.#agent === undefined) throw cannot("not_found", "kill the agent of", this.name, "it does not run");
    this.#agent = undefined;
    killCgroup(join(this.cgroup, "agent"));
    await this.#agentLeft;
    this.#around.changed();
  }

  /** Power loss: everything of the node is SIGKILLed at once. */
  async powerOff(): Promise<void> {
    this.up = false;
    this.changedMs = Date.now();
    this.#agent = undefined;
    killCgroup(this.cgroup);
    await this.#agentLeft;
  }

  powerOn(): void {
    this.up = true;
    this.changedMs = Date.now();
  }

  /** What the agent says of itself; undefined when it does not answer. */
  async agentStatus(): Promise<AgentStatus | undefined> {
    try {
      return (await getJson(this.socket, "/api/v1/status", patience(2000))) as AgentStatus;
    } catch {
      return undefined;
    }
  }

  /** The line of the log's end that most likely says why; a crash ends with a stack and Node's version. */
  #lastWords(): string {
    try {
      const lines = readFileSync(this.agentLog, "utf8").trim().split("\n").slice(-40);
      const telling = lines.findLast((line) =>
        /^millrace: |^\s*(\w*Error|Failure)\b.*:|"level":"(error|fatal)"/.test(line),
      );
      return `${(telling ?? lines.at(-1) ?? "it said nothing").trim().slice(0, 400)}; its log is ${this.agentLog}`;
    } catch {
      return "it has no log";
    }
  }
}

/** One GET over a unix socket. */
export async function getJson(socketPath: string, path: string, timeoutMs: number): Promise<unknown> {
  const call = request({ socketPath, path, signal: AbortSignal.timeout(timeoutMs), headers: { host: "localhost" } });
  // Whoever waits below hears of it; nobody waits for one that comes later.
  call.on("error", () => {});
  call.end();
  const [response] = (await once(call, "response")) as [IncomingMessage];
  const body = await text(response);
  if (response.statusCode !== 200) throw new Error(`status ${response.statusCode}`);
  return JSON.parse(body);
}
