// From Kubernetes objects, validated, to the objects of the model: absent fields are filled or gone, addresses canonical.
// It invents nothing: what is not allocated stays empty. Addresses that no endpoint may have are left out, with a notice.
import {
  type Address,
  canonicalAddress,
  type Family,
  familyOf,
  storedAddress,
  unusableReason,
} from "../lib/address.ts";
import { endpointAddress } from "../lib/endpoint-address.ts";
import type {
  AddressPool,
  Endpoint,
  EndpointHints,
  EndpointPort,
  EndpointSlice,
  Grants,
  HostPort,
  L2Advertisement,
  Node,
  Notice,
  ObjectEvent,
  Service,
  UnservedField,
} from "../model/objects.ts";
import { LOAD_BALANCING_ANNOTATION } from "../model/spread.ts";
import { WEIGHTS_ANNOTATION } from "../model/weights.ts";
import {
  type AddressPoolObject,
  AGE_ANNOTATION,
  type EndpointSliceObject,
  HEADLESS_LABEL,
  type KubernetesObject,
  type L2AdvertisementObject,
  type NodeObject,
  objectKey,
  objectTitle,
  own,
  type PodObject,
  PROXY_NAME_LABEL,
  SERVICE_NAME_LABEL,
  type ServiceObject,
  type SliceEndpoint,
  SOCKETS_ANNOTATION,
} from "./kubernetes.ts";
import { parseLabelSelector } from "./label-selector.ts";

function creationMs(object: KubernetesObject): number {
  const created = Date.parse(object.metadata.creationTimestamp ?? "");
  return Number.isNaN(created) ? 0 : created;
}

/** Milliseconds since the epoch: first sight as our own allocator wrote it, else the creation time, else 0. */
export function ageOf(object: KubernetesObject): number {
  const written = Number(own(object.metadata.annotations, AGE_ANNOTATION) ?? Number.NaN);
  return Number.isFinite(written) && written >= 0 ? written : creationMs(object);
}

function grantsOf(object: ServiceObject, age: number): Grants {
  const ingress = object.spec.type === "LoadBalancer" ? (object.status?.loadBalancer?.ingress ?? []) : [];
  const addresses = ingress.flatMap(({ ip, ipMode }) => {
    const address = storedAddress(ip ?? "");
    return address === undefined ? [] : [{ address, ipMode: ipMode || "VIP", by: "status" } as const];
  });
  return { age, addresses };
}

/** What an API server vouches for: whoever may edit an object may write any annotation. */
export function grantsByApi(object: ServiceObject): Grants {
  return grantsOf(object, creationMs(object));
}

/** What our own allocator says: the age in an annotation, which it takes away from what people wrote. */
export function grantsByAllocator(object: ServiceObject): Grants {
  return grantsOf(object, ageOf(object));
}

function storedList(texts: readonly string[]): readonly Address[] {
  return texts.flatMap((text) => storedAddress(text) ?? []);
}

export function isHeadless(service: ServiceObject): boolean {
  return service.spec.clusterIP === "None" || service.spec.clusterIPs?.[0] === "None";
}

/** Its cluster addresses as they stand in the object: canonical, empty when headless, of type ExternalName or not allocated. */
export function clusterIPsOf(service: ServiceObject): readonly Address[] {
  const { type, clusterIP, clusterIPs } = service.spec;
  if (type === "ExternalName" || isHeadless(service)) return [];
  return storedList(clusterIPs !== undefined && clusterIPs.length > 0 ? clusterIPs : clusterIP ? [clusterIP] : []);
}

const TOPOLOGY_MODE = "service.kubernetes.io/topology-mode";
const TOPOLOGY_AWARE_HINTS = "service.kubernetes.io/topology-aware-hints";

/** Whoever makes its slices deals its endpoints out to zones by the CPUs of their nodes, and disregards `trafficDistribution`. */
export function hasTopologyMode({ metadata: { annotations } }: ServiceObject): boolean {
  const mode = own(annotations, TOPOLOGY_AWARE_HINTS) ?? own(annotations, TOPOLOGY_MODE);
  return mode === "Auto" || mode === "auto";
}

/** Whether an object asks for what is not served. */
const ASKS_FOR: Readonly<Record<UnservedField, (object: ServiceObject) => boolean>> = {
  // An API server's own controller gives slices their hints: this is for those who have ours (normaliseObject).
  [`metadata.annotations[${TOPOLOGY_MODE}]`]: () => false,
};

/** Seconds, the API server's default. */
const AFFINITY_SECONDS = 10800;

