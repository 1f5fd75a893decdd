// A small API server in memory, by a clock that is turned: lists, watches, creates, merge patches with versions, status subresources.
// It refuses what the real one refuses, and each of its clients may have slow, lost or failing answers.

import { ApiError } from "../../src/kube/api-error.ts";
import type { Clock } from "../../src/kube/clock.ts";
import type { Demand } from "../../src/kube/request-head.ts";
import type { ApiRequestOptions, ApiResponse, ApiTransport } from "../../src/kube/transport.ts";

// biome-ignore lint/suspicious/noExplicitAny: tests look into objects as JSON has them
type Json = any;

export interface Stored {
  metadata: {
    name: string;
    namespace?: string;
    uid?: string;
    resourceVersion?: string;
    creationTimestamp?: string;
    annotations?: Record<string, string>;
    labels?: Record<string, string>;
  };
  [field: string]: Json;
}

interface Change {
  readonly revision: number;
  readonly plural: string;
  readonly type: "ADDED" | "MODIFIED" | "DELETED";
  readonly text: string;
  readonly name: string;
}

/** What befalls one write of a client. */
export interface WriteFault {
  /** Until the server has it, and until its answer is back. */
  readonly beforeMs?: number;
  readonly afterMs?: number;
  /** The server answers so instead of doing it. */
  readonly status?: number;
  /** The server does it; the answer is lost. */
  readonly isLost?: boolean;
}

export interface FakeClient extends ApiTransport {
  /** For each write, in order. */
  fault: (demand: Demand, path: string) => WriteFault;
  /** How late watches tell. */
  lagMs: () => number;
  /** It knows no streaming lists: they come in pages. */
  listsInPages: boolean;
  /** Answers this status to every read. */
  readStatus: number | undefined;
  get: ApiTransport["get"];
  send: ApiTransport["send"];
  /** Breaks its watches. */
  cut(): void;
}

export interface FakeCluster {
  put(plural: string, object: Stored): Stored;
  remove(plural: string, key: string): void;
  /** They are gone without a word, and whoever watches must list anew: an etcd that was restored. */
  forget(plural: string, names: readonly string[]): void;
  /** etcd was restored from a backup: an object, and the revision, are as they were. Watches go on. */
  restore(plural: string, object: Stored): void;
  get(plural: string, key: string): Stored | undefined;
  list(plural: string): readonly Stored[];
  client(): FakeClient;
  /** Of all clients, as "PATCH services/status default/a 200". */
  readonly writes: string[];
  /** Resources that the server does not have. */
  readonly absent: Set<string>;
  readonly revision: () => number;
  onChange: (plural: string, object: Stored | undefined, before: Stored | undefined) => void;
}

const PATH =
  /^\/(?:api|apis\/[^/]+)\/(v1|v1beta1|v1beta2)\/(?:namespaces\/([^/]+)\/)?([a-z0-9]+)(?:\/([^/]+))?(?:\/(status))?$/;
const keyOf = ({ metadata: { namespace, name } }: Stored): string =>
  namespace === undefined ? name : `${namespace}/${name}`;

function merge(target: Json, patch: Json): Json {
  if (typeof patch !== "object" || patch === null || Array.isArray(patch)) return patch;
  const result: Json = typeof target === "object" && target !== null && !Array.isArray(target) ? { ...target } : {};
  for (const [field, value] of Object.entries(patch)) {
    if (value === null) delete result[field];
    else result[field] = merge(result[field], value);
  }
  return result;
}

