// What an answer of the API server that is not a list means: its status, its body (a metav1.Status, or a proxy's page), and
// the ERROR event of a watch, which holds the same Status.
import { type AnswerProblem, ApiProblem, excerpt } from "./api-problem.ts";
import { type Resource, resourceTitle } from "./resources.ts";
import type { ApiResponse } from "./transport.ts";

export type Verb = "list" | "watch" | "create" | "patch" | "delete";

/** What was asked about, for sentences. */
export interface Subject extends Pick<Resource, "group" | "path"> {
  readonly name: string;
  /** Absent: the whole cluster. */
  readonly namespace?: string;
}

const MESSAGE_LENGTH = 300;
const BODY_LIMIT = 64 * 1024;
/** A server that asks for more than this is asked again nevertheless. */
const MAX_RETRY_AFTER_MS = 120_000;

interface Status {
  readonly code: number;
  readonly message: string;
  readonly tooLargeVersion: boolean;
}

function record(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}

function statusOf(body: unknown, code: number): Status {
  const { message, code: written, details } = record(body);
  const { causes } = record(details);
  return {
    code: typeof written === "number" ? written : code,
    message: typeof message === "string" ? excerpt(message, MESSAGE_LENGTH) : "",
    // A watch cache that is behind the version asked for says so with 504 and this cause.
    tooLargeVersion:
      Array.isArray(causes) && causes.some((cause) => record(cause)["reason"] === "ResourceVersionTooLarge"),
  };
}

function reasonOf({ code, tooLargeVersion }: Status): AnswerProblem {
  if (tooLargeVersion) return "version-too-large";
  switch (code) {
    case 400:
      return "bad-request";
    case 422:
      return "refused";
    case 401:
      return "unauthorized";
    case 403:
      return "forbidden";
    case 404:
      return "not-found";
    case 410:
      return "gone";
    case 429:
      return "throttled";
    default:
      return code >= 500 ? "server-error" : "garbage";
  }
}

function sentence(reason: AnswerProblem, status: Status, resource: Subject, verb: Verb): string {
  const said = status.message === "" ? `status ${status.code}` : `${status.code} ${status.message}`;
  const could = `could not ${verb} ${resource.name}`;
  switch (reason) {
    case "unauthorized":
      return `${could}: the API server does not accept our credentials (${said}); renew the kubeconfig or the service account's token`;
    case "forbidden":
      return `cannot ${verb} ${resourceTitle(resource)} ${scopeOf(resource)}: ${said}; grant it to our account by a ${resource.namespace === undefined ? "ClusterRole" : "Role or ClusterRole"}`;
    case "not-found":
      return `${could}: the API server does not know ${resource.path} (${said}); is it a Kubernetes API server?`;
    case "throttled":
      return `${could}: the API server asks us to wait (${said})`;
    case "gone":
      return `${could}: the version that we had is no longer kept (${said})`;
    case "version-too-large":
      return `${could}: the API server knows only older versions than ours (${said})`;
    case "server-error":
      return `${could}: the API server failed (${said})`;
    default:
      return `${could}: the API server refused (${said})`;
  }
}

function scopeOf({ namespace }: Subject): string {
  return namespace === undefined ? "at cluster scope" : `in namespace ${namespace}`;
}

function retryAfterMs(headers: Readonly<Record<string, string>>): number {
  const text = headers["retry-after"] ?? "";
  return /^\d{1,9}$/.test(text) ? Math.min(Number(text) * 1000, MAX_RETRY_AFTER_MS) : 0;
}

/** The beginning of a body as text. */
export async function readSome(body: AsyncIterable<Uint8Array>, limit = BODY_LIMIT): Promise<string> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of body) {
    parts.push(chunk);
    length += chunk.length;
    if (length >= limit) break;
  }
  return Buffer.concat(parts).toString("utf8");
}

/** JSON; what is none becomes a message. */
export function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return { message: text };
  }
}

/** The problem that an answer other than 200 is. Reads its body. */
export async function problemOf(response: ApiResponse, resource: Subject, verb: Verb): Promise<ApiProblem> {
  const body = parsed(await readSome(response.body));
  // What counts is the status of the answer itself, whatever the body says.
  const status = { ...statusOf(body, response.status), code: response.status };
  const reason = reasonOf(status);
  return new ApiProblem(reason, sentence(reason, status, resource, verb), {
    retryAfterMs: retryAfterMs(response.headers),
  });
}

/** The problem that the object of an ERROR event is. */
export function problemOfEvent(object: unknown, resource: Resource): ApiProblem {
  const status = statusOf(object, 500);
  const reason = reasonOf(status);
  return new ApiProblem(reason, sentence(reason, status, resource, "watch"));
}
