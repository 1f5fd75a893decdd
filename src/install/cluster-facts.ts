// What the installer knows of a cluster, read out of its objects. Pure: gather.ts asks for them.
import type { ClusterObject } from "../kube/cluster-objects.ts";
import { field, hasLabels, items, text, texts } from "../kube/fields.ts";
import { isRunningMetallb, workloadTitle } from "../kube/metallb-workloads.ts";
import { type ApiWay, apiWays } from "./api-way.ts";
import { type KeptOptions, parseKept } from "./kept-options.ts";
import { type KubeProxyFacts, kubeProxyFacts, runsKubeProxy } from "./kube-proxy.ts";
import { configOf, pullSecretsOf, type SysAdmin, sysAdminOf } from "./manifest.ts";
import {
  AGENT_PODS,
  CLEANED_ANNOTATION,
  DAEMON_SET,
  DRAINING_ANNOTATION,
  FIELD_MANAGER,
  NAMESPACE,
  NODE_LABEL,
  OPTIONS_ANNOTATION,
} from "./names.ts";
import { type Platform, recognisePlatform } from "./platform.ts";

/** The objects that facts are read out of, as the API has them. */
export interface ClusterObjectsRead {
  /** v1.34.4, as the API server says it. */
  readonly version: string;
  readonly nodes: readonly ClusterObject[];
  /** Of every namespace. */
  readonly daemonSets: readonly ClusterObject[];
  readonly deployments: readonly ClusterObject[];
  /** Of kube-system. */
  readonly pods: readonly ClusterObject[];
  readonly customResourceDefinitions: readonly ClusterObject[];
  readonly kubeadmConfig: ClusterObject | undefined;
  /** ConfigMap kube-system/kube-proxy, in which kubeadm has a kubeconfig too. */
  readonly kubeProxyConfig: ClusterObject | undefined;
  /** The ConfigMap with the configuration that kube-proxy's DaemonSet mounts. */
  readonly kubeProxySettings: ClusterObject | undefined;
  readonly clusterInfo: ClusterObject | undefined;
  /** ConfigMap kube-system/cilium-config. */
  readonly ciliumConfig: ClusterObject | undefined;
  readonly endpointSlices: readonly ClusterObject[];
  /** ConfigMap kube-system/millrace. */
  readonly millraceConfig: ClusterObject | undefined;
  /** Lease kube-system/millrace-controller: the controllers made it, so that it stays when a chart or a manifest is deleted. */
  readonly controllerLease: ClusterObject | undefined;
  readonly kubeconfigServer: string;
}

export interface NodeFacts {
  readonly name: string;
  readonly kernel: string;
  readonly arch: string;
  readonly os: string;
  readonly runtime: string;
  /** yes; no: its kubelet says so; unknown: its kubelet says nothing any more. */
  readonly ready: "yes" | "no" | "unknown";
  /** Who serves Services there by its label, "" when it has none. */
  readonly label: string;
  /** kube-proxy's rules were taken away there by an earlier run. */
  readonly isCleaned: boolean;
  /** Given back, and not drained to the end yet. */
  readonly isDraining: boolean;
  readonly isControlPlane: boolean;
  /** InternalIPs. */
  readonly addresses: readonly string[];
}

export interface MillraceFacts {
  readonly image: string;
  /** Helm, for instance; "" when nobody says. */
  readonly managedBy: string;
  readonly sysAdmin: SysAdmin;
  /** Names of Secrets with credentials of a registry. */
  readonly pullSecrets: readonly string[];
}

/** The agents' ConfigMap. */
export interface ConfigFacts {
  readonly config: Readonly<Record<string, unknown>>;
  /** Undefined: it is of somebody else, or of a Millrace that kept nothing. */
  readonly kept: KeptOptions | undefined;
}

export interface CrdFacts {
  /** `install` has written it. */
  readonly isOurs: boolean;
  /** Somebody else has too. */
  readonly isShared: boolean;
}

export interface ClusterFacts {
  readonly version: string;
  readonly platform: Platform;
  /** Of kind: the name of the cluster, else "". */
  readonly kindCluster: string;
  /** By name. */
  readonly nodes: readonly NodeFacts[];
  readonly apiWays: readonly ApiWay[];
  readonly kubeProxy: KubeProxyFacts | undefined;
  /** Nodes on which a kube-proxy runs that is no DaemonSet's: a static pod. */
  readonly staticKubeProxies: readonly string[];
  /** Of K3s and RKE2: servers that were started without a flag that takes their kube-proxy away. */
  readonly embeddedKubeProxies: readonly string[];
  /** Of K3s: its service load balancer's DaemonSets. */
  readonly serviceLoadBalancers: readonly string[];
  /** As "DaemonSet metallb-system/speaker". */
  readonly metallb: readonly string[];
  /** Other programs that serve Services in kube-proxy's place, as "Cilium (DaemonSet kube-system/cilium)". */
  readonly otherProxies: readonly string[];
  /** The network plugin, "" when it is none that is known here. */
  readonly cni: string;
  readonly millrace: MillraceFacts | undefined;
  /** Agents' DaemonSets of other names or namespaces, as "DaemonSet apps/millrace". */
  readonly millraceElsewhere: readonly string[];
  /** It may be there without the DaemonSet: an `uninstall` that was broken off. */
  readonly millraceConfig: ConfigFacts | undefined;
  /** Something in the API is left of a Millrace, there or not. */
  readonly hasTraces: boolean;
  /** By name: the CustomResourceDefinitions that are there. */
  readonly crds: ReadonlyMap<string, CrdFacts>;
  readonly hasPrometheusOperator: boolean;
}

