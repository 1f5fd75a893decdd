// Asks an agent over its unix socket. Never retries: the caller is a person, or a script that can.
import { type IncomingMessage, request } from "node:http";
import { FAILURES, Failure, type FailureCode } from "../lib/errors.ts";
import { patience } from "../lib/patience.ts";

const TIMEOUT_MS = patience(10_000);

const START_ONE = "millrace run starts one, and --name LAB asks one of a lab";

/**
 * The JSON of `path` ("/api/v1/status"). `nobodyThere`: what to do when no agent runs.
 * @throws Failure "unreachable", "timeout", or what the agent answered
 */
export async function askAgent<T>(socketPath: string, path: string, nobodyThere = START_ONE): Promise<T> {
  return (await ask<T>(socketPath, path, nobodyThere)).body;
}

/** The records of `path`, and how many there are beside those: as many, where the agent does not tell. @throws as askAgent */
export async function askList<T>(
  socketPath: string,
  path: string,
  nobodyThere = START_ONE,
): Promise<{ readonly records: readonly T[]; readonly matched: number }> {
  const { body: records, matched } = await ask<readonly T[]>(socketPath, path, nobodyThere);
  return { records, matched: matched ?? records.length };
}

async function ask<T>(
  socketPath: string,
  path: string,
  nobodyThere: string,
): Promise<{ readonly body: T; readonly matched: number | undefined }> {
  const { status, text, matched } = await get(socketPath, path, nobodyThere);
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (cause) {
    const message = `could not understand what ${socketPath} answered: it is no Millrace agent`;
    throw new Failure("unreachable", socketPath, message, { cause });
  }
  if (status === 200) return { body: body as T, matched };
  const { code, message } = body as { code?: string; message?: string };
  const known = code !== undefined && Object.hasOwn(FAILURES, code) ? (code as FailureCode) : "unreachable";
  throw new Failure(known, path, message ?? `could not ask the agent: it answered ${status}`);
}

async function get(
  socketPath: string,
  path: string,
  nobodyThere: string,
): Promise<{ status: number; text: string; matched: number | undefined }> {
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
    const matched = response.trailers["millrace-matched"];
    return { status: response.statusCode ?? 0, text, matched: matched === undefined ? undefined : Number(matched) };
  } catch (cause) {
    if (signal.aborted) {
      const message = `could not ask the agent at ${socketPath}: no answer within ${TIMEOUT_MS / 1000} s`;
      throw new Failure("timeout", socketPath, message, { cause });
    }
    const reason = whyUnreachable(cause, nobodyThere);
    throw new Failure("unreachable", socketPath, `could not ask the agent at ${socketPath}: ${reason}`, { cause });
  }
}

function whyUnreachable(cause: unknown, nobodyThere: string): string {
  const code = (cause as NodeJS.ErrnoException).code;
  switch (code) {
    case "ENOENT":
    case "ECONNREFUSED":
      return `no agent is running there; ${nobodyThere}`;
    case "EACCES":
      return "only the agent's own user may; try sudo";
    default:
      return code ?? String(cause);
  }
}
