// The Service and EndpointSlices by which the cluster's DNS server is found: ordinary objects, like anybody's.
import { type Address, type Family, familyOf } from "../lib/address.ts";
import type { KubernetesObject } from "../wire/kubernetes.ts";
import { SERVICE_NAME_LABEL } from "../wire/kubernetes.ts";

/** Where the DNS server can be reached from every node and pod. */
export interface DnsAddress {
  readonly addresses: readonly Address[];
  readonly port: number;
  /** The node that it runs on, when on one. */
  readonly nodeName?: string;
}

/** What notices give as file for these objects. */
export const DNS_MANIFEST_FILE = "";

const PORTS = [
  { name: "dns", protocol: "UDP" },
  { name: "dns-tcp", protocol: "TCP" },
] as const;

/** Service kube-system/kube-dns and a slice for each family that the server has addresses of. */
export function dnsManifests(dns: DnsAddress, families: readonly Family[]): readonly KubernetesObject[] {
  const labels = { "k8s-app": "kube-dns" };
  const service: KubernetesObject = {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "kube-dns", namespace: "kube-system", labels },
    spec: {
      type: "ClusterIP",
      ipFamilyPolicy: families.length > 1 ? "PreferDualStack" : "SingleStack",
      ports: PORTS.map((port) => ({ ...port, port: 53, targetPort: dns.port })),
    },
  };
  const slices = (["IPv4", "IPv6"] as const).flatMap((family): KubernetesObject[] => {
    const addresses = dns.addresses.filter((address) => familyOf(address) === family);
    if (addresses.length === 0) return [];
    return [
      {
        apiVersion: "discovery.k8s.io/v1",
        kind: "EndpointSlice",
        metadata: {
          name: `kube-dns-${family.toLowerCase()}`,
          namespace: "kube-system",
          labels: { ...labels, [SERVICE_NAME_LABEL]: "kube-dns" },
        },
        addressType: family,
        ports: PORTS.map((port) => ({ ...port, port: dns.port })),
        endpoints: addresses.map((address) => ({
          addresses: [address],
          conditions: { ready: true },
          ...(dns.nodeName === undefined ? {} : { nodeName: dns.nodeName }),
        })),
      },
    ];
  });
  return [service, ...slices];
}
