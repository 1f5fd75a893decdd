// A lab as a program uses it: orders to its control process, and questions asked from inside its pods, nodes and clients.
// For the demo, for tests and for benchmarks.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BackendView, ServiceView } from "../agent/view.ts";
import { Failure } from "../lib/errors.ts";
import { patience } from "../lib/patience.ts";
import type { Notice } from "../model/objects.ts";
import type { KubernetesObject, ServiceObject } from "../wire/kubernetes.ts";
import type { ChangeResult } from "./applied-objects.ts";
import { inCgroup } from "./cgroups.ts";
import type { Probe } from "./checked-cluster.ts";
import { order } from "./control-client.ts";
import type { ExecTarget } from "./lab.ts";
import { getJson } from "./lab-node.ts";
import type { LabStatus } from "./lab-status.ts";
import type { ProbeAnswer, ProbeOrder } from "./probe.ts";
import { probeCommand } from "./programs.ts";
import { inNamespace, type RunResult, runProgram } from "./shell.ts";

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

  #order<Result>(command: string, body: Readonly<Record<string, unknown>> = {}): Promise<Result> {
    return order<Result>(this.name, command, body);
  }

  apply = (...files: readonly string[]): Promise<ChangeResult> => this.#order("apply", { files });
  delete = (...files: readonly string[]): Promise<ChangeResult> => this.#order("delete", { files });
  scale = (target: string, replicas: number): Promise<ChangeResult> => this.#order("scale", { target, replicas });
  ready = (target: string, ready: boolean): Promise<void> => this.#order("ready", { target, ready });
  /** A pod or a node. */
  kill = (target: string): Promise<void> => this.#order("kill", { target });
  killAgent = (node: string): Promise<void> => this.#order("kill-agent", { target: node });
  startAgent = (node: string, dist = ""): Promise<void> => this.#order("start-agent", { target: node, dist });
  join = (node: string): Promise<void> => this.#order("join", { target: node });
  host = (name: string, address: string): Promise<void> => this.#order("host", { target: name, address });
  status = (): Promise<LabStatus> => this.#order("status");
  objects = <T extends KubernetesObject>(kind: string): Promise<readonly T[]> => this.#order("objects", { kind });

  /** An object that the agents read, such as ("Service", "default/web"); undefined when there is none. */
  async object<T extends KubernetesObject>(kind: string, key: string): Promise<T | undefined> {
    return (await this.#order<T | null>("object", { title: `${kind} ${key}` })) ?? undefined;
  }

  /** @throws not_found */
  async service(key: string): Promise<ServiceObject> {
    const service = await this.object<ServiceObject>("Service", key);
    if (service === undefined) throw new Failure("not_found", key, `there is no Service ${key}`);
    return service;
  }

  async notices(): Promise<readonly Notice[]> {
    return (await this.status()).notices;
  }

  agentServices = (node: string): Promise<readonly ServiceView[]> => this.#ask(node, "services");
  agentBackends = (node: string): Promise<readonly BackendView[]> => this.#ask(node, "backends");

  async #ask<View>(node: string, what: string): Promise<View> {
    const found = (await this.status()).nodes.find((one) => one.name === node);
    if (found === undefined) throw new Failure("not_found", node, `there is no node ${node}`);
    return (await getJson(found.socket, `/api/v1/${what}`, patience(5000))) as View;
  }

  /** Program and arguments that run `command` in a pod, on a node or on a client, for whoever wants the process itself. */
  async command(target: string, command: readonly string[]): Promise<[string, ...string[]]> {
    const place = await order<ExecTarget>(this.name, "target", { target });
    return inCgroup(place.cgroup, inNamespace(place.netns, command, place.ownResolver));
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
