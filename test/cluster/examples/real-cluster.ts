// A cluster of Kubernetes' own parts as the checks of the examples see it. Everything that it is asked to do goes through the
// API; it returns when the controllers and the kubelets are done, and every agent says what the API says.
import type { BackendView, ServiceView } from "../../../src/agent/view.ts";
import { lanAddresses } from "../../../src/lab/addressing.ts";
import {
  type CheckedCluster,
  type CheckedNode,
  type HandMadeBackends,
  type LoadBalancing,
  type Probe,
  UNREADY_FILE,
} from "../../../src/lab/checked-cluster.ts";
import { getJson } from "../../../src/lab/lab-node.ts";
import { parseAnswer } from "../../../src/lab/lab-session.ts";
import type { ProbeAnswer, ProbeOrder } from "../../../src/lab/probe.ts";
import { podServerCommand, probeCommand } from "../../../src/lab/programs.ts";
import type { RunResult } from "../../../src/lab/shell.ts";
import { Failure } from "../../../src/lib/errors.ts";
import type { EndpointSliceObject, KubernetesObject, PodObject, ServiceObject } from "../../../src/wire/kubernetes.ts";
import type { Cluster } from "../cluster.ts";
import type { ClusterNode } from "../cluster-node.ts";
import { execInPod, type PodExecOptions, type PodObject as RunningPod } from "../cluster-pod.ts";
import { hasController } from "../installed.ts";
import { agentSocket } from "../proxy.ts";
import { waitUntil } from "../wait-until.ts";
import { manifest } from "../workloads.ts";
import { differences, expectedLines, saidLines } from "./expected-state.ts";
import { joinNode } from "./join-node.ts";
import { arpHolders, openAddresses } from "./load-balancing.ts";
import { PodNames } from "./pod-names.ts";
import { withRealImages } from "./real-images.ts";
import { takeSnapshot } from "./snapshot.ts";
import { unsettled } from "./unsettled.ts";

const SERVICES = "/api/v1/namespaces/default/services";
const OUTSIDE = "outside-web";
const SETTLE_MS = 30_000;

export class RealCluster implements CheckedCluster {
  /** A kubelet asks each second whether a pod is ready, and is in no hurry to say so. */
  readonly inForceMs = 15_000;
  /** CoreDNS keeps an answer for 5 s, and one that there is no such name too. */
  readonly namesInForceMs = 15_000;
  readonly endedPodsStay = true;
  readonly loadBalancing?: LoadBalancing;
  readonly #cluster: Cluster;
  readonly #names: PodNames;
  readonly #joined: ClusterNode[] = [];
  readonly #unready = new Set<string>();

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    if (hasController(cluster.config)) {
      this.loadBalancing = { holders: (_client, address) => arpHolders(cluster, this.#all, address) };
    }
    this.#names = new PodNames((pod, command, options) => this.#execPod(pod, command, options));
  }

  #execPod(pod: RunningPod, command: readonly string[], options: PodExecOptions = {}): Promise<RunResult> {
    return execInPod(pod, this.#node(pod.spec.nodeName ?? "").cgroup, command, options);
  }

  /** @throws not_found */
  #node(name: string): ClusterNode {
    return this.#joined.find((node) => node.name === name) ?? this.#cluster.node(name);
  }

  /** Pools are nobody's without a controller, and extensions/v1beta1 is of an older Kubernetes. */
  takes({ apiVersion }: KubernetesObject): boolean {
    if (apiVersion.startsWith("metallb.io/")) return this.loadBalancing !== undefined;
    return apiVersion !== "extensions/v1beta1";
  }

  async apply(objects: readonly KubernetesObject[]): Promise<readonly string[]> {
    if (objects.length === 0) return [];
    for (const object of objects) await this.#makeWayFor(object);
    try {
      await this.#cluster.apply(manifest(...objects.map(withRealImages)));
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      return [error.message];
    }
    await this.settle();
    return [];
  }

