// The normalised objects that the model is fed with. A source (standalone/, kube/) fills absent fields and refuses what
// is malformed; nothing here is optional for lack of care. Addresses are canonical text (lib/address.ts).
import type { Address, Family } from "../lib/address.ts";

export type Protocol = "TCP" | "UDP" | "SCTP";

/** "namespace/name". */
export type ObjectKey = string;

export interface ServicePort {
  /** "" when unnamed. */
  readonly name: string;
  readonly protocol: Protocol;
  readonly port: number;
  /** 0 when there is none. */
  readonly nodePort: number;
  /** As in the manifest; the model does not use it (slices carry resolved ports), the CLI shows it. */
  readonly targetPort: number | string;
}

/** A LoadBalancer address that somebody with the right to do so gave to a Service. */
export interface GrantedAddress {
  readonly address: Address;
  readonly ipMode: "VIP" | "Proxy";
  /**
   * status: whoever may write a Service's status says so. pool: it lies in an IPAddressPool, too (provenance.ts): a port nobody
   * defined is refused there, and it may be announced. Sources say "status".
   */
  readonly by: "status" | "pool";
  /** "namespace/name" of that pool; absent when there is none. */
  readonly pool?: ObjectKey;
}

/** What a Service has, whatever its author writes: the source fills it from what authors cannot write. */
export interface Grants {
  /**
   * When it was first seen, in milliseconds since the epoch, with fractions that tell the order of those seen at once: the
   * smaller number is older. 0 when unknown. Ties: namespace/name.
   */
  readonly age: number;
  readonly addresses: readonly GrantedAddress[];
}

/** What a Service may ask for that is not served, and what is done instead. */
export const UNSERVED_FIELDS = {
  "metadata.annotations[service.kubernetes.io/topology-mode]":
    "endpoints are not dealt out to zones by the CPUs of their nodes here: they get no hints, and every endpoint is as good as any other",
} as const;
export type UnservedField = keyof typeof UNSERVED_FIELDS;

export interface Service {
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** As in the manifest; the model does not use it, people are shown it. Absent: somebody else makes its endpoints. */
  readonly selector?: Readonly<Record<string, string>>;
  readonly grants: Grants;
  readonly type: "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName";
  /** As the API server, or our allocator, allotted them. Empty when headless, ExternalName or not yet allocated. */
  readonly clusterIPs: readonly Address[];
  /** Wished for by its author, who need not have any right to them. */
  readonly externalIPs: readonly Address[];
  readonly headless: boolean;
  readonly externalName: string;
  readonly ports: readonly ServicePort[];
  readonly externalTrafficPolicy: "Cluster" | "Local";
  readonly internalTrafficPolicy: "Cluster" | "Local";
  /** For so long after its last new connection a client keeps its endpoint (sessionAffinity: ClientIP); 0: it keeps none. */
  readonly affinitySeconds: number;
  /**
   * Networks in CIDR notation, as the manifest has them: when there are any, valid or not, only their clients are served at LoadBalancer
   * addresses.
   */
  readonly sourceRanges: readonly string[];
  /** 0 when there is none. */
  readonly healthCheckNodePort: number;
  /** "" when none is set. */
  readonly loadBalancerClass: string;
  /** It is another proxy's by its labels, and left to that. */
  readonly isForeign: boolean;
  /** Paths of the fields that ask for what is not served. */
  readonly unserved: readonly UnservedField[];
  /** The annotation millrace.io/load-balancing as it stands there. */
  readonly loadBalancing?: string;
}

export interface EndpointPort {
  readonly name: string;
  readonly protocol: Protocol;
  readonly port: number;
}

/** For whom an endpoint is meant, by EndpointSlice's hints: names, each once. Empty: no hint of this kind. */
export interface EndpointHints {
  readonly zones: readonly string[];
  readonly nodes: readonly string[];
}

export interface Endpoint {
  readonly addresses: readonly Address[];
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  /** "" when unknown. */
  readonly nodeName: string;
  /** "" when none. */
  readonly hostname: string;
  /** "namespace/name" of the Pod, "" when there is none. */
  readonly pod: ObjectKey;
  /** Absent: none of any kind. */
  readonly hints?: EndpointHints;
}

export interface EndpointSlice {
  readonly namespace: string;
  readonly name: string;
  /** Name of the Service, from the label kubernetes.io/service-name. */
  readonly service: string;
  readonly family: Family;
  readonly ports: readonly EndpointPort[];
  readonly endpoints: Endpoints;
  /** The annotation millrace.io/weights as it stands there. */
  readonly weights?: string;
}

/** Endpoints in the slice's order: an array of them, or an EndpointList, which holds a million of them in little room. */
export interface Endpoints extends Iterable<Endpoint> {
  readonly length: number;
}