function imagesOf(workload: ClusterObject): readonly string[] {
  return items(workload, "spec", "template", "spec", "containers").map((one) => text(one, "image"));
}

export function nodeFacts(node: ClusterObject): NodeFacts {
  const info = field(node, "status", "nodeInfo");
  const ready = items(node, "status", "conditions").find((one) => text(one, "type") === "Ready");
  const status = text(ready, "status");
  return {
    name: node.metadata.name,
    kernel: text(info, "kernelVersion"),
    arch: text(info, "architecture"),
    os: text(info, "operatingSystem"),
    runtime: text(info, "containerRuntimeVersion"),
    ready: status === "True" ? "yes" : status === "False" ? "no" : "unknown",
    label: texts(node, "metadata", "labels")[NODE_LABEL] ?? "",
    isCleaned: Object.hasOwn(texts(node, "metadata", "annotations"), CLEANED_ANNOTATION),
    isDraining: Object.hasOwn(texts(node, "metadata", "annotations"), DRAINING_ANNOTATION),
    isControlPlane: Object.hasOwn(texts(node, "metadata", "labels"), "node-role.kubernetes.io/control-plane"),
    addresses: items(node, "status", "addresses")
      .filter((one) => text(one, "type") === "InternalIP")
      .map((one) => text(one, "address")),
  };
}

/** A static pod is its Node's. */
function staticKubeProxies(pods: readonly ClusterObject[]): string[] {
  return pods
    .filter(({ metadata }) => metadata.ownerReferences?.some(({ kind }) => kind === "Node"))
    .filter((pod) => items(pod, "spec", "containers").some(runsKubeProxy) || /^kube-proxy-/.test(pod.metadata.name))
    .map((pod) => text(pod, "spec", "nodeName"));
}

const NODE_ARGS = ["k3s.io/node-args", "rke2.io/node-args"];

/** `args`: JSON, in which K3s makes two of --NAME=VALUE. The last one counts. */
function isProxyDisabled(args: string): boolean {
  let all: unknown;
  try {
    all = JSON.parse(args);
  } catch {
    return false;
  }
  if (!Array.isArray(all)) return false;
  return all.reduce((isDisabled: boolean, one, at) => {
    const match = /^--?disable-kube-proxy(?:=(.*))?$/.exec(String(one));
    if (match === null) return isDisabled;
    return !/^(0|f|false)$/i.test(match[1] ?? String(all[at + 1] ?? ""));
  }, false);
}

