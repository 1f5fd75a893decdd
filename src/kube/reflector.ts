// Keeps what is known of one resource equal to what the API server has: a full list, then a watch, resumed where it ended; a
// new list when the server cannot go on from there. Nothing is taken away because the server is not to be had. It has no
// socket, clock or chance of its own.

import { problemOf, problemOfEvent, type Verb } from "./answers.ts";
import { ApiError } from "./api-error.ts";
import { type AnswerProblem, ApiProblem, excerpt, type ProblemReason, parseJson } from "./api-problem.ts";
import { createBackoff } from "./backoff.ts";
import { type Clock, sleep, type Timer } from "./clock.ts";
import type { KnownObjects } from "./known-objects.ts";
import { createLineSplitter } from "./lines.ts";
import { createItemSplitter } from "./list-pages.ts";
import type { Resource } from "./resources.ts";
import type { ApiTransport } from "./transport.ts";
import { isBefore, parseWatchEvent } from "./watch-event.ts";

const HEAD_TIMEOUT_MS = 30_000;
/** API servers send a bookmark a minute. */
const SILENCE_MS = 100_000;
const PAGE_SILENCE_MS = 30_000;
/** A server that does not know streaming lists may simply never end one; a list in pages is dearer, but sure. */
const LIST_SILENCE_MS = 10_000;
/** A watch that stood this long worked: what was wrong before is over. */
const LIVED_MS = 5_000;
/** Between a list that takes away too much and the one that must agree with it. */
const HELD_MS = 5_000;
/** How long a server that refused a streaming list is not asked for one again: it may be upgraded. */
const STREAMING_AGAIN_MS = 600_000;
/** How long a resource that the server does not have is not asked for. */
const ABSENT_MS = 600_000;
const SHORTEST_WATCH_S = 300;
const PAGE_SIZE = 500;

export type RelistReason =
  | "gone"
  | "version-too-large"
  | "server-error"
  | "garbage"
  | "silent"
  | "out-of-order"
  | "held";

export interface Problem {
  /** "list-held" is none of the API's: a list waits for a second one. */
  readonly reason: ProblemReason | "list-held";
  readonly message: string;
}

export interface ResourceStats {
  /** A watch stands. */
  readonly connected: boolean;
  /** A full list was applied; stays true when the server is gone. */
  readonly synced: boolean;
  /** Clock time of the last event or bookmark, 0 before the first. */
  readonly lastEventMs: number;
  /** "" before the first list and while one is read. */
  readonly resourceVersion: string;
  readonly lists: number;
  readonly watches: number;
  readonly heldLists: number;
  readonly relists: Readonly<Partial<Record<RelistReason, number>>>;
  readonly errors: Readonly<Partial<Record<ProblemReason, number>>>;
}

export interface ReflectorOptions {
  readonly resource: Resource;
  readonly transport: Pick<ApiTransport, "get">;
  readonly objects: KnownObjects;
  readonly clock: Clock;
  /** In [0, 1). */
  readonly random: () => number;
  readonly signal: AbortSignal;
  /** Where changes go: nothing is read as long as there is no room (see Outbox). */
  readonly room: () => Promise<void> | undefined;
  /** Statistics or problem changed in a way that somebody may wait for. */
  readonly onChange: () => void;
}

export interface Reflector {
  /** Until the signal is aborted; never rejects for what a server or network does. */
  run(): Promise<void>;
  stats(): ResourceStats;
  /** What is wrong now. */
  problem(): Problem | undefined;
}

/** Problems after which the version that we have leads nowhere. */
const NEEDS_LIST: Readonly<Partial<Record<ProblemReason, RelistReason>>> = {
  gone: "gone",
  "version-too-large": "version-too-large",
  garbage: "garbage",
  "too-long": "garbage",
  "out-of-order": "out-of-order",
};

/** Problems within a streaming list that lists in pages may be free of. */
const REFUSES_STREAMING: ReadonlySet<AnswerProblem> = new Set(["bad-request", "refused", "silent"]);