/** `grants`: what the object's author has no say in, as its source knows it. */
export function normaliseService(object: ServiceObject, grants: Grants = grantsByApi(object)): Service {
  const { spec } = object;
  const type = spec.type || "ClusterIP";
  const { labels } = object.metadata;
  return {
    namespace: object.metadata.namespace ?? "default",
    name: object.metadata.name,
    labels: labels ?? {},
    ...selectorOf(spec.selector),
    grants,
    type,
    clusterIPs: clusterIPsOf(object),
    externalIPs: type === "ExternalName" ? [] : [...new Set(storedList(spec.externalIPs ?? []))],
    headless: type !== "ExternalName" && isHeadless(object),
    externalName: type === "ExternalName" ? (spec.externalName ?? "").replace(/\.$/, "").toLowerCase() : "",
    ports: (spec.ports ?? []).map((port) => ({
      name: port.name ?? "",
      protocol: port.protocol || "TCP",
      port: port.port,
      nodePort: type === "NodePort" || type === "LoadBalancer" ? (port.nodePort ?? 0) : 0,
      targetPort: port.targetPort || port.port,
    })),
    externalTrafficPolicy: spec.externalTrafficPolicy || "Cluster",
    internalTrafficPolicy: spec.internalTrafficPolicy || "Cluster",
    affinitySeconds:
      spec.sessionAffinity === "ClientIP"
        ? (spec.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? AFFINITY_SECONDS)
        : 0,
    sourceRanges: type === "LoadBalancer" ? (spec.loadBalancerSourceRanges ?? []) : [],
    healthCheckNodePort: spec.healthCheckNodePort ?? 0,
    loadBalancerClass: spec.loadBalancerClass ?? "",
    isForeign: own(labels, PROXY_NAME_LABEL) !== undefined || own(labels, HEADLESS_LABEL) !== undefined,
    unserved: (Object.keys(ASKS_FOR) as UnservedField[]).filter((field) => ASKS_FOR[field](object)),
    ...annotation(object, LOAD_BALANCING_ANNOTATION, "loadBalancing"),
  };
}

/** An annotation as it stands there; nothing where there is none. */
function annotation<K extends string>(object: KubernetesObject, name: string, field: K): Partial<Record<K, string>> {
  const text = own(object.metadata.annotations, name);
  return text === undefined ? {} : ({ [field]: text } as Record<K, string>);
}

/** Nothing for a selector without pairs: it selects no pod. */
function selectorOf(selector: unknown): Pick<Service, "selector"> {
  const pairs = Object.entries(typeof selector === "object" ? (selector ?? {}) : {});
  const texts = pairs.filter((pair): pair is [string, string] => typeof pair[1] === "string");
  return texts.length === 0 ? {} : { selector: Object.fromEntries(texts) };
}

/** A refused endpoint address: which field, and why. */
export interface RefusedAddress {
  readonly field: string;
  readonly address: string;
  readonly why: string;
}

/** Why `address` may not be an endpoint, or undefined. `isFrontend` tells the addresses that Services answer on. */
export function refusal(address: Address, isFrontend: (address: Address) => boolean): string | undefined {
  const found = endpointAddress(address);
  if (typeof found !== "string") return found.why;
  return isFrontend(address) ? "may not be the address of a Service" : undefined;
}

export function refusedNotice(object: KubernetesObject, file: string, { field, address, why }: RefusedAddress): Notice {
  return {
    object: objectTitle(object),
    file,
    field,
    reason: "endpoint-refused",
    message: `${field}: Invalid value: "${address}": ${why}; this address is left out`,
    severity: "error",
  };
}

function hintsOf({ hints }: SliceEndpoint): { readonly hints?: EndpointHints } {
  const names = (list: readonly { name: string }[] | undefined): string[] => [
    ...new Set((list ?? []).map(({ name }) => name)),
  ];
  const [zones, nodes] = [names(hints?.forZones), names(hints?.forNodes)];
  return zones.length + nodes.length === 0 ? {} : { hints: { zones, nodes } };
}

/**
 * A slice for the model; undefined when it belongs to no Service or holds host names (addressType FQDN). Ports without
 * number and refused addresses are left out; an endpoint that loses all its addresses goes.
 */
