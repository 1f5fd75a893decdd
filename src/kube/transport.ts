// Requests to the Kubernetes API over keep-alive connections: the next server after a failed one, credentials that
// rotate, one second try after a 401, and a sentence for every way to have no answer. It never looks into a body.
import type { IncomingMessage } from "node:http";
import type { LookupFunction } from "node:net";
import { ApiError } from "./api-error.ts";
import type { ApiServer } from "./api-servers.ts";
import { createClientStats, type TransportStats } from "./client-stats.ts";
import { type Access, type Connection, type Credentials, isExpired } from "./connection.ts";
import { createConnectionPools } from "./connection-pools.ts";
import { expiredClientCertificate, explainNoHead, noAnswer, type Refusal } from "./explain-failure.ts";
import { type Demand, NoHead, requestHead } from "./request-head.ts";
import { createSharedLookup } from "./shared-lookup.ts";

export interface ApiResponse {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /**
   * Body chunks; ends, or throws an ApiError when the connection does. To be read to its end or left early, which closes the
   * connection; one that is never read holds its connection until the signal ends it.
   */
  readonly body: AsyncIterable<Uint8Array>;
}

export interface ApiRequestOptions {
  /** Ends the request, its body included; the call and the body then reject with the signal's reason. */
  readonly signal: AbortSignal;
  /** For credentials, connecting and the response's head together. */
  readonly headTimeoutMs: number;
  /** For sentences, as "endpointslices". */
  readonly resource: string;
  /** What is done, for whoever stands in for a transport; metrics have the method. */
  readonly verb: "LIST" | "WATCH" | "GET" | "POST" | "PATCH" | "DELETE";
}

export interface ApiTransport {
  /** Resolves at the response's head, whatever its status; otherwise rejects with an ApiError. `path` is absolute. */
  get(path: string, query: Readonly<Record<string, string>>, options: ApiRequestOptions): Promise<ApiResponse>;
  /** As `get`, for what may be done twice without harm: a request whose answer was lost is sent again, to another server too. */
  send(demand: Demand, path: string, options: ApiRequestOptions): Promise<ApiResponse>;
  stats(): TransportStats;
  /** Ends all connections; requests under way reject. */
  close(): void;
}

/** One request, over all its attempts. */
interface Errand {
  readonly demand: Demand;
  /** With its query. */
  readonly path: string;
  readonly options: ApiRequestOptions;
  /** By the clock of performance.now(). */
  readonly deadlineMs: number;
}

/** Its body is still to come. */
interface Answer {
  readonly server: ApiServer;
  readonly message: IncomingMessage;
}

