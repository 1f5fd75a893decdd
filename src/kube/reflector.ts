// Keeps what is known of one resource equal to what the API server has: a full list, then a watch, resumed where it ended; a
// new list when the server cannot go on from there. Nothing is taken away because the server is not to be had. It has no
// socket, clock or chance of its own.

import { problemOfEvent } from "./answers.ts";
import { ApiError } from "./api-error.ts";
import { type AnswerProblem, ApiProblem, excerpt, type ProblemReason, parseJson } from "./api-problem.ts";
import { createBackoff } from "./backoff.ts";
import { sleep } from "./clock.ts";
import { type ExchangeOptions, runExchange } from "./exchange.ts";
import type { KnownObjects } from "./known-objects.ts";
import { createLineSplitter } from "./lines.ts";
import { createItemSplitter } from "./list-pages.ts";
import { createNewestChange } from "./newest-change.ts";
import { createResourceRecord, type Problem, type RelistReason, type ResourceStats } from "./resource-record.ts";
import { isBefore, parseWatchEvent } from "./watch-event.ts";

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
const SHORTEST_WATCH_S = 300;
const PAGE_SIZE = 500;

export interface ReflectorOptions extends ExchangeOptions {
  readonly objects: KnownObjects;
  /** In [0, 1). */
  readonly random: () => number;
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
  "bad-request": "refused",
  refused: "refused",
  "not-found": "refused",
};

/** Problems within a streaming list that lists in pages may be free of. */
const REFUSES_STREAMING: ReadonlySet<AnswerProblem> = new Set(["bad-request", "refused", "silent"]);

/**
 * applied: the list is in force, a watch is to follow; ended: so did the watch; again: in another way, the server refused this;
 * held: a second list must agree; absent: the server does not have the resource.
 */
type Result = "applied" | "ended" | "again" | "held" | "absent";

/** Answers by which whoever is asked for its versions will not say: only a list tells. Any other is the answer of one who may say it later. */
const WILL_NOT_SAY: ReadonlySet<AnswerProblem> = new Set(["forbidden", "not-found", "bad-request", "refused"]);

/** Leaves a connection whose list is held. */
const HELD = new Error("the list is held");

