// What is read from the Kubernetes API, and how it is narrowed there. Endpoints objects and Pods are never read.

export type ResourceName = "services" | "endpointslices" | "nodes" | "servicecidrs";

export interface Resource {
  readonly name: ResourceName;
  readonly kind: "Service" | "EndpointSlice" | "Node" | "ServiceCIDR";
  /** API group, "" for the core group. */
  readonly group: string;
  readonly path: string;
  /** "" for everything. */
  readonly labelSelector: string;
  /** "" for everything. A server that does not know the field refuses it, and is then asked without. */
  readonly fieldSelector: string;
  /** It may be absent from the API server, or withheld from us: we start without it. */
  readonly optional: boolean;
}

/** As kube-proxy 1.34 narrows EndpointSlices: none of headless Services, none that another proxy serves. */
const SERVED_HERE = "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name";

export const RESOURCES: readonly Resource[] = [
  {
    name: "services",
    kind: "Service",
    group: "",
    path: "/api/v1/services",
    // Those of another proxy too: to leave their addresses alone they must be known.
    labelSelector: "",
    fieldSelector: "spec.clusterIP!=None",
    optional: false,
  },
  {
    name: "endpointslices",
    kind: "EndpointSlice",
    group: "discovery.k8s.io",
    path: "/apis/discovery.k8s.io/v1/endpointslices",
    labelSelector: SERVED_HERE,
    fieldSelector: "",
    optional: false,
  },
  {
    name: "nodes",
    kind: "Node",
    group: "",
    path: "/api/v1/nodes",
    labelSelector: "",
    fieldSelector: "",
    optional: false,
  },
  {
    // Served from Kubernetes 1.33 on (KEP-1880).
    name: "servicecidrs",
    kind: "ServiceCIDR",
    group: "networking.k8s.io",
    path: "/apis/networking.k8s.io/v1/servicecidrs",
    labelSelector: "",
    fieldSelector: "",
    optional: true,
  },
];

/** "endpointslices in API group discovery.k8s.io", as the API server words it when it forbids something. */
export function resourceTitle({ name, group }: Resource): string {
  return group === "" ? `${name} in the core API group` : `${name} in API group ${group}`;
}
