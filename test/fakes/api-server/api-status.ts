// Refusals as kube-apiserver words them: `Status` bodies of meta/v1, with code, reason and details.
import { qualifiedName, type Resource } from "./resources.ts";

export interface StatusCause {
  readonly reason?: string;
  readonly message: string;
  readonly field?: string;
}

export interface StatusDetails {
  readonly name?: string;
  readonly group?: string;
  readonly kind?: string;
  readonly causes?: readonly StatusCause[];
  readonly retryAfterSeconds?: number;
}

/** A request that is refused. Thrown before a response's head; within a watch it becomes an ERROR event. */
export class ApiStatus extends Error {
  override readonly name = "ApiStatus";
  readonly code: number;
  /** "" where the real server gives none. */
  readonly reason: string;
  readonly details: StatusDetails | undefined;
  /** A token to go on with after a 410 on a continued list. */
  readonly continueToken: string | undefined;

  constructor(code: number, reason: string, message: string, details?: StatusDetails, continueToken?: string) {
    super(message);
    this.code = code;
    this.reason = reason;
    this.details = details;
    this.continueToken = continueToken;
  }

  /** The body, without a newline; fields in the order in which Go writes them. */
  toJson(): string {
    return JSON.stringify({
      kind: "Status",
      apiVersion: "v1",
      metadata: this.continueToken === undefined ? {} : { continue: this.continueToken },
      status: "Failure",
      message: this.message,
      ...(this.reason === "" ? {} : { reason: this.reason }),
      ...(this.details === undefined ? {} : { details: this.details }),
      code: this.code,
    });
  }
}

export function badRequest(message: string): ApiStatus {
  return new ApiStatus(400, "BadRequest", message);
}

export function unauthorized(): ApiStatus {
  return new ApiStatus(401, "Unauthorized", "Unauthorized");
}

/** `namespace` and `name` are "" when the request names none. */
export function forbidden(user: string, verb: string, resource: Resource, namespace: string, name: string): ApiStatus {
  const where = namespace === "" ? "at the cluster scope" : `in the namespace "${namespace}"`;
  const object = name === "" ? "" : ` "${name}"`;
  const what = `User "${user}" cannot ${verb} resource "${resource.plural}" in API group "${resource.group}" ${where}`;
  return new ApiStatus(403, "Forbidden", `${qualifiedName(resource)}${object} is forbidden: ${what}`, {
    ...detailsOf(resource, name),
  });
}

/** A path outside resources, such as /version. */
export function forbiddenPath(user: string, path: string): ApiStatus {
  return new ApiStatus(403, "Forbidden", `forbidden: User "${user}" cannot get path "${path}"`, {});
}

export function notFound(resource: Resource, name: string): ApiStatus {
  return new ApiStatus(404, "NotFound", `${qualifiedName(resource)} "${name}" not found`, detailsOf(resource, name));
}

export function methodNotAllowed(): ApiStatus {
  return new ApiStatus(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {});
}

export function expired(message: string, continueToken?: string): ApiStatus {
  return new ApiStatus(410, "Expired", message, undefined, continueToken);
}

/** Several causes make one message in brackets. */
export function invalidListOptions(causes: readonly Required<StatusCause>[]): ApiStatus {
  const texts = causes.map(({ field, message }) => `${field}: ${message}`);
  const text = texts.length === 1 ? texts[0] : `[${texts.join(", ")}]`;
  return new ApiStatus(422, "Invalid", `ListOptions.meta.k8s.io "" is invalid: ${text}`, {
    group: "meta.k8s.io",
    kind: "ListOptions",
    causes,
  });
}

export function tooLargeResourceVersion(wanted: number, current: number): ApiStatus {
  return new ApiStatus(504, "Timeout", `Timeout: Too large resource version: ${wanted}, current: ${current}`, {
    causes: [{ reason: "ResourceVersionTooLarge", message: "Too large resource version" }],
    retryAfterSeconds: 1,
  });
}

/** To a streaming list, by a server whose etcd cannot tell how far a watch has come. */
export function storageLacksProgress(): ApiStatus {
  const lacks = "the required storage feature RequestWatchProgress is disabled";
  return new ApiStatus(500, "InternalError", `a watch stream was requested by the client but ${lacks}`);
}

/** What a server answers that is itself in trouble. */
export function serverTrouble(code: number, retryAfterSeconds?: number): ApiStatus {
  const details = retryAfterSeconds === undefined ? undefined : { retryAfterSeconds };
  if (code === 429) return new ApiStatus(429, "TooManyRequests", "storage is (re)initializing", details);
  if (code === 503) return new ApiStatus(503, "ServiceUnavailable", "apiserver is shutting down", details);
  return new ApiStatus(code, "", "etcdserver: request timed out", details);
}

function detailsOf(resource: Resource, name: string): StatusDetails {
  return {
    ...(name === "" ? {} : { name }),
    ...(resource.group === "" ? {} : { group: resource.group }),
    kind: resource.plural,
  };
}
