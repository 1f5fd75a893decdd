// Who serves Services on a node: kube-proxy in one of its modes, Millrace, or nobody.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { POD_NETWORK, POD_NETWORK6 } from "../../src/lab/addressing.ts";
import { millraceCommand } from "../../src/lab/programs.ts";
import { AgentPod } from "./agent-pod.ts";
import type { ApiClient } from "./api-client.ts";
import { type Authority, type Identity, writeKubeconfig } from "./certificates.ts";
import type { ClusterNode } from "./cluster-node.ts";
import { flags } from "./flags.ts";
import type { NodeProxy, Through } from "./node-proxy.ts";
import { programPath } from "./programs.ts";
import { waitUntil } from "./wait-until.ts";

export const PROXIES = ["millrace", "nftables", "iptables", "none"] as const;
export type ServiceProxy = (typeof PROXIES)[number];

export interface ProxySettings {
  readonly proxy: ServiceProxy;
  /** Of Millrace's agents. */
  readonly through: Through;
  /** Further flags of `millrace run`. */
  readonly agentFlags: readonly string[];
  /** Directory of another build of Millrace; "" for this one's `dist/`. */
  readonly dist: string;
}

/** The rights of the agent, as they are installed in any cluster. */
export const RBAC = resolve(import.meta.dirname, "../../deploy/rbac.yaml");

const TOKEN_SECONDS = 365 * 24 * 3600;
const DIST = resolve(import.meta.dirname, "../../dist");
/** In the node's own mounts. */
const FILES = "/var/lib/cluster";

/** The proxy of a node; undefined when there is none. What it needs is written by `prepareProxies`. */
export function proxyOf(node: ClusterNode, settings: ProxySettings, api: () => ApiClient): NodeProxy | undefined {
  switch (settings.proxy) {
    case "none":
      return undefined;
    case "millrace":
      if (settings.through === "daemonset") return new AgentPod(node, api);
      return node.component("millrace", { command: () => agentCommand(node, settings) });
    case "nftables":
    case "iptables":
      return node.component("kube-proxy", {
        command: () => [programPath("kube-proxy"), `--config=${FILES}/kube-proxy.json`],
      });
  }
}

/** The socket of a node's agent, as the machine sees it. */
export function agentSocket(node: ClusterNode): string {
  return join(node.files, "run/millrace/api.sock");
}

function agentCommand(node: ClusterNode, { agentFlags, dist }: ProxySettings): string[] {
  const own = flags({
    "node-name": node.name,
    kubeconfig: `${FILES}/millrace.kubeconfig`,
    cgroup: node.cgroup,
    "pin-dir": "/sys/fs/bpf/millrace",
    "state-dir": "/var/lib/millrace",
    "api-socket": "/run/millrace/api.sock",
  });
  return millraceCommand(["run", ...own, ...agentFlags], dist === "" ? DIST : dist);
}

/** Writes what the nodes' proxies read; the API server serves, and the agent's rights are applied. Pods need nothing of it. */
export async function prepareProxies(
  nodes: readonly ClusterNode[],
  { proxy, through }: ProxySettings,
  authority: Authority,
  api: ApiClient,
): Promise<void> {
  if (proxy === "none") return;
  if (proxy === "millrace") {
    if (through === "daemonset") return;
    const token = await agentToken(api);
    for (const node of nodes) {
      write(node, "millrace.token", token);
      writeProxyKubeconfig(node, "millrace", authority, { tokenFile: `${FILES}/millrace.token` });
    }
    return;
  }
  const certificate = await authority.issue({ name: "kube-proxy", user: "system:kube-proxy" });
  for (const node of nodes) {
    writeProxyKubeconfig(node, "kube-proxy", authority, certificate);
    write(node, "kube-proxy.json", JSON.stringify(kubeProxyConfiguration(node, proxy), undefined, 2));
  }
}

function write(node: ClusterNode, name: string, text: string): void {
  const directory = join(node.files, "lib/cluster");
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, name), text, { mode: 0o600 });
}

function writeProxyKubeconfig(node: ClusterNode, name: string, authority: Authority, identity: Identity): void {
  writeKubeconfig(join(node.files, `lib/cluster/${name}.kubeconfig`), authority, identity);
}

/** A token of the agent's ServiceAccount. */
async function agentToken(api: ApiClient): Promise<string> {
  const request = {
    apiVersion: "authentication.k8s.io/v1",
    kind: "TokenRequest",
    spec: { expirationSeconds: TOKEN_SECONDS },
  };
  const path = "/api/v1/namespaces/kube-system/serviceaccounts/millrace/token";
  const answer = await api.ask<{ status: { token: string } }>({ method: "POST", path, body: request });
  return answer.status.token;
}

function kubeProxyConfiguration(node: ClusterNode, mode: "nftables" | "iptables"): object {
  return {
    apiVersion: "kubeproxy.config.k8s.io/v1alpha1",
    kind: "KubeProxyConfiguration",
    clientConnection: { kubeconfig: `${FILES}/kube-proxy.kubeconfig` },
    clusterCIDR: `${POD_NETWORK},${POD_NETWORK6}`,
    // The table's size is the whole machine's: a node may not set it.
    conntrack: { maxPerCore: 0, min: 0 },
    hostnameOverride: node.name,
    mode,
  };
}

/** Waits until the proxy of a node says that it is healthy. @throws timeout, machine when it has ended */
export async function waitForProxy(node: ClusterNode, proxy: NodeProxy): Promise<void> {
  const isHealthy = async () => {
    const { status } = await node.exec(["curl", "-sf", "-m", "1", "-o", "/dev/null", "http://127.0.0.1:10256/healthz"]);
    return status === 0 ? true : undefined;
  };
  await waitUntil(`${proxy.name} healthy`, isHealthy, { from: proxy });
}

/** The manifest with the agent's rights. */
export function rbacManifest(): string {
  return readFileSync(RBAC, "utf8");
}
