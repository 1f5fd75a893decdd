// The objects of a cluster of a given size as its real controllers would have written them: the same ones in every run,
// each endpoint at an address of its own within its node's pod range.

import { nodeObject } from "./node-object.ts";
import { type KubernetesObject, uidOf } from "./object-store.ts";

export interface ClusterShape {
  readonly services: number;
  /** Of each Service. */
  readonly endpoints: number;
  readonly nodes: number;
  /** Both families; IPv4 alone without. */
  readonly dualStack?: boolean;
  /** default/kubernetes leads there; without it there is no such Service. */
  readonly apiServer?: { readonly address: string; readonly port: number };
  /** The name and address of the first node, for an agent that runs on it. */
  readonly firstNode?: { readonly name: string; readonly address: string };
}

export interface EndpointChange {
  readonly slice: KubernetesObject;
  readonly removed: string;
  readonly added: string;
}

type Family = "IPv4" | "IPv6";

/** As the real controller fills them. */
export const ENDPOINTS_PER_SLICE = 100;

const SERVICES_PER_NAMESPACE = 100;
const POD_ADDRESSES = 2 ** 23;
const MADE_AT = "2026-01-01T00:00:00Z";
const WORDS = [
  "checkout-frontend",
  "catalogue-search",
  "payments-gateway",
  "inventory-ledger",
  "shipping-planner",
  "customer-profiles",
];

export class ClusterObjects {
  readonly shape: ClusterShape;
  readonly families: readonly Family[];
  /** Each node has this many pod addresses, a power of two: two for each endpoint, of which one is in use. */
  readonly #block: number;
  readonly #moved: Uint8Array;

  constructor(shape: ClusterShape) {
    const endpoints = shape.services * shape.endpoints;
    this.shape = shape;
    this.families = shape.dualStack === true ? ["IPv4", "IPv6"] : ["IPv4"];
    this.#block = 2 ** Math.ceil(Math.log2(2 * Math.ceil(endpoints / shape.nodes) + 2));
    this.#moved = new Uint8Array(endpoints);
    if (this.#block * shape.nodes > POD_ADDRESSES) {
      throw new RangeError(`${endpoints} endpoints on ${shape.nodes} nodes do not fit into 10.128.0.0/9`);
    }
  }

  /** Everything, in the order in which a cluster comes up. */
  *all(): Generator<KubernetesObject> {
    yield serviceCidr(this.families);
    for (let node = 0; node < this.shape.nodes; node++) yield this.node(node);
    if (this.shape.apiServer !== undefined) yield* apiServerObjects(this.shape.apiServer);
    for (let service = 0; service < this.shape.services; service++) {
      yield this.service(service);
      yield* this.slices(service);
    }
  }

