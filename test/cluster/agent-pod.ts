// The pod of the DaemonSet on one node, driven as an agent that a test has started itself. It is told to go, and to come, by the
// node's label: the DaemonSet leaves out nodes that are labelled for kube-proxy, so nobody starts it again meanwhile.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { processesIn } from "../../src/lab/cgroups.ts";
import type { ApiClient } from "./api-client.ts";
import type { ClusterNode } from "./cluster-node.ts";
import type { NodeProxy } from "./node-proxy.ts";
import { waitUntil } from "./wait-until.ts";

export const AGENT_LABELS = "app.kubernetes.io/name=millrace,app.kubernetes.io/component=agent";
export const AGENT_CONTAINER = "agent";
/** With the value "kube-proxy" a node gets no agent. */
export const NODE_LABEL = "millrace.io/service-proxy";

/** What a kubelet calls the directory of an agent's logs; its end is the pod's uid. */
const LOG_DIRECTORY = /^kube-system_millrace-[a-z0-9]{5}_([0-9a-f-]{36})$/;
const LAST_LINES = 6;

export class AgentPod implements NodeProxy {
  readonly name: string;
  readonly #node: ClusterNode;
  readonly #api: () => ApiClient;

  constructor(node: ClusterNode, api: () => ApiClient) {
    this.name = `millrace's pod on ${node.name}`;
    this.#node = node;
    this.#api = api;
  }

  /** The agent's pid on the machine; undefined while no container of it runs. */
  get pid(): number | undefined {
    return this.#uids().flatMap((uid) => this.#processesOf(uid).filter(isAgent))[0];
  }

  /** All that agents of this node have said, over all their pods and restarts. */
  get log(): string {
    return this.#logFiles()
      .map((path) => ({ path, since: statSync(path).birthtimeMs }))
      .sort((a, b) => a.since - b.since)
      .map(({ path }) => readFileSync(path, "utf8").replace(/^\S+ std(?:out|err) [FP] /gm, ""))
      .join("");
  }

  lastWords(): string {
    return this.log.trim().split("\n").slice(-LAST_LINES).join("\n") || "it said nothing";
  }

  /** Lets the DaemonSet have the node again; its agent runs when this returns, and may not be healthy yet. */
  async start(): Promise<void> {
    await this.#label(null);
    await waitUntil(`${this.name} to run`, () => this.pid, { timeoutMs: 120_000 });
  }

  /** As a pod that is deleted: SIGTERM, and what follows when that was not enough. */
  async stop(): Promise<void> {
    await this.#label("kube-proxy");
    await this.#gone();
  }

  /** SIGKILL, as a crash would, and no other comes in its place. */
  async kill(): Promise<void> {
    this.signal("SIGKILL");
    await this.stop();
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  signal(signal: NodeJS.Signals): void {
    const { pid } = this;
    if (pid !== undefined) process.kill(pid, signal);
  }

  #label(value: string | null): Promise<unknown> {
    const body = { metadata: { labels: { [NODE_LABEL]: value } } };
    return this.#api().ask({ method: "PATCH", path: `/api/v1/nodes/${this.#node.name}`, body });
  }

  async #gone(): Promise<void> {
    const selector = `labelSelector=${encodeURIComponent(AGENT_LABELS)}&fieldSelector=spec.nodeName=${this.#node.name}`;
    const path = `/api/v1/namespaces/kube-system/pods?${selector}`;
    const isGone = async () => {
      const { items } = await this.#api().ask<{ items: readonly unknown[] }>(path);
      return items.length === 0 && this.pid === undefined ? true : undefined;
    };
    await waitUntil(`${this.name} to go`, isGone, { timeoutMs: 120_000 });
  }

  #uids(): string[] {
    return namesIn(join(this.#node.files, "log/pods")).flatMap((name) => LOG_DIRECTORY.exec(name)?.[1] ?? []);
  }

  #logFiles(): string[] {
    const logs = join(this.#node.files, "log/pods");
    return namesIn(logs)
      .filter((name) => LOG_DIRECTORY.test(name))
      .flatMap((name) => {
        const directory = join(logs, name, AGENT_CONTAINER);
        return namesIn(directory).map((file) => join(directory, file));
      });
  }

  /** Processes of a pod's containers, whichever class of service it has. */
  #processesOf(uid: string): number[] {
    const pods = join(this.#node.cgroup, "kubepods");
    return [pods, join(pods, "burstable"), join(pods, "besteffort")].flatMap((parent) => {
      const pod = join(parent, `pod${uid}`);
      return namesIn(pod).flatMap((container) => processesIn(join(pod, container)));
    });
  }
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

/** Not a program that it has called, not the init container, and not what only holds a pod's namespaces. */
function isAgent(pid: number): boolean {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    return /^NSpid:\t\d+\t1$/m.test(status) && !/^State:\tZ/m.test(status) && command.includes("run");
  } catch {
    return false;
  }
}
