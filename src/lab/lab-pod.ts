// One pod of a lab while it lives: its namespace, its server, its readiness. Says when something about it changed; what
// becomes of it is decided elsewhere (controllers.ts).
import type { ChildProcess } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Address } from "../lib/address.ts";
import { DNS_ADDRESS } from "./addressing.ts";
import { inCgroup, killCgroup, makeCgroup, removeCgroup } from "./cgroups.ts";
import type { LabNode, NodeSurroundings } from "./lab-node.ts";
import { namespaceName, podCgroupName } from "./lab-paths.ts";
import { addPod, type PodAttachment, removePod } from "./network.ts";
import { podServerCommand } from "./programs.ts";
import { cannot } from "./refusals.ts";
import { changeNetwork, inNamespace, spawnLogged } from "./shell.ts";
import { type PodTemplate, servedPorts } from "./workloads.ts";

const GRACE_MS = 2000;
const RESTART_MS = 1000;
const JOB_MS = 3000;

export interface PodOrigin {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly sequence: number;
  readonly template: PodTemplate;
  /** Given by its StatefulSet, "" for others: they make its name in the cluster's DNS. */
  readonly hostname: string;
  readonly subdomain: string;
  readonly createdMs: number;
  /** It ends by itself, successfully. */
  readonly job: boolean;
  /** Runs this in the pod's namespace instead of the pod server; "ready" on its standard output says that it listens. */
  readonly command?: readonly string[];
}

/** What a pod needs of the lab around it. */
export interface PodSurroundings extends Omit<NodeSurroundings, "agent"> {
  /** Numbers of all nodes, for host routes. */
  nodeNumbers(): readonly number[];
  /** The pod's server said something that somebody may wait for; no object changes by it. */
  heard(): void;
}

export class LabPod {
  readonly origin: PodOrigin;
  readonly key: string;
  owner: string;
  labels: Readonly<Record<string, string>>;
  annotations: Readonly<Record<string, string>>;
  node: LabNode | undefined;
  addresses: readonly Address[] = [];
  phase: "Pending" | "Running" | "Succeeded" | "Failed" = "Pending";
  /** Its server listens. */
  listening = false;
  /** false: the operator said `ready POD false`. */
  allowedReady = true;
  restarts = 0;
  startedMs = 0;
  readySinceMs = 0;
  /** 0 while nobody asked it to end. */
  deletedMs = 0;
  /** Why it is not running, "" when it is. */
  trouble = "";
  /** Which state of the lab a server that reads it answers from. */
  appliedDigest = "";
  readonly #around: PodSurroundings;
  #attachment: PodAttachment | undefined;
  #server: ChildProcess | undefined;
  #starting: Promise<void> | undefined;
  #restart: NodeJS.Timeout | undefined;
  #ending: Promise<void> | undefined;
  #connected = false;
  #released = false;

  constructor(origin: PodOrigin, owner: string, labels: Readonly<Record<string, string>>, around: PodSurroundings) {
    this.origin = origin;
    this.key = `${origin.namespace}/${origin.name}`;
    this.owner = owner;
    this.labels = labels;
    this.annotations = origin.template.annotations;
    this.#around = around;
  }

  get ready(): boolean {
    return this.listening && this.allowedReady && this.node?.up === true && this.phase === "Running";
  }

  get terminating(): boolean {
    return this.deletedMs !== 0;
  }

  get over(): boolean {
    return this.phase === "Succeeded" || this.phase === "Failed";
  }

  /** The network namespace that its processes are in. */
  get netns(): string {
    const { lab } = this.#around.network;
    return this.origin.template.hostNetwork
      ? namespaceName(lab, this.node?.name ?? "")
      : namespaceName(lab, `p${this.origin.sequence}`);
  }

  get cgroup(): string {
    return join(
      this.#around.paths.cgroup,
      this.node?.name ?? "unplaced",
      "pods",
      podCgroupName(this.origin.namespace, this.origin.name),
    );
  }

  /** Gives the pod its node and addresses; on the host network the node's own. */
  place(node: LabNode, addresses: readonly Address[], fixed: boolean): void {
    this.node = node;
    this.addresses = addresses;
    if (!this.origin.template.hostNetwork)
      this.#attachment = { sequence: this.origin.sequence, node: node.number, addresses, fixed };
  }

  /** The pod's place in the network, undefined on the host network. */
  get attachment(): PodAttachment | undefined {
    return this.#attachment;
  }