  node(index: number): KubernetesObject {
    const prefix = 32 - Math.log2(this.#block);
    const start = index * this.#block;
    return nodeObject({
      name: this.#nodeName(index),
      address: (index === 0 ? this.shape.firstNode?.address : undefined) ?? ipv4(0x0a000000 + 10 + index),
      zone: zoneOf(index),
      podCidrs: this.families.map((family) =>
        family === "IPv4" ? `${podAddress(family, start)}/${prefix}` : `${podAddress(family, start)}/${prefix + 96}`,
      ),
    });
  }

  service(index: number): KubernetesObject {
    const { namespace, name } = serviceName(index);
    const clusterIps = this.families.map((family) =>
      family === "IPv4" ? ipv4(0x0a600000 + 10 + index) : ipv6("fd00:10:96", 10 + index),
    );
    return {
      kind: "Service",
      metadata: {
        name,
        namespace,
        uid: uidOf("Service", `${namespace}/${name}`),
        creationTimestamp: MADE_AT,
        labels: { "app.kubernetes.io/name": name, "app.kubernetes.io/part-of": namespace },
        managedFields: [
          managedBy("kubectl-client-side-apply", "v1", {
            "f:metadata": {
              "f:labels": { ".": {}, "f:app.kubernetes.io/name": {}, "f:app.kubernetes.io/part-of": {} },
            },
            "f:spec": {
              "f:internalTrafficPolicy": {},
              "f:ports": { ".": {}, 'k:{"port":80,"protocol":"TCP"}': { ".": {}, "f:name": {}, "f:port": {} } },
              "f:selector": {},
              "f:sessionAffinity": {},
              "f:type": {},
            },
          }),
        ],
      },
      spec: {
        ports: [{ name: "http", protocol: "TCP", port: 80, targetPort: 8080 }],
        selector: { "app.kubernetes.io/name": name },
        clusterIP: clusterIps[0],
        clusterIPs: clusterIps,
        type: "ClusterIP",
        sessionAffinity: "None",
        ipFamilies: this.families,
        ipFamilyPolicy: this.families.length === 2 ? "PreferDualStack" : "SingleStack",
        internalTrafficPolicy: "Cluster",
      },
      status: { loadBalancer: {} },
    };
  }

  *slices(service: number): Generator<KubernetesObject> {
    for (const family of this.families) {
      for (let first = 0; first < Math.max(1, this.shape.endpoints); first += ENDPOINTS_PER_SLICE) {
        yield this.#slice(service, family, first, "2026-01-01T00:00:00Z");
      }
    }
  }

  /** One endpoint (counted over all Services) is replaced by one at its other address. IPv4 slices alone. */
  move(endpoint: number, atMs: number): EndpointChange {
    const service = Math.floor(endpoint / this.shape.endpoints);
    const place = endpoint % this.shape.endpoints;
    const removed = this.#address("IPv4", endpoint);
    this.#moved[endpoint] = 1 - this.#moved[endpoint]!;
    const first = place - (place % ENDPOINTS_PER_SLICE);
    const slice = this.#slice(service, "IPv4", first, new Date(atMs).toISOString());
    return { slice, removed, added: this.#address("IPv4", endpoint) };
  }

  #slice(index: number, family: Family, first: number, triggerTime: string): KubernetesObject {
    const { namespace, name: service } = serviceName(index);
    const name = `${service}-${uidOf(family, `${index}/${first}`).slice(0, 5)}`;
    const count = Math.min(ENDPOINTS_PER_SLICE, this.shape.endpoints - first);
    return {
      kind: "EndpointSlice",
      metadata: {
        name,
        generateName: `${service}-`,
        namespace,
        uid: uidOf("EndpointSlice", `${namespace}/${name}`),
        generation: 1,
        creationTimestamp: MADE_AT,
        labels: {
          "app.kubernetes.io/name": service,
          "app.kubernetes.io/part-of": namespace,
          "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
          "kubernetes.io/service-name": service,
        },
        annotations: { "endpoints.kubernetes.io/last-change-trigger-time": triggerTime },
        ownerReferences: [
          {
            apiVersion: "v1",
            kind: "Service",
            name: service,
            uid: uidOf("Service", `${namespace}/${service}`),
            controller: true,
            blockOwnerDeletion: true,
          },
        ],
        managedFields: [managedBy("kube-controller-manager", "discovery.k8s.io/v1", SLICE_FIELDS)],
      },
      addressType: family,
      endpoints: Array.from({ length: Math.max(0, count) }, (_, i) => this.#endpoint(index, family, first + i)),
      ports: [{ name: "http", protocol: "TCP", port: 8080 }],
    };
  }

  #endpoint(service: number, family: Family, place: number): object {
    const endpoint = service * this.shape.endpoints + place;
    const node = endpoint % this.shape.nodes;
    const { namespace, name } = serviceName(service);
    const uid = uidOf("Pod", `${endpoint}/${this.#moved[endpoint]}`);
    return {
      addresses: [this.#address(family, endpoint)],
      conditions: { ready: true, serving: true, terminating: false },
      targetRef: { kind: "Pod", namespace, name: `${name}-6d4cf56db6-${uid.slice(0, 5)}`, uid },
      nodeName: this.#nodeName(node),
      zone: zoneOf(node),
    };
  }

  #address(family: Family, endpoint: number): string {
    const node = endpoint % this.shape.nodes;
    const onNode = Math.floor(endpoint / this.shape.nodes);
    return podAddress(family, node * this.#block + 1 + 2 * onNode + this.#moved[endpoint]!);
  }

  #nodeName(index: number): string {
    if (index === 0 && this.shape.firstNode !== undefined) return this.shape.firstNode.name;
    return `ip-${ipv4(0x0a000000 + 10 + index).replaceAll(".", "-")}.eu-central-1.compute.internal`;
  }
}

const SLICE_FIELDS = {
  "f:addressType": {},
  "f:endpoints": {},
  "f:metadata": {
    "f:annotations": { ".": {}, "f:endpoints.kubernetes.io/last-change-trigger-time": {} },
    "f:generateName": {},
    "f:labels": {
      ".": {},
      "f:app.kubernetes.io/name": {},
      "f:app.kubernetes.io/part-of": {},
      "f:endpointslice.kubernetes.io/managed-by": {},
      "f:kubernetes.io/service-name": {},
    },
    "f:ownerReferences": { ".": {}, 'k:{"uid":"00000000-0000-4000-8000-000000000000"}': {} },
  },
  "f:ports": {},
};

function serviceName(index: number): { readonly namespace: string; readonly name: string } {
  const team = String(Math.floor(index / SERVICES_PER_NAMESPACE)).padStart(4, "0");
  const namespace = `team-${team}-production`;
  return { namespace, name: `${WORDS[index % WORDS.length]}-${String(index).padStart(6, "0")}` };
}

function serviceCidr(families: readonly Family[]): KubernetesObject {
  const cidrs = families.map((family) => (family === "IPv4" ? "10.96.0.0/12" : "fd00:10:96::/108"));
  const ready = { type: "Ready", status: "True", lastTransitionTime: MADE_AT, reason: "", message: "" };
  return { kind: "ServiceCIDR", metadata: { name: "kubernetes" }, spec: { cidrs }, status: { conditions: [ready] } };
}

function* apiServerObjects({
  address,
  port,
}: {
  readonly address: string;
  readonly port: number;
}): Generator<KubernetesObject> {
  yield {
    kind: "Service",
    metadata: { name: "kubernetes", namespace: "default", labels: { component: "apiserver", provider: "kubernetes" } },
    spec: {
      ports: [{ name: "https", protocol: "TCP", port: 443, targetPort: port }],
      clusterIP: "10.96.0.1",
      clusterIPs: ["10.96.0.1"],
      type: "ClusterIP",
      sessionAffinity: "None",
      ipFamilies: ["IPv4"],
      ipFamilyPolicy: "SingleStack",
      internalTrafficPolicy: "Cluster",
    },
    status: { loadBalancer: {} },
  };
  yield {
    kind: "EndpointSlice",
    metadata: { name: "kubernetes", namespace: "default", labels: { "kubernetes.io/service-name": "kubernetes" } },
    addressType: "IPv4",
    endpoints: [{ addresses: [address], conditions: { ready: true } }],
    ports: [{ name: "https", protocol: "TCP", port }],
  };
}

function managedBy(manager: string, apiVersion: string, fields: object): object {
  return { manager, operation: "Update", apiVersion, time: MADE_AT, fieldsType: "FieldsV1", fieldsV1: fields };
}

function zoneOf(node: number): string {
  return `eu-central-1${"abc"[node % 3]}`;
}

function podAddress(family: Family, offset: number): string {
  return family === "IPv4" ? ipv4(0x0a800000 + offset) : ipv6("fd00:10:128", offset);
}

function ipv4(value: number): string {
  return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`;
}

/** Canonical (RFC 5952): three groups, zeros, and a number of 32 bits in the last two. */
function ipv6(start: string, value: number): string {
  const [high, low] = [value >>> 16, value & 0xffff];
  if (value === 0) return `${start}::`;
  return high === 0 ? `${start}::${low.toString(16)}` : `${start}::${high.toString(16)}:${low.toString(16)}`;
}
