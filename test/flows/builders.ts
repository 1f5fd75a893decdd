// Objects with every field filled: a case names only what it is about. Data only, no behaviour.
import { type Address, familyOf } from "../../src/lib/address.ts";
import type {
  AddressPool,
  Endpoint,
  EndpointSlice,
  GrantedAddress,
  HostPort,
  L2Advertisement,
  Node,
  ObjectEvent,
  Service,
  ServicePort,
} from "../../src/model/objects.ts";

/** "namespace/name" or "name" in namespace "default". */
function split(name: string): { namespace: string; name: string } {
  const slash = name.indexOf("/");
  return slash < 0 ? { namespace: "default", name } : { namespace: name.slice(0, slash), name: name.slice(slash + 1) };
}

export interface ServiceFields extends Partial<Omit<Service, "ports" | "namespace" | "grants">> {
  readonly ports?: readonly Partial<ServicePort>[];
  readonly age?: number;
  readonly loadBalancerAddresses?: readonly (Omit<GrantedAddress, "by"> & { readonly fromPool: boolean })[];
}

/** A ClusterIP Service "web" at 10.96.0.10, TCP port 80 to 8080. `name` may be "namespace/name". */
export function service(given: ServiceFields = {}): Service {
  const { name = "web", ports = [{}], age = 1, loadBalancerAddresses = [], ...rest } = given;
  return {
    ...split(name),
    labels: {},
    grants: {
      age,
      addresses: loadBalancerAddresses.map(({ fromPool, ...one }) => ({ ...one, by: fromPool ? "pool" : "status" })),
    },
    type: "ClusterIP",
    clusterIPs: ["10.96.0.10"],
    externalIPs: [],
    headless: false,
    externalName: "",
    ports: ports.map((port) => ({ name: "", protocol: "TCP", port: 80, nodePort: 0, targetPort: 8080, ...port })),
    externalTrafficPolicy: "Cluster",
    internalTrafficPolicy: "Cluster",
    affinitySeconds: 0,
    sourceRanges: [],
    healthCheckNodePort: 0,
    loadBalancerClass: "",
    isForeign: false,
    unserved: [],
    ...rest,
  };
}

/** An endpoint, ready unless something else is said. */
export function endpoint(address: Address, nodeName = "node1", given: Partial<Endpoint> = {}): Endpoint {
  const ready = given.ready ?? true;
  const base = { addresses: [address], ready, serving: ready, terminating: false, nodeName, hostname: "", pod: "" };
  return { ...base, ...given };
}

/** Terminating and still serving. */
export function ending(address: Address, nodeName = "node1"): Endpoint {
  return endpoint(address, nodeName, { ready: false, serving: true, terminating: true });
}

export function notReady(address: Address, nodeName = "node1"): Endpoint {
  return endpoint(address, nodeName, { ready: false });
}

/** Slice "<service>-1" of Service "web" with TCP port 8080; the family is that of its first endpoint. */
export function slice(
  given: Partial<Omit<EndpointSlice, "ports">> & {
    readonly ports?: readonly Partial<EndpointSlice["ports"][number]>[];
  } = {},
): EndpointSlice {
  const { service: of = "web", ports = [{}], endpoints = [], ...rest } = given;
  const { namespace, name } = split(of);
  const [first] = endpoints;
  const address = first?.addresses[0];
  return {
    namespace,
    name: `${name}-1`,
    service: name,
    family: address === undefined ? "IPv4" : familyOf(address),
    ports: ports.map((port) => ({ name: "", protocol: "TCP", port: 8080, ...port })),
    endpoints,
    ...rest,
  };
}

/** Node N of the lab: "nodeN" at 192.168.122.(10 + N) and fd00:192:168:122::(10 + N). */
export function node(number: number, given: Partial<Node> = {}): Node {
  return {
    name: `node${number}`,
    labels: {},
    internalAddresses: [`192.168.122.${10 + number}`, `fd00:192:168:122::${10 + number}`],
    externalAddresses: [],
    kubeletPort: 10250,
    podCIDRs: [`10.244.${number}.0/24`, `fd00:10:244:${number}::/64`],
    ready: true,
    networkUnavailable: false,
    excludeFromLoadBalancers: false,
    goingAway: false,
    ...given,
  };
}

/** The pool "metallb-system/pool" with the lab's addresses. */
export function pool(given: Partial<AddressPool> = {}): AddressPool {
  return {
    namespace: "metallb-system",
    name: "pool",
    labels: {},
    ranges: ["192.168.122.100-192.168.122.120"],
    autoAssign: true,
    avoidBuggyIPs: false,
    priority: 0,
    namespaces: [],
    namespaceSelectors: [],
    serviceSelectors: [],
    ...given,
  };
}

/** "metallb-system/all": every pool, from every node, on every device. */
export function advertisement(given: Partial<L2Advertisement> = {}): L2Advertisement {
  return {
    namespace: "metallb-system",
    name: "all",
    pools: [],
    poolSelectors: [],
    nodeSelectors: [],
    preferredNodeSelectors: [],
    serviceSelectors: [],
    interfaces: [],
    ...given,
  };
}

/** Host port 8080 of a pod on node1 that serves at 10.244.1.2:80. */
export function hostPort(given: Partial<HostPort> = {}): HostPort {
  return {
    pod: "default/pod",
    age: 1,
    node: "node1",
    hostAddress: "",
    hostPort: 8080,
    protocol: "TCP",
    podAddress: "10.244.1.2",
    podPort: 80,
    ...given,
  };
}

/** The events that bring a model to hold these objects. Host ports are keyed by their pod. */
export function eventsOf(given: {
  readonly services?: readonly Service[];
  readonly slices?: readonly EndpointSlice[];
  readonly nodes?: readonly Node[];
  readonly hostPorts?: readonly HostPort[];
}): ObjectEvent[] {
  const key = (object: { namespace: string; name: string }): string => `${object.namespace}/${object.name}`;
  const byPod = Map.groupBy(given.hostPorts ?? [], (one) => one.pod);
  return [
    ...(given.nodes ?? []).map((object): ObjectEvent => ({ kind: "Node", key: object.name, object })),
    ...(given.services ?? []).map((object): ObjectEvent => ({ kind: "Service", key: key(object), object })),
    ...(given.slices ?? []).map((object): ObjectEvent => ({ kind: "EndpointSlice", key: key(object), object })),
    ...[...byPod].map(([pod, object]): ObjectEvent => ({ kind: "HostPorts", key: pod, object })),
  ];
}