  /** Brings up network and server; resolves when the server was started (not: when it listens). Failures are tried again. */
  start(): Promise<void> {
    if (this.terminating || this.over || this.node === undefined || !this.node.up) return Promise.resolve();
    this.#starting ??= this.#start().finally(() => {
      this.#starting = undefined;
    });
    return this.#starting;
  }

  async #start(): Promise<void> {
    try {
      await this.#connect();
      if (!this.terminating) this.#serve();
    } catch (error) {
      this.trouble = error instanceof Error ? error.message : String(error);
      this.#around.log.warn({ pod: this.key, error: this.trouble }, "could not start pod");
      await this.#disconnect();
      this.#startLater();
    }
    this.#around.changed();
  }

  async #connect(): Promise<void> {
    makeCgroup(this.cgroup);
    if (this.#connected || this.#attachment === undefined) return;
    const directory = join("/etc/netns", this.netns);
    mkdirSync(directory, { recursive: true });
    const { namespace } = this.origin;
    writeFileSync(
      join(directory, "resolv.conf"),
      `search ${namespace}.svc.cluster.local svc.cluster.local cluster.local\nnameserver ${DNS_ADDRESS}\noptions ndots:5\n`,
    );
    const { network, nodeNumbers } = this.#around;
    const attachment = this.#attachment;
    this.#connected = true;
    await changeNetwork(`pod ${this.key}`, (script) => addPod(script, network, attachment, nodeNumbers()));
  }

  async #disconnect(): Promise<void> {
    if (this.#attachment === undefined || !this.#connected) return;
    this.#connected = false;
    const { network, nodeNumbers, log } = this.#around;
    const attachment = this.#attachment;
    await changeNetwork(`pod ${this.key}`, (script) => removePod(script, network, attachment, nodeNumbers())).catch(
      (error: unknown) => log.warn({ pod: this.key, error: String(error) }, "could not remove the network of a pod"),
    );
    rmSync(join("/etc/netns", this.netns), { recursive: true, force: true });
  }

  /** What the pod asks for; without, less than Kubernetes' 30 s. */
  get #graceMs(): number {
    const asked = this.origin.template.spec["terminationGracePeriodSeconds"];
    return typeof asked === "number" && asked >= 0 ? Math.min(asked, 30) * 1000 : GRACE_MS;
  }

  #serve(): void {
    const { origin, node } = this;
    const command =
      origin.command ??
      podServerCommand(origin.name, node!.name, servedPorts(origin.template), this.#graceMs, origin.job ? JOB_MS : 0);
    const within = inNamespace(this.netns, command, !origin.template.hostNetwork);
    const log = join(this.#around.paths.runDir, "pods", `${podCgroupName(origin.namespace, origin.name)}.log`);
    const child = spawnLogged(inCgroup(this.cgroup, within), log, { stdout: "pipe" });
    this.#server = child;
    this.trouble = "";
    if (this.startedMs === 0) this.startedMs = Date.now();
    this.phase = "Running";
    let rest = "";
    child.stdout?.on("data", (data: Buffer) => {
      const lines = (rest + data.toString()).split("\n");
      rest = lines.pop() ?? "";
      if (this.#server === child) for (const line of lines) this.#heard(line);
    });
    child.on("error", (error) => this.#ended(child, 127, error.message));
    child.on("exit", (code, signal) => this.#ended(child, code ?? -1, signal ?? `status ${code}`));
  }

  #heard(line: string): void {
    if (line === "ready") {
      this.listening = true;
      this.readySinceMs = Date.now();
    } else if (line.startsWith("applied ")) this.appliedDigest = line.slice("applied ".length);
    this.#around.heard();
    if (line === "ready") this.#around.changed();
  }

  #ended(child: ChildProcess, status: number, how: string): void {
    if (this.#server !== child) return;
    this.#server = undefined;
    this.listening = false;
    if (this.terminating) {
      this.#around.changed();
      return;
    }
    if (this.origin.job && this.node?.up === true) {
      this.phase = status === 0 ? "Succeeded" : "Failed";
      this.#ending ??= this.#release();
    } else {
      this.trouble = `its server ended (${how})`;
      this.#startLater();
    }
    this.#around.changed();
  }

  #startLater(): void {
    clearTimeout(this.#restart);
    if (this.terminating || this.over || this.node?.up !== true) return;
    this.#restart = setTimeout(() => {
      this.restarts++;
      void this.start();
    }, RESTART_MS);
  }

  /** SIGKILLs the server; it comes back after about a second. @throws not_found when it does not run. */
  kill(): void {
    if (this.#server?.pid === undefined)
      throw cannot("not_found", "kill pod", this.key, "it has no server running now");
    this.#server.kill("SIGKILL");
    // Nobody is sent there any more from now on; the exit event follows.
    this.listening = false;
    this.#around.changed();
  }

  /** Its node died with everything on it. */
  nodeDied(): void {
    clearTimeout(this.#restart);
    this.listening = false;
    if (!this.over) this.trouble = "its node is down";
  }

  /** From now on its object says that it is being deleted. `end` does the rest. */
  markDeleted(): void {
    if (this.deletedMs !== 0) return;
    this.deletedMs = Date.now();
    clearTimeout(this.#restart);
  }

  /** SIGTERM, the grace time, then everything of it goes. Called after its endpoints were written as terminating. */
  end(): void {
    this.#ending ??= this.#release();
  }

  /** Its addresses are still its own: nobody else may have them. */
  get holdsAddresses(): boolean {
    return this.#attachment !== undefined && !this.#released;
  }

  /** It was asked to end, and nothing of it is left. */
  get gone(): boolean {
    return this.terminating && this.#released;
  }

  async #release(): Promise<void> {
    await this.#starting;
    const server = this.#server;
    if (server !== undefined && server.exitCode === null && server.signalCode === null) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(() => killCgroup(this.cgroup), this.#graceMs + 2000);
        server.once("exit", () => {
          clearTimeout(timer);
          resolve();
        });
        server.kill("SIGTERM");
      });
    }
    this.listening = false;
    try {
      if (this.node !== undefined) await removeCgroup(this.cgroup);
      await this.#disconnect();
    } catch (error) {
      this.#around.log.warn({ pod: this.key, error: String(error) }, "could not remove what a pod left");
    }
    this.#released = true;
    this.#around.changed();
  }
}
