// Objects in full, as an API server and its controllers would leave them. Pure: what was allocated is passed in.
import type { PoolOutcome } from "../allocate/pools.ts";
import type { AllocatedService } from "../allocate/service-ledger.ts";
import type { Address } from "../lib/address.ts";
import { type NodeObject, POOL_ANNOTATION, type ServiceObject } from "../wire/kubernetes.ts";

/** The Service with all that it was given. `stamped` is its source with age and uid. */
export function fullService(
  one: AllocatedService<ServiceObject>,
  stamped: ServiceObject,
  outcome: PoolOutcome | undefined,
): ServiceObject {
  const { source, holding } = one;
  const { [POOL_ANNOTATION]: _pool, ...annotations } = stamped.metadata.annotations ?? {};
  const assigned = outcome !== undefined && "assigned" in outcome ? outcome.assigned : undefined;
  const type = source.spec.type ?? "ClusterIP";
  const outside = type === "NodePort" || type === "LoadBalancer" || (source.spec.externalIPs ?? []).length > 0;
  const {
    clusterIP: _one,
    clusterIPs: _several,
    ipFamilies: _families,
    ipFamilyPolicy: _policy,
    healthCheckNodePort: _health,
    ...rest
  } = source.spec;
  const nodePorts = [...holding.nodePorts];
  const spec: ServiceObject["spec"] = {
    ...rest,
    type,
    ports: (source.spec.ports ?? []).map((port) => {
      const { nodePort: _given, ...fields } = port;
      const at = nodePorts.findIndex((held) => held.protocol === (port.protocol ?? "TCP") && held.port === port.port);
      return {
        ...fields,
        protocol: port.protocol ?? "TCP",
        targetPort: port.targetPort || port.port,
        ...(at < 0 ? {} : { nodePort: nodePorts[at]!.nodePort }),
      };
    }),
    sessionAffinity: source.spec.sessionAffinity ?? "None",
  };
  if (type !== "ExternalName") {
    spec.clusterIP = holding.clusterIPs[0] ?? "";
    spec.clusterIPs = [...holding.clusterIPs];
    spec.ipFamilies = [...one.ipFamilies];
    spec.ipFamilyPolicy = one.ipFamilyPolicy as "SingleStack";
    spec.internalTrafficPolicy = source.spec.internalTrafficPolicy ?? "Cluster";
  }
  if (outside) spec.externalTrafficPolicy = source.spec.externalTrafficPolicy ?? "Cluster";
  if (holding.healthCheckNodePort !== 0) spec.healthCheckNodePort = holding.healthCheckNodePort;
  // Another class's addresses are another controller's: they stay as they are written.
  const anothers = type === "LoadBalancer" && (source.spec.loadBalancerClass ?? "") !== "";
  const ingress = anothers
    ? (source.status?.loadBalancer?.ingress ?? [])
    : (assigned?.addresses ?? []).map((ip) => ({ ip, ipMode: "VIP" as const }));
  return {
    ...stamped,
    metadata: {
      ...stamped.metadata,
      annotations: assigned === undefined ? annotations : { ...annotations, [POOL_ANNOTATION]: assigned.pool },
    },
    spec,
    status: { loadBalancer: ingress.length === 0 ? {} : { ingress } },
  };
}

/** The Node that nobody wrote a manifest of. */
export function nodeObject(name: string, addresses: readonly Address[]): NodeObject {
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name, labels: { "kubernetes.io/hostname": name } },
    spec: {},
    status: {
      addresses: [
        ...addresses.map((address) => ({ type: "InternalIP", address })),
        { type: "Hostname", address: name },
      ],
      conditions: [{ type: "Ready", status: "True" }],
    },
  };
}
