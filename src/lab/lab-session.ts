// A lab as a program uses it: orders to its control process, and questions asked from inside its pods, nodes and clients.
// For the demo, for tests and for benchmarks.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BackendView, ServiceView } from "../agent/view.ts";
import { Failure } from "../lib/errors.ts";
import { patience } from "../lib/patience.ts";
import type { Notice } from "../model/objects.ts";
import type { KubernetesObject, PodObject, ServiceObject } from "../wire/kubernetes.ts";
import { inCgroup } from "./cgroups.ts";
import type { Probe } from "./checked-cluster.ts";
import { order } from "./control-client.ts";
import type { ChangeResult, ExecTarget, LabStatus } from "./lab.ts";
import { getJson } from "./lab-node.ts";
import { namespacePath } from "./lab-paths.ts";
import type { ProbeAnswer, ProbeOrder } from "./probe.ts";
import { probeCommand } from "./programs.ts";
import { type RunResult, runProgram } from "./shell.ts";

/** The line that every pod answers with. */
export interface PodAnswer {
  readonly pod: string;
  readonly node: string;
  readonly client: string;
  readonly port: number;
}

/** The parts of a pod server's line; undefined when the text is none. */
export function parseAnswer(text: string): PodAnswer | undefined {
  const match = /^pod=(\S+) node=(\S+) client=(\S+) port=(\d+)$/.exec(text);
  return match === null ? undefined : { pod: match[1]!, node: match[2]!, client: match[3]!, port: Number(match[4]) };
}

export class LabSession {
  readonly name: string;
  readonly #directory = mkdtempSync(join(tmpdir(), "millrace-lab-"));
  #files = 0;

  constructor(name: string) {
    this.name = name;
  }

  /** Removes the files that `manifest` wrote; the lab stays. */
  close(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** A file with these objects, for apply and delete. */
  manifest(objects: readonly unknown[]): string {
    const path = join(this.#directory, `${++this.#files}.json`);
    writeFileSync(path, JSON.stringify({ apiVersion: "v1", kind: "List", items: objects }));
    return path;
  }

  apply(...files: readonly string[]): Promise<ChangeResult> {
    return order(this.name, "apply", { files });
  }

  delete(...files: readonly string[]): Promise<ChangeResult> {
    return order(this.name, "delete", { files });
  }

  scale(target: string, replicas: number): Promise<ChangeResult> {
    return order(this.name, "scale", { target, replicas });
  }

  ready(target: string, ready: boolean): Promise<void> {
    return order(this.name, "ready", { target, ready });
  }

  /** A pod or a node. */
  kill(target: string): Promise<void> {
    return order(this.name, "kill", { target });
  }

  start(node: string): Promise<void> {
    return order(this.name, "start", { target: node });
  }

  killAgent(node: string): Promise<void> {
    return order(this.name, "kill-agent", { target: node });
  }

  startAgent(node: string, dist = ""): Promise<void> {
    return order(this.name, "start-agent", { target: node, dist });
  }

  join(node: string): Promise<void> {
    return order(this.name, "join", { target: node });
  }

  link(node: string, state: "up" | "down"): Promise<void> {
    return order(this.name, "link", { target: node, state });
  }

  host(name: string, address: string): Promise<void> {
    return order(this.name, "host", { target: name, address });
  }

  status(): Promise<LabStatus> {
    return order(this.name, "status", {});
  }

  /** An object that the agents read, such as ("Service", "default/web"); undefined when there is none. */
  async object<T extends KubernetesObject>(kind: string, key: string): Promise<T | undefined> {
    return (await order<T | null>(this.name, "object", { title: `${kind} ${key}` })) ?? undefined;
  }

  async objects<T extends KubernetesObject>(kind: string): Promise<readonly T[]> {
    return order<T[]>(this.name, "objects", { kind });
  }

  /** @throws not_found */
  async service(key: string): Promise<ServiceObject> {
    const service = await this.object<ServiceObject>("Service", key);
    if (service === undefined) throw new Failure("not_found", key, `there is no Service ${key}`);
    return service;
  }

  /** Pods that run and are not about to end, of one namespace, whose labels include `labels`, by name. */
  async podsWith(namespace: string, labels: Readonly<Record<string, string>>): Promise<readonly PodObject[]> {
    const pods = await this.objects<PodObject>("Pod");
    return pods
      .filter(
        (pod) =>
          pod.metadata.namespace === namespace && !pod.metadata.deletionTimestamp && pod.status?.phase === "Running",
      )
      .filter((pod) => Object.entries(labels).every(([key, value]) => pod.metadata.labels?.[key] === value))
      .toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  }

  async notices(): Promise<readonly Notice[]> {
    return (await this.status()).notices;
  }

  async agentServices(node: string): Promise<readonly ServiceView[]> {
    return (await getJson(await this.#socket(node), "/api/v1/services", patience(5000))) as ServiceView[];
  }

  async agentBackends(node: string): Promise<readonly BackendView[]> {
    return (await getJson(await this.#socket(node), "/api/v1/backends", patience(5000))) as BackendView[];
  }

  async #socket(node: string): Promise<string> {
    const found = (await this.status()).nodes.find((one) => one.name === node);
    if (found === undefined) throw new Failure("not_found", node, `there is no node ${node}`);
    return found.socket;
  }

  /** Program and arguments that run `command` in a pod, on a node or on a client, for whoever wants the process itself. */
  async command(target: string, command: readonly string[]): Promise<[string, ...string[]]> {
    const place = await order<ExecTarget>(this.name, "target", { target });
    const enter = place.ownResolver
      ? ["ip", "netns", "exec", place.netns]
      : ["nsenter", `--net=${namespacePath(place.netns)}`, "--"];
    return inCgroup(place.cgroup, [...enter, ...command]);
  }

  async exec(
    target: string,
    command: readonly string[],
    options: { input?: string; timeoutMs?: number } = {},
  ): Promise<RunResult> {
    const [file, ...args] = await this.command(target, command);
    return runProgram(file, args, { timeoutMs: patience(30_000), ...options });
  }

  /** Asks from inside `target`. @throws internal when the probe itself failed */
  async probe(target: string, question: ProbeOrder): Promise<Probe> {
    const { status, stdout, stderr } = await this.exec(target, probeCommand(JSON.stringify(question)), {
      timeoutMs: patience(120_000),
    });
    if (status !== 0)
      throw new Failure("internal", target, `could not probe from ${target}: ${stderr.trim() || `status ${status}`}`);
    const answers = JSON.parse(stdout) as ProbeAnswer[];
    return {
      answers,
      pods: [...new Set(answers.flatMap((answer) => parseAnswer(answer.text)?.pod ?? []))].sort(),
      errors: [...new Set(answers.flatMap((answer) => answer.error || []))],
    };
  }
}
