// What kind of cluster it is, by what its Nodes and its objects say of themselves. Pure.
import type { ClusterObject } from "../kube/cluster-objects.ts";
import { text, texts } from "../kube/fields.ts";

export const PLATFORMS = {
  kind: "kind",
  minikube: "minikube",
  k3s: "K3s",
  rke2: "RKE2",
  k0s: "k0s",
  talos: "Talos Linux",
  openshift: "OpenShift",
  microk8s: "MicroK8s",
  eks: "Amazon EKS",
  gke: "Google GKE",
  aks: "Azure AKS",
  kubeadm: "kubeadm",
  unknown: "of a kind that is not known here",
} as const;

export type Platform = keyof typeof PLATFORMS;

/** `hasKubeadmConfig`: there is a ConfigMap kube-system/kubeadm-config. What is built upon kubeadm comes before it. */
export function recognisePlatform(
  nodes: readonly ClusterObject[],
  version: string,
  hasKubeadmConfig: boolean,
): Platform {
  const someNode = (test: (node: ClusterObject) => boolean): boolean => nodes.some(test);
  const hasLabel = (pattern: RegExp): boolean =>
    someNode((node) => Object.keys(texts(node, "metadata", "labels")).some((key) => pattern.test(key)));
  const isProvidedBy = (pattern: RegExp): boolean => someNode((node) => pattern.test(text(node, "spec", "providerID")));
  const runs = (pattern: RegExp): boolean =>
    pattern.test(version) || someNode((node) => pattern.test(text(node, "status", "nodeInfo", "kubeletVersion")));
  const isImage = (pattern: RegExp): boolean =>
    someNode((node) => pattern.test(text(node, "status", "nodeInfo", "osImage")));
  if (isProvidedBy(/^kind:\/\//)) return "kind";
  if (hasLabel(/^minikube\.k8s\.io\//)) return "minikube";
  if (runs(/\+k3s/)) return "k3s";
  if (runs(/\+rke2/)) return "rke2";
  if (runs(/\+k0s/)) return "k0s";
  if (isImage(/^Talos/)) return "talos";
  if (hasLabel(/^node\.openshift\.io\//) || isImage(/Red Hat Enterprise Linux CoreOS|OpenShift/)) return "openshift";
  if (hasLabel(/^microk8s\.io\//)) return "microk8s";
  if (runs(/-eks-/) || hasLabel(/^eks\.amazonaws\.com\//)) return "eks";
  if (runs(/-gke\./) || hasLabel(/^cloud\.google\.com\/gke-/)) return "gke";
  if (hasLabel(/^kubernetes\.azure\.com\//)) return "aks";
  const byKubeadm = someNode((node) =>
    Object.keys(texts(node, "metadata", "annotations")).some((key) => key.startsWith("kubeadm.alpha.kubernetes.io/")),
  );
  return byKubeadm || hasKubeadmConfig ? "kubeadm" : "unknown";
}