/**
 * applied: the list is in force, a watch is to follow; ended: so did the watch; again: in another way, the server refused this;
 * held: a second list must agree; absent: the server does not have the resource.
 */
type Result = "applied" | "ended" | "again" | "held" | "absent";

/** Leaves a connection whose list is held. */
const HELD = new Error("the list is held");

export function createReflector(options: ReflectorOptions): Reflector {
  const { resource, transport, objects, clock, random, signal, room, onChange } = options;
  const backoff = createBackoff(random);
  /** Where to go on; undefined: a full list is needed. */
  let version: string | undefined;
  let problem: Problem | undefined;
  let connected = false;
  let synced = false;
  let lastEventMs = 0;
  let streamingRefusedAt = Number.NEGATIVE_INFINITY;
  let { fieldSelector } = resource;
  /** Watches in a row that heard nothing. */
  let silences = 0;
  const counts = { lists: 0, watches: 0, heldLists: 0 };
  const relists: Partial<Record<RelistReason, number>> = {};
  const errors: Partial<Record<ProblemReason, number>> = {};

  function setProblem(now: Problem | undefined): void {
    if (problem?.reason === now?.reason && problem?.message === now?.message) return;
    problem = now;
    onChange();
  }

  function setConnected(now: boolean): void {
    if (connected === now) return;
    connected = now;
    onChange();
  }

  function forgetVersion(reason: RelistReason): void {
    version = undefined;
    relists[reason] = (relists[reason] ?? 0) + 1;
  }

  /** Opens a request, reads its body with `take`, chunk by chunk, as fast as there is room, and gives up after a silence. */
  async function exchange(
    verb: Verb,
    query: Readonly<Record<string, string>>,
    silenceMs: () => number,
    onHead: () => void,
    take: (chunk: Uint8Array) => void,
  ): Promise<void> {
    const given = new AbortController();
    const giveUp = (): void =>
      given.abort(new ApiProblem("silent", `could not ${verb} ${resource.name}: the API server fell silent`));
    let silence: Timer | undefined;
    try {
      const response = await transport.get(resource.path, query, {
        signal: AbortSignal.any([signal, given.signal]),
        headTimeoutMs: HEAD_TIMEOUT_MS,
        resource: resource.name,
        verb: verb === "list" ? "LIST" : "WATCH",
      });
      if (response.status !== 200) throw await problemOf(response, resource, verb);
      onHead();
      silence = clock.after(silenceMs(), giveUp);
      for await (const chunk of response.body) {
        take(chunk);
        silence.stop();
        await room();
        silence = clock.after(silenceMs(), giveUp);
      }
    } finally {
      silence?.stop();
    }
  }

  function selector(): Readonly<Record<string, string>> {
    const { labelSelector } = resource;
    return {
      ...(labelSelector === "" ? {} : { labelSelector }),
      ...(fieldSelector === "" ? {} : { fieldSelector }),
    };
  }

  function endList(newVersion: string): Result {
    counts.lists++;
    const result = objects.listEnds();
    if (result.outcome === "held") {
      counts.heldLists++;
      const { before, lost } = result;
      const message = `a full list of ${resource.name} would take away ${lost} of ${before} ${
        resource.name === "services" ? "frontends" : "endpoints"
      }: it is applied when a second one agrees`;
      setProblem({ reason: "list-held", message });
      return "held";
    }
    version = newVersion;
    synced = true;
    setProblem(undefined);
    onChange();
    return "applied";
  }

  /** A watch, and with `listing` a full list before it on the same connection. Ends when the server ends it. */
  async function watch(listing: boolean): Promise<Result> {
    const lines = createLineSplitter();
    const timeoutSeconds = Math.floor(SHORTEST_WATCH_S * (1 + random()));
    let inList = listing;
    /** Versions of this very watch, which come in order after the list. */
    let last = version ?? "";
    const lived = clock.after(LIVED_MS, () => {
      if (!connected || inList) return;
      backoff.reset();
      setProblem(undefined);
    });

    function takeVersion(now: string, isBookmark: boolean): void {
      if (isBefore(now, last)) {
        const what = isBookmark ? "a bookmark" : "an event";
        throw new ApiProblem(
          "out-of-order",
          `could not watch ${resource.name}: the API server sent ${what} of version ${now} after ${last}`,
        );
      }
      if (now === "") return;
      last = now;
      version = now;
    }

    function takeListEnd(now: string): void {
      if (endList(now) === "held") throw HELD;
      last = now;
      inList = false;
      lived.restart();
    }

    function takeLine(line: string): void {
      const event = parseWatchEvent(line);
      if (event.type === "ERROR") {
        const found = problemOfEvent(event.object, resource);
        if (version !== undefined) forgetVersion(NEEDS_LIST[found.reason] ?? "server-error");
        // An API server whose etcd cannot tell how far a watch has come says so in the stream.
        if (inList && found.reason === "server-error") throw new ApiProblem("refused", found.message, { cause: found });
        throw found;
      }
      if (event.type === "BOOKMARK") {
        if (!inList) takeVersion(event.version, true);
        else if (event.endsList) takeListEnd(event.version);
        else throw new ApiProblem("refused", `could not watch ${resource.name}: the API server streams no lists`);
        return;
      }
      if (inList) {
        if (event.type === "DELETED") objects.unlisted(event.object);
        else objects.listed(event.object);
        return;
      }
      takeVersion(event.version, false);
      if (event.type === "DELETED") objects.gone(event.object);
      else objects.changed(event.object);
    }

    const query = {
      watch: "true",
      allowWatchBookmarks: "true",
      timeoutSeconds: String(timeoutSeconds),
      ...selector(),
      ...(listing
        ? { sendInitialEvents: "true", resourceVersionMatch: "NotOlderThan" }
        : { resourceVersion: version ?? "" }),
    };
    try {
      await exchange(
        "watch",
        query,
        () => (inList ? LIST_SILENCE_MS : SILENCE_MS),
        () => {
          counts.watches++;
          if (listing) objects.listBegins();
          setConnected(true);
          lived.restart();
        },
        (chunk) => {
          for (const line of lines.push(chunk)) takeLine(line);
          silences = 0;
          lastEventMs = clock.wallMs();
          if (!inList) setProblem(undefined);
        },
      );
      if (lines.pending() > 0 || inList) {
        const where = inList ? "its list" : "an event";
        throw new ApiProblem("truncated", `could not watch ${resource.name}: the connection ended within ${where}`);
      }
      return "ended";
    } catch (error) {
      if (error === HELD) return "held";
      const reason = inList && error instanceof ApiProblem ? error.reason : undefined;
      // Of what it can select by a server speaks only after it took the rest of a request.
      if (reason === undefined || !REFUSES_STREAMING.has(reason) || refusesField(reason)) throw error;
      streamingRefusedAt = clock.now();
      return "again";
    } finally {
      lived.stop();
      setConnected(false);
    }
  }

  /** One page; returns its continue token and version. */
  async function readPage(query: Readonly<Record<string, string>>): Promise<{ token: string; version: string }> {
    const items = createItemSplitter();
    await exchange(
      "list",
      query,
      () => PAGE_SILENCE_MS,
      () => {},
      (chunk) => {
        for (const item of items.push(chunk)) objects.listed(parseJson(item));
      },
    );
    const page = items.end() as {
      readonly items?: unknown;
      readonly metadata?: { readonly continue?: unknown; readonly resourceVersion?: unknown } | null;
    };
    const { continue: token = "", resourceVersion } = page.metadata ?? {};
    const isList = Array.isArray(page.items) || page.items === null;
    if (!isList || typeof token !== "string" || typeof resourceVersion !== "string" || resourceVersion === "") {
      const shown = excerpt(JSON.stringify(page));
      throw new ApiProblem(
        "garbage",
        `could not list ${resource.name}: the API server's answer is no list: "${shown}"`,
      );
    }
    return { token, version: resourceVersion };
  }

  async function listPages(): Promise<Result> {
    let limit: Readonly<Record<string, string>> = { limit: String(PAGE_SIZE) };
    let token = "";
    let first = "";
    objects.listBegins();
    do {
      try {
        const page = await readPage({ ...selector(), ...limit, ...(token === "" ? {} : { continue: token }) });
        // What changed after the first page was read must come again by the watch.
        if (token === "") first = page.version;
        token = page.token;
      } catch (error) {
        if (token === "" || !(error instanceof ApiProblem) || error.reason !== "gone") throw error;
        // The pages took longer than the server keeps a version: all at once.
        objects.listBegins();
        token = "";
        first = "";
        limit = {};
      }
    } while (token !== "" || first === "");
    return endList(first);
  }

  /** A full list; with a server that streams it, followed by a watch until that ends. */
  async function list(): Promise<Result> {
    try {
      return await (clock.now() - streamingRefusedAt >= STREAMING_AGAIN_MS ? watch(true) : listPages());
    } catch (error) {
      const reason = error instanceof ApiProblem ? error.reason : undefined;
      if (resource.optional && reason === "not-found") return listAbsent();
      if (!refusesField(reason)) throw error;
      fieldSelector = "";
      return "again";
    }
  }

  function refusesField(reason: AnswerProblem | undefined): boolean {
    return reason === "bad-request" && fieldSelector !== "";
  }

  function listAbsent(): Result {
    objects.listBegins();
    objects.listEnds();
    synced = true;
    setProblem(undefined);
    onChange();
    return "absent";
  }

  /** Takes note of what went wrong; milliseconds until the next attempt. */
  function failed(error: unknown): number {
    if (!(error instanceof ApiProblem || error instanceof ApiError)) throw error;
    const reason = error instanceof ApiProblem ? error.reason : error.kind;
    errors[reason] = (errors[reason] ?? 0) + 1;
    const relist = version === undefined ? undefined : needsList(reason, error instanceof ApiProblem);
    if (relist !== undefined) forgetVersion(relist);
    // We start without what we may do without.
    if (reason === "forbidden" && resource.optional && !synced) {
      synced = true;
      onChange();
    }
    setProblem({ reason, message: error.message });
    const wait = backoff.next();
    return error instanceof ApiProblem ? Math.max(wait, error.retryAfterMs) : wait;
  }

  function needsList(reason: ProblemReason, answered: boolean): RelistReason | undefined {
    if (reason !== "silent") return answered ? NEEDS_LIST[reason] : undefined;
    // A server that fell behind the version asked for answers a watch, and sends nothing, not even bookmarks.
    silences++;
    return silences < 2 ? undefined : "silent";
  }

  /** One attempt; milliseconds until the next. */
  async function attempt(): Promise<number> {
    const began = clock.now();
    const result = await (version === undefined ? list() : watch(false));
    switch (result) {
      case "held":
        relists.held = (relists.held ?? 0) + 1;
        return HELD_MS;
      case "absent":
        return ABSENT_MS * (0.5 + random() / 2);
      case "ended":
        // A server that ends each watch at once must not be asked in a tight loop.
        return clock.now() - began < LIVED_MS ? backoff.next() : 0;
      default:
        return 0;
    }
  }

  return {
    async run() {
      while (!signal.aborted) {
        let wait: number;
        try {
          wait = await attempt();
        } catch (error) {
          if (signal.aborted) return;
          wait = failed(error);
        }
        if (wait > 0) await sleep(clock, wait, signal);
      }
    },
    stats: () => ({
      connected,
      synced,
      lastEventMs,
      resourceVersion: version ?? "",
      ...counts,
      relists: { ...relists },
      errors: { ...errors },
    }),
    problem: () => problem,
  };
}
