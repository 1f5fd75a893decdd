// What is read from the Kubernetes API, and how it is narrowed there. Endpoints objects and Pods are never read.

export type ResourceName =
  | "services"
  | "endpointslices"
  | "nodes"
  | "servicecidrs"
  | "ipaddresspools"
  | "l2advertisements";

/** What is listed and watched, by whomever. */
export interface Resource {
  readonly name: string;
  readonly kind: string;
  /** What a full list counts it in (relist-guard.ts). */
  readonly countedIn: string;
  /** API group, "" for the core group. */
  readonly group: string;
  readonly path: string;
  /** "" for everything. */
  readonly labelSelector: string;
  /** "" for everything. A server that does not know the field refuses it, and is then asked without. */
  readonly fieldSelector: string;
  /** It may be absent from the API server, or withheld from us: we start without it. */
  readonly optional: boolean;
  /** How long an optional one that the server does not have is not asked for, at most. */
  readonly absentMs: number;
}

/** What the agent reads. */
export interface AgentResource extends Resource {
  readonly name: ResourceName;
  readonly kind: "Service" | "EndpointSlice" | "Node" | "ServiceCIDR" | "IPAddressPool" | "L2Advertisement";
}

/** As kube-proxy 1.34 narrows EndpointSlices: none of headless Services, none that another proxy serves. */
const SERVED_HERE = "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name";

/** MetalLB's custom resources, of every namespace: whoever may write one decides what is announced. Their CRDs may come at any time. */
function metallb(name: ResourceName, kind: AgentResource["kind"]): AgentResource {
  return {
    ...{ name, kind, countedIn: `${kind}s`, group: "metallb.io", path: `/apis/metallb.io/v1beta1/${name}` },
    ...{ labelSelector: "", fieldSelector: "", optional: true, absentMs: 60_000 },
  };
}

export const RESOURCES: readonly AgentResource[] = [
  {
    name: "services",
    kind: "Service",
    countedIn: "frontends",
    group: "",
    path: "/api/v1/services",
    // Those of another proxy too: to leave their addresses alone they must be known.
    labelSelector: "",
    fieldSelector: "spec.clusterIP!=None",
    optional: false,
    absentMs: 0,
  },
  {
    name: "endpointslices",
    kind: "EndpointSlice",
    countedIn: "endpoints",
    group: "discovery.k8s.io",
    path: "/apis/discovery.k8s.io/v1/endpointslices",
    labelSelector: SERVED_HERE,
    fieldSelector: "",
    optional: false,
    absentMs: 0,
  },
  {
    name: "nodes",
    kind: "Node",
    countedIn: "Nodes",
    group: "",
    path: "/api/v1/nodes",
    labelSelector: "",
    fieldSelector: "",
    optional: false,
    absentMs: 0,
  },
  {
    // Served from Kubernetes 1.33 on (KEP-1880).
    name: "servicecidrs",
    kind: "ServiceCIDR",
    countedIn: "ServiceCIDRs",
    group: "networking.k8s.io",
    path: "/apis/networking.k8s.io/v1/servicecidrs",
    labelSelector: "",
    fieldSelector: "",
    optional: true,
    absentMs: 600_000,
  },
  metallb("ipaddresspools", "IPAddressPool"),
  metallb("l2advertisements", "L2Advertisement"),
];

/** "endpointslices in API group discovery.k8s.io", as the API server words it when it forbids something. */
export function resourceTitle({ name, group }: { readonly name: string; readonly group: string }): string {
  return group === "" ? `${name} in the core API group` : `${name} in API group ${group}`;
}
