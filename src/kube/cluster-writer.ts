// What the controller writes to the Kubernetes API, and the few objects that it reads one by one: client-node's typed API over our
// own connections, so that servers and credentials are the readers'. Each call is bounded in time and says what became of it.
import { ApiException } from "@kubernetes/client-node/dist/gen/apis/exception.js";
import { createConfiguration } from "@kubernetes/client-node/dist/gen/configuration.js";
import { type RequestContext, ResponseContext, wrapHttpLibrary } from "@kubernetes/client-node/dist/gen/http/http.js";
import { ServerConfiguration } from "@kubernetes/client-node/dist/gen/servers.js";
import {
  ObjectCoordinationV1Api,
  ObjectCoreV1Api,
  ObjectCustomObjectsApi,
} from "@kubernetes/client-node/dist/gen/types/ObjectParamAPI.js";
import { V1MicroTime } from "@kubernetes/client-node/dist/types.js";
import { parsed, readSome } from "./answers.ts";
import { ApiError } from "./api-error.ts";
import { excerpt } from "./api-problem.ts";
import type { Clock } from "./clock.ts";
import type { Demand } from "./request-head.ts";
import type { ApiTransport } from "./transport.ts";

const ANSWER_LIMIT = 4 * 1024 * 1024;
const METALLB = { group: "metallb.io", version: "v1beta1" } as const;

/**
 * conflict: the object has another version than the one that was given, or exists already; absent: there is none of this name;
 * refused: the server will not have it, now or later; unknown: no answer, or one that leaves open what was done.
 */
export type Attempt<T> =
  | { readonly outcome: "done"; readonly object: T }
  | { readonly outcome: "conflict" | "absent" | "refused" | "unknown"; readonly message: string };

/** metadata and spec of an object, and what else is sent. Merge patches (RFC 7386): null removes a field. */
export type Body = Readonly<Record<string, unknown>>;

export interface Named {
  readonly namespace: string;
  readonly name: string;
}

/** What is read of an answer; nothing of it is known to be there. */
export interface Answered {
  readonly metadata?: { readonly resourceVersion?: string; readonly annotations?: Readonly<Record<string, string>> };
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly data?: Readonly<Record<string, string>>;
  readonly count?: number;
}

export interface ClusterWriter {
  patchServiceStatus(which: Named, body: Body): Promise<Attempt<Answered>>;
  patchPoolStatus(which: Named, body: Body): Promise<Attempt<Answered>>;
  readLease(which: Named): Promise<Attempt<Answered>>;
  createLease(namespace: string, body: Body): Promise<Attempt<Answered>>;
  patchLease(which: Named, body: Body): Promise<Attempt<Answered>>;
  readSecret(which: Named): Promise<Attempt<Answered>>;
  createSecret(namespace: string, body: Body): Promise<Attempt<Answered>>;
  patchSecret(which: Named, body: Body): Promise<Attempt<Answered>>;
  readEvent(which: Named): Promise<Attempt<Answered>>;
  createEvent(namespace: string, body: Body): Promise<Attempt<Answered>>;
  patchEvent(which: Named, body: Body): Promise<Attempt<Answered>>;
  createConfigurationState(namespace: string, body: Body): Promise<Attempt<Answered>>;
  patchConfigurationStateStatus(which: Named, body: Body): Promise<Attempt<Answered>>;
  /** By outcome and kind of write, since the start. */
  counts(): readonly { readonly write: string; readonly outcome: Attempt<never>["outcome"]; readonly count: number }[];
}

export interface ClusterWriterOptions {
  readonly transport: Pick<ApiTransport, "send">;
  readonly clock: Clock;
  readonly fieldManager: string;
  /** Of one write, its answer included. */
  readonly timeoutMs: number;
  /** Ends what is under way; its outcome is then unknown. */
  readonly signal: AbortSignal;
}

function outcomeOf(code: number): "conflict" | "absent" | "refused" | "unknown" {
  if (code === 409) return "conflict";
  if (code === 404) return "absent";
  return code >= 400 && code < 500 && code !== 408 && code !== 429 ? "refused" : "unknown";
}

/** A Lease's times have microseconds, which the typed client writes of its own class alone. */
function withMicroTimes(spec: Body): Body {
  const time = (text: unknown): V1MicroTime => new V1MicroTime(String(text));
  return { ...spec, acquireTime: time(spec["acquireTime"]), renewTime: time(spec["renewTime"]) };
}

function messageOf({ code, body }: ApiException<unknown>): string {
  const status = (typeof body === "string" ? parsed(body) : body) as { message?: string } | undefined;
  const said = status?.message ?? "";
  return excerpt(`${code} ${said}`, 300);
}

const NO_OBJECT = "the answer is no object of the API";

/** A server that is never asked: the path is all that counts. */
const NOWHERE = "http://api.invalid";