/** A Status, as the API server answers. */
class Refused extends Error {
  readonly code: number;
  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

export function createFakeCluster(clock: Clock): FakeCluster {
  const stores = new Map<string, Map<string, Stored>>();
  const history: Change[] = [];
  const listeners = new Set<() => void>();
  let revision = 100;
  let uids = 0;
  /** Versions before it are no longer known. */
  let oldest = 0;

  const of = (plural: string): Map<string, Stored> => {
    const store = stores.get(plural) ?? new Map<string, Stored>();
    stores.set(plural, store);
    return store;
  };

  function apply(plural: string, object: Stored | undefined, before: Stored | undefined): void {
    const shown = (object ?? before)!;
    const type = object === undefined ? "DELETED" : before === undefined ? "ADDED" : "MODIFIED";
    history.push({ revision, plural, type, text: JSON.stringify({ type, object: shown }), name: shown.metadata.name });
    cluster.onChange(plural, object, before);
    for (const listener of listeners) listener();
  }

  function store(plural: string, object: Stored): Stored {
    const key = keyOf(object);
    const before = of(plural).get(key);
    const { metadata } = object;
    const now: Stored = {
      ...object,
      metadata: {
        ...metadata,
        uid: before?.metadata.uid ?? `uid-${++uids}`,
        creationTimestamp: metadata.creationTimestamp ?? new Date(clock.wallMs()).toISOString(),
        resourceVersion: String(++revision),
      },
    };
    of(plural).set(key, now);
    apply(plural, now, before);
    return now;
  }

  function write({ method, body = "{}" }: Demand, path: string): Stored {
    const url = new URL(path, "http://fake");
    const [, , namespace, plural = "", name = "", sub] = PATH.exec(url.pathname) ?? [];
    if (plural === "" || cluster.absent.has(plural)) throw new Refused(404, "404 page not found");
    const given = JSON.parse(body) as Stored;
    const key = namespace === undefined ? name : `${namespace}/${name}`;
    if (method === "GET") {
      const found = of(plural).get(key);
      if (found === undefined) throw new Refused(404, `${plural} "${name}" not found`);
      return found;
    }
    if (method === "POST") {
      const made = `${namespace}/${given.metadata.name}`;
      if (of(plural).has(made)) throw new Refused(409, `${plural} "${given.metadata.name}" already exists`);
      const { status: _, ...rest } = given;
      return store(plural, {
        ...rest,
        metadata: { ...given.metadata, ...(namespace === undefined ? {} : { namespace }) },
      });
    }
    const before = of(plural).get(key);
    if (before === undefined) throw new Refused(404, `${plural} "${name}" not found`);
    const { resourceVersion, uid } = given.metadata ?? {};
    if (uid !== undefined && uid !== before.metadata.uid)
      throw new Refused(409, "Precondition failed: UID in precondition");
    if (resourceVersion !== undefined && resourceVersion !== before.metadata.resourceVersion) {
      throw new Refused(409, `Operation cannot be fulfilled on ${plural} "${name}": the object has been modified`);
    }
    const merged = merge(before, given) as Stored;
    // A status subresource takes the status and the metadata, everything else all but the status.
    const after: Stored =
      sub === "status"
        ? {
            ...before,
            metadata: merged.metadata,
            ...(merged["status"] === undefined ? {} : { status: merged["status"] }),
          }
        : { ...merged, ...(before["status"] === undefined ? {} : { status: before["status"] }) };
    if (plural === "services") refuseBadStatus(after);
    const same = (one: Stored): string =>
      JSON.stringify({ ...one, metadata: { ...one.metadata, resourceVersion: "" } });
    // What changes nothing makes no version.
    return same(after) === same(before) ? before : store(plural, after);
  }

  function refuseBadStatus(service: Stored): void {
    const ingress: { ip?: string }[] = service["status"]?.loadBalancer?.ingress ?? [];
    const isBad = ingress.some(({ ip }) => typeof ip !== "string" || ip === "");
    if (isBad || (ingress.length > 0 && service["spec"].type !== "LoadBalancer")) {
      throw new Refused(422, `Service "${service.metadata.name}" is invalid: status.loadBalancer.ingress`);
    }
  }

  const sleep = (ms: number): Promise<void> =>
    ms <= 0 ? Promise.resolve() : new Promise((resolve) => void clock.after(ms, resolve));

  async function* once(text: string): AsyncGenerator<Uint8Array> {
    yield Buffer.from(text);
  }

  const answer = (status: number, body: object): ApiResponse => ({
    status,
    headers: { "content-type": "application/json" },
    body: once(JSON.stringify(body)),
  });

  const refusal = (code: number, message: string): ApiResponse =>
    answer(code, { kind: "Status", apiVersion: "v1", status: "Failure", code, message });

  function client(): FakeClient {
    const cuts = new Set<() => void>();

    async function* watch(
      plural: string,
      wants: (change: { name: string }) => boolean,
      from: number,
      initial: boolean,
      signal: AbortSignal,
    ): AsyncGenerator<Uint8Array> {
      let at = from;
      let isCut = false;
      let wake = (): void => {};
      const onCut = (): void => {
        isCut = true;
        wake();
      };
      const onChange = (): void => wake();
      cuts.add(onCut);
      listeners.add(onChange);
      signal.addEventListener("abort", onChange);
      try {
        if (initial) {
          const objects = [...of(plural).values()].filter((one) => wants(one.metadata));
          at = revision;
          const bookmark = {
            kind: "X",
            metadata: { resourceVersion: String(at), annotations: { "k8s.io/initial-events-end": "true" } },
          };
          const lines = objects.map((object) => ({ type: "ADDED", object }));
          yield Buffer.from(
            [...lines, { type: "BOOKMARK", object: bookmark }].map((one) => `${JSON.stringify(one)}\n`).join(""),
          );
        }
        for (let next = history.length; ; ) {
          next = history.findIndex((one) => one.revision > at && one.plural === plural && wants(one));
          if (signal.aborted) throw signal.reason;
          if (isCut) throw new ApiError("unreachable", "the connection broke");
          if (next >= 0) {
            await sleep(self.lagMs());
            if (isCut) throw new ApiError("unreachable", "the connection broke");
            at = history[next]!.revision;
            yield Buffer.from(`${history[next]!.text}\n`);
            continue;
          }
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      } finally {
        cuts.delete(onCut);
        listeners.delete(onChange);
      }
    }

    const self: FakeClient = {
      fault: () => ({}),
      lagMs: () => 0,
      listsInPages: false,
      readStatus: undefined,
      cut() {
        for (const cut of [...cuts]) cut();
      },
      async get(path, query, { signal }: ApiRequestOptions) {
        const [, , namespace, plural = ""] = PATH.exec(path) ?? [];
        if (self.readStatus !== undefined) return refusal(self.readStatus, "not now");
        if (cluster.absent.has(plural)) return refusal(404, "404 page not found");
        const name = /metadata\.name=([^,]+)/.exec(query["fieldSelector"] ?? "")?.[1];
        const [label, value] = (query["labelSelector"] || undefined)?.split("=") ?? [];
        const wants = (one: { name: string; namespace?: string; labels?: Record<string, string> }): boolean =>
          (name === undefined || one.name === name) &&
          (label === undefined || one.labels?.[label] === value) &&
          (namespace === undefined || one.namespace === undefined || one.namespace === namespace);
        if (query["watch"] === "true") {
          const isInitial = query["sendInitialEvents"] === "true";
          if (isInitial && self.listsInPages) return refusal(422, "sendInitialEvents is forbidden");
          const from = Number(query["resourceVersion"] ?? 0);
          if (!isInitial && from < oldest) return refusal(410, "too old resource version");
          return { status: 200, headers: {}, body: watch(plural, wants, from, isInitial, signal) };
        }
        const items = [...of(plural).values()].filter((one) => wants(one.metadata));
        // All pages are of the state at the first.
        const first = Number(query["continue"] ?? 0);
        const limit = Number(query["limit"] ?? items.length);
        const rest = first + limit < items.length ? { continue: String(first + limit) } : {};
        const metadata = { resourceVersion: String(revision), ...rest };
        return answer(200, { kind: "List", metadata, items: items.slice(first, first + limit) });
      },
      async send(demand, path, options: ApiRequestOptions) {
        const { signal } = options;
        const { pathname, searchParams } = new URL(path, "http://fake");
        if (demand.method === "GET" && PATH.exec(pathname)?.[4] === undefined)
          return self.get(pathname, Object.fromEntries(searchParams), options);
        const fault = self.fault(demand, path);
        const done = (async (): Promise<ApiResponse> => {
          await sleep(fault.beforeMs ?? 0);
          let result: ApiResponse;
          const [, , namespace, plural, name, sub] = PATH.exec(new URL(path, "http://fake").pathname) ?? [];
          const what = `${demand.method} ${plural}${sub === undefined ? "" : `/${sub}`} ${namespace}/${name ?? ""}`;
          if (fault.status !== undefined) {
            result = refusal(fault.status, "as the test has it");
            cluster.writes.push(`${what} ${fault.status}`);
          } else {
            try {
              result = answer(200, write(demand, path));
              if (demand.method !== "GET") cluster.writes.push(`${what} 200`);
            } catch (error) {
              if (!(error instanceof Refused)) throw error;
              cluster.writes.push(`${what} ${error.code}`);
              result = refusal(error.code, error.message);
            }
          }
          await sleep(fault.afterMs ?? 0);
          if (fault.isLost) throw new ApiError("unreachable", "the connection broke before the answer");
          return result;
        })();
        const left = new Promise<never>((_, reject) => {
          signal.addEventListener("abort", () => reject(signal.reason), { once: true });
        });
        return Promise.race([done, left]);
      },
      stats: () => {
        throw new Error("no statistics");
      },
      close() {},
    };
    return self;
  }

  const cluster: FakeCluster = {
    put: store,
    remove(plural, key) {
      const before = of(plural).get(key);
      if (before === undefined) return;
      of(plural).delete(key);
      revision++;
      const shown = { ...before, metadata: { ...before.metadata, resourceVersion: String(revision) } };
      apply(plural, undefined, shown);
    },
    forget(plural, names) {
      for (const [key, one] of of(plural)) if (names.includes(one.metadata.name)) of(plural).delete(key);
      history.length = 0;
      oldest = revision + 1;
    },
    restore(plural, object) {
      of(plural).set(keyOf(object), object);
      revision = Number(object.metadata.resourceVersion);
    },
    get: (plural, key) => of(plural).get(key),
    list: (plural) => [...of(plural).values()],
    client,
    writes: [],
    absent: new Set(["bgpadvertisements", "bgppeers", "bfdprofiles", "communities"]),
    revision: () => revision,
    onChange() {},
  };
  return cluster;
}
