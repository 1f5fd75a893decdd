// What went wrong with an answer of the API server, by name. That no answer came at all is an ApiError (api-error.ts).
import type { ApiErrorKind } from "./api-error.ts";

/**
 * unauthorized: 401; forbidden: 403; not-found: 404; bad-request: 400; refused: 422; gone: 410, the version is no longer kept;
 * throttled: 429; server-error: 5xx, or an ERROR event; version-too-large: the server knows only older versions, as after
 * an etcd was restored; garbage: no JSON, or not what was asked for; truncated: ended within an object or a list;
 * too-long: one object over the limit; silent: neither event nor bookmark for too long; out-of-order: versions went back.
 */
export type AnswerProblem =
  | "unauthorized"
  | "forbidden"
  | "not-found"
  | "bad-request"
  | "refused"
  | "gone"
  | "throttled"
  | "server-error"
  | "version-too-large"
  | "garbage"
  | "truncated"
  | "too-long"
  | "silent"
  | "out-of-order";

export type ProblemReason = ApiErrorKind | AnswerProblem;

export class ApiProblem extends Error {
  override readonly name = "ApiProblem";
  readonly reason: AnswerProblem;
  /** What the server asked for by Retry-After, else 0. */
  readonly retryAfterMs: number;

  constructor(reason: AnswerProblem, message: string, options: { retryAfterMs?: number; cause?: unknown } = {}) {
    super(message, options);
    this.reason = reason;
    this.retryAfterMs = options.retryAfterMs ?? 0;
  }
}

/** The beginning of a foreign text, fit for one line of a message. */
export function excerpt(text: string, most = 80): string {
  const line = text
    .slice(0, most * 4)
    .replace(/[\s\u0000-\u001f\u007f-\u009f]+/g, " ")
    .trim();
  return line.length > most ? `${line.slice(0, most)}…` : line;
}

/** Parses what ought to be JSON; ApiProblem "garbage" that shows its beginning when it is not. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new ApiProblem("garbage", `the API server's answer is not JSON: "${excerpt(text)}"`, { cause });
  }
}
