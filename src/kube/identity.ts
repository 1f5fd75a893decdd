// Who the agent is to the API server and whom it trusts, as files say it now: a kubeconfig with what it names, or the
// service account of its pod. Read anew for each request: they rotate, and comparing contents misses no replacement.
import { existsSync, readFileSync } from "node:fs";
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

/** A kubeconfig of several files, as KUBECONFIG lists them, and one of its contexts. */
export interface KubeconfigChoice {
  /** One at least. Of what several define the first counts; those that are not there are left out, if one is. */
  readonly files: readonly string[];
  /** @default the first file's current-context that is not empty */
  readonly context?: string;
}

/**
 * The current context of the kubeconfig at `path`, or the one that is chosen. Throws an ApiError that names the file and what is wrong in
 * it.
 */
export function readKubeconfig(path: string | KubeconfigChoice): Identity {
  const { files, context: chosen } = typeof path === "string" ? { files: [path], context: undefined } : path;
  const documents = readFiles(files).map(({ text, source }) => ({ source, raw: parsedKubeconfig(text, source) }));
  const title = files.join(", ");
  const refuse = (reason: string): never => {
    throw new ApiError("credentials", `could not use the kubeconfig ${title}: ${reason}`);
  };
  /** In the first file that has it, with that file: paths are relative to it. */
  const find = <T>(inFile: (raw: RawKubeconfig) => T | undefined): { one: T; source: string } | undefined => {
    for (const { raw, source } of documents) {
      const one = told(source, () => inFile(raw));
      if (one !== undefined) return { one, source };
    }
    return undefined;
  };
  const current = chosen ?? find((raw) => raw["current-context"] || undefined)?.one ?? "";
  const context = find((raw) => newContexts(raw.contexts).find(({ name }) => name === current))?.one;
  if (!context) {
    const which = chosen === undefined ? `its current-context "${current}"` : `the context "${current}"`;
    return refuse(`${which} is not among its contexts`);
  }
  const cluster = find((raw) => newClusters(raw.clusters).find(({ name }) => name === context.cluster));
  if (!cluster) return refuse(`it has no cluster "${context.cluster}"`);
  const user = find((raw) => {
    const found = newUsers(raw.users).find(({ name }) => name === context.user);
    return found && { user: found, raw: raw.users?.find(({ name }) => name === context.user)?.user ?? {} };
  });
  if (!user && context.user) return refuse(`it has no user "${context.user}"`);
  const { one, source } = user ?? { one: { user: { name: "" }, raw: {} }, source: cluster.source };
  return told(source, () => identityOf({ ...cluster, what: cluster.one }, { source, user: one.user, raw: one.raw }));
}

function readFiles(files: readonly string[]): Named[] {
  const found = files.filter((file) => files.length === 1 || existsSync(file));
  return (found.length === 0 ? files.slice(0, 1) : found).map((file) => readNamed(file, "the kubeconfig"));
}

function parsedKubeconfig(text: string, source: string): RawKubeconfig {
  return told(source, () => (parse(text) ?? {}) as RawKubeconfig);
}

/** What `work` throws is about the kubeconfig `source`. */
function told<T>(source: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof ApiError) throw error;
    const message = `could not use the kubeconfig ${source}: ${(error as Error).message}`;
    throw new ApiError("credentials", message, { cause: error });
  }
}

function identityOf(
  { what: cluster, source: clusterFile }: { readonly what: Cluster; readonly source: string },
  { source: path, user, raw }: { readonly source: string; readonly user: User; readonly raw: RawUser },
): Identity {
  const refusal = unsupported(cluster, user);
  if (refusal !== undefined) throw new ApiError("credentials", `could not use the kubeconfig ${path}: ${refusal}`);
  const url = parseServerUrl(cluster.server);
  if (!url)
    throw new ApiError(
      "credentials",
      `could not use the kubeconfig ${clusterFile}: its server "${cluster.server}" is no http or https URL`,
    );
  const pem = (from: string, file: string | undefined, base64: string | undefined, what: string) => {
    if (base64) return { text: Buffer.from(base64, "base64").toString("utf8"), source: `in ${from}` };
    return file ? readNamed(resolve(dirname(from), file), what) : undefined;
  };
  const ca = pem(clusterFile, cluster.caFile, cluster.caData, "the certificate authority");
  return {
    server: {
      url,
      tlsName: cluster.tlsServerName || undefined,
      proxyUrl: cluster.proxyUrl || undefined,
      origin: "kubeconfig",
    },
    ca,
    certificate: pem(path, user.certFile, user.certData, "the client certificate"),
    key: pem(path, user.keyFile, user.keyData, "the client key"),
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
