// What the Kubernetes API as a source offers to the agent.

export { createKubernetesSource, type KubernetesSource, type KubernetesSourceOptions } from "./kubernetes-source.ts";
