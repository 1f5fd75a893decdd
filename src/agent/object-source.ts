// Which source the agent's objects come from: a directory of manifests, in which case this process also is allocator, endpoint
// controller and DNS server, or the Kubernetes API. Only the one in use is loaded: each brings libraries of its own.
import type { OwnNode, Source } from "../model/source.ts";
import { type AgentOptions, clusterRangesOf } from "./options.ts";

export async function createObjectSource(options: AgentOptions, ownNode: OwnNode): Promise<Source> {
  return options.manifests.length > 0 ? manifestSource(options, ownNode) : kubernetesSource(options);
}

async function manifestSource(options: AgentOptions, ownNode: OwnNode): Promise<Source> {
  const { createManifestSource } = await import("../standalone/manifest-source.ts");
  const { manifests, clusterDomain, nodeName, readOnly, stateDir, serviceNodePortRange } = options;
  return createManifestSource({
    paths: manifests,
    readOnly,
    stateDir,
    serviceClusterIpRange: clusterRangesOf(options),
    serviceNodePortRange,
    ownNode,
    dns: ownNode.addresses.length === 0 ? undefined : { addresses: ownNode.addresses, clusterDomain, nodeName },
  });
}

async function kubernetesSource(options: AgentOptions): Promise<Source> {
  const { createKubernetesSource } = await import("../kube/kubernetes-source.ts");
  const { kubeconfig, apiServer, stateDir, trustLists, nodeName, namespace } = options;
  return createKubernetesSource({
    ...(kubeconfig === "" ? {} : { kubeconfig }),
    ...(apiServer === "" ? {} : { apiServer }),
    stateDir,
    ...{ trustLists, nodeName, namespace },
  });
}