export function normaliseEndpointSlice(object: EndpointSliceObject): {
  readonly slice: EndpointSlice | undefined;
  readonly refused: readonly RefusedAddress[];
} {
  const service = own(object.metadata.labels, SERVICE_NAME_LABEL) ?? "";
  if (service === "" || object.addressType === "FQDN") return { slice: undefined, refused: [] };
  const namespace = object.metadata.namespace ?? "default";
  const refused: RefusedAddress[] = [];
  const endpoints: Endpoint[] = [];
  for (const [i, endpoint] of (object.endpoints ?? []).entries()) {
    const addresses: Address[] = [];
    for (const [j, text] of endpoint.addresses.entries()) {
      const found = endpointAddress(text);
      if (typeof found === "string") addresses.push(found);
      else refused.push({ field: `endpoints[${i}].addresses[${j}]`, address: text, why: found.why });
    }
    if (addresses.length === 0) continue;
    const { ready, serving, terminating } = endpoint.conditions ?? {};
    const target = endpoint.targetRef;
    endpoints.push({
      addresses,
      ready: ready ?? true,
      serving: serving ?? ready ?? true,
      terminating: terminating ?? false,
      nodeName: endpoint.nodeName ?? "",
      hostname: endpoint.hostname ?? "",
      pod: target?.kind === "Pod" && target.name ? `${target.namespace ?? namespace}/${target.name}` : "",
      ...hintsOf(endpoint),
    });
  }
  const ports = (object.ports ?? []).flatMap((port): EndpointPort[] =>
    port.port === undefined || port.port === null
      ? []
      : [{ name: port.name ?? "", protocol: port.protocol || "TCP", port: port.port }],
  );
  const family: Family = object.addressType;
  const weights = annotation(object, WEIGHTS_ANNOTATION, "weights");
  return { slice: { namespace, name: object.metadata.name, service, family, ports, endpoints, ...weights }, refused };
}

export function normaliseNode(object: NodeObject): Node {
  const conditions = object.status?.conditions ?? [];
  const holds = (type: string): boolean => conditions.some((one) => one.type === type && one.status === "True");
  const addresses = (wanted: string): readonly Address[] =>
    storedList((object.status?.addresses ?? []).flatMap(({ type, address }) => (type === wanted ? [address] : [])));
  const spec = object.spec ?? {};
  return {
    name: object.metadata.name,
    labels: object.metadata.labels ?? {},
    internalAddresses: addresses("InternalIP"),
    externalAddresses: addresses("ExternalIP"),
    kubeletPort: object.status?.daemonEndpoints?.kubeletEndpoint?.Port ?? 0,
    podCIDRs:
      spec.podCIDRs !== undefined && spec.podCIDRs.length > 0 ? spec.podCIDRs : spec.podCIDR ? [spec.podCIDR] : [],
    ready: holds("Ready"),
    networkUnavailable: holds("NetworkUnavailable"),
    excludeFromLoadBalancers:
      own(object.metadata.labels, "node.kubernetes.io/exclude-from-external-load-balancers") !== undefined,
    goingAway:
      Boolean(object.metadata.deletionTimestamp) ||
      (spec.taints ?? []).some((taint) => taint?.key === "ToBeDeletedByClusterAutoscaler"),
  };
}

/** Its addresses as they stand in the status: canonical, without repeats. */
export function podAddresses(pod: PodObject): readonly Address[] {
  const several = (pod.status?.podIPs ?? []).map((one) => one.ip);
  return [...new Set(storedList(several.length > 0 ? several : pod.status?.podIP ? [pod.status.podIP] : []))];
}

/** It ended for good: Succeeded or Failed. */
export function isFinished(pod: PodObject): boolean {
  return pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed";
}

const BYPASSING_CONTAINERS = new Set([
  "istio-proxy",
  "istio-init",
  "linkerd-proxy",
  "linkerd-init",
  "kuma-sidecar",
  "consul-dataplane",
  "envoy-sidecar",
]);
const MESH_ANNOTATIONS = ["sidecar.istio.io/status", "linkerd.io/proxy-version"];

/** Whether its packets do not come from sockets of its own cgroup as they went in: a service mesh's sidecar, a sandbox, or so it says. */
export function bypassesSockets(pod: PodObject): boolean {
  const { annotations } = pod.metadata;
  const { containers, initContainers = [], runtimeClassName } = pod.spec;
  return (
    (typeof runtimeClassName === "string" && runtimeClassName !== "") ||
    own(annotations, SOCKETS_ANNOTATION) === "bypass" ||
    MESH_ANNOTATIONS.some((key) => own(annotations, key) !== undefined) ||
    containers.some((one) => BYPASSING_CONTAINERS.has(one.name)) ||
    initContainers.some((one) => BYPASSING_CONTAINERS.has(one.name))
  );
}

