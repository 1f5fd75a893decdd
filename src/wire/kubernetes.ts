// The shapes of the Kubernetes objects that standalone reads and writes, as far as it uses them. They hold after
// validation only (validate.ts); before it everything is `unknown`. Types, keys and labels; no logic beyond that.
import type { Protocol } from "../model/objects.ts";

export interface ObjectMeta {
  name: string;
  namespace?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  uid?: string;
  generation?: number;
  creationTimestamp?: string | null;
  deletionTimestamp?: string | null;
  ownerReferences?: unknown[];
  [field: string]: unknown;
}

export interface KubernetesObject {
  apiVersion: string;
  kind: string;
  metadata: ObjectMeta;
  [field: string]: unknown;
}

export interface ServicePortSpec {
  name?: string;
  protocol?: Protocol;
  port: number;
  targetPort?: number | string;
  nodePort?: number;
  appProtocol?: string;
}

export type IpFamily = "IPv4" | "IPv6";

export interface ServiceSpec {
  type?: "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName";
  selector?: Record<string, string>;
  ports?: ServicePortSpec[];
  clusterIP?: string;
  clusterIPs?: string[];
  ipFamilies?: IpFamily[];
  ipFamilyPolicy?: "SingleStack" | "PreferDualStack" | "RequireDualStack";
  externalName?: string;
  externalIPs?: string[];
  externalTrafficPolicy?: "Cluster" | "Local";
  internalTrafficPolicy?: "Cluster" | "Local";
  healthCheckNodePort?: number;
  loadBalancerIP?: string;
  loadBalancerClass?: string;
  loadBalancerSourceRanges?: string[];
  allocateLoadBalancerNodePorts?: boolean;
  publishNotReadyAddresses?: boolean;
  sessionAffinity?: "None" | "ClientIP";
  sessionAffinityConfig?: { clientIP?: { timeoutSeconds?: number } };
  trafficDistribution?: string;
  [field: string]: unknown;
}

export interface LoadBalancerIngress {
  ip?: string;
  hostname?: string;
  ipMode?: "VIP" | "Proxy";
  ports?: unknown[];
}

export interface ServiceObject extends KubernetesObject {
  kind: "Service";
  spec: ServiceSpec;
  status?: { loadBalancer?: { ingress?: LoadBalancerIngress[] }; [field: string]: unknown };
}

export interface ContainerPort {
  name?: string;
  containerPort: number;
  hostPort?: number;
  hostIP?: string;
  protocol?: Protocol;
}

export interface Container {
  name: string;
  ports?: ContainerPort[];
  restartPolicy?: string;
  [field: string]: unknown;
}

export interface PodObject extends KubernetesObject {
  kind: "Pod";
  spec: {
    containers: Container[];
    initContainers?: Container[];
    nodeName?: string;
    hostNetwork?: boolean;
    hostname?: string;
    subdomain?: string;
    runtimeClassName?: string;
    [field: string]: unknown;
  };
  status?: {
    phase?: string;
    podIP?: string;
    podIPs?: { ip: string }[];
    hostIP?: string;
    conditions?: { type: string; status: string }[];
    [field: string]: unknown;
  };
}

export interface NodeObject extends KubernetesObject {
  kind: "Node";
  spec?: { podCIDR?: string; podCIDRs?: string[]; taints?: { key?: string }[]; [field: string]: unknown };
  status?: {
    addresses?: { type: string; address: string }[];
    conditions?: { type: string; status: string }[];
    daemonEndpoints?: { kubeletEndpoint?: { Port?: number } };
    [field: string]: unknown;
  };
}

export interface EndpointsAddress {
  ip: string;
  hostname?: string;
  nodeName?: string;
  targetRef?: ObjectReference;
}

export interface ObjectReference {
  kind?: string;
  namespace?: string;
  name?: string;
  uid?: string;
}

export interface EndpointsObject extends KubernetesObject {
  kind: "Endpoints";
  subsets?: {
    addresses?: EndpointsAddress[];
    notReadyAddresses?: EndpointsAddress[];
    ports?: SlicePort[];
  }[];
}