export interface Node {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** InternalIPs in the object's order. */
  readonly internalAddresses: readonly Address[];
  readonly externalAddresses: readonly Address[];
  /** Where the kubelet listens, 0 when unknown. */
  readonly kubeletPort: number;
  readonly podCIDRs: readonly string[];
  readonly ready: boolean;
  readonly networkUnavailable: boolean;
  readonly excludeFromLoadBalancers: boolean;
  /** It is being deleted, or the cluster autoscaler is about to (KEP-3836): load balancers ought to drain it. */
  readonly goingAway: boolean;
}

/** One host port of one pod, made from a Pod by the source. Pods on the host network never have one. */
export interface HostPort {
  readonly pod: ObjectKey;
  readonly age: number;
  readonly node: string;
  /** "" means every address of the node. */
  readonly hostAddress: Address | "";
  readonly hostPort: number;
  readonly protocol: Protocol;
  readonly podAddress: Address;
  readonly podPort: number;
}

/** A ServiceCIDR (networking.k8s.io/v1, KEP-1880): ranges that cluster addresses are taken from. */
export interface ServiceCIDR {
  readonly name: string;
  /** Prefixes in CIDR notation, at most one per family. */
  readonly cidrs: readonly string[];
}

/** An IPAddressPool (metallb.io/v1beta1). */
export interface AddressPool {
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly ranges: readonly string[];
  readonly autoAssign: boolean;
  readonly avoidBuggyIPs: boolean;
  /** Lower is tried first; 0 is tried last, as in MetalLB. */
  readonly priority: number;
  /** Empty lists mean every namespace and every Service. */
  readonly namespaces: readonly string[];
  readonly namespaceSelectors: readonly LabelSelector[];
  readonly serviceSelectors: readonly LabelSelector[];
}

export interface LabelSelector {
  readonly matchLabels: Readonly<Record<string, string>>;
  readonly matchExpressions: readonly {
    readonly key: string;
    readonly operator: "In" | "NotIn" | "Exists" | "DoesNotExist";
    readonly values: readonly string[];
  }[];
}

/** Nodes that match are preferred; the weights (1 to 100) of those that match one add up. */
export interface PreferredNodeSelector {
  readonly weight: number;
  readonly preference: LabelSelector;
}

/** An L2Advertisement (metallb.io/v1beta1). Empty pool lists and selectors mean every pool; empty selectors every node, every Service. */
export interface L2Advertisement {
  readonly namespace: string;
  readonly name: string;
  readonly pools: readonly string[];
  readonly poolSelectors: readonly LabelSelector[];
  readonly nodeSelectors: readonly LabelSelector[];
  readonly preferredNodeSelectors: readonly PreferredNodeSelector[];
  readonly serviceSelectors: readonly LabelSelector[];
  readonly interfaces: readonly string[];
}

/** One change of one object. `object` undefined: it is gone. */
export type ObjectEvent =
  | { readonly kind: "Service"; readonly key: ObjectKey; readonly object: Service | undefined }
  | {
      readonly kind: "EndpointSlice";
      readonly key: ObjectKey;
      readonly object: EndpointSlice | undefined;
      /**
       * When the change to a Pod or Service that led to this one happened, in milliseconds since the epoch (annotation
       * endpoints.kubernetes.io/last-change-trigger-time). Absent when unknown or when the event came from a full list.
       */
      readonly triggerMs?: number;
    }
  | { readonly kind: "Node"; readonly key: ObjectKey; readonly object: Node | undefined }
  | { readonly kind: "ServiceCIDR"; readonly key: ObjectKey; readonly object: ServiceCIDR | undefined }
  | { readonly kind: "HostPorts"; readonly key: ObjectKey; readonly object: readonly HostPort[] | undefined }
  | { readonly kind: "AddressPool"; readonly key: ObjectKey; readonly object: AddressPool | undefined }
  | { readonly kind: "L2Advertisement"; readonly key: ObjectKey; readonly object: L2Advertisement | undefined };

/** Something the operator ought to know about one object: shown in `status`, on the log, and counted as a metric by reason. */
export interface Notice {
  /** "Kind namespace/name", or a file path when there is no object. */
  readonly object: string;
  /** Manifest file, with :LINE:COLUMN where they are known; "" when it came from elsewhere. */
  readonly file: string;
  /** Path of the field, "" when it is about the whole object. */
  readonly field: string;
  /** One word for event, metric and test, such as "no-pool", "address-in-use", "endpoint-refused". */
  readonly reason: string;
  readonly message: string;
  readonly severity: "info" | "warning" | "error";
}

/** Why a LoadBalancer Service is left without an address: reasons of notices. */
export const PENDING_REASONS = [
  "no-pool",
  "unknown-pool",
  "pool-exhausted",
  "not-in-pool",
  "address-in-use",
  "pool-not-allowed",
  "wrong-family",
  "wrong-class",
  "invalid-request",
] as const;
export type PendingReason = (typeof PENDING_REASONS)[number];