  /** Whether a Service has an address, and which, is decided when it is made: one that differs is made anew. */
  async #makeWayFor({ kind, metadata, spec }: KubernetesObject): Promise<void> {
    if (kind !== "Service") return;
    const { status, body } = await this.#cluster.api.send({ path: `${SERVICES}/${metadata.name}` });
    if (status === 404) return;
    const { clusterIP: there } = (body as ServiceObject).spec;
    const { clusterIP: wanted } = spec as ServiceObject["spec"];
    const stays = wanted === undefined ? there !== "None" : there === wanted;
    if (!stays) await this.#cluster.api.ask({ method: "DELETE", path: `${SERVICES}/${metadata.name}` });
  }

  async delete(objects: readonly KubernetesObject[]): Promise<void> {
    if (objects.length === 0) return;
    await this.#cluster.delete(manifest(...objects));
    await this.settle();
  }

  async scale(target: string, replicas: number): Promise<void> {
    await this.#kubectl(["scale", target, `--replicas=${replicas}`]);
    await this.settle();
  }

  async ready(pod: string, ready: boolean): Promise<void> {
    if (ready) this.#unready.delete(pod);
    else this.#unready.add(pod);
    const object = await this.#cluster.pod("default", pod);
    await this.#execPod(object, ready ? ["rm", UNREADY_FILE] : ["touch", UNREADY_FILE]);
    await this.settle();
  }

  async kill(pod: string): Promise<void> {
    await this.#kubectl(["delete", "pod", pod, "--grace-period=0", "--force"]);
    await this.settle();
  }

  async #kubectl(args: readonly string[]): Promise<void> {
    const { status, stderr } = await this.#cluster.kubectl(args);
    if (status !== 0) throw new Failure("invalid_object", args[1]!, `could not ${args.join(" ")}: ${stderr.trim()}`);
  }

  /** Two pods and a server outside of the cluster. Their addresses are what they are given: not those of example 11. */
  async handMadeBackends(): Promise<HandMadeBackends> {
    const pods = ["node1", "node3"].map((nodeName, i) => ({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: `demo-fixed-${i + 1}` },
      spec: { nodeName, containers: [{ name: "web", image: "demo" }] },
    }));
    const names = pods.map(({ metadata }) => metadata.name);
    const server = this.#cluster.client.component(OUTSIDE, {
      command: () => podServerCommand(OUTSIDE, "-", [80], 0, 0),
    });
    await server.start();
    await this.apply(pods);
    const made = (await this.pods()).filter(({ metadata }) => names.includes(metadata.name));
    const ofPods = made.flatMap(({ status }) => (status?.podIPs ?? []).map(({ ip }) => ip));
    return {
      names: [...names, OUTSIDE],
      addresses: [...ofPods, ...lanAddresses("client", 1, true)],
      remove: async () => {
        await this.delete(pods);
        await server.stop();
      },
    };
  }

  async join(node: string): Promise<void> {
    const numbers = this.#all.map(({ number }) => number);
    this.#joined.push(await joinNode(this.#cluster, Number(node.slice("node".length)), numbers));
    await this.settle();
  }

  async service(name: string): Promise<ServiceObject> {
    return this.#cluster.api.ask<ServiceObject>(`${SERVICES}/${name}`);
  }

  async pods(): Promise<readonly PodObject[]> {
    const path = "/api/v1/namespaces/default/pods";
    return (await this.#cluster.api.ask<{ items: readonly PodObject[] }>(path)).items;
  }

  async slices(service: string): Promise<readonly EndpointSliceObject[]> {
    const path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    const query = `?labelSelector=${encodeURIComponent(`kubernetes.io/service-name=${service}`)}`;
    return (await this.#cluster.api.ask<{ items: readonly EndpointSliceObject[] }>(path + query)).items;
  }

  async nodes(): Promise<readonly CheckedNode[]> {
    return this.#all;
  }

  get #all(): readonly ClusterNode[] {
    return [...this.#cluster.nodes, ...this.#joined];
  }

  /** The API server checks objects, and nobody beyond it says anything of them. */
  async notices(): Promise<undefined> {
    return undefined;
  }

  async agentServices(node: string): Promise<readonly ServiceView[]> {
    return (await this.#askAgent(node, "/api/v1/services")) as ServiceView[];
  }

  async agentBackends(node: string): Promise<readonly BackendView[]> {
    return (await this.#askAgent(node, "/api/v1/backends")) as BackendView[];
  }

  #askAgent(node: string, path: string): Promise<unknown> {
    return getJson(agentSocket(this.#node(node)), path, 5000);
  }

  async exec(from: string, command: readonly string[]): Promise<RunResult> {
    const isMember = from === this.#cluster.client.name || this.#cluster.nodes.some(({ name }) => name === from);
    return isMember
      ? this.#cluster.exec(from, command, { timeoutMs: 120_000 })
      : this.#names.exec(await this.#cluster.pod("default", from), command);
  }

  async probe(from: string, order: ProbeOrder): Promise<Probe> {
    const hosts = await this.#hostNames();
    const until = order.until?.map((pod) => hosts.get(pod) ?? pod);
    const sent = { ...order, path: "/hostname", ...(until === undefined ? {} : { until }) };
    const { status, stdout, stderr } = await this.exec(from, probeCommand(JSON.stringify(sent)));
    if (status !== 0) {
      throw new Failure("internal", from, `could not probe from ${from}: ${stderr.trim() || `status ${status}`}`);
    }
    const answers = JSON.parse(stdout) as ProbeAnswer[];
    const pods = new Map([...hosts].map(([pod, host]) => [host, pod]));
    const who = ({ text, error }: ProbeAnswer) =>
      error === "" ? [parseAnswer(text)?.pod ?? pods.get(text) ?? text] : [];
    return {
      answers,
      pods: [...new Set(answers.flatMap(who))].sort(),
      errors: [...new Set(answers.flatMap(({ error }) => error || []))],
    };
  }

  /** What pods on their node's own network call themselves: their node. */
  async #hostNames(): Promise<ReadonlyMap<string, string>> {
    const onNodes = (await this.pods()).filter(({ spec }) => spec.hostNetwork === true);
    return new Map(onNodes.map(({ metadata, spec }) => [metadata.name, spec.nodeName ?? ""]));
  }

  /** Waits until Kubernetes is done and every agent agrees with it. @throws timeout with what is open */
  settle(): Promise<true> {
    const isSettled = async () => {
      const open = await this.#open();
      if (open.length > 0) throw new Error(open.join("; "));
      return true as const;
    };
    return waitUntil("the cluster settled", isSettled, { timeoutMs: SETTLE_MS, everyMs: 100 });
  }

  async #open(): Promise<readonly string[]> {
    const snapshot = await takeSnapshot(this.#cluster.api);
    const open = unsettled(snapshot, this.#unready);
    if (open.length > 0) return open;
    const expected = expectedLines(snapshot.services, snapshot.slices);
    const ofAgents = this.#all.map(async ({ name }) => {
      const said = saidLines(await this.agentServices(name), await this.agentBackends(name));
      return differences(expected, said).map((line) => `${name}: ${line}`);
    });
    const ofBalancers = this.loadBalancing === undefined ? [] : [this.#openAddresses(snapshot.services)];
    return (await Promise.all([...ofAgents, ...ofBalancers])).flat();
  }

  #openAddresses(services: readonly ServiceObject[]): Promise<readonly string[]> {
    return openAddresses(this.#cluster, this.#all, services);
  }
}