export interface SlicePort {
  name?: string;
  port?: number;
  protocol?: Protocol;
  appProtocol?: string;
}

export interface SliceEndpoint {
  addresses: string[];
  conditions?: { ready?: boolean; serving?: boolean; terminating?: boolean };
  hostname?: string;
  nodeName?: string;
  zone?: string;
  hints?: { forZones?: { name: string }[]; forNodes?: { name: string }[] };
  targetRef?: ObjectReference;
  [field: string]: unknown;
}

export interface EndpointSliceObject extends KubernetesObject {
  kind: "EndpointSlice";
  addressType: "IPv4" | "IPv6" | "FQDN";
  endpoints: SliceEndpoint[];
  ports?: SlicePort[];
}

export interface RawSelector {
  matchLabels?: Record<string, string>;
  matchExpressions?: { key: string; operator: string; values?: string[] }[];
}

export interface AddressPoolObject extends KubernetesObject {
  kind: "IPAddressPool";
  spec: {
    addresses: string[];
    autoAssign?: boolean;
    avoidBuggyIPs?: boolean;
    serviceAllocation?: {
      priority?: number;
      namespaces?: string[];
      namespaceSelectors?: RawSelector[];
      serviceSelectors?: RawSelector[];
    };
  };
}

export interface L2AdvertisementObject extends KubernetesObject {
  kind: "L2Advertisement";
  spec?: {
    ipAddressPools?: string[];
    ipAddressPoolSelectors?: RawSelector[];
    nodeSelectors?: RawSelector[];
    preferredNodeSelectors?: { weight: number; preference: RawSelector }[];
    serviceSelectors?: RawSelector[];
    interfaces?: string[];
  };
}

export const SERVICE_TYPES = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] as const;
export const TRAFFIC_POLICIES = ["Cluster", "Local"] as const;
export const TRAFFIC_DISTRIBUTIONS = ["PreferClose", "PreferSameZone", "PreferSameNode"] as const;
export const PROTOCOLS = ["TCP", "UDP", "SCTP"] as const;
export const SERVICE_NAME_LABEL = "kubernetes.io/service-name";
export const HEADLESS_LABEL = "service.kubernetes.io/headless";
export const MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by";
export const SKIP_MIRROR_LABEL = "endpointslice.kubernetes.io/skip-mirror";
export const SLICE_CONTROLLER = "endpointslice-controller.k8s.io";
export const MIRRORING_CONTROLLER = "endpointslicemirroring-controller.k8s.io";
export const PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name";
/** When the allocator first saw an object, in milliseconds since the epoch, for readers that keep no state of their own. */
export const AGE_ANNOTATION = "millrace.io/age";
/** "bypass" on a Pod: its packets bypass sockets. */
export const SOCKETS_ANNOTATION = "millrace.io/sockets";
export const POOL_ANNOTATION = "metallb.io/ip-allocated-from-pool";

/** One document of a manifest file, not yet checked. `index` counts the documents (and items of Lists) of the file. */
export interface RawDocument {
  readonly file: string;
  readonly index: number;
  readonly object: unknown;
}

/** A document whose metadata was found in order; namespaced kinds have a namespace, "default" when none was given. */
export interface ManifestObject {
  readonly file: string;
  readonly index: number;
  readonly object: KubernetesObject;
}

/** "namespace/name", or "name" for kinds without namespace. */
export function objectKey(object: { metadata: ObjectMeta }): string {
  const { namespace, name } = object.metadata;
  return namespace === undefined || namespace === "" ? name : `${namespace}/${name}`;
}

/** "Kind namespace/name", as notices name objects. */
export function objectTitle(object: KubernetesObject): string {
  return `${object.kind} ${objectKey(object)}`;
}

/** The value of an own property: names such as "constructor" are data here. */
export function own<T>(record: Readonly<Record<string, T>> | undefined, key: string): T | undefined {
  return record !== undefined && Object.hasOwn(record, key) ? record[key] : undefined;
}
