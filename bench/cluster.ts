// The made-up cluster that everything is measured on: ten nodes, N LoadBalancer Services of one port with ten endpoints each,
// half of them IPv6, half UDP, half with the external traffic policy Local. Data only.
import type { Address } from "../src/lib/address.ts";
import type { EndpointSlice, Node, ObjectEvent, Service } from "../src/model/objects.ts";

export const NODES = 10;
export const ENDPOINTS = 10;
export const THIS_NODE = "node1";

export type BenchFamily = "IPv4" | "IPv6";
export type BenchProtocol = "TCP" | "UDP";

export interface BenchService {
  readonly index: number;
  readonly family: BenchFamily;
  readonly protocol: BenchProtocol;
  readonly policy: "Cluster" | "Local";
  readonly clusterIP: Address;
  /** Its LoadBalancer address. */
  readonly external: Address;
  readonly port: number;
  /** 0: none. The first eight have one. */
  readonly nodePort: number;
  readonly targetPort: number;
  /** The first is on this node, the others on one other node each. */
  readonly endpoints: readonly Address[];
}

const low = (index: number): string => `${index >> 8}.${index & 0xff}`;
const hex = (value: number): string => value.toString(16);

/** Endpoint `pod` of node `node` (both from 0): every node has a /16, or a /48, of its own. */
function podAddress(family: BenchFamily, node: number, pod: number): Address {
  return family === "IPv4" ? `10.${129 + node}.${low(pod)}` : `fd00:10:${hex(1 + node)}::1:${hex(pod)}`;
}

/** Service number `index`: what it is like follows from the number, so that ten have every kind too. */
export function benchService(index: number): BenchService {
  const family = index & 1 ? "IPv6" : "IPv4";
  return {
    index,
    family,
    protocol: index & 2 ? "UDP" : "TCP",
    policy: index & 4 ? "Local" : "Cluster",
    clusterIP: family === "IPv4" ? `10.96.${low(256 + index)}` : `fd00:10:96::1:${hex(index)}`,
    external: family === "IPv4" ? `172.20.${low(256 + index)}` : `fd00:20::1:${hex(index)}`,
    port: 80,
    nodePort: index < 8 ? 30_000 + index : 0,
    targetPort: 8080,
    endpoints: Array.from({ length: ENDPOINTS }, (_, node) => podAddress(family, node, 256 + index)),
  };
}

export function serviceKey(index: number): string {
  return `bench/s${index}`;
}

function serviceObject(one: BenchService, fields: Partial<Service>): Service {
  return {
    namespace: "bench",
    name: `s${one.index}`,
    labels: {},
    grants: { age: one.index, addresses: [{ address: one.external, ipMode: "VIP", by: "pool" }] },
    type: "LoadBalancer",
    clusterIPs: [one.clusterIP],
    externalIPs: [],
    headless: false,
    externalName: "",
    ports: [
      { name: "main", protocol: one.protocol, port: one.port, nodePort: one.nodePort, targetPort: one.targetPort },
    ],
    externalTrafficPolicy: one.policy,
    internalTrafficPolicy: "Cluster",
    affinitySeconds: 0,
    sourceRanges: [],
    healthCheckNodePort: 0,
    loadBalancerClass: "",
    isForeign: false,
    ...fields,
  };
}

/** The slice of a Service with its first `count` endpoints. */
export function sliceEvent(index: number, count = ENDPOINTS): ObjectEvent {
  const one = benchService(index);
  const object: EndpointSlice = {
    namespace: "bench",
    name: `s${index}-1`,
    service: `s${index}`,
    family: one.family,
    ports: [{ name: "main", protocol: one.protocol, port: one.targetPort }],
    endpoints: one.endpoints.slice(0, count).map((address, node) => ({
      addresses: [address],
      ready: true,
      serving: true,
      terminating: false,
      nodeName: `node${node + 1}`,
      hostname: "",
      pod: "",
    })),
  };
  return { kind: "EndpointSlice", key: `bench/s${index}-1`, object };
}

function nodeObject(number: number): Node {
  return {
    name: `node${number}`,
    labels: {},
    internalAddresses: [`192.168.122.${10 + number}`, `fd00:192:168:122::${hex(10 + number)}`],
    externalAddresses: [],
    kubeletPort: 10250,
    podCIDRs: [],
    ready: true,
    networkUnavailable: false,
    excludeFromLoadBalancers: false,
    goingAway: false,
  };
}

/** The whole cluster as the model is told of it; `fieldsOf`: what a Service has besides. */
export function clusterEvents(
  services: number,
  fieldsOf: (one: BenchService) => Partial<Service> = () => ({}),
): ObjectEvent[] {
  const events: ObjectEvent[] = [];
  for (let number = 1; number <= NODES; number++) {
    events.push({ kind: "Node", key: `node${number}`, object: nodeObject(number) });
  }
  for (let index = 0; index < services; index++) {
    const one = benchService(index);
    events.push({ kind: "Service", key: serviceKey(index), object: serviceObject(one, fieldsOf(one)) });
    events.push(sliceEvent(index));
  }
  return events;
}

interface Metadata {
  readonly name: string;
  readonly namespace?: string;
  readonly labels?: Readonly<Record<string, string>>;
}

const manifest = (apiVersion: string, kind: string, metadata: Metadata, rest: object): object => ({
  apiVersion,
  kind,
  metadata,
  ...rest,
});

function serviceManifests(one: BenchService): object[] {
  const name = `s${one.index}`;
  const port = { name: "main", protocol: one.protocol, port: one.port, targetPort: one.targetPort };
  return [
    manifest(
      "v1",
      "Service",
      { name, namespace: "bench" },
      {
        spec: {
          type: "LoadBalancer",
          clusterIP: one.clusterIP,
          clusterIPs: [one.clusterIP],
          ipFamilies: [one.family],
          ipFamilyPolicy: "SingleStack",
          externalTrafficPolicy: one.policy,
          allocateLoadBalancerNodePorts: false,
          ports: [port],
        },
        status: { loadBalancer: { ingress: [{ ip: one.external }] } },
      },
    ),
    manifest(
      "discovery.k8s.io/v1",
      "EndpointSlice",
      { name: `${name}-1`, namespace: "bench", labels: { "kubernetes.io/service-name": name } },
      {
        addressType: one.family,
        ports: [{ name: "main", protocol: one.protocol, port: one.targetPort }],
        endpoints: one.endpoints.map((address, node) => ({
          addresses: [address],
          conditions: { ready: true },
          nodeName: `node${node + 1}`,
        })),
      },
    ),
  ];
}

const SERVICES_A_FILE = 500;

/** The same cluster as Kubernetes objects, a List for each file. */
export function clusterManifests(services: number): string[] {
  const files: string[] = [];
  const nodes: object[] = [];
  for (let number = 1; number <= NODES; number++) {
    const { name, internalAddresses } = nodeObject(number);
    const addresses = internalAddresses.map((address) => ({ type: "InternalIP", address }));
    const conditions = [{ type: "Ready", status: "True" }];
    nodes.push(manifest("v1", "Node", { name }, { status: { addresses, conditions } }));
  }
  const list = (items: readonly object[]): string => JSON.stringify({ apiVersion: "v1", kind: "List", items });
  files.push(list(nodes));
  for (let first = 0; first < services; first += SERVICES_A_FILE) {
    const items: object[] = [];
    for (let index = first; index < Math.min(services, first + SERVICES_A_FILE); index++) {
      items.push(...serviceManifests(benchService(index)));
    }
    files.push(list(items));
  }
  return files;
}