export function createClusterWriter(options: ClusterWriterOptions): ClusterWriter {
  const { transport, clock, fieldManager, timeoutMs, signal } = options;
  const counted = new Map<string, { write: string; outcome: Attempt<never>["outcome"]; count: number }>();

  async function send(request: RequestContext): Promise<ResponseContext> {
    const { pathname, search } = new URL(request.getUrl());
    const method = request.getHttpMethod() as Demand["method"];
    const body = request.getBody();
    const given = new AbortController();
    const expiry = clock.after(timeoutMs, () =>
      given.abort(new ApiError("timeout", `could not write: no answer within ${timeoutMs / 1000} s`)),
    );
    try {
      const path = `${pathname}${search}`;
      const demand = { method, ...(typeof body === "string" ? { body } : {}) };
      const response = await transport.send(demand, path, {
        signal: AbortSignal.any([signal, given.signal]),
        headTimeoutMs: timeoutMs,
        resource: pathname.split("/").at(-1) ?? "",
        verb: method,
      });
      const text = await readSome(response.body, ANSWER_LIMIT);
      const headers = { "content-type": "application/json", ...response.headers };
      return new ResponseContext(response.status, headers, {
        text: async () => text,
        binary: async () => Buffer.from(text),
        stream: () => null,
      });
    } finally {
      expiry.stop();
    }
  }

  const configuration = createConfiguration({
    baseServer: new ServerConfiguration(NOWHERE, {}),
    httpApi: wrapHttpLibrary({ send }),
  });
  const core = new ObjectCoreV1Api(configuration);
  const coordination = new ObjectCoordinationV1Api(configuration);
  const custom = new ObjectCustomObjectsApi(configuration);

  function count(write: string, outcome: Attempt<never>["outcome"]): void {
    const row = counted.get(`${write} ${outcome}`) ?? { write, outcome, count: 0 };
    row.count++;
    counted.set(`${write} ${outcome}`, row);
  }

  /** `what`: the kind of write, as "status of Service". */
  async function attempt(what: string, call: () => Promise<unknown>): Promise<Attempt<Answered>> {
    let result: Attempt<Answered>;
    try {
      const object = (await call()) as Answered | null | undefined;
      // A proxy's page may come with 200 as well.
      const isObject = typeof object?.metadata?.resourceVersion === "string";
      result = isObject ? { outcome: "done", object } : { outcome: "unknown", message: NO_OBJECT };
    } catch (error) {
      if (error instanceof ApiException) result = { outcome: outcomeOf(error.code), message: messageOf(error) };
      else if (error instanceof ApiError) result = { outcome: "unknown", message: error.message };
      else if (signal.aborted) result = { outcome: "unknown", message: "could not write: it was given up" };
      // What the typed client makes of an answer that is no JSON, or not such as it knows.
      else result = { outcome: "unknown", message: `${NO_OBJECT}: ${excerpt(String(error), 300)}` };
    }
    count(what, result.outcome);
    return result;
  }

  const by = { fieldManager };
  return {
    patchServiceStatus: (which, body) =>
      attempt("service_status", () => core.patchNamespacedServiceStatus({ ...which, body, ...by })),
    patchPoolStatus: (which, body) =>
      attempt("pool_status", () =>
        custom.patchNamespacedCustomObjectStatus({ ...METALLB, plural: "ipaddresspools", ...which, body, ...by }),
      ),
    readLease: (which) => attempt("lease", () => coordination.readNamespacedLease(which)),
    createLease: (namespace, { metadata, spec }) => {
      const body = { metadata, spec: withMicroTimes(spec as Body) };
      return attempt("lease", () => coordination.createNamespacedLease({ namespace, body: body as never, ...by }));
    },
    patchLease: (which, body) => attempt("lease", () => coordination.patchNamespacedLease({ ...which, body, ...by })),
    readSecret: (which) => attempt("secret", () => core.readNamespacedSecret(which)),
    createSecret: (namespace, body) =>
      attempt("secret", () => core.createNamespacedSecret({ namespace, body: body as never, ...by })),
    patchSecret: (which, body) => attempt("secret", () => core.patchNamespacedSecret({ ...which, body, ...by })),
    readEvent: (which) => attempt("event", () => core.readNamespacedEvent(which)),
    createEvent: (namespace, body) =>
      attempt("event", () => core.createNamespacedEvent({ namespace, body: body as never, ...by })),
    patchEvent: (which, body) => attempt("event", () => core.patchNamespacedEvent({ ...which, body, ...by })),
    createConfigurationState: (namespace, body) =>
      attempt("configuration_state", () =>
        custom.createNamespacedCustomObject({ ...METALLB, plural: "configurationstates", namespace, body, ...by }),
      ),
    patchConfigurationStateStatus: (which, body) =>
      attempt("configuration_state", () =>
        custom.patchNamespacedCustomObjectStatus({ ...METALLB, plural: "configurationstates", ...which, body, ...by }),
      ),
    counts: () => [...counted.values()],
  };
}
