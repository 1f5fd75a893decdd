// Who asks, and whether they may: bearer tokens, client certificates, and rules like those of RBAC.
import type { IncomingMessage } from "node:http";
import { TLSSocket } from "node:tls";
import type { ApiRequest } from "./api-request.ts";
import { forbidden, forbiddenPath, unauthorized } from "./api-status.ts";

export interface AccessRule {
  /** Default: everybody. */
  readonly user?: string;
  /** "list", "watch", "get", "create", "patch", "update", "delete"; "*" is any. */
  readonly verbs: readonly string[];
  /** Plural names, "plural/status" for that subresource; "*" is any. */
  readonly resources: readonly string[];
}

export interface Access {
  /** Bearer token -> user. */
  readonly tokens?: Readonly<Record<string, string>>;
  /** The user is the common name of a certificate that the server's client CA signed. Needs TLS with `clientCa`. */
  readonly clientCertificates?: boolean;
  /** Whether a request without credentials is let in, as system:anonymous. Wrong credentials never are. */
  readonly anonymous?: boolean;
  /** Default: everyone who is let in may do everything. */
  readonly rules?: readonly AccessRule[];
}

/** Open to all; what a server without access control answers. */
export const OPEN_ACCESS: Access = { anonymous: true };

const ANONYMOUS = "system:anonymous";
const EVERYBODY_READS = /^\/(version|healthz|livez|readyz)$/;

/** The user's name. Throws the ApiStatus of 401 or 403. */
export function authorize(access: Access, message: IncomingMessage, request: ApiRequest): string {
  const user = authenticate(access, message);
  const { resource, verb, namespace, name, subresource, path } = request;
  if (resource === undefined) {
    if (user === ANONYMOUS && access.rules !== undefined && !EVERYBODY_READS.test(path))
      throw forbiddenPath(user, path);
    return user;
  }
  const what = subresource === "" ? resource.plural : `${resource.plural}/${subresource}`;
  if (!isAllowed(access, user, verb, what)) throw forbidden(user, verb, resource, namespace, name);
  return user;
}

/** `what`: "plural", or "plural/subresource". */
export function isAllowed({ rules }: Access, user: string, verb: string, what: string): boolean {
  if (rules === undefined) return true;
  return rules.some((rule) => (rule.user ?? user) === user && has(rule.verbs, verb) && has(rule.resources, what));
}

function authenticate(access: Access, { headers, socket }: IncomingMessage): string {
  const token = /^Bearer (.+)$/.exec(headers.authorization ?? "")?.[1];
  if (token !== undefined && access.tokens !== undefined) {
    const user = access.tokens[token];
    if (user === undefined) throw unauthorized();
    return user;
  }
  const byCertificate = access.clientCertificates === true ? certificateUser(socket) : undefined;
  if (byCertificate !== undefined) return byCertificate;
  if (access.anonymous !== true) throw unauthorized();
  return ANONYMOUS;
}

/** undefined when the client shows none. Checked at each request: a certificate can expire while its connection lives. */
function certificateUser(socket: IncomingMessage["socket"]): string | undefined {
  if (!(socket instanceof TLSSocket)) return undefined;
  const certificate = socket.getPeerCertificate();
  if (Object.keys(certificate).length === 0) return undefined;
  if (!socket.authorized || Date.parse(certificate.valid_to) < Date.now()) throw unauthorized();
  return [certificate.subject.CN].flat()[0] ?? "";
}

function has(names: readonly string[], name: string): boolean {
  return names.includes(name) || names.includes("*");
}
