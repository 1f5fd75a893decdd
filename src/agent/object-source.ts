// Which source the agent's objects come from: a directory of manifests, in which case this process also is allocator, endpoint
// controller and DNS server, or the Kubernetes API. Only the one in use is loaded: each brings libraries of its own.
import type { Source } from "../model/source.ts";
import type { OwnNode } from "../standalone/control-plane.ts";
import { type AgentOptions, clusterRangesOf } from "./options.ts";

export interface ObjectSource {
  readonly source: Source;
  /** The machine's addresses changed. */
  setOwnNode(node: OwnNode): void;
  stop(): Promise<void>;
}

export async function createObjectSource(options: AgentOptions, ownNode: OwnNode): Promise<ObjectSource> {
  return options.manifests.length > 0 ? manifestSource(options, ownNode) : kubernetesSource(options);
}

async function manifestSource(options: AgentOptions, ownNode: OwnNode): Promise<ObjectSource> {
  const { createManifestSource } = await import("../standalone/manifest-source.ts");
  const { manifests, clusterDomain, nodeName, readOnly, stateDir, serviceNodePortRange } = options;
  const source = createManifestSource({
    paths: manifests,
    readOnly,
    stateDir,
    serviceClusterIpRange: clusterRangesOf(options),
    serviceNodePortRange,
    ownNode,
    dns: ownNode.addresses.length === 0 ? undefined : { addresses: ownNode.addresses, clusterDomain, nodeName },
  });
  return { source, setOwnNode: source.setOwnNode, stop: source.stop };
}

async function kubernetesSource(options: AgentOptions): Promise<ObjectSource> {
  const { createKubernetesSource } = await import("../kube/kubernetes-source.ts");
  const { kubeconfig, apiServer, stateDir, trustLists } = options;
  const source = createKubernetesSource({
    ...(kubeconfig === "" ? {} : { kubeconfig }),
    ...(apiServer === "" ? {} : { apiServer }),
    stateDir,
    trustLists,
  });
  return { source, setOwnNode: () => {}, stop: () => source.stop() };
}
