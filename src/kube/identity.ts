// Who the agent is to the API server and whom it trusts, as files say it now: a kubeconfig with what it names, or the
// service account of its pod. Read anew for each request: they rotate, and comparing contents misses no replacement.
import { readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import {
  type Cluster,
  newClusters,
  newContexts,
  newUsers,
  type User,
} from "@kubernetes/client-node/dist/config_types.js";
import { parse } from "yaml";
import { ApiError } from "./api-error.ts";
import { type ApiServer, parseServerUrl } from "./api-servers.ts";

/** A secret or certificate, and where it is from, for sentences. */
export interface Named {
  readonly text: string;
  readonly source: string;
}

export interface ExecSettings {
  /** The user's entry, its exec section ready to run: the command's path resolved, KUBERNETES_EXEC_INFO in its environment. */
  readonly user: User;
  readonly source: string;
  readonly installHint: string;
}

export interface Identity {
  /** The kubeconfig's; undefined for a service account. */
  readonly server: ApiServer | undefined;
  /** PEM. Undefined: the authorities that the machine trusts. */
  readonly ca: Named | undefined;
  readonly certificate: Named | undefined;
  readonly key: Named | undefined;
  /** False: insecure-skip-tls-verify. */
  readonly verify: boolean;
  /** Authorization and impersonation. */
  readonly headers: Readonly<Record<string, string | readonly string[]>>;
  readonly exec: ExecSettings | undefined;
}

export const NOBODY: Identity = {
  server: undefined,
  ca: undefined,
  certificate: undefined,
  key: undefined,
  verify: true,
  headers: {},
  exec: undefined,
};

/** The file's text. Throws an ApiError that names it. */
function readNamed(path: string, what: string): Named {
  try {
    return { text: readFileSync(path, "utf8"), source: path };
  } catch (cause) {
    throw new ApiError("credentials", `could not read ${what} ${path}: ${(cause as Error).message}`, { cause });
  }
}

/** The service account that a pod has at `directory`: a token and the cluster's authority. */
export function readServiceAccount(directory: string): Identity {
  const token = readNamed(join(directory, "token"), "the service account's token");
  return {
    ...NOBODY,
    ca: readNamed(join(directory, "ca.crt"), "the cluster's certificate authority"),
    headers: { Authorization: `Bearer ${token.text.trim()}` },
  };
}

/** Fields of a kubeconfig's user that client-node does not hand out. */
interface RawUser {
  readonly tokenFile?: string;
  readonly "as-groups"?: readonly string[];
  readonly "as-uid"?: string;
}

interface RawKubeconfig {
  readonly clusters?: unknown;
  readonly contexts?: unknown;
  readonly users?: readonly { readonly name: string; readonly user?: RawUser }[];
  readonly "current-context"?: string;
}

/** The current context of the kubeconfig at `path`. Throws an ApiError that names the file and what is wrong in it. */
export function readKubeconfig(path: string): Identity {
  const { text } = readNamed(path, "the kubeconfig");
  const refuse = (reason: string, cause?: unknown): never => {
    throw new ApiError("credentials", `could not use the kubeconfig ${path}: ${reason}`, { cause });
  };
  try {
    const raw = (parse(text) ?? {}) as RawKubeconfig;
    const current = raw["current-context"] ?? "";
    const context = newContexts(raw.contexts).find(({ name }) => name === current);
    if (!context) return refuse(`its current-context "${current}" is not among its contexts`);
    const cluster = newClusters(raw.clusters).find(({ name }) => name === context.cluster);
    if (!cluster) return refuse(`it has no cluster "${context.cluster}"`);
    const user = newUsers(raw.users).find(({ name }) => name === context.user);
    if (!user && context.user) return refuse(`it has no user "${context.user}"`);
    const rawUser = raw.users?.find(({ name }) => name === context.user)?.user ?? {};
    return identityOf(path, cluster, user ?? { name: "" }, rawUser);
  } catch (error) {
    if (error instanceof ApiError) throw error;
    return refuse((error as Error).message, error);
  }
}

function identityOf(path: string, cluster: Cluster, user: User, raw: RawUser): Identity {
  const refusal = unsupported(cluster, user);
  if (refusal !== undefined) throw new ApiError("credentials", `could not use the kubeconfig ${path}: ${refusal}`);
  const url = parseServerUrl(cluster.server);
  if (!url)
    throw new ApiError(
      "credentials",
      `could not use the kubeconfig ${path}: its server "${cluster.server}" is no http or https URL`,
    );
  const pem = (file: string | undefined, base64: string | undefined, what: string) => {
    if (base64) return { text: Buffer.from(base64, "base64").toString("utf8"), source: `in ${path}` };
    return file ? readNamed(resolve(dirname(path), file), what) : undefined;
  };
  const ca = pem(cluster.caFile, cluster.caData, "the certificate authority");
  return {
    server: {
      url,
      tlsName: cluster.tlsServerName || undefined,
      proxyUrl: cluster.proxyUrl || undefined,
      origin: "kubeconfig",
    },
    ca,
    certificate: pem(user.certFile, user.certData, "the client certificate"),
    key: pem(user.keyFile, user.keyData, "the client key"),
    verify: !cluster.skipTLSVerify,
    headers: headersOf(path, user, raw),
    exec: user.exec ? execSettings(path, cluster, user, ca) : undefined,
  };
}

/** What we do not do, as a reason; undefined when all is supported. */
function unsupported(cluster: Cluster, user: User): string | undefined {
  if (user.authProvider)
    return `its user "${user.name}" has an auth-provider, which Kubernetes itself dropped: use an exec plugin`;
  if (cluster.proxyUrl && !/^https?:/.test(cluster.proxyUrl)) {
    return `its proxy-url ${cluster.proxyUrl} is no HTTP proxy: others are not supported`;
  }
  return undefined;
}

function headersOf(path: string, user: User, raw: RawUser): Record<string, string | readonly string[]> {
  const headers: Record<string, string | readonly string[]> = {};
  // As client-go: the file wins over the token beside it.
  const token = raw.tokenFile ? readNamed(resolve(dirname(path), raw.tokenFile), "the token").text.trim() : user.token;
  if (token) headers["Authorization"] = `Bearer ${token}`;
  else if (user.username) {
    headers["Authorization"] = `Basic ${Buffer.from(`${user.username}:${user.password ?? ""}`).toString("base64")}`;
  }
  if (user.impersonateUser) headers["Impersonate-User"] = user.impersonateUser;
  if (raw["as-groups"]?.length) headers["Impersonate-Group"] = raw["as-groups"];
  if (raw["as-uid"]) headers["Impersonate-Uid"] = raw["as-uid"];
  return headers;
}

/** A kubeconfig's exec section (client.authentication.k8s.io ExecConfig). */
interface RawExec {
  readonly apiVersion?: string;
  readonly command?: string;
  readonly args?: readonly string[];
  readonly env?: readonly { readonly name: string; readonly value: string }[];
  readonly installHint?: string;
  readonly provideClusterInfo?: boolean;
}

/** As client-go: a command with a slash is relative to the kubeconfig, and the plugin is told what it is asked for. */
function execSettings(path: string, cluster: Cluster, user: User, ca: Named | undefined): ExecSettings {
  const exec = user.exec as RawExec;
  const command = exec.command ?? "";
  const info = {
    apiVersion: exec.apiVersion ?? "client.authentication.k8s.io/v1",
    kind: "ExecCredential",
    spec: { interactive: false, ...(exec.provideClusterInfo ? { cluster: clusterInfo(cluster, ca) } : {}) },
  };
  const env = [...(exec.env ?? []), { name: "KUBERNETES_EXEC_INFO", value: JSON.stringify(info) }];
  const resolved = command.includes("/") ? resolve(dirname(path), command) : command;
  return {
    user: { ...user, exec: { ...exec, command: resolved, env } },
    source: `exec plugin ${resolved} of ${path}`,
    installHint: exec.installHint ?? "",
  };
}

function clusterInfo(cluster: Cluster, ca: Named | undefined): Record<string, unknown> {
  return {
    server: cluster.server,
    "tls-server-name": cluster.tlsServerName,
    "insecure-skip-tls-verify": cluster.skipTLSVerify || undefined,
    "certificate-authority-data": ca && Buffer.from(ca.text).toString("base64"),
    "proxy-url": cluster.proxyUrl,
  };
}
