// Services without a selector, and the one slice that somebody else keeps for each: many of them cost a cluster no pod.
import type { Cluster } from "../cluster.ts";

const NAMESPACE = "default";
const SERVICES = `/api/v1/namespaces/${NAMESPACE}/services`;
const SLICES = `/apis/discovery.k8s.io/v1/namespaces/${NAMESPACE}/endpointslices`;
const WRITERS = 16;
export const ENDPOINTS = 10;

export interface BareService {
  readonly name: string;
  readonly addresses: readonly string[];
  readonly targetPort: number;
}

/** Paths of the API for a Service and for its slice. */
export const servicePath = (name: string): string => `${SERVICES}/${name}`;
export const slicePath = (name: string): string => `${SLICES}/${name}-bare`;

/** The slice of a Service, also as it is to become. */
export function sliceOf({ name, addresses, targetPort }: BareService): object {
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      name: `${name}-bare`,
      namespace: NAMESPACE,
      labels: { "kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": "bare.millrace.io" },
    },
    addressType: "IPv4",
    endpoints: addresses.map((address) => ({ addresses: [address], conditions: { ready: true } })),
    ports: [{ name: "", port: targetPort, protocol: "TCP" }],
  };
}

/** The slice first: the Service has endpoints from its beginning. */
export async function createBareService(cluster: Cluster, service: BareService): Promise<void> {
  const { name, targetPort } = service;
  await cluster.api.ask({ method: "POST", path: SLICES, body: sliceOf(service) });
  const body = {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace: NAMESPACE },
    spec: { ports: [{ port: 80, targetPort, protocol: "TCP" }] },
  };
  await cluster.api.ask({ method: "POST", path: SERVICES, body });
}

/** Writes `count` Services with ten endpoints each in the pods' networks of `nodes` nodes, where nobody answers. */
export async function createOthers(
  cluster: Cluster,
  { count, nodes, onWritten = () => {} }: { count: number; nodes: number; onWritten?: (written: number) => void },
): Promise<void> {
  let next = 0;
  const writer = async (): Promise<void> => {
    while (next < count) {
      const i = next++;
      const addresses = Array.from(
        { length: ENDPOINTS },
        (_, j) => `10.244.${1 + ((i + j) % nodes)}.${2 + ((i * ENDPOINTS + j) % 250)}`,
      );
      await createBareService(cluster, { name: `other-${i}`, addresses, targetPort: 9_000 });
      onWritten(i);
    }
  };
  await Promise.all(Array.from({ length: WRITERS }, writer));
}
