// The part of the control plane that standalone is: addresses, ports, LoadBalancer addresses and EndpointSlices for what a
// lab runs. The lab adds its DNS server, as an ordinary Service over an ordinary Pod.
import type { Notice } from "../model/objects.ts";
import { type ControlPlane, createControlPlane } from "../standalone/control-plane.ts";
import { type KubernetesObject, type ManifestObject, objectTitle, type RawDocument } from "../wire/kubernetes.ts";
import { type PodTemplate, parseWorkload } from "./workloads.ts";

export const CLUSTER_RANGES = { IPv4: "10.96.0.0/12", IPv6: "fd00:10:96::/112" } as const;

const DNS_NAMESPACE = "kube-system";
const DNS_NAME = "kube-dns";
const DNS_LABELS = { "k8s-app": "kube-dns" };

export const DNS_POD_KEY = `${DNS_NAMESPACE}/${DNS_NAME}`;

const metadata = { name: DNS_NAME, namespace: DNS_NAMESPACE, labels: DNS_LABELS };
const DNS_PORTS = [
  { name: "dns", protocol: "UDP" },
  { name: "dns-tcp", protocol: "TCP" },
];

function dnsPodObject(): KubernetesObject {
  const ports = DNS_PORTS.map((port) => ({ ...port, containerPort: 53 }));
  return { apiVersion: "v1", kind: "Pod", metadata, spec: { nodeName: "node1", containers: [{ name: "dns", ports }] } };
}

function dnsService(ipv6: boolean): KubernetesObject {
  const ports = DNS_PORTS.map((port) => ({ ...port, port: 53, targetPort: port.name }));
  const ipFamilyPolicy = ipv6 ? "PreferDualStack" : "SingleStack";
  return { apiVersion: "v1", kind: "Service", metadata, spec: { selector: DNS_LABELS, ipFamilyPolicy, ports } };
}

/** The lab's own pods are not counted when pods are placed. */
export function isSystemPod(key: string): boolean {
  return key === DNS_POD_KEY;
}

/** Namespace, name and template of the pod that the cluster's DNS server runs in. */
export function dnsPod(): { readonly namespace: string; readonly name: string; readonly template: PodTemplate } {
  const workload = parseWorkload({ file: "", index: 0, object: dnsPodObject() }, DNS_NAME);
  if (Array.isArray(workload)) throw new Error(workload.map((notice) => notice.message).join("; "));
  return { namespace: DNS_NAMESPACE, name: DNS_NAME, template: workload.template };
}

export interface ServiceSide {
  /** Every object in force, from what was applied and what the lab runs. One call at a time. */
  reconcile(
    applied: readonly ManifestObject[],
    live: readonly KubernetesObject[],
  ): Promise<{ readonly objects: readonly KubernetesObject[]; readonly notices: readonly Notice[] }>;
}

/** Allocations are kept in `directory`. */
export async function createServiceSide(directory: string, ipv6: boolean): Promise<ServiceSide> {
  const controlPlane: ControlPlane = await createControlPlane({
    stateDir: directory,
    serviceClusterIpRange: ipv6 ? [CLUSTER_RANGES.IPv4, CLUSTER_RANGES.IPv6] : [CLUSTER_RANGES.IPv4],
    serviceNodePortRange: { first: 30000, last: 32767 },
    workloads: "run",
  });
  const ownService = dnsService(ipv6);
  return {
    async reconcile(applied, live) {
      const isDefined = applied.some(({ object }) => objectTitle(object) === `Service ${DNS_POD_KEY}`);
      const own = isDefined ? live : [ownService, ...live];
      const documents: RawDocument[] = [...applied, ...own.map((object, index) => ({ file: "", index, object }))];
      const { objects, notices } = await controlPlane.reconcile(documents);
      return { objects, notices };
    },
  };
}
