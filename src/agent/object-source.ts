// Which source the agent's objects come from: a directory of manifests, in which case this process also is allocator, endpoint
// controller and DNS server, or the Kubernetes API. Only the one in use is loaded: each brings libraries of its own.
import type { Address } from "../lib/address.ts";
import { createLog } from "../lib/log.ts";
import type { ObjectEvent } from "../model/objects.ts";
import type { Source } from "../model/source.ts";
import { type AgentOptions, clusterRangesOf } from "./options.ts";

/** This machine as a Node, for clusters that have no Node object of its name. */
export interface OwnNode {
  readonly name: string;
  readonly addresses: readonly Address[];
}

export interface ObjectSource {
  readonly source: Source;
  /** The machine's addresses changed. */
  setOwnNode(node: OwnNode): void;
  /** What was delivered, for those who serve it too (DNS). */
  delivered(events: readonly ObjectEvent[]): void;
  stop(): Promise<void>;
}

export async function createObjectSource(options: AgentOptions, ownNode: OwnNode): Promise<ObjectSource> {
  return options.manifests.length > 0 ? manifestSource(options, ownNode) : kubernetesSource(options);
}

async function manifestSource(options: AgentOptions, ownNode: OwnNode): Promise<ObjectSource> {
  const { createDnsServer, createManifestSource } = await import("../standalone/mod.ts");
  const { clusterDomain, readOnly, stateDir, serviceNodePortRange } = options;
  const dns =
    readOnly || ownNode.addresses.length === 0
      ? undefined
      : await createDnsServer({ addresses: ownNode.addresses, port: 0, clusterDomain, log: createLog("dns") });
  const source = createManifestSource({
    paths: options.manifests,
    readOnly,
    stateDir,
    serviceClusterIpRange: clusterRangesOf(options),
    serviceNodePortRange,
    ownNode,
    dns: dns === undefined ? undefined : { addresses: dns.addresses, port: dns.port, nodeName: options.nodeName },
  });
  return {
    source,
    setOwnNode: (node) => {
      if (!readOnly) source.setOwnNode(node);
    },
    delivered: (events) => dns?.update(events),
    async stop() {
      await source.stop();
      await dns?.stop();
    },
  };
}

async function kubernetesSource(options: AgentOptions): Promise<ObjectSource> {
  const { createKubernetesSource } = await import("../kube/mod.ts");
  const { kubeconfig, apiServer, stateDir, trustLists } = options;
  const source = createKubernetesSource({
    ...(kubeconfig === "" ? {} : { kubeconfig }),
    ...(apiServer === "" ? {} : { apiServer }),
    stateDir,
    trustLists,
  });
  return { source, setOwnNode: () => {}, delivered: () => {}, stop: () => source.stop() };
}
