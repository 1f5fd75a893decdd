// What the controller reads from the Kubernetes API.
import type { Resource } from "./resources.ts";

function resource(group: string, version: string, name: string, kind: string, isOptional = false): Resource {
  const path = group === "" ? `/api/${version}/${name}` : `/apis/${group}/${version}/${name}`;
  return {
    ...{ name, kind, countedIn: `${kind}s`, group, path },
    ...{ labelSelector: "", fieldSelector: "", optional: isOptional, absentMs: 60_000 },
  };
}

export const CONTROLLER_RESOURCES = {
  services: resource("", "v1", "services", "Service"),
  nodes: resource("", "v1", "nodes", "Node"),
  namespaces: resource("", "v1", "namespaces", "Namespace"),
  // Of every namespace: whoever may write one decides what is given.
  pools: resource("metallb.io", "v1beta1", "ipaddresspools", "IPAddressPool"),
  advertisements: resource("metallb.io", "v1beta1", "l2advertisements", "L2Advertisement", true),
  bgpAdvertisements: resource("metallb.io", "v1beta1", "bgpadvertisements", "BGPAdvertisement", true),
  bgpPeers: resource("metallb.io", "v1beta2", "bgppeers", "BGPPeer", true),
  bfdProfiles: resource("metallb.io", "v1beta1", "bfdprofiles", "BFDProfile", true),
  communities: resource("metallb.io", "v1beta1", "communities", "Community", true),
} as const satisfies Record<string, Resource>;

export type ControllerResource = keyof typeof CONTROLLER_RESOURCES;

/** One Lease, by its name: a claimant needs no right to others. */
export function leaseResource(namespace: string, name: string): Resource {
  return {
    ...resource("coordination.k8s.io", "v1", "leases", "Lease"),
    path: `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`,
    fieldSelector: `metadata.name=${name}`,
  };
}
