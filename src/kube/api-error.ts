// Why an API server could not be asked. An answer with a bad status (401, 403, 500) is an answer, never one of these.

/**
 * unreachable: no connection, or it ended before or within an answer; tls: the server's certificate or ours is refused, or
 * expired; credentials: none could be had (exec plugin, file); timeout: no head of an answer in time.
 */
export type ApiErrorKind = "unreachable" | "tls" | "credentials" | "timeout";

/** Message: one sentence for the operator, "could not reach …: what is wrong; what to do". */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly kind: ApiErrorKind;

  constructor(kind: ApiErrorKind, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.kind = kind;
  }
}

/** The error's words, of OpenSSL's without thread number and source line: equal for equal causes. */
export function reasonOf(error: Error): string {
  const { reason } = error as { reason?: unknown };
  return typeof reason === "string" ? reason : error.message.trim();
}