function embeddedKubeProxies(
  nodes: readonly ClusterObject[],
  platform: Platform,
  statics: readonly string[],
): string[] {
  if (platform !== "k3s" && platform !== "rke2") return [];
  // RKE2's is a static pod, which shows.
  if (platform === "rke2") return [...statics];
  return nodes.flatMap((node) => {
    const all = texts(node, "metadata", "annotations");
    const args = NODE_ARGS.map((key) => all[key]).find((one) => one !== undefined) ?? "";
    const isAgent = /^\["agent"/.test(args);
    return isAgent || isProxyDisabled(args) ? [] : [node.metadata.name];
  });
}

/** Names of DaemonSets by which network plugins are known. */
const CNIS: readonly (readonly [pattern: RegExp, name: string])[] = [
  [/^kindnet$/, "kindnet"],
  [/^calico-node$/, "Calico"],
  [/^canal$/, "Canal"],
  [/^(kube-)?flannel(-ds.*)?$/, "Flannel"],
  [/^cilium$/, "Cilium"],
  [/^weave-net$/, "Weave Net"],
  [/^antrea-agent$/, "Antrea"],
  [/^kube-router$/, "kube-router"],
  [/^aws-node$/, "Amazon VPC CNI"],
  [/^azure-cni(-.*)?$/, "Azure CNI"],
  [/^ovnkube-node$/, "OVN-Kubernetes"],
];

/** Programs that serve Services in kube-proxy's place, where they are told to. */
function otherProxies({ daemonSets, ciliumConfig }: ClusterObjectsRead): string[] {
  const containersOf = (one: ClusterObject): readonly unknown[] => items(one, "spec", "template", "spec", "containers");
  const isTold = (one: ClusterObject, flag: RegExp): boolean =>
    containersOf(one).some((container) =>
      [...items(container, "args"), ...items(container, "command")].some((arg) => flag.test(String(arg))),
    );
  const hasEnvironment = (one: ClusterObject, name: string, value: RegExp): boolean =>
    containersOf(one).some((container) =>
      items(container, "env").some((entry) => text(entry, "name") === name && value.test(text(entry, "value"))),
    );
  return daemonSets.flatMap((one) => {
    const { name } = one.metadata;
    const says = (what: string): string[] => [`${what} (${workloadTitle(one)})`];
    if (name === "cilium" && /^(true|strict)$/.test(texts(ciliumConfig, "data")["kube-proxy-replacement"] ?? ""))
      return says("Cilium's replacement of kube-proxy");
    if (name === "kube-router" && isTold(one, /^--run-service-proxy(=true)?$/))
      return says("kube-router's service proxy");
    if (name === "calico-node" && hasEnvironment(one, "FELIX_BPFENABLED", /^(true|enabled)$/i))
      return says("Calico's eBPF dataplane");
    return [];
  });
}

function crdFacts({ managedFields = [] }: ClusterObject["metadata"]): CrdFacts {
  // The API server writes into the status whether it serves the kind.
  const managers = managedFields
    .filter(({ manager, subresource }) => manager !== "kube-apiserver" || subresource !== "status")
    .map(({ manager }) => manager);
  return {
    isOurs: managers.includes(FIELD_MANAGER),
    isShared: managers.some((manager) => manager !== FIELD_MANAGER),
  };
}

function configFacts(configMap: ClusterObject | undefined): ConfigFacts | undefined {
  if (configMap === undefined) return undefined;
  const kept = parseKept(texts(configMap, "metadata", "annotations")[OPTIONS_ANNOTATION]);
  try {
    return { config: configOf([configMap]), kept };
  } catch {
    // No agent could read it either.
    return { config: {}, kept };
  }
}

export function readClusterFacts(read: ClusterObjectsRead): ClusterFacts {
  const { nodes, daemonSets, deployments, pods, version, kubeadmConfig } = read;
  const platform = recognisePlatform(nodes, version, kubeadmConfig !== undefined);
  const statics = staticKubeProxies(pods);
  const own = daemonSets.find(({ metadata }) => metadata.name === DAEMON_SET && metadata.namespace === NAMESPACE);
  const crds = new Map(read.customResourceDefinitions.map(({ metadata }) => [metadata.name, crdFacts(metadata)]));
  const found = nodes.map(nodeFacts).sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  const kubeProxy = kubeProxyFacts(daemonSets, read.kubeProxySettings);
  const millraceConfig = configFacts(read.millraceConfig);
  const isAgents = (one: ClusterObject): boolean => hasLabels(texts(one, "metadata", "labels"), AGENT_PODS);
  const isMarked = found.some(({ label, isCleaned, isDraining }) => label !== "" || isCleaned || isDraining);
  return {
    version,
    platform,
    kindCluster:
      nodes.map((one) => /^kind:\/\/[^/]*\/([^/]+)\//.exec(text(one, "spec", "providerID"))?.[1] ?? "")[0] ?? "",
    nodes: found,
    apiWays: apiWays({ ...read, platform }),
    kubeProxy,
    staticKubeProxies: platform === "k3s" || platform === "rke2" ? [] : statics,
    embeddedKubeProxies: embeddedKubeProxies(nodes, platform, statics),
    serviceLoadBalancers: daemonSets.filter(({ metadata }) => /^svclb-/.test(metadata.name)).map(workloadTitle),
    metallb: [...daemonSets, ...deployments].filter(isRunningMetallb).map(workloadTitle),
    otherProxies: otherProxies(read),
    cni:
      CNIS.find(([pattern]) => daemonSets.some(({ metadata }) => pattern.test(metadata.name)))?.[1] ??
      (platform === "k3s" ? "Flannel" : ""),
    millrace: own && {
      image: imagesOf(own)[0] ?? "",
      managedBy: texts(own, "metadata", "labels")["app.kubernetes.io/managed-by"] ?? "",
      sysAdmin: sysAdminOf(own),
      pullSecrets: pullSecretsOf(own),
    },
    millraceElsewhere: daemonSets.filter((one) => one !== own && isAgents(one)).map(workloadTitle),
    millraceConfig,
    hasTraces:
      own !== undefined ||
      isMarked ||
      kubeProxy?.isHeldBack === true ||
      read.controllerLease !== undefined ||
      millraceConfig?.kept !== undefined,
    crds,
    hasPrometheusOperator: crds.has("servicemonitors.monitoring.coreos.com"),
  };
}