/** `userAgent`: "millrace/<version>". `lookup`: as dns.lookup, for tests. */
export function createTransport(connection: Connection, userAgent: string, lookup?: LookupFunction): ApiTransport {
  const sharedLookup = createSharedLookup(lookup);
  const stats = createClientStats();
  const pools = createConnectionPools();
  /** By URL: when the server last failed, by the clock of performance.now(); absent since it answered. */
  const failures = new Map<string, number>();
  let answeredLast = "";
  let closed = false;

  /** As given, those that failed last. So one that answers is kept to, and of those that don't each has its turn. */
  function ordered(servers: readonly ApiServer[]): ApiServer[] {
    const failedMs = ({ url }: ApiServer) => failures.get(url.href) ?? 0;
    return servers.toSorted((a, b) => failedMs(a) - failedMs(b));
  }

  /** The first answer of a server, whatever it says. */
  async function ask({ servers, credentials }: Access, errand: Errand): Promise<Answer> {
    const refusals: Refusal[] = [];
    const queue = ordered(servers);
    for (const [at, server] of queue.entries()) {
      const leftMs = errand.deadlineMs - performance.now();
      if (leftMs <= 0 && refusals.length > 0) break;
      try {
        return await askServer(server, credentials, errand, leftMs / (queue.length - at));
      } catch (error) {
        if (!(error instanceof NoHead)) throw error;
        refusals.push({
          server,
          explanation: await explainNoHead(error, server, credentials, errand.options.headTimeoutMs),
        });
      }
    }
    throw noAnswer(refusals);
  }

  async function askServer(
    server: ApiServer,
    credentials: Credentials,
    errand: Errand,
    connectTimeoutMs: number,
  ): Promise<Answer> {
    const { signal } = errand.options;
    const { method } = errand.demand;
    const startedMs = performance.now();
    const { agent, release } = pools.lease(server, credentials);
    const count = (code: string) => stats.count(method, server.url.host, code, (performance.now() - startedMs) / 1000);
    try {
      const headTimeoutMs = errand.deadlineMs - startedMs;
      const headers = headersFor(server, credentials);
      const message = await requestHead({
        server,
        ...errand.demand,
        path: errand.path,
        headers,
        agent,
        lookup: sharedLookup,
        signal,
        connectTimeoutMs,
        headTimeoutMs,
      });
      message.once("close", release);
      count(String(message.statusCode));
      failures.delete(server.url.href);
      answeredLast = server.url.host;
      return { server, message };
    } catch (error) {
      release();
      if (signal.aborted) throw signal.reason;
      if (closed) throw closedError();
      count("<error>");
      if (!(error instanceof NoHead)) throw error;
      if (error.reused && error.reason === "failed") return askServer(server, credentials, errand, connectTimeoutMs);
      failures.set(server.url.href, performance.now());
      throw error;
    }
  }

  function headersFor({ url }: ApiServer, { headers }: Credentials): Record<string, string | readonly string[]> {
    const common = { Accept: "application/json", "User-Agent": userAgent };
    // What proves who we are never crosses a network in clear.
    const secret = url.protocol === "https:" || /^(127\..*|localhost|\[::1\])$/.test(url.hostname);
    return secret ? { ...common, ...headers } : common;
  }

  /** A 401 gets one more try when there are newer credentials. */
  async function askAuthenticated(errand: Errand): Promise<Answer> {
    const access = await inTime(connection.access(), errand);
    const answer = await ask(access, errand);
    if (answer.message.statusCode !== 401) return answer;
    try {
      const renewed = await inTime(connection.renew(access.credentials), errand);
      if (renewed.credentials.digest === access.credentials.digest) return answerOrExpiry(answer, access.credentials);
      answer.message.destroy();
      return answerOrExpiry(await ask(renewed, errand), renewed.credentials);
    } catch (error) {
      answer.message.destroy();
      throw error;
    }
  }

  async function run(demand: Demand, path: string, options: ApiRequestOptions): Promise<ApiResponse> {
    options.signal.throwIfAborted();
    if (closed) throw closedError();
    const deadlineMs = performance.now() + options.headTimeoutMs;
    return responseOf(await askAuthenticated({ demand, path, options, deadlineMs }), options);
  }

  return {
    async get(path, query, options) {
      const search = new URLSearchParams(query).toString();
      return run({ method: "GET" }, search === "" ? path : `${path}?${search}`, options);
    },
    send: run,
    stats: () => ({
      requests: stats.requests(),
      durations: stats.durations(),
      server: answeredLast,
      certificateExpiresAt: connection.certificateExpiresAt(),
      execPluginCalls: connection.execPluginCalls(),
      reloads: connection.reloads(),
    }),
    close() {
      closed = true;
      pools.close();
    },
  };
}

function closedError(): ApiError {
  return new ApiError("unreachable", "could not reach the API server: the transport is closed");
}

/** An API server tells 401 of a client certificate that has expired; it is then no answer, but has a sentence of its own. */
function answerOrExpiry(answer: Answer, { certificate }: Credentials): Answer {
  const { server, message } = answer;
  if (message.statusCode !== 401 || !certificate || !isExpired(certificate)) return answer;
  message.destroy();
  throw noAnswer([{ server, explanation: expiredClientCertificate(certificate) }]);
}

/** Credentials have their share in the time for the head: an exec plugin may take as long as it likes. */
function inTime<T>(work: Promise<T>, { options: { signal, headTimeoutMs }, deadlineMs }: Errand): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const expire = () => {
    const message = `could not get credentials for the API server: nothing within ${headTimeoutMs / 1000} s; look at the exec plugin`;
    reject(new ApiError("timeout", message));
  };
  const abort = () => reject(signal.reason);
  const timer = setTimeout(expire, deadlineMs - performance.now());
  signal.addEventListener("abort", abort, { once: true });
  work.then(resolve, reject);
  return promise.finally(() => {
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
  });
}

function responseOf({ server, message }: Answer, { signal, resource }: ApiRequestOptions): ApiResponse {
  async function* chunks(): AsyncGenerator<Uint8Array> {
    try {
      yield* message as AsyncIterable<Uint8Array>;
    } catch (cause) {
      if (signal.aborted) throw signal.reason;
      const reason = `the connection to ${server.url.host} broke in the middle of an answer about ${resource}`;
      throw new ApiError("unreachable", `could not read from the API server: ${reason}; look at its log`, { cause });
    }
  }
  const headers = Object.entries(message.headers).map(([name, value]) => [name, [value ?? ""].flat().join(", ")]);
  return {
    status: message.statusCode ?? 0,
    headers: Object.fromEntries(headers) as Record<string, string>,
    body: { [Symbol.asyncIterator]: chunks },
  };
}