/** Its host ports, one record for each family that it has an address of. None on the host's network, and none once it finished. */
export function normaliseHostPorts(pod: PodObject): readonly HostPort[] {
  const node = pod.spec.nodeName ?? "";
  if (pod.spec.hostNetwork === true || node === "" || isFinished(pod)) return [];
  const addresses = podAddresses(pod).filter((address) => unusableReason(address) === undefined);
  // Ordinary init containers are over before the pod serves; those with restartPolicy Always run beside it.
  const sidecars = (pod.spec.initContainers ?? []).filter((one) => one.restartPolicy === "Always");
  const records: HostPort[] = [];
  for (const container of [...pod.spec.containers, ...sidecars]) {
    for (const port of container.ports ?? []) {
      if (!port.hostPort) continue;
      const hostIP = port.hostIP ? canonicalAddress(port.hostIP) : undefined;
      for (const podAddress of addresses) {
        if (hostIP !== undefined && familyOf(hostIP) !== familyOf(podAddress)) continue;
        records.push({
          pod: objectKey(pod),
          age: ageOf(pod),
          node,
          hostAddress: hostIP === undefined || unusableReason(hostIP) === "unspecified" ? "" : hostIP,
          hostPort: port.hostPort,
          protocol: port.protocol || "TCP",
          podAddress,
          podPort: port.containerPort,
        });
      }
    }
  }
  return records;
}

export function normaliseAddressPool(object: AddressPoolObject): AddressPool {
  const allocation = object.spec.serviceAllocation ?? {};
  return {
    namespace: object.metadata.namespace ?? "default",
    name: object.metadata.name,
    labels: object.metadata.labels ?? {},
    ranges: object.spec.addresses,
    autoAssign: object.spec.autoAssign ?? true,
    avoidBuggyIPs: object.spec.avoidBuggyIPs ?? false,
    priority: allocation.priority ?? 0,
    namespaces: allocation.namespaces ?? [],
    namespaceSelectors: (allocation.namespaceSelectors ?? []).map((one) => parseLabelSelector(one).selector),
    serviceSelectors: (allocation.serviceSelectors ?? []).map((one) => parseLabelSelector(one).selector),
  };
}

export function normaliseL2Advertisement(object: L2AdvertisementObject): L2Advertisement {
  const spec = object.spec ?? {};
  return {
    namespace: object.metadata.namespace ?? "default",
    name: object.metadata.name,
    pools: spec.ipAddressPools ?? [],
    poolSelectors: (spec.ipAddressPoolSelectors ?? []).map((one) => parseLabelSelector(one).selector),
    nodeSelectors: (spec.nodeSelectors ?? []).map((one) => parseLabelSelector(one).selector),
    preferredNodeSelectors: (spec.preferredNodeSelectors ?? []).map(({ weight, preference }) => ({
      weight,
      preference: parseLabelSelector(preference).selector,
    })),
    serviceSelectors: (spec.serviceSelectors ?? []).map((one) => parseLabelSelector(one).selector),
    interfaces: spec.interfaces ?? [],
  };
}

/**
 * What an object that our own allocator has seen is to the model: its event and what was left out of it. Undefined for kinds and
 * objects that the model never sees.
 */
export function normaliseObject(
  object: KubernetesObject,
): { readonly event: ObjectEvent; readonly refused: readonly RefusedAddress[] } | undefined {
  const key = objectKey(object);
  const whole = (event: ObjectEvent): { event: ObjectEvent; refused: RefusedAddress[] } => ({ event, refused: [] });
  switch (object.kind) {
    case "Service": {
      const service = object as ServiceObject;
      const normalised = normaliseService(service, grantsByAllocator(service));
      const unserved: readonly UnservedField[] = hasTopologyMode(service)
        ? [...normalised.unserved, `metadata.annotations[${TOPOLOGY_MODE}]`]
        : normalised.unserved;
      return whole({ kind: "Service", key, object: { ...normalised, unserved } });
    }
    case "EndpointSlice": {
      const { slice, refused } = normaliseEndpointSlice(object as EndpointSliceObject);
      return slice === undefined ? undefined : { event: { kind: "EndpointSlice", key, object: slice }, refused };
    }
    case "Node":
      return whole({ kind: "Node", key, object: normaliseNode(object as NodeObject) });
    case "Pod": {
      const ports = normaliseHostPorts(object as PodObject);
      return ports.length === 0 ? undefined : whole({ kind: "HostPorts", key, object: ports });
    }
    case "IPAddressPool":
      return whole({ kind: "AddressPool", key, object: normaliseAddressPool(object as AddressPoolObject) });
    case "L2Advertisement":
      return whole({ kind: "L2Advertisement", key, object: normaliseL2Advertisement(object as L2AdvertisementObject) });
    default:
      return undefined;
  }
}