export function createReflector(options: ReflectorOptions): Reflector {
  const { resource, objects, clock, random, signal, onChange } = options;
  const backoff = createBackoff(random);
  /** Where to go on; undefined: a full list is needed. */
  let version: string | undefined;
  let streamingRefusedAt = Number.NEGATIVE_INFINITY;
  let { fieldSelector } = resource;
  /** Watches in a row that heard nothing. */
  let silences = 0;
  /** The server was away: it may have come back with an etcd that was restored to an older state. */
  let isDoubtful = false;
  /** The last attempt got no answer. */
  let wasUnheard = false;
  const record = createResourceRecord(onChange);
  const newest = createNewestChange();

  function forgetVersion(reason: RelistReason): void {
    version = undefined;
    record.countRelist(reason);
  }

  /** `field` narrows it further. */
  function selector(field = ""): Readonly<Record<string, string>> {
    const { labelSelector } = resource;
    const fields = [fieldSelector, field].filter((one) => one !== "").join();
    return {
      ...(labelSelector === "" ? {} : { labelSelector }),
      ...(fields === "" ? {} : { fieldSelector: fields }),
    };
  }

  function beginList(): void {
    objects.listBegins();
    newest.forget();
  }

  function countList(): void {
    record.count("lists");
    record.heard(clock.wallMs());
  }

  /** Puts the list in force; `newVersion` is its own. */
  function endList(newVersion: string | undefined): Result {
    const result = objects.listEnds();
    if (result.outcome === "held") {
      record.count("heldLists");
      const { before, lost } = result;
      const what = `${lost} of ${before} ${resource.countedIn}`;
      const message = `a full list of ${resource.name} would take away ${what}: it is applied when a second one agrees`;
      record.setProblem({ reason: "list-held", message });
      return "held";
    }
    version = newVersion;
    record.setProblem(undefined);
    record.setSynced();
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
      if (!record.isConnected() || inList) return;
      backoff.reset();
      record.setProblem(undefined);
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
      countList();
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
      newest.saw(event.object, event.type === "DELETED");
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
      await runExchange(options, {
        verb: "watch",
        query,
        silenceMs: () => (inList ? LIST_SILENCE_MS : SILENCE_MS),
        onHead() {
          record.count("watches");
          if (listing) beginList();
          record.setConnected(true);
          lived.restart();
        },
        take(chunk) {
          for (const line of lines.push(chunk)) takeLine(line);
          silences = 0;
          record.heard(clock.wallMs());
          if (!inList) record.setProblem(undefined);
        },
      });
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
      record.setConnected(false);
    }
  }

  /** `take` gets each object of the list that is asked for; returns what is around them. */
  async function readItems(query: Readonly<Record<string, string>>, take: (object: unknown) => void): Promise<unknown> {
    const items = createItemSplitter();
    await runExchange(options, {
      verb: "list",
      query,
      silenceMs: () => PAGE_SILENCE_MS,
      onHead() {},
      take(chunk) {
        for (const item of items.push(chunk)) take(parseJson(item));
      },
    });
    return items.end();
  }

  /** One page; returns its continue token and version. */
  async function readPage(query: Readonly<Record<string, string>>): Promise<{ token: string; version: string }> {
    const page = (await readItems(query, (object) => {
      newest.saw(object, false);
      objects.listed(object);
    })) as {
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
    beginList();
    do {
      try {
        const page = await readPage({ ...selector(), ...limit, ...(token === "" ? {} : { continue: token }) });
        // What changed after the first page was read must come again by the watch.
        if (token === "") first = page.version;
        token = page.token;
      } catch (error) {
        if (token === "" || !(error instanceof ApiProblem) || error.reason !== "gone") throw error;
        // The pages took longer than the server keeps a version: all at once.
        beginList();
        token = "";
        first = "";
        limit = {};
      }
    } while (token !== "" || first === "");
    countList();
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

  /** A server that is just starting may not know its custom resources yet: what there was goes when a second answer agrees. */
  function listAbsent(): Result {
    beginList();
    if (endList(undefined) === "held") return "held";
    record.setAbsent();
    return "absent";
  }

  /**
   * Asks whether the server knows our version, and the last change that we saw. One that does not would take a watch from there
   * and say nothing, until its own versions have passed ours, and never what it had before. One that is just starting answers that
   * it is not ready, or that we may not ask: it is asked until it has said so, or a list is wanted anyway.
   */
  async function checkVersion(): Promise<void> {
    const doubtful = { resourceVersion: version ?? "", resourceVersionMatch: "NotOlderThan", limit: "1" };
    const query = { ...doubtful, ...selector(newest.selector()) };
    const found: unknown[] = [];
    try {
      await readItems(query, (object) => found.push(object));
      if (!newest.holds(found)) forgetVersion("other-history");
    } catch (error) {
      if (!(error instanceof ApiProblem) || !WILL_NOT_SAY.has(error.reason)) throw error;
      forgetVersion("refused");
    }
    isDoubtful = false;
  }

  /** Takes note of what went wrong; milliseconds until the next attempt. */
  function failed(error: unknown): number {
    if (!(error instanceof ApiProblem || error instanceof ApiError)) throw error;
    const reason = error instanceof ApiProblem ? error.reason : error.kind;
    record.countError(reason);
    const relist = version === undefined ? undefined : needsList(reason, error instanceof ApiProblem);
    if (relist !== undefined) forgetVersion(relist);
    isDoubtful = version !== undefined && (isDoubtful || error instanceof ApiError);
    // We start without what we may do without.
    if (reason === "forbidden" && resource.optional) record.setSynced();
    record.setProblem({ reason, message: error.message });
    // One that was not to be reached and now answers, if only that it is not ready, soon will be.
    if (wasUnheard && error instanceof ApiProblem) backoff.reset();
    wasUnheard = error instanceof ApiError;
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
    if (isDoubtful) await checkVersion();
    const began = clock.now();
    const result = await (version === undefined ? list() : watch(false));
    switch (result) {
      case "held":
        record.countRelist("held");
        return HELD_MS;
      case "absent":
        return resource.absentMs * (0.5 + random() / 2);
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
    stats: () => record.stats(version ?? ""),
    problem: record.problem,
  };
}
