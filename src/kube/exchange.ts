// One request and its answer, read as fast as there is room for what it holds, and given up when it falls silent.
import { problemOf, type Verb } from "./answers.ts";
import { ApiProblem } from "./api-problem.ts";
import type { Clock, Timer } from "./clock.ts";
import type { Resource } from "./resources.ts";
import type { ApiTransport } from "./transport.ts";

const HEAD_TIMEOUT_MS = 30_000;

export interface ExchangeOptions {
  readonly resource: Resource;
  readonly transport: Pick<ApiTransport, "get">;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Resolves, or is undefined, when more may be read. */
  readonly room: () => Promise<void> | undefined;
}

export interface Exchange {
  readonly verb: Verb;
  readonly query: Readonly<Record<string, string>>;
  /** How long the server may say nothing; asked before each chunk. */
  silenceMs(): number;
  /** The answer is a 200. */
  onHead(): void;
  /** What it throws ends the exchange. */
  take(chunk: Uint8Array): void;
}

/** Resolves at the body's end. Rejects with an ApiError, with the ApiProblem that the answer is, or with what `take` threw. */
export async function runExchange(options: ExchangeOptions, exchange: Exchange): Promise<void> {
  const { resource, transport, clock, signal, room } = options;
  const { verb, query } = exchange;
  const given = new AbortController();
  let silence: Timer | undefined;
  const listen = (): void => {
    silence?.stop();
    silence = clock.after(exchange.silenceMs(), () =>
      given.abort(new ApiProblem("silent", `could not ${verb} ${resource.name}: the API server fell silent`)),
    );
  };
  try {
    const response = await transport.get(resource.path, query, {
      signal: AbortSignal.any([signal, given.signal]),
      headTimeoutMs: HEAD_TIMEOUT_MS,
      resource: resource.name,
      verb: verb === "list" ? "LIST" : "WATCH",
    });
    listen();
    if (response.status !== 200) throw await problemOf(response, resource, verb);
    exchange.onHead();
    for await (const chunk of response.body) {
      exchange.take(chunk);
      // Waiting for room is no silence of the server.
      silence?.stop();
      await room();
      listen();
    }
  } finally {
    silence?.stop();
  }
}
