// What standalone offers to the agent and the lab.

export { writeStateFile } from "../lib/state-store.ts";
export {
  AGE_ANNOTATION,
  type EndpointSliceObject,
  type KubernetesObject,
  type ManifestObject,
  type NodeObject,
  objectKey,
  objectTitle,
  POOL_ANNOTATION,
  type PodObject,
  type RawDocument,
  type ServiceObject,
} from "../wire/kubernetes.ts";
export { normaliseObject } from "../wire/normalise.ts";
export { type Catalogue, type CatalogueContent, createCatalogue } from "./catalogue.ts";
export { type Cluster, type ClusterOptions, createCluster, type Reconciled } from "./cluster.ts";
export { createDnsServer, type DnsServer, type DnsServerOptions } from "./dns.ts";
export type { DnsAddress } from "./dns-service.ts";
export { isMetalLbWorkload, kindInfo } from "./kinds.ts";
export {
  createManifestReader,
  digestOf,
  directoryDigest,
  type ManifestReader,
  readManifests,
} from "./manifest-reader.ts";
export { createManifestSource, type ManifestSource, type ManifestSourceOptions } from "./manifest-source.ts";
export { validateMetadata } from "./metadata.ts";
export { checkPodSpec } from "./validate-node-pod.ts";
