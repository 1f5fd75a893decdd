// The API servers that the agent may ask, best first; the addresses of default/kubernetes are kept on disk, because
// the ClusterIP works only once this very agent has been told about it.
import { join } from "node:path";
import { recall, replaceFile } from "../lib/state-store.ts";

export type ServerOrigin = "--apiserver" | "kubeconfig" | "api-servers.json" | "KUBERNETES_SERVICE_HOST";

export interface ApiServer {
  readonly url: URL;
  /** What the server's certificate must be issued to; undefined: the URL's host. */
  readonly tlsName: string | undefined;
  /** An HTTP proxy; undefined: asked directly. */
  readonly proxyUrl: string | undefined;
  readonly origin: ServerOrigin;
}

/** Every API server's certificate carries it, whatever address it is asked at. */
export const IN_CLUSTER_NAME = "kubernetes.default.svc";

/** What a pod's resolver makes a ClusterIP of. */
export const IN_CLUSTER_NAMES = /^kubernetes(\.default(\.svc(\..+)?)?)?$/;

/** The URL that `text` is. A base path stays, without the slash at its end. Undefined when it is no http or https URL. */
export function parseServerUrl(text: string): URL | undefined {
  const url = URL.parse(text);
  return url !== null && /^https?:$/.test(url.protocol) && url.hostname !== "" ? url : undefined;
}

function fileIn(stateDir: string): string {
  return join(stateDir, "api-servers.json");
}

/** What was remembered last. A file that is absent or unusable remembers nothing: there are other ways. */
export function readApiServers(stateDir: string): readonly ApiServer[] {
  const found = recall(fileIn(stateDir)) as { readonly servers?: unknown } | null | undefined;
  return Array.isArray(found?.servers) ? found.servers.flatMap((text) => rememberedServer(text)) : [];
}

/** One endpoint of default/kubernetes as a server; none for what is no https URL. */
export function rememberedServer(text: unknown): ApiServer[] {
  const url = typeof text === "string" ? parseServerUrl(text) : undefined;
  if (url?.protocol !== "https:") return [];
  return [{ url, tlsName: IN_CLUSTER_NAME, proxyUrl: undefined, origin: "api-servers.json" }];
}

/** Replaces what is remembered, by rename. `urls`: https://address:port each. */
export function writeApiServers(stateDir: string, urls: readonly string[]): void {
  replaceFile(fileIn(stateDir), `${JSON.stringify({ servers: urls }, undefined, 2)}\n`);
}

/** The ClusterIP of default/kubernetes as the kubelet tells it to a pod. */
export function clusterIpServer(env: NodeJS.ProcessEnv): ApiServer | undefined {
  const host = env["KUBERNETES_SERVICE_HOST"];
  const port = env["KUBERNETES_SERVICE_PORT"];
  if (!host || !port) return undefined;
  const url = parseServerUrl(`https://${host.includes(":") ? `[${host}]` : host}:${port}`);
  return url && { url, tlsName: undefined, proxyUrl: undefined, origin: "KUBERNETES_SERVICE_HOST" };
}

/** Whether a server is the Service of the API itself, by its name, or by its address as the kubelet tells it to pods. */
export function isClusterAddress({ url, proxyUrl, origin }: ApiServer, env: NodeJS.ProcessEnv = process.env): boolean {
  if (proxyUrl !== undefined) return false;
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  return origin === "KUBERNETES_SERVICE_HOST" || host === env["KUBERNETES_SERVICE_HOST"] || IN_CLUSTER_NAMES.test(host);
}
