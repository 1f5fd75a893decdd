// A real cluster on one machine: control plane, nodes with containerd and kubelets, a proxy, DNS, and a client outside.
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { RunOptions, RunResult } from "../../src/lab/shell.ts";
import { Failure } from "../../src/lib/errors.ts";
import { ApiClient } from "./api-client.ts";
import { ClusterNode } from "./cluster-node.ts";
import { execInPod, type PodExecOptions, type PodObject } from "./cluster-pod.ts";
import type { ClusterCni } from "./cni.ts";
import type { Component } from "./component.ts";
import { ControlPlane, type Etcd } from "./control-plane.ts";
import type { ImageSet } from "./images.ts";
import { Member } from "./member.ts";
import type { NodeProxy, Through } from "./node-proxy.ts";
import { type ClusterPaths, clusterPaths } from "./paths.ts";
import { programPath } from "./programs.ts";
import { agentSocket, proxyOf, type ServiceProxy } from "./proxy.ts";
import { tearDown } from "./teardown.ts";

/** What a cluster was asked to be; kept in its state, so that another process finds it again. */
export interface ClusterConfig {
  readonly name: string;
  readonly proxy: ServiceProxy;
  readonly through: Through;
  readonly nodes: number;
  readonly cni: ClusterCni;
  readonly agentFlags: readonly string[];
  readonly dist: string;
  readonly images: ImageSet;
}

/** A cluster that stands. It ends with `down()`, or at the end of an `await using`; not with the process. */
export class Cluster implements AsyncDisposable {
  readonly config: ClusterConfig;
  readonly paths: ClusterPaths;
  readonly control: ControlPlane;
  readonly nodes: readonly ClusterNode[];
  /** Outside the cluster, on the same LAN. */
  readonly client: Member;
  readonly #proxies = new Map<string, NodeProxy>();
  #api: ApiClient | undefined;

  constructor(config: ClusterConfig) {
    this.config = config;
    this.paths = clusterPaths(config.name);
    this.control = new ControlPlane(this.paths);
    this.nodes = Array.from({ length: config.nodes }, (_, i) => new ClusterNode(this.paths, i + 1));
    this.client = new Member(this.paths, "client1");
    for (const node of this.nodes) {
      const proxy = this.proxyOf(node);
      if (proxy !== undefined) this.#proxies.set(node.name, proxy);
    }
  }

  /** The administrator's; its address answers on the cluster's LAN only: see `kubectlScript`. */
  get kubeconfig(): string {
    return this.control.adminKubeconfig;
  }

  /** A program that is kubectl for this cluster, from anywhere on the machine. */
  get kubectlScript(): string {
    return join(this.paths.state, "kubectl");
  }

  /** The API as its administrator, for this process. */
  get api(): ApiClient {
    this.#api ??= new ApiClient(this.control.apiSocket, this.control.authority, this.control.adminCertificate);
    return this.#api;
  }

  get apiserver(): Component {
    return this.control.apiserver;
  }

  get etcd(): Etcd {
    return this.control.etcd;
  }

  /** @throws not_found */
  node(name: string): ClusterNode {
    const node = this.nodes.find((one) => one.name === name);
    if (node !== undefined) return node;
    throw new Failure(
      "not_found",
      name,
      `could not find ${name}: the nodes are ${this.nodes.map((one) => one.name).join(", ")}`,
    );
  }

  kubelet(node: string): Component {
    return this.node(node).kubelet;
  }

  containerd(node: string): Component {
    return this.node(node).containerd;
  }

  /** Of a node that is, or is to be, one of this cluster's; undefined when nobody serves Services there. */
  proxyOf(node: ClusterNode): NodeProxy | undefined {
    return proxyOf(node, this.config, () => this.api);
  }

  /** Who serves Services on a node: Millrace's agent or a kube-proxy. @throws not_found when nobody does */
  agent(node: string): NodeProxy {
    const proxy = this.#proxies.get(this.node(node).name);
    if (proxy !== undefined) return proxy;
    throw new Failure("not_found", node, `could not find the proxy of ${node}: this cluster has none`);
  }

  /** The API socket of a node's Millrace agent, as this process sees it. */
  agentSocket(node: string): string {
    return agentSocket(this.node(node));
  }

  /** Runs a program of the machine on a node, the client or the control plane, in its namespaces and its cgroup. */
  exec(member: string, command: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const others = [this.client, this.control].find(({ name }) => name === member);
    return (others ?? this.node(member)).exec(command, options);
  }

