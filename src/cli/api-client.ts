// Asks an agent over its unix socket. Never retries: the caller is a person, or a script that can.
import { type IncomingMessage, request } from "node:http";
import { FAILURES, Failure, type FailureCode } from "../lib/errors.ts";
import { patience } from "../lib/patience.ts";

const TIMEOUT_MS = patience(10_000);

/** The JSON of `path` ("/api/v1/status"). @throws Failure "unreachable", "timeout", or what the agent answered */
export async function askAgent<T>(socketPath: string, path: string): Promise<T> {
  const { status, text } = await get(socketPath, path);
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (cause) {
    const message = `could not understand what ${socketPath} answered: it is no Millrace agent`;
    throw new Failure("unreachable", socketPath, message, { cause });
  }
  if (status === 200) return body as T;
  const { code, message } = body as { code?: string; message?: string };
  const known = code !== undefined && Object.hasOwn(FAILURES, code) ? (code as FailureCode) : "unreachable";
  throw new Failure(known, path, message ?? `could not ask the agent: it answered ${status}`);
}

async function get(socketPath: string, path: string): Promise<{ status: number; text: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  request({ socketPath, path, signal, headers: { host: "localhost" } }, resolve)
    .on("error", reject)
    .end();
  try {
    const response = await promise;
    response.setEncoding("utf8");
    let text = "";
    for await (const piece of response) text += piece as string;
    return { status: response.statusCode ?? 0, text };
  } catch (cause) {
    if (signal.aborted) {
      const message = `could not ask the agent at ${socketPath}: no answer within ${TIMEOUT_MS / 1000} s`;
      throw new Failure("timeout", socketPath, message, { cause });
    }
    throw new Failure("unreachable", socketPath, `could not ask the agent at ${socketPath}: ${whyUnreachable(cause)}`, {
      cause,
    });
  }
}

function whyUnreachable(cause: unknown): string {
  const code = (cause as NodeJS.ErrnoException).code;
  switch (code) {
    case "ENOENT":
    case "ECONNREFUSED":
      return "no agent is running there; millrace run starts one, and --name LAB asks one of a lab";
    case "EACCES":
      return "only the agent's own user may; try sudo";
    default:
      return code ?? String(cause);
  }
}
