// What the checks of the examples need of a cluster. A lab is one, and so is a cluster of Kubernetes' own parts: what an
// example must show is written once, in seed-checks.ts, and knows neither. Everything is in namespace default.
import type { BackendView, ServiceView } from "../agent/view.ts";
import type { Address } from "../lib/address.ts";
import type { Notice } from "../model/objects.ts";
import type { EndpointSliceObject, KubernetesObject, PodObject, ServiceObject } from "../wire/kubernetes.ts";
import type { ProbeAnswer, ProbeOrder } from "./probe.ts";

export interface Probe {
  readonly answers: readonly ProbeAnswer[];
  /** Names of the pods that answered, sorted, each once. */
  readonly pods: readonly string[];
  /** Codes of what went wrong, each once. */
  readonly errors: readonly string[];
}

export interface CheckedNode {
  readonly name: string;
  readonly addresses: readonly Address[];
}

/** Servers that an Endpoints object may name, pods and one outside of the cluster. */
export interface HandMadeBackends {
  readonly names: readonly string[];
  /** All of them, of each family they have. */
  readonly addresses: readonly Address[];
  remove(): Promise<void>;
}

/** Only where somebody gives LoadBalancer Services their addresses. */
export interface LoadBalancing {
  /** Nodes that answer ARP for an address, as `client` hears it. */
  holders(client: string, address: Address): Promise<readonly string[]>;
}

/** In a pod it makes it unready, where its readiness probe looks for it. */
export const UNREADY_FILE = "/tmp/unready";

export interface CheckedCluster {
  /** The longest time from a cause to its effect in the dataplane, such as from a pod that is unready to one that serves nothing. */
  readonly inForceMs: number;
  /** The longest time that a name may lead to what was before; 0 where none is kept. */
  readonly namesInForceMs: number;
  /** A pod that ended may stay in a slice for a while, as one that serves nothing. */
  readonly endedPodsStay: boolean;
  readonly loadBalancing?: LoadBalancing;
  /** Whether the cluster knows this kind of object in this version. */
  takes(object: KubernetesObject): boolean;
  /** Returns when all is in force on every node, with the words in which objects were refused. */
  apply(objects: readonly KubernetesObject[]): Promise<readonly string[]>;
  /** Returns when all is gone, and nobody is led to it. */
  delete(objects: readonly KubernetesObject[]): Promise<void>;
  /** `target` is KIND/NAME. Returns when that many serve. */
  scale(target: string, replicas: number): Promise<void>;
  /** Returns when it is in force. The pod's readiness probe looks for UNREADY_FILE. */
  ready(pod: string, ready: boolean): Promise<void>;
  /** The pod dies without warning; returns when nobody is led to it. It or another comes in its place. */
  kill(pod: string): Promise<void>;
  handMadeBackends(): Promise<HandMadeBackends>;
  /** A node more; returns when it is one of the cluster. */
  join(node: string): Promise<void>;

  /** @throws not_found */
  service(name: string): Promise<ServiceObject>;
  pods(): Promise<readonly PodObject[]>;
  slices(service: string): Promise<readonly EndpointSliceObject[]>;
  nodes(): Promise<readonly CheckedNode[]>;
  /** What the control plane or an agent has said about objects. undefined where objects are not read beyond what the API server checks. */
  notices(): Promise<readonly Notice[] | undefined>;
  agentServices(node: string): Promise<readonly ServiceView[]>;
  agentBackends(node: string): Promise<readonly BackendView[]>;

  /** Runs a program of the machine in a pod, on a node or on a client outside. */
  exec(from: string, command: readonly string[]): Promise<{ readonly status: number }>;
  /** Asks from inside a pod, a node or a client outside. `until` names pods. */
  probe(from: string, order: ProbeOrder): Promise<Probe>;
}
