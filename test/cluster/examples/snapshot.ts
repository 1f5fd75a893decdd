// What the API holds at one moment, as far as it says who serves a Service.
import type {
  EndpointSliceObject,
  EndpointsObject,
  KubernetesObject,
  NodeObject,
  PodObject,
  ServiceObject,
} from "../../../src/wire/kubernetes.ts";
import type { ApiClient } from "../api-client.ts";

export interface Snapshot {
  readonly nodes: readonly NodeObject[];
  readonly services: readonly ServiceObject[];
  readonly slices: readonly EndpointSliceObject[];
  readonly endpoints: readonly EndpointsObject[];
  readonly pods: readonly PodObject[];
  /** Objects that make pods, or others that do. */
  readonly workloads: readonly KubernetesObject[];
}

const CORE = "/api/v1";
const APPS = "/apis/apps/v1";
const WORKLOADS: Readonly<Record<string, string>> = {
  ReplicationController: `${CORE}/replicationcontrollers`,
  Deployment: `${APPS}/deployments`,
  ReplicaSet: `${APPS}/replicasets`,
  DaemonSet: `${APPS}/daemonsets`,
  Job: "/apis/batch/v1/jobs",
};

/** Of all namespaces. Not of one version: what changes meanwhile is seen in some lists and in others not. */
export async function takeSnapshot(api: Pick<ApiClient, "ask">): Promise<Snapshot> {
  const list = async <T>(path: string) => (await api.ask<{ items: readonly T[] }>(path)).items;
  const [nodes, services, slices, endpoints, pods, ...workloads] = await Promise.all([
    list<NodeObject>(`${CORE}/nodes`),
    list<ServiceObject>(`${CORE}/services`),
    list<EndpointSliceObject>("/apis/discovery.k8s.io/v1/endpointslices"),
    list<EndpointsObject>(`${CORE}/endpoints`),
    list<PodObject>(`${CORE}/pods`),
    // Items of a list do not say what they are.
    ...Object.entries(WORKLOADS).map(async ([kind, path]) =>
      (await list<KubernetesObject>(path)).map((object) => ({ ...object, kind })),
    ),
  ]);
  return { nodes, services, slices, endpoints, pods, workloads: workloads.flat() };
}
