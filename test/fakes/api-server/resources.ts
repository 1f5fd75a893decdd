// The resources that the fake API server holds: where they live in the API, and what an empty object of each looks like.

export interface Resource {
  /** Plural name, as in paths and RBAC rules. */
  readonly plural: string;
  /** "" is the core group. */
  readonly group: string;
  /** @default v1 */
  readonly version?: string;
  readonly kind: string;
  readonly namespaced: boolean;
  /** What a field selector may name beside metadata.name and metadata.namespace: fields of spec. */
  readonly specSelectors: readonly string[];
  /** Its status is written by a path of its own. @default false */
  readonly hasStatus?: boolean;
  /** What a bookmark's object has after its metadata: Go writes the fields that have no omitempty. */
  readonly emptyFields: string;
}

function metallb<P extends string>(plural: P, kind: string) {
  const emptyFields = '"spec":{},"status":{}';
  return {
    plural,
    group: "metallb.io",
    version: "v1beta1",
    kind,
    namespaced: true,
    specSelectors: [],
    emptyFields,
  } as const;
}

export const RESOURCES = {
  services: {
    plural: "services",
    group: "",
    kind: "Service",
    namespaced: true,
    specSelectors: ["clusterIP", "type"],
    emptyFields: '"spec":{},"status":{"loadBalancer":{}}',
  },
  endpointslices: {
    plural: "endpointslices",
    group: "discovery.k8s.io",
    kind: "EndpointSlice",
    namespaced: true,
    specSelectors: [],
    emptyFields: '"addressType":"","endpoints":null,"ports":null',
  },
  nodes: {
    plural: "nodes",
    group: "",
    kind: "Node",
    namespaced: false,
    specSelectors: [],
    emptyFields:
      '"spec":{},"status":{"daemonEndpoints":{"kubeletEndpoint":{"Port":0}},"nodeInfo":{"machineID":"","systemUUID":"",' +
      '"bootID":"","kernelVersion":"","osImage":"","containerRuntimeVersion":"","kubeletVersion":"","kubeProxyVersion":"",' +
      '"operatingSystem":"","architecture":""}}',
  },
  servicecidrs: {
    plural: "servicecidrs",
    group: "networking.k8s.io",
    kind: "ServiceCIDR",
    namespaced: false,
    specSelectors: [],
    emptyFields: '"spec":{},"status":{}',
  },
  ipaddresspools: metallb("ipaddresspools", "IPAddressPool"),
  l2advertisements: metallb("l2advertisements", "L2Advertisement"),
  servicel2statuses: metallb("servicel2statuses", "ServiceL2Status"),
  events: {
    plural: "events",
    group: "",
    kind: "Event",
    namespaced: true,
    specSelectors: [],
    emptyFields: '"involvedObject":{}',
  },
} as const satisfies Record<string, Resource>;

export type Plural = keyof typeof RESOURCES;

export const PLURALS = Object.keys(RESOURCES) as readonly Plural[];

/** As objects carry it: "v1", "discovery.k8s.io/v1". */
export function apiVersionOf({ group, version = "v1" }: Resource): string {
  return group === "" ? version : `${group}/${version}`;
}

/** As error messages name it: "services", "endpointslices.discovery.k8s.io". */
export function qualifiedName({ plural, group }: Resource): string {
  return group === "" ? plural : `${plural}.${group}`;
}

export function pluralOfKind(kind: string): Plural | undefined {
  return PLURALS.find((plural) => RESOURCES[plural].kind === kind);
}
