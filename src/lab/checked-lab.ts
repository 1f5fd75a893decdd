// A lab as the checks of the examples see it.
import { spawn } from "node:child_process";
import type { BackendView, ServiceView } from "../agent/view.ts";
import type { Address } from "../lib/address.ts";
import type { Notice } from "../model/objects.ts";
import type { EndpointSliceObject, KubernetesObject, PodObject, ServiceObject } from "../wire/kubernetes.ts";
import { uplinkMac } from "./addressing.ts";
import type { CheckedCluster, CheckedNode, HandMadeBackends, LoadBalancing, Probe } from "./checked-cluster.ts";
import type { LabSession } from "./lab-session.ts";
import type { ProbeOrder } from "./probe.ts";
import { CheckFailure } from "./seed-story.ts";

/** Those that example 11 names: pods at addresses of their own choice, and a host on the internet. */
const FIXED_PODS = [
  { name: "demo-fixed-1", address: "10.244.36.82", nodeName: "node1" },
  { name: "demo-fixed-2", address: "10.244.169.141", nodeName: "node3" },
];
const OUTSIDE_HOST = { name: "outside-web", address: "110.242.68.3" };

export class CheckedLab implements CheckedCluster {
  readonly inForceMs = 1000;
  readonly namesInForceMs = 0;
  readonly endedPodsStay = false;
  readonly loadBalancing: LoadBalancing = { holders: (client, address) => this.#arpHolders(client, address) };
  readonly #session: LabSession;

  /** A lab of three nodes, up. */
  constructor(session: LabSession) {
    this.#session = session;
  }

  takes(): boolean {
    return true;
  }

  async apply(objects: readonly KubernetesObject[]): Promise<readonly string[]> {
    const { notices } = await this.#session.apply(this.#session.manifest(objects));
    return notices.filter(({ severity }) => severity === "error").map(({ message }) => message);
  }

  async delete(objects: readonly KubernetesObject[]): Promise<void> {
    await this.#session.delete(this.#session.manifest(objects));
  }

  async scale(target: string, replicas: number): Promise<void> {
    await this.#session.scale(target, replicas);
  }

  ready(pod: string, ready: boolean): Promise<void> {
    return this.#session.ready(pod, ready);
  }

  kill(pod: string): Promise<void> {
    return this.#session.kill(pod);
  }

  async handMadeBackends(): Promise<HandMadeBackends> {
    const pods = FIXED_PODS.map(({ name, address, nodeName }) => ({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, annotations: { "millrace.io/pod-ip": address } },
      spec: { nodeName, containers: [{ name: "web", image: "demo" }] },
    }));
    await this.apply(pods);
    const { hosts } = await this.#session.status();
    if (!hosts.some(({ name }) => name === OUTSIDE_HOST.name)) {
      await this.#session.host(OUTSIDE_HOST.name, OUTSIDE_HOST.address);
    }
    const all = [...FIXED_PODS, OUTSIDE_HOST];
    return {
      names: all.map(({ name }) => name),
      addresses: all.map(({ address }) => address),
      remove: () => this.delete(pods),
    };
  }

  join(node: string): Promise<void> {
    return this.#session.join(node);
  }

  service(name: string): Promise<ServiceObject> {
    return this.#session.service(`default/${name}`);
  }

  async pods(): Promise<readonly PodObject[]> {
    return (await this.#session.objects<PodObject>("Pod")).filter(isDefault);
  }

  async slices(service: string): Promise<readonly EndpointSliceObject[]> {
    const slices = (await this.#session.objects<EndpointSliceObject>("EndpointSlice")).filter(isDefault);
    return slices.filter(({ metadata }) => metadata.labels?.["kubernetes.io/service-name"] === service);
  }

  async nodes(): Promise<readonly CheckedNode[]> {
    return (await this.#session.status()).nodes;
  }

  notices(): Promise<readonly Notice[]> {
    return this.#session.notices();
  }

  agentServices(node: string): Promise<readonly ServiceView[]> {
    return this.#session.agentServices(node);
  }

  agentBackends(node: string): Promise<readonly BackendView[]> {
    return this.#session.agentBackends(node);
  }

  exec(from: string, command: readonly string[]): Promise<{ readonly status: number }> {
    return this.#session.exec(from, command);
  }

  probe(from: string, order: ProbeOrder): Promise<Probe> {
    return this.#session.probe(from, order);
  }

  async #arpHolders(client: string, address: Address): Promise<readonly string[]> {
    const filter = "arp and arp[6:2] = 2";
    const [file, ...args] = await this.#session.command(client, [
      ...["tcpdump", "-n", "-e", "-l", "--immediate-mode", "-i", "eth0"],
      filter,
    ]);
    const listener = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"] });
    let heard = "";
    listener.stdout.on("data", (data: Buffer) => {
      heard += data.toString();
    });
    try {
      await new Promise<void>((resolve, reject) => {
        listener.stderr.on("data", (data: Buffer) => {
          if (data.includes("listening on")) resolve();
        });
        listener.on("error", reject);
        listener.on("exit", (code) => reject(new CheckFailure(`tcpdump ended with status ${code}`)));
      });
      await this.#session.exec(client, ["ip", "neigh", "flush", "dev", "eth0"]);
      await this.#session.exec(client, ["ping", "-n", "-q", "-c", "2", "-i", "0.3", "-W", "1", address]);
    } finally {
      listener.kill("SIGKILL");
    }
    const macs = [...heard.matchAll(/Reply (\S+) is-at ([0-9a-f:]{17})/g)]
      .filter((match) => match[1] === address)
      .map((match) => match[2]);
    const { nodes } = await this.#session.status();
    return nodes.map(({ name }) => name).filter((name) => macs.includes(uplinkMac("node", numberOf(name))));
  }
}

function isDefault({ metadata }: KubernetesObject): boolean {
  return metadata.namespace === "default";
}

function numberOf(node: string): number {
  return Number(node.slice("node".length));
}
