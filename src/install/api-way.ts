// The URL at which agents reach the API server: they serve its Service themselves, so they cannot begin with that. Pure.
import { parse } from "yaml";
import type { ClusterObject } from "../kube/cluster-objects.ts";
import { field, items, text, texts } from "../kube/fields.ts";
import type { Platform } from "./platform.ts";

export interface ApiWay {
  /** https://HOST:PORT */
  readonly url: string;
  /** For a sentence: "controlPlaneEndpoint of ConfigMap kube-system/kubeadm-config". */
  readonly from: string;
}

export interface ApiWayFacts {
  readonly platform: Platform;
  /** ConfigMap kube-system/kubeadm-config. */
  readonly kubeadmConfig: ClusterObject | undefined;
  /** ConfigMap kube-system/kube-proxy. */
  readonly kubeProxyConfig: ClusterObject | undefined;
  /** ConfigMap kube-public/cluster-info. */
  readonly clusterInfo: ClusterObject | undefined;
  /** EndpointSlices of default/kubernetes. */
  readonly endpointSlices: readonly ClusterObject[];
  /** The kubeconfig's server, by which this command reached the cluster. */
  readonly kubeconfigServer: string;
}

/** Talos serves its load-balanced API (KubePrism) at every node's loopback; K3s and RKE2 as well. */
const LOCAL: Partial<Record<Platform, ApiWay>> = {
  talos: { url: "https://localhost:7445", from: "KubePrism, which each node of Talos has" },
  k3s: { url: "https://127.0.0.1:6444", from: "the load balancer that each node of K3s has" },
  rke2: { url: "https://127.0.0.1:6443", from: "the load balancer that each node of RKE2 has" },
};

/** Undefined for what is no https URL, or one of a machine's own loopback: on a node that is another machine. */
function usable(url: string): string | undefined {
  const parsed = URL.parse(url);
  if (parsed?.protocol !== "https:" || parsed.hostname === "") return undefined;
  if (/^(localhost|127\..*|\[::1\]|0\.0\.0\.0|\[::\])$/.test(parsed.hostname)) return undefined;
  return `https://${parsed.hostname}:${parsed.port === "" ? 443 : parsed.port}`;
}

function document(source: ClusterObject | undefined, key: string): unknown {
  try {
    return parse(texts(source, "data")[key] ?? "", { maxAliasCount: 0 });
  } catch {
    return undefined;
  }
}

/** Servers of all clusters of a kubeconfig. */
function serversOf(kubeconfig: unknown): string[] {
  return items(kubeconfig, "clusters").map((one) => text(one, "cluster", "server"));
}

function endpointUrls(slices: readonly ClusterObject[]): string[] {
  return slices.flatMap((slice) => {
    const port = items(slice, "ports").find((one) => [undefined, "https"].includes(field(one, "name") as string));
    const isIPv6 = text(slice, "addressType") === "IPv6";
    return items(slice, "endpoints")
      .filter((one) => field(one, "conditions", "ready") !== false)
      .flatMap((one) => items(one, "addresses"))
      .map((address) => `https://${isIPv6 ? `[${address}]` : address}:${field(port, "port") ?? 6443}`);
  });
}

/** Every way there is, the best first: a name or an address for all servers before those of single ones. */
export function apiWays(facts: ApiWayFacts): readonly ApiWay[] {
  const { platform, kubeadmConfig, kubeProxyConfig, clusterInfo, endpointSlices, kubeconfigServer } = facts;
  const endpoint = text(document(kubeadmConfig, "ClusterConfiguration"), "controlPlaneEndpoint");
  const withPort = /:\d+$/.test(endpoint) ? endpoint : `${endpoint}:6443`;
  const found: { url: string; from: string }[] = [
    ...(endpoint === ""
      ? []
      : [{ url: `https://${withPort}`, from: "controlPlaneEndpoint of ConfigMap kube-system/kubeadm-config" }]),
    ...serversOf(document(kubeProxyConfig, "kubeconfig.conf")).map((url) => ({
      url,
      from: "kube-proxy's kubeconfig in ConfigMap kube-system/kube-proxy",
    })),
    ...serversOf(document(clusterInfo, "kubeconfig")).map((url) => ({
      url,
      from: "ConfigMap kube-public/cluster-info",
    })),
  ];
  const ofOneServer = [
    ...endpointUrls(endpointSlices).map((url) => ({ url, from: "the endpoints of Service default/kubernetes" })),
    { url: kubeconfigServer, from: "the kubeconfig" },
  ];
  // The name of a managed control plane, as the kubeconfig has it, stays when its addresses change.
  const isManaged = ["eks", "gke", "aks"].includes(platform);
  const rest = isManaged ? ofOneServer.toReversed() : ofOneServer;
  const ways = [...found, ...rest].flatMap(({ url, from }) => {
    const good = usable(url);
    return good === undefined ? [] : [{ url: good, from }];
  });
  const local = LOCAL[platform];
  const all = local === undefined ? ways : [local, ...ways];
  return all.filter(({ url }, at) => all.findIndex((one) => one.url === url) === at);
}
