// Requests that write, and the small reads that they need: each bounded in time, all of one writer at a bounded rate. What it
// is asked must do no harm when it is done twice.
import { parsed, problemOf, readSome, type Subject, type Verb } from "./answers.ts";
import { ApiError } from "./api-error.ts";
import { type Clock, sleep } from "./clock.ts";
import type { Demand } from "./request-head.ts";
import { createTokenBucket } from "./token-bucket.ts";
import type { ApiTransport } from "./transport.ts";

const TIMEOUT_MS = 10_000;
/** Bytes; a page of a list is the largest. */
const ANSWER_LIMIT = 8 * 1024 * 1024;

/** An object, or a list, as the API server answers it; nothing of it is known to be there. */
export type Loose = Readonly<Record<string, unknown>>;

export interface ApiWriterOptions {
  readonly transport: Pick<ApiTransport, "send">;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Requests at once, and from then on in a second. */
  readonly burst: number;
  readonly perSecond: number;
}

export interface ApiWrite {
  readonly verb: Verb;
  /** Absolute, with its query. */
  readonly path: string;
  readonly body?: object;
  readonly subject: Subject;
  /** Answers that are no failure, beside 200, 201 and 202. */
  readonly expects?: readonly number[];
}

export interface ApiAnswer {
  readonly status: number;
  readonly object: Loose;
}

export interface ApiWriter {
  /** Waits its turn. Rejects with an ApiError when there is no answer, with an ApiProblem for one that is not expected. */
  ask(write: ApiWrite): Promise<ApiAnswer>;
}

const METHODS: Readonly<Record<Verb, Demand["method"]>> = {
  list: "GET",
  watch: "GET",
  create: "POST",
  patch: "PATCH",
  delete: "DELETE",
};

export function createApiWriter({ transport, clock, signal, burst, perSecond }: ApiWriterOptions): ApiWriter {
  const bucket = createTokenBucket(perSecond, burst, clock.now);
  return {
    async ask({ verb, path, body, subject, expects = [] }) {
      for (let wait = bucket.take(); wait > 0; wait = bucket.take()) {
        await sleep(clock, wait, signal);
        signal.throwIfAborted();
      }
      const method = METHODS[verb];
      const demand: Demand = { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) };
      const given = new AbortController();
      const expiry = clock.after(2 * TIMEOUT_MS, () =>
        given.abort(new ApiError("timeout", `could not ${verb} ${subject.name}: no whole answer in time`)),
      );
      try {
        const response = await transport.send(demand, path, {
          signal: AbortSignal.any([signal, given.signal]),
          headTimeoutMs: TIMEOUT_MS,
          resource: subject.name,
          verb: method === "GET" ? "LIST" : method,
        });
        const { status } = response;
        if (![200, 201, 202, ...expects].includes(status)) throw await problemOf(response, subject, verb);
        const object = parsed(await readSome(response.body, ANSWER_LIMIT));
        return { status, object: typeof object === "object" && object !== null ? (object as Loose) : {} };
      } finally {
        expiry.stop();
      }
    },
  };
}
