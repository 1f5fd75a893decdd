// A kind cluster as the checks of the examples see it: its nodes are called node1 to node3 there, and the machine outside client1.
// Everything that it is asked to do goes through the API; it returns when the controllers and the kubelets are done, and every agent, where
// there are any, says what the API says.
import { spawn } from "node:child_process";
import type { BackendView, ServiceView } from "../../src/agent/view.ts";
import type {
  CheckedCluster,
  CheckedNode,
  HandMadeBackends,
  LoadBalancing,
  Probe,
} from "../../src/lab/checked-cluster.ts";
import { UNREADY_FILE } from "../../src/lab/checked-cluster.ts";
import { getJson } from "../../src/lab/lab-node.ts";
import { parseAnswer } from "../../src/lab/lab-session.ts";
import type { ProbeAnswer, ProbeOrder } from "../../src/lab/probe.ts";
import { podServerCommand, probeCommand } from "../../src/lab/programs.ts";
import { type RunResult, runProgram } from "../../src/lab/shell.ts";
import { Failure } from "../../src/lib/errors.ts";
import { DEFAULT_API_SOCKET } from "../../src/lib/paths.ts";
import type { EndpointSliceObject, KubernetesObject, PodObject, ServiceObject } from "../../src/wire/kubernetes.ts";
import type { PodExecOptions, PodObject as RunningPod } from "../cluster/cluster-pod.ts";
import { differences, expectedLines, saidLines } from "../cluster/examples/expected-state.ts";
import { PodNames } from "../cluster/examples/pod-names.ts";
import { withRealImages } from "../cluster/examples/real-images.ts";
import { takeSnapshot } from "../cluster/examples/snapshot.ts";
import { unsettled } from "../cluster/examples/unsettled.ts";
import { waitUntil } from "../cluster/wait-until.ts";
import { manifest } from "../cluster/workloads.ts";
import { docker } from "./docker.ts";
import type { KindCluster } from "./kind-cluster.ts";

const SERVICES = "/api/v1/namespaces/default/services";
const OUTSIDE_SERVER = "outside-web";
const SETTLE_MS = 90_000;
const EXEC_MS = 120_000;

export class CheckedKind implements CheckedCluster {
  readonly inForceMs = 30_000;
  /** CoreDNS keeps an answer for 30 s as kubeadm configures it. */
  readonly namesInForceMs = 45_000;
  readonly endedPodsStay = true;
  readonly loadBalancing: LoadBalancing;
  /** Whether Millrace's agents serve, and are asked. */
  hasAgents = true;
  readonly #cluster: KindCluster;
  readonly #names = new PodNames((pod, command, options) => this.#execPod(pod, command, options));
  readonly #unready = new Set<string>();
  /** The nodes that are in, by the names of the checks. */
  readonly #nodes = new Map<string, string>();

  /** Nodes of the cluster beyond the third are not in it yet: they can join. */
  constructor(cluster: KindCluster) {
    this.#cluster = cluster;
    for (const [i, name] of cluster.nodeNames.slice(0, 3).entries()) this.#nodes.set(`node${i + 1}`, name);
    this.loadBalancing = { holders: (client, address) => this.#holders(client, address) };
  }

  #realName(name: string): string {
    return name === "client1" ? this.#cluster.outside : (this.#nodes.get(name) ?? name);
  }

  #shortName(name: string): string {
    return [...this.#nodes].find(([, real]) => real === name)?.[0] ?? name;
  }

  /** extensions/v1beta1 is of an older Kubernetes. */
  takes({ apiVersion }: KubernetesObject): boolean {
    return apiVersion !== "extensions/v1beta1";
  }

  async apply(objects: readonly KubernetesObject[]): Promise<readonly string[]> {
    if (objects.length === 0) return [];
    for (const object of objects) await this.#makeWayFor(object);
    try {
      await this.#cluster.apply(manifest(...objects.map((object) => this.#placed(withRealImages(object)))));
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      return [error.message];
    }
    await this.settle();
    return [];
  }

