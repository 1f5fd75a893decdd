// What the Kubernetes API as a source offers to the agent.

export { DURATION_BOUNDS, type TransportStats } from "./client-stats.ts";
export { createKubernetesSource, type KubernetesSource, type KubernetesSourceOptions } from "./kubernetes-source.ts";
export type { ResourceStats } from "./resource-record.ts";
export { RESOURCES, type ResourceName } from "./resources.ts";
export type { ApiStats } from "./worker-messages.ts";
