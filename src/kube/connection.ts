// The way to the API: which servers to ask, in which order, and with what credentials. It opens no connection; files are
// read again at each call, so whatever rotates is in use from the next request on.
import { createHash, X509Certificate } from "node:crypto";
import { existsSync } from "node:fs";
import { validateHeaderValue } from "node:http";
import { join } from "node:path";
import { createSecureContext, getCACertificates, type SecureContext } from "node:tls";
import type { Address } from "../lib/address.ts";
import { Failure } from "../lib/errors.ts";
import { ApiError, reasonOf } from "./api-error.ts";
import {
  type ApiServer,
  clusterIpServer,
  IN_CLUSTER_NAMES,
  parseServerUrl,
  readApiServers,
  rememberedServer,
  writeApiServers,
} from "./api-servers.ts";
import type { ExecPluginCalls } from "./client-stats.ts";
import { createExecPlugin } from "./exec-plugin.ts";
import {
  type Identity,
  type KubeconfigChoice,
  type Named,
  NOBODY,
  readKubeconfig,
  readServiceAccount,
} from "./identity.ts";

const SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";

export interface ConnectionOptions {
  /** --apiserver: asked first. */
  readonly apiServer?: string;
  /** --kubeconfig. Without it the service account of the pod, if there is one. */
  readonly kubeconfig?: string | KubeconfigChoice;
  readonly stateDir: string;
  /** Where a pod finds its service account, and the environment that names the ClusterIP; for tests. */
  readonly serviceAccount?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly execTimeoutMs?: number;
}

/** Ours. */
export interface ClientCertificate {
  readonly source: string;
  readonly subject: string;
  /** Seconds since the epoch. */
  readonly expiresAt: number;
}

export interface Credentials {
  /** Made at the first call when nothing of it is from a file. */
  readonly context: () => SecureContext;
  readonly verify: boolean;
  /** Where the authorities are from, for sentences. */
  readonly trusted: string;
  readonly certificate: ClientCertificate | undefined;
  /** Authorization and impersonation. */
  readonly headers: Readonly<Record<string, string | readonly string[]>>;
  /** Equal for equal TLS material: connections may be shared. */
  readonly tlsDigest: string;
  /** Equal for equal credentials. */
  readonly digest: string;
}

export interface Access {
  /** Best first, one at least. */
  readonly servers: readonly ApiServer[];
  readonly credentials: Credentials;
}

export interface Connection {
  /**
   * As the files say now; while one cannot be read or used (it is being replaced), as they said last. Throws an ApiError
   * "credentials" when there was nothing before, or the exec plugin fails.
   */
  access(): Promise<Access>;
  /** After a 401 for `refused`: newer credentials, or the same when there are none. Throws whatever is wrong with the files. */
  renew(refused: Credentials): Promise<Access>;
  /**
   * Takes the endpoints of default/kubernetes (https://address:port) as servers, and keeps them for the next start; an empty
   * list changes nothing. They stand in for a server that is one of its ClusterIPs, as those are served by this very agent.
   * Gives back why they could not be kept; the next call tries again.
   */
  remember(urls: readonly string[], clusterIPs?: readonly Address[]): Failure | undefined;
  certificateExpiresAt(): number | undefined;
  execPluginCalls(): ExecPluginCalls;
  reloads(): number;
}