  /** A pod that names its node names one of kind's. */
  #placed(object: KubernetesObject): KubernetesObject {
    const spec = object["spec"] as { readonly nodeName?: string } | undefined;
    if (object.kind !== "Pod" || spec?.nodeName === undefined) return object;
    return { ...object, spec: { ...spec, nodeName: this.#realName(spec.nodeName) } };
  }

  /** Whether a Service has an address, and which, is decided when it is made: one that differs is made anew. */
  async #makeWayFor({ kind, metadata, spec }: KubernetesObject): Promise<void> {
    if (kind !== "Service") return;
    const { status, body } = await this.#cluster.send({ path: `${SERVICES}/${metadata.name}` });
    if (status === 404) return;
    const { clusterIP: there } = (body as ServiceObject).spec;
    const { clusterIP: wanted } = spec as ServiceObject["spec"];
    const stays = wanted === undefined ? there !== "None" : there === wanted;
    if (!stays) await this.#cluster.ask({ method: "DELETE", path: `${SERVICES}/${metadata.name}` });
  }

  async delete(objects: readonly KubernetesObject[]): Promise<void> {
    if (objects.length === 0) return;
    await this.#cluster.delete(manifest(...objects));
    await this.settle();
  }

  async scale(target: string, replicas: number): Promise<void> {
    await this.#cluster.kubectl(["scale", target, `--replicas=${replicas}`]);
    await this.settle();
  }

  async ready(pod: string, ready: boolean): Promise<void> {
    if (ready) this.#unready.delete(pod);
    else this.#unready.add(pod);
    await this.#cluster.kubectl(["exec", pod, "--", ready ? "rm" : "touch", UNREADY_FILE]);
    await this.settle();
  }

  async kill(pod: string): Promise<void> {
    await this.#cluster.kubectl(["delete", "pod", pod, "--grace-period=0", "--force"]);
    await this.settle();
  }

