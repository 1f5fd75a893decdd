// Why a request to one API server had no answer, in words that say what to do. The one place that knows Node's and
// OpenSSL's error codes.
import { connect, type PeerCertificate } from "node:tls";
import { ApiError, type ApiErrorKind, reasonOf } from "./api-error.ts";
import { type ApiServer, isClusterAddress } from "./api-servers.ts";
import { type ClientCertificate, type Credentials, isExpired } from "./connection.ts";
import type { NoHead } from "./request-head.ts";

export interface Explanation {
  readonly kind: ApiErrorKind;
  /** What is wrong, as a clause about "it", the server. */
  readonly reason: string;
  /** What to do, as an imperative clause. */
  readonly remedy: string;
}

/** What came of one server that was asked. */
export interface Refusal {
  readonly server: ApiServer;
  readonly explanation: Explanation;
}

type Explain = (error: NodeJS.ErrnoException, server: ApiServer, credentials: Credentials) => Explanation;

const unreachable =
  (reason: string, remedy: string): Explain =>
  () => ({ kind: "unreachable", reason, remedy });

const wrongAuthority: Explain = (_, __, { trusted }) => ({
  kind: "tls",
  reason: `its certificate is not signed by an authority of ${trusted}`,
  remedy: "check that certificate authority and server are of the same cluster",
});

/** The cluster's DNS is a Service: it answers when this agent serves it. */
const NO_NAME = { remedy: "give an address, or a name that resolves without the cluster" };

const BY_CODE: Readonly<Record<string, Explain>> = {
  ECONNREFUSED: unreachable(
    "it refuses connections",
    "check that kube-apiserver runs there and that address and port are right",
  ),
  ENOTFOUND: unreachable("no DNS server knows its name", NO_NAME.remedy),
  EAI_AGAIN: unreachable("the DNS does not answer for its name", NO_NAME.remedy),
  EHOSTUNREACH: unreachable("its host does not answer", "check the network between this node and it"),
  ENETUNREACH: unreachable("this node has no route to it", "check this node's routes"),
  ETIMEDOUT: unreachable("it stopped answering", "check the network between this node and it"),
  ECONNRESET: unreachable("it closed the connection before an answer", "look at its log"),
  EPIPE: unreachable("it closed the connection before an answer", "look at its log"),
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: wrongAuthority,
  UNABLE_TO_GET_ISSUER_CERT: wrongAuthority,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: wrongAuthority,
  SELF_SIGNED_CERT_IN_CHAIN: wrongAuthority,
  DEPTH_ZERO_SELF_SIGNED_CERT: wrongAuthority,
  CERT_SIGNATURE_FAILURE: wrongAuthority,
  ERR_TLS_CERT_ALTNAME_INVALID: (error, { url, tlsName }) => ({
    kind: "tls",
    reason: `its certificate is for ${altNames(error)}, not for ${tlsName ?? url.hostname}`,
    remedy: "use one of these names in the URL, or tls-server-name in the kubeconfig",
  }),
  EPROTO: notTls(),
  ERR_SSL_WRONG_VERSION_NUMBER: notTls(),
  ERR_SSL_PACKET_LENGTH_TOO_LONG: notTls(),
};

function notTls(): Explain {
  return () => ({
    kind: "tls",
    reason: "it does not speak TLS on this port",
    remedy: "check the port, and https in its URL",
  });
}

/** The certificate's names as Node prints them: "DNS:localhost, IP Address:127.0.0.1". */
function altNames(error: NodeJS.ErrnoException): string {
  const { cert } = error as { cert?: PeerCertificate };
  return cert?.subjectaltname || `the name ${cert?.subject?.CN ?? "of nobody"}`;
}

/** After these the server may have refused our certificate: in TLS 1.3 it says so, or hangs up, after the handshake. */
const MAYBE_REFUSED = /ALERT|^ECONNRESET$|^EPIPE$/;