/** Throws a Failure when nothing says where the API is. */
export function createConnection(options: ConnectionOptions): Connection {
  const env = options.env ?? process.env;
  const serviceAccount = options.serviceAccount ?? SERVICE_ACCOUNT;
  const plugin = createExecPlugin(options.execTimeoutMs);
  let remembered = readApiServers(options.stateDir);
  let identity: Identity | undefined;
  let credentials: Credentials | undefined;
  let reloads = 0;
  let inPod = false;
  let ownClusterIPs: readonly Address[] = [];
  let saved = urlsOf(remembered);
  const given = givenServer(options.apiServer);
  if (!given && !options.kubeconfig && remembered.length === 0 && !clusterIpServer(env)) {
    throw new Failure(
      "usage",
      "the API server",
      "could not find the API server: give --apiserver or --kubeconfig, or run in a pod with a service account",
    );
  }

  function read(): Identity {
    if (options.kubeconfig) return readKubeconfig(options.kubeconfig);
    // Once there was a service account, its absence is an error: nobody in particular has no rights.
    inPod ||= existsSync(join(serviceAccount, "token"));
    return inPod ? readServiceAccount(serviceAccount) : NOBODY;
  }

  function readOrLast(): Identity {
    try {
      const found = read();
      if (!found.exec) credentialsOf(found, credentials);
      return found;
    } catch (error) {
      if (identity) return identity;
      throw error;
    }
  }

  function servers(kubeconfigServer: ApiServer | undefined): ApiServer[] {
    const first = given && { ...given, proxyUrl: kubeconfigServer?.proxyUrl };
    const all = [first, kubeconfigServer, ...remembered, clusterIpServer(env)].filter((server) => server !== undefined);
    const isOurs = ({ url, proxyUrl }: ApiServer) => proxyUrl === undefined && isClusterIP(url.hostname);
    const key = ({ url, tlsName }: ApiServer) => `${url.href} ${tlsName ?? ""}`;
    return all.filter((server, at) => !isOurs(server) && all.findIndex((other) => key(other) === key(server)) === at);
  }

  /** Known to be one, and not needed: the endpoints behind it are known too. */
  function isClusterIP(hostname: string): boolean {
    if (remembered.length === 0) return false;
    return (
      ownClusterIPs.includes(hostname.replace(/^\[(.*)\]$/, "$1")) ||
      (ownClusterIPs.length > 0 && IN_CLUSTER_NAMES.test(hostname))
    );
  }

  async function accessWith(found: Identity): Promise<Access> {
    const complete = found.exec ? await withPlugin(found) : found;
    const fresh = credentialsOf(complete, credentials);
    if (credentials && fresh.digest !== credentials.digest) reloads += 1;
    credentials = fresh;
    identity = found;
    return { servers: servers(found.server), credentials: fresh };
  }

  async function withPlugin(found: Identity): Promise<Identity> {
    let complete = await asPluginSays(found);
    if (complete.certificate && isExpired(describe(complete.certificate))) {
      plugin.forget();
      complete = await asPluginSays(found);
    }
    return complete;
  }

  async function asPluginSays(found: Identity): Promise<Identity> {
    const { authorization, certificate, key } = await plugin.credential(found.exec!);
    const source = `from the ${found.exec!.source}`;
    return {
      ...found,
      headers: authorization ? { ...found.headers, Authorization: authorization } : found.headers,
      ...(certificate && key ? { certificate: { text: certificate, source }, key: { text: key, source } } : {}),
    };
  }

  return {
    access: async () => accessWith(readOrLast()),
    async renew(refused) {
      if (credentials?.digest === refused.digest) plugin.forget();
      return accessWith(read());
    },
    remember(urls, clusterIPs = ownClusterIPs) {
      ownClusterIPs = clusterIPs;
      if (urls.length === 0 || urls.join() === saved) return undefined;
      remembered = urls.flatMap(rememberedServer);
      try {
        writeApiServers(options.stateDir, urls);
        saved = urls.join();
        return undefined;
      } catch (cause) {
        const reason = (cause as Error).message;
        return new Failure("machine", options.stateDir, `could not keep the API servers' addresses: ${reason}`, {
          cause,
        });
      }
    },
    certificateExpiresAt: () => credentials?.certificate?.expiresAt,
    execPluginCalls: () => plugin.calls(),
    reloads: () => reloads,
  };
}

function urlsOf(servers: readonly ApiServer[]): string {
  return servers.map(({ url }) => url.origin).join();
}

function givenServer(text: string | undefined): ApiServer | undefined {
  if (text === undefined) return undefined;
  const url = parseServerUrl(text);
  if (!url) throw new Failure("usage", "--apiserver", `could not use --apiserver ${text}: it is no http or https URL`);
  return { url, tlsName: undefined, proxyUrl: undefined, origin: "--apiserver" };
}

export function isExpired(certificate: ClientCertificate, nowMs = Date.now()): boolean {
  return certificate.expiresAt * 1000 <= nowMs;
}

/** `last` is given back when nothing changed: a TLS context costs milliseconds and megabytes. */
function credentialsOf(identity: Identity, last: Credentials | undefined): Credentials {
  const { ca, certificate, key, verify, headers } = identity;
  const tlsDigest = digestOf([ca?.text, certificate?.text, key?.text, verify]);
  const digest = digestOf([tlsDigest, headers]);
  if (last?.digest === digest) return last;
  refuseUnsendable(headers);
  const same = last?.tlsDigest === tlsDigest ? last : undefined;
  const described = certificate && describe(certificate);
  return {
    context: same?.context ?? contextOf(identity),
    verify,
    trusted: ca ? ca.source : "the machine's trusted authorities",
    certificate: described,
    headers,
    tlsDigest,
    digest,
  };
}

/** A token with a line break, for one. Its text is not shown. */
function refuseUnsendable(headers: Identity["headers"]): void {
  for (const [name, value] of Object.entries(headers)) {
    try {
      for (const one of [value].flat()) validateHeaderValue(name, one);
    } catch (cause) {
      const reason = "it holds characters that no HTTP header may";
      throw new ApiError("credentials", `could not use the credentials for the header ${name}: ${reason}`, { cause });
    }
  }
}

function digestOf(parts: unknown): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("base64");
}

/** Throws for files that do not fit; the machine's authorities, which cost megabytes, are read only when they are needed. */
function contextOf(identity: Identity): () => SecureContext {
  let made = identity.ca || identity.certificate ? createContext(identity) : undefined;
  return () => {
    made ??= createContext(identity);
    return made;
  };
}

function createContext({ ca, certificate, key }: Identity): SecureContext {
  try {
    return createSecureContext({
      ca: ca?.text ?? getCACertificates("system"),
      ...(certificate ? { cert: certificate.text } : {}),
      ...(key ? { key: key.text } : {}),
    });
  } catch (cause) {
    const names = [certificate, key, ca].flatMap((named) => (named ? [named.source] : [])).join(", ");
    const reason = `${reasonOf(cause as Error)}; do key and certificate belong together?`;
    throw new ApiError("credentials", `could not use ${names}: ${reason}`, { cause });
  }
}

function describe({ text, source }: Named): ClientCertificate {
  try {
    const { subject, validToDate } = new X509Certificate(text);
    return { source, subject: subject.replaceAll("\n", ", "), expiresAt: validToDate.getTime() / 1000 };
  } catch (cause) {
    throw new ApiError("credentials", `could not use the client certificate ${source}: it is no PEM certificate`, {
      cause,
    });
  }
}
