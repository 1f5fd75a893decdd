// What the installer knows of a cluster, read out of its objects. Pure: gather.ts asks for them.
import { parse } from "yaml";
import type { ClusterObject } from "../kube/cluster-objects.ts";
import { canonicalAddress } from "../lib/address.ts";
import { parseBindAddress, withPort } from "../lib/bind-address.ts";
import { requirementsOf } from "./affinity.ts";
import { type ApiWay, apiWays } from "./api-way.ts";
import { count, field, items, text, texts } from "./fields.ts";
import { type KeptOptions, parseKept } from "./kept-options.ts";
import { askedAt, configOf, pullSecretsOf, type SysAdmin, sysAdminOf } from "./manifest.ts";
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
  readonly kubeProxyConfig: ClusterObject | undefined;
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

/** kube-proxy's DaemonSet. */
export interface KubeProxyFacts {
  readonly namespace: string;
  readonly name: string;
  /** Of its pods. */
  readonly labels: Readonly<Record<string, string>>;
  /** iptables, nftables, ipvs: as its configuration says it, "" when that is not known. */
  readonly mode: string;
  /** Its affinity speaks of our label already. */
  readonly isHeldBack: boolean;
  /** ADDRESS:PORT where a process of its node asks for its health; "" when it has no such server. */
  readonly healthz: string;
  /** KubeProxyConfiguration, "" when it is not known. */
  readonly configuration: string;
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

function titleOf({ kind, metadata: { namespace, name } }: ClusterObject): string {
  return `${kind} ${namespace ?? ""}/${name}`;
}

/** How many of its pods there ought to be. */
function wantedPods(workload: ClusterObject): number {
  if (workload.kind === "DaemonSet") return count(workload, "status", "desiredNumberScheduled");
  return (field(workload, "spec", "replicas") as number | undefined) ?? 1;
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

const IS_KUBE_PROXY = /(^|\/)kube-proxy(-[a-z0-9]+)?(:|@|$)/;

/** "" when the ConfigMap has none, or none that is YAML. */
function kubeProxyConfiguration(configMap: ClusterObject | undefined): string {
  const data = texts(configMap, "data");
  const found = data["config.conf"] ?? data["config"] ?? "";
  try {
    return text(parse(found, { maxAliasCount: 0 }), "kind") === "KubeProxyConfiguration" ? found : "";
  } catch {
    return "";
  }
}

const HEALTHZ_PORT = 10256;

/** The value of a flag among arguments, in either spelling; undefined when it is not there. */
function flagOf(args: readonly string[], name: string): string | undefined {
  const at = args.findIndex((one) => one === `--${name}` || one.startsWith(`--${name}=`));
  if (at < 0) return undefined;
  return args[at]!.includes("=") ? args[at]!.slice(name.length + 3) : args[at + 1];
}

/** As kube-proxy reads it: with --config no flag counts; an empty flag means none, an empty field the default. */
function healthzOf(configuration: string, args: readonly string[]): string {
  const read: unknown = configuration === "" ? {} : parse(configuration, { maxAliasCount: 0 });
  const byFlag = (name: string): string | undefined =>
    flagOf(args, "config") === undefined ? flagOf(args, name) : undefined;
  const bind = byFlag("bind-address") ?? text(read, "bindAddress");
  const fallback = canonicalAddress(bind)?.includes(":") === true ? "::" : "0.0.0.0";
  const said = byFlag("healthz-bind-address") ?? (text(read, "healthzBindAddress") || fallback);
  if (said === "") return "";
  const alone = canonicalAddress(said);
  const address = parseBindAddress(withPort(alone?.includes(":") === true ? `[${alone}]` : said, HEALTHZ_PORT));
  const { host, port } = address ?? { host: "", port: HEALTHZ_PORT };
  return port === 0 ? "" : bindText(askedAt(host), port);
}

function bindText(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

function kubeProxyFacts({ daemonSets, kubeProxyConfig }: ClusterObjectsRead): KubeProxyFacts | undefined {
  const found = daemonSets.find(
    (one) => one.metadata.name !== DAEMON_SET && imagesOf(one).some((image) => IS_KUBE_PROXY.test(image)),
  );
  if (found === undefined) return undefined;
  const configuration = kubeProxyConfiguration(kubeProxyConfig);
  const flags = items(found, "spec", "template", "spec", "containers").flatMap((one) => [
    ...items(one, "command"),
    ...items(one, "args"),
  ]);
  const flag = flags.map((one) => /^--proxy-mode=(\w+)$/.exec(String(one))?.[1]).find((one) => one !== undefined);
  const mode = configuration === "" ? "" : text(parse(configuration, { maxAliasCount: 0 }), "mode") || "iptables";
  return {
    namespace: found.metadata.namespace ?? NAMESPACE,
    name: found.metadata.name,
    labels: texts(found, "spec", "selector", "matchLabels"),
    mode: flag ?? mode,
    healthz: healthzOf(configuration, flags.map(String)),
    isHeldBack: requirementsOf(field(found, "spec", "template", "spec", "affinity"), NODE_LABEL).length > 0,
    configuration,
  };
}

/** A static pod is its Node's. */
function staticKubeProxies(pods: readonly ClusterObject[]): string[] {
  return pods
    .filter(({ metadata }) => metadata.ownerReferences?.some(({ kind }) => kind === "Node"))
    .filter(
      (pod) =>
        items(pod, "spec", "containers").some((one) => IS_KUBE_PROXY.test(text(one, "image"))) ||
        /^kube-proxy-/.test(pod.metadata.name),
    )
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

const METALLB_IMAGE = /(^|\/)metallb[-/]?(controller|speaker)\b|\/metallb\/(controller|speaker)\b/;

function metallbOf(workloads: readonly ClusterObject[]): string[] {
  return workloads
    .filter((one) => {
      const labels = { ...texts(one, "metadata", "labels"), ...texts(one, "spec", "template", "metadata", "labels") };
      const isNamed = labels["app"] === "metallb" || labels["app.kubernetes.io/name"] === "metallb";
      return isNamed || imagesOf(one).some((image) => METALLB_IMAGE.test(image));
    })
    .filter((one) => wantedPods(one) > 0)
    .map(titleOf);
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
    const says = (what: string): string[] => [`${what} (${titleOf(one)})`];
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
  const kubeProxy = kubeProxyFacts(read);
  const millraceConfig = configFacts(read.millraceConfig);
  const isAgents = (one: ClusterObject): boolean =>
    AGENT_PODS.split(",").every((pair) => {
      const [key = "", value] = pair.split("=");
      return texts(one, "metadata", "labels")[key] === value;
    });
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
    serviceLoadBalancers: daemonSets.filter(({ metadata }) => /^svclb-/.test(metadata.name)).map(titleOf),
    metallb: metallbOf([...daemonSets, ...deployments]),
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
    millraceElsewhere: daemonSets.filter((one) => one !== own && isAgents(one)).map(titleOf),
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