  /** Runs a program in a pod's container. @throws not_found */
  async execPod(
    namespace: string,
    pod: string,
    command: readonly string[],
    options: PodExecOptions = {},
  ): Promise<RunResult> {
    const object = await this.pod(namespace, pod);
    return execInPod(object, this.node(object.spec.nodeName ?? "").cgroup, command, options);
  }

  /** @throws not_found */
  pod(namespace: string, name: string): Promise<PodObject> {
    return this.api.ask<PodObject>(`/api/v1/namespaces/${namespace}/pods/${name}`);
  }

  /** The pods of a namespace that a label selector picks. */
  async pods(namespace: string, selector = ""): Promise<readonly PodObject[]> {
    const query = selector === "" ? "" : `?labelSelector=${encodeURIComponent(selector)}`;
    const path = `/api/v1/namespaces/${namespace}/pods${query}`;
    return (await this.api.ask<{ items: readonly PodObject[] }>(path)).items;
  }

  /** kubectl's result. Never throws for its status. */
  kubectl(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const command = [programPath("kubectl"), `--kubeconfig=${this.kubeconfig}`, ...args];
    return this.control.exec(command, options);
  }

  /** Applies manifests, server side. Returns what kubectl says. @throws invalid_object */
  apply(yaml: string): Promise<string> {
    return this.#kubectlOn(yaml, ["apply", "--server-side", "--force-conflicts", "-f", "-"]);
  }

  /** Deletes what manifests name, and waits until it is gone. What is gone already is passed over. @throws invalid_object */
  delete(yaml: string): Promise<string> {
    return this.#kubectlOn(yaml, ["delete", "--ignore-not-found", "--wait", "-f", "-"]);
  }

  async #kubectlOn(yaml: string, args: readonly string[]): Promise<string> {
    const { status, stdout, stderr } = await this.kubectl(args, { input: yaml });
    if (status === 0) return stdout;
    throw new Failure("invalid_object", args[0]!, `could not ${args[0]} the manifests: ${stderr.trim()}`);
  }

  /** Every program that is to run, the control plane's first. */
  get components(): readonly NodeProxy[] {
    const { etcd, apiserver, controllers, scheduler, forwarder } = this.control;
    const ofNodes = this.nodes.flatMap(({ containerd, kubelet }) => [containerd, kubelet]);
    return [etcd.component, apiserver, controllers, scheduler, forwarder, ...ofNodes, ...this.#proxies.values()];
  }

  /** What a program has said: `kube-apiserver of control`, `kubelet of node1`. @throws not_found */
  logs(component: string): string {
    const found = this.components.find(({ name }) => name === component);
    if (found !== undefined) return found.log;
    const known = this.components.map(({ name }) => name).join(", ");
    throw new Failure("not_found", component, `could not find the log of ${component}: there are ${known}`);
  }

  /** Ends everything and removes it. */
  async down(): Promise<void> {
    this.#api?.close();
    await tearDown(this.paths);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.down();
  }
}

function configFile(paths: ClusterPaths): string {
  return join(paths.state, "cluster.json");
}

/** Claims the name and remembers what was asked for. @throws conflict when a cluster of this name is there, whole or not */
export function claimCluster(cluster: Cluster): void {
  const { paths, config } = cluster;
  mkdirSync(dirname(paths.state), { recursive: true, mode: 0o711 });
  try {
    mkdirSync(paths.state);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "EEXIST") throw cause;
    const hint = `\`make cluster-down NAME=${paths.name}\` takes it away`;
    throw new Failure("conflict", paths.name, `could not start cluster ${paths.name}: there is one; ${hint}`, {
      cause,
    });
  }
  writeFileSync(configFile(paths), JSON.stringify(config, undefined, 2));
  writeFileSync(cluster.kubectlScript, kubectlScript(cluster));
  chmodSync(cluster.kubectlScript, 0o755);
}

function kubectlScript({ control, kubeconfig }: Cluster): string {
  const command = control.enter([programPath("kubectl"), `--kubeconfig=${kubeconfig}`]);
  return `#!/bin/sh\nexec ${command.join(" ")} "$@"\n`;
}

/** A cluster that stands already. @throws not_found */
export function openCluster(name: string): Cluster {
  const path = configFile(clusterPaths(name));
  if (!existsSync(path)) {
    throw new Failure("not_found", name, `could not find cluster ${name}: \`make cluster NAME=${name}\` starts one`);
  }
  return new Cluster(JSON.parse(readFileSync(path, "utf8")) as ClusterConfig);
}