/** `headTimeoutMs`: what the whole request had. */
export async function explainNoHead(
  failure: NoHead,
  server: ApiServer,
  credentials: Credentials,
  headTimeoutMs: number,
): Promise<Explanation> {
  if (failure.reason === "lookup") return { ...NO_NAME, kind: "timeout", reason: "no DNS server answers for its name" };
  if (failure.reason === "connect") {
    return {
      kind: "timeout",
      reason: "it takes no connection",
      remedy: "check address and network, and that no firewall drops its packets",
    };
  }
  if (failure.reason === "head") {
    return {
      kind: "timeout",
      reason: `it took the connection but did not answer within ${headTimeoutMs / 1000} s`,
      remedy: "look at its load and log",
    };
  }
  const error = failure.cause as NodeJS.ErrnoException;
  const code = error.code ?? "";
  const { certificate } = credentials;
  if (certificate && server.url.protocol === "https:" && MAYBE_REFUSED.test(code)) {
    if (isExpired(certificate)) return expiredClientCertificate(certificate);
    if (code.includes("ALERT")) return refusedClientCertificate(certificate, error);
  }
  if (code === "CERT_HAS_EXPIRED" || code === "CERT_NOT_YET_VALID") return badServerDates(code, server);
  const explain = BY_CODE[code];
  if (explain) return explain(error, server, credentials);
  const kind = /^(ERR_SSL|ERR_TLS|CERT_)/.test(code) ? "tls" : "unreachable";
  return { kind, reason: reasonOf(error), remedy: "check address, network and the server's log" };
}

export function expiredClientCertificate(certificate: ClientCertificate): Explanation {
  return {
    kind: "tls",
    reason: `the client certificate ${nameOf(certificate)} expired at ${dateOf(certificate.expiresAt * 1000)}`,
    remedy: "renew it; it is read again at the next attempt",
  };
}

function refusedClientCertificate(certificate: ClientCertificate, error: Error): Explanation {
  return {
    kind: "tls",
    reason: `it refuses the client certificate ${nameOf(certificate)} (${reasonOf(error)})`,
    remedy: "use one that this cluster's authority signed",
  };
}

function nameOf({ source, subject }: ClientCertificate): string {
  return `${source} (${subject})`;
}

function dateOf(ms: number): string {
  return new Date(ms).toISOString().replace(".000", "");
}

/** The dates are not in Node's error: the server is asked for its certificate once more, and sent nothing. */
async function badServerDates(code: string, server: ApiServer): Promise<Explanation> {
  const peer = server.proxyUrl === undefined ? await peerCertificate(server, 2_000) : undefined;
  const expired = code === "CERT_HAS_EXPIRED";
  const [word, date] = expired ? ["expired at", peer?.valid_to] : ["is valid only from", peer?.valid_from];
  const when =
    date === undefined ? (expired ? "has expired" : "is not valid yet") : `${word} ${dateOf(Date.parse(date))}`;
  return {
    kind: "tls",
    reason: `its certificate${peer?.subject?.CN ? ` (CN=${peer.subject.CN})` : ""} ${when}`,
    remedy: "renew the API server's certificate, and check this node's clock",
  };
}

function peerCertificate({ url, tlsName }: ApiServer, timeoutMs: number): Promise<PeerCertificate | undefined> {
  return new Promise((done) => {
    const host = url.hostname.replace(/^\[|\]$/g, "");
    const socket = connect({
      host,
      port: Number(url.port || 443),
      servername: tlsName ?? "",
      rejectUnauthorized: false,
    });
    const finish = (certificate: PeerCertificate | undefined) => {
      socket.destroy();
      done(certificate);
    };
    socket.setTimeout(timeoutMs, () => finish(undefined));
    socket.once("error", () => finish(undefined));
    socket.once("secureConnect", () => finish(socket.getPeerCertificate()));
  });
}

/** One sentence about all that was tried; its kind is the first server's. */
export function noAnswer(refusals: readonly Refusal[]): ApiError {
  const [first] = refusals;
  if (!first) throw new Error("no server was asked");
  const tried = refusals.map(({ server, explanation }) => `${labelOf(server)}: ${explanation.reason}`);
  const which = refusals.length === 1 ? "the API server" : "any API server:";
  const remedy = refusals.every(isUnserved) ? OTHER_WAY : first.explanation.remedy;
  return new ApiError(first.explanation.kind, `could not reach ${which} ${tried.join("; ")}; ${remedy}`);
}

/** The cluster's own address of the API was asked, and nothing there answered. */
function isUnserved({ server, explanation: { kind } }: Refusal): boolean {
  return isClusterAddress(server) && (kind === "unreachable" || kind === "timeout");
}

const OTHER_WAY =
  "this is a Service's address, which nobody serves before the agent has read what to serve: name a server of the control plane with " +
  "--apiserver https://HOST:6443, or a kubeconfig that does with --kubeconfig (kubeadm's is in the ConfigMap kube-system/kube-proxy); it is remembered then";

/** A proxy's password is not shown. */
function labelOf({ url, origin, proxyUrl }: ApiServer): string {
  const through = proxyUrl === undefined ? "" : `, through the proxy ${new URL(proxyUrl).origin}`;
  return `${url.host} (${origin}${through})`;
}