  /** Two pods and a server in the container outside. */
  async handMadeBackends(): Promise<HandMadeBackends> {
    const pods = ["node1", "node3"].map((nodeName, i) => ({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: `demo-fixed-${i + 1}` },
      spec: { nodeName, containers: [{ name: "web", image: "demo" }] },
    }));
    const names = pods.map(({ metadata }) => metadata.name);
    const server = podServerCommand(OUTSIDE_SERVER, "-", [80], 0, 0);
    const [file, ...args] = await this.#cluster.enterNode(this.#cluster.outside, server);
    const serving = spawn(file, args, { stdio: "ignore" });
    await this.apply(pods);
    const made = (await this.pods()).filter(({ metadata }) => names.includes(metadata.name));
    const ofPods = made.flatMap(({ status }) => (status?.podIPs ?? []).map(({ ip }) => ip));
    const { addresses } = await this.#cluster.node(this.#cluster.outside);
    return {
      names: [...names, OUTSIDE_SERVER],
      addresses: [...ofPods, ...addresses],
      remove: async () => {
        await this.delete(pods);
        serving.kill("SIGKILL");
      },
    };
  }

  /** The next of kind's nodes, which was taken out before. */
  async join(node: string): Promise<void> {
    const real = this.#cluster.nodeNames[Number(node.slice("node".length)) - 1];
    if (real === undefined) throw new Failure("not_found", node, `could not join ${node}: kind made no such container`);
    await this.#cluster.join(real);
    this.#nodes.set(node, real);
    await this.settle();
  }

  async service(name: string): Promise<ServiceObject> {
    return await this.#cluster.ask<ServiceObject>(`${SERVICES}/${name}`);
  }

  async pods(): Promise<readonly PodObject[]> {
    const { items } = await this.#cluster.ask<{ items: readonly PodObject[] }>("/api/v1/namespaces/default/pods");
    return items.map((pod) => {
      const { nodeName } = pod.spec;
      return nodeName === undefined ? pod : { ...pod, spec: { ...pod.spec, nodeName: this.#shortName(nodeName) } };
    });
  }

  async slices(service: string): Promise<readonly EndpointSliceObject[]> {
    const path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    const query = `?labelSelector=${encodeURIComponent(`kubernetes.io/service-name=${service}`)}`;
    return (await this.#cluster.ask<{ items: readonly EndpointSliceObject[] }>(path + query)).items;
  }

  async nodes(): Promise<readonly CheckedNode[]> {
    const found = [...this.#nodes].map(async ([name, real]) => {
      const { addresses } = await this.#cluster.node(real);
      return { name, addresses };
    });
    return await Promise.all(found);
  }

  /** The API server checks objects, and nobody beyond it is asked. */
  async notices(): Promise<undefined> {
    return undefined;
  }

  async agentServices(node: string): Promise<readonly ServiceView[]> {
    return (await this.#askAgent(node, "/api/v1/services")) as ServiceView[];
  }

  async agentBackends(node: string): Promise<readonly BackendView[]> {
    return (await this.#askAgent(node, "/api/v1/backends")) as BackendView[];
  }

  async #askAgent(node: string, path: string): Promise<unknown> {
    const socket = await this.#cluster.nodeFile(this.#realName(node), DEFAULT_API_SOCKET);
    return await getJson(socket, path, 10_000);
  }

  /** As the interface says; `host` is the machine that Docker runs on. This process is in its network. */
  async exec(from: string, command: readonly string[]): Promise<RunResult> {
    if (from === "host") return await runProgram(command[0]!, command.slice(1), { timeoutMs: EXEC_MS });
    const real = this.#realName(from);
    if (real === from) return await this.#names.exec(await this.#pod(from), command);
    const [file, ...args] = await this.#cluster.enterNode(real, command);
    return await runProgram(file, args, { timeoutMs: EXEC_MS });
  }

  #pod(name: string): Promise<RunningPod> {
    return this.#cluster.ask<RunningPod>(`/api/v1/namespaces/default/pods/${name}`);
  }

  async #execPod(
    { metadata }: RunningPod,
    command: readonly string[],
    options: PodExecOptions = {},
  ): Promise<RunResult> {
    const { namespace, name } = metadata;
    if (options.tools !== "machine")
      return await this.#cluster.tryKubectl(["exec", "-n", namespace, name, "--", ...command]);
    const [file, ...args] = await this.#cluster.enterPod(namespace, name, command);
    return await runProgram(file, args, { timeoutMs: EXEC_MS });
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
    return new Map(onNodes.map(({ metadata, spec }) => [metadata.name, this.#realName(spec.nodeName ?? "")]));
  }

  /** Names of the nodes that answer ARP for an address, as the machine outside hears them. */
  async #holders(client: string, address: string): Promise<readonly string[]> {
    const question = ["arping", "-b", "-c", "3", "-w", "5", "-I", "eth0", address];
    const { stdout } = await this.#cluster.tryInNode(this.#realName(client), question);
    const heard = new Set([...stdout.matchAll(/\[([0-9A-Fa-f:]{17})\]/g)].map((match) => match[1]!.toLowerCase()));
    const template = "{{range .NetworkSettings.Networks}}{{.MacAddress}}{{end}}";
    const owners = new Map<string, string>();
    for (const [name, real] of this.#nodes) {
      owners.set((await docker("inspect", "--format", template, real)).trim().toLowerCase(), name);
    }
    return [...heard].map((mac) => owners.get(mac) ?? mac);
  }

  /** Waits until Kubernetes is done and every agent agrees with it. @throws timeout with what is open */
  settle(): Promise<true> {
    const isSettled = async () => {
      const open = await this.#open();
      if (open.length > 0) throw new Error(open.join("; "));
      return true as const;
    };
    return waitUntil("the cluster settled", isSettled, { timeoutMs: SETTLE_MS, everyMs: 200 });
  }

  async #open(): Promise<readonly string[]> {
    const snapshot = await takeSnapshot(this.#cluster);
    const open = unsettled(snapshot, this.#unready);
    if (open.length > 0 || !this.hasAgents) return open;
    const expected = expectedLines(snapshot.services, snapshot.slices);
    const ofAgents = [...this.#nodes.keys()].map(async (name) => {
      const said = saidLines(await this.agentServices(name), await this.agentBackends(name));
      return differences(expected, said).map((line) => `${name}: ${line}`);
    });
    return (await Promise.all(ofAgents)).flat();
  }
}
