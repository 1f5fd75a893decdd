// One watch: the state first where it is asked for, then changes from the store's history as they come, bookmarks
// between them. The watch keeps a revision, not a queue: a slow client costs nothing until the history has passed it.
import { type ApiStatus, expired, tooLargeResourceVersion } from "./api-status.ts";
import type { BodyWriter } from "./body-writer.ts";
import type { ListOptions } from "./list-options.ts";
import { type Change, type Collection, type ObjectStore, type StoredObject, tailAtRevision } from "./object-store.ts";
import { apiVersionOf, type Resource } from "./resources.ts";

export interface WatchSettings {
  readonly bookmarkMs: number;
  /** How long a streaming list waits for a revision that is not there yet. */
  readonly freshnessMs: number;
  /**
   * A resume from a revision that is not there yet. kube-apiserver waits for it and says nothing meanwhile, no bookmarks
   * either; some doubles of it refuse.
   */
  readonly futureResume: "waits" | "refused";
  /** Where a resume from a forgotten revision is told: in the stream (kube-apiserver), or as the response's status. */
  readonly expiredAs: "event" | "status";
}

type EventType = "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK";

const END = Buffer.from("}\n");
/** A watch without timeoutSeconds lives between this and twice as long. */
const DEFAULT_TIMEOUT_SECONDS = 1800;
/** A last bookmark comes this long before the end, so that little is repeated after the resume. */
const BEFORE_TIMEOUT_MS = 2000;

export class Watch {
  readonly resource: Resource;
  readonly #store: ObjectStore;
  readonly #collection: Collection;
  readonly #settings: WatchSettings;
  readonly #writer: BodyWriter;
  readonly #options: ListOptions;
  readonly #inScope: (object: StoredObject | undefined) => object is StoredObject;
  readonly #repeat: number;
  readonly #starts: Readonly<Record<EventType, Buffer>>;
  #revision: number;
  #wake: () => void = () => {};

  constructor(
    resource: Resource,
    store: ObjectStore,
    collection: Collection,
    settings: WatchSettings,
    writer: BodyWriter,
    options: ListOptions,
    { prefix, duplicates }: { readonly prefix: string; readonly duplicates: boolean },
  ) {
    this.resource = resource;
    this.#store = store;
    this.#collection = collection;
    this.#settings = settings;
    this.#writer = writer;
    this.#options = options;
    this.#inScope = (object): object is StoredObject =>
      object?.key.startsWith(prefix) === true && (options.matches?.(object) ?? true);
    this.#repeat = duplicates ? 2 : 1;
    this.#starts = lineStarts(resource);
    this.#revision = options.revision === 0 ? store.revision : options.revision;
  }

  /** Until the client leaves or the time is over. Throws an ApiStatus only before the head. */
  async run(reversed: boolean): Promise<void> {
    const resumes = !this.#wantsState();
    const refusal = resumes ? this.#resumeRefusal() : undefined;
    if (refusal?.code === 410 && this.#settings.expiredAs === "status") throw refusal;
    if (refusal !== undefined) return await answerError(this.#writer, refusal);
    this.#writer.begin();
    if (!resumes) {
      const { revision } = this.#options;
      const fresh = await this.#store.reach(revision, this.#settings.freshnessMs);
      if (!fresh) return await this.#fail(tooLargeResourceVersion(revision, this.#store.revision));
      await this.#sendState(reversed);
    }
    await this.#follow();
    await this.#writer.end();
  }

  /** Puts bytes into the stream that no server would send. */
  async inject(text: string): Promise<void> {
    await this.#writer.write(Buffer.from(text));
    await this.#writer.flush();
  }

  silence(): void {
    this.#writer.silence();
  }

  /** Without a starting point the state comes first, in every version of the server. */
  #wantsState(): boolean {
    return this.#options.sendInitialEvents ?? this.#options.revision === 0;
  }

  #resumeRefusal(): ApiStatus | undefined {
    const { revision } = this.#options;
    const { floor } = this.#collection;
    if (revision !== 0 && revision < floor) return expired(`too old resource version: ${revision} (${floor})`);
    if (revision > this.#store.revision && this.#settings.futureResume === "refused") {
      return tooLargeResourceVersion(revision, this.#store.revision);
    }
    return undefined;
  }

  async #fail(status: ApiStatus): Promise<void> {
    await this.#writer.write(errorEvent(status));
    await this.#writer.end();
  }

  async #sendState(reversed: boolean): Promise<void> {
    const objects = this.#collection.list();
    this.#revision = this.#store.revision;
    const atRevision = this.#revision;
    for (const object of reversed ? objects.reverse() : objects) {
      if (!this.#inScope(object)) continue;
      const room = this.#event("ADDED", object.tail);
      if (room !== undefined) await room;
    }
    if (this.#options.sendInitialEvents === true && this.#options.allowWatchBookmarks) {
      await this.#bookmark(atRevision, { "k8s.io/initial-events-end": "true" });
    }
  }

  async #follow(): Promise<void> {
    const seconds = this.#options.timeoutSeconds || DEFAULT_TIMEOUT_SECONDS * (1 + Math.random());
    const endMs = performance.now() + seconds * 1000;
    let bookmarkMs = this.#nextBookmark(endMs);
    const unsubscribe = this.#collection.subscribe(() => this.#wake());
    this.#writer.closed.addEventListener("abort", () => this.#wake(), { once: true });
    try {
      while (!this.#writer.closed.aborted && performance.now() < endMs) {
        // Together, so that a bookmark never runs ahead of a change.
        const changes = this.#collection.changesAfter(this.#revision);
        const upTo = this.#store.revision;
        // The history has passed a slow client: the stream ends, and the resume learns of it.
        if (changes === undefined) return;
        for (const change of changes) await this.#change(change);
        if (performance.now() >= bookmarkMs) {
          if (upTo >= this.#revision) await this.#bookmark(upTo, undefined);
          bookmarkMs = this.#nextBookmark(endMs);
        }
        await this.#writer.flush();
        if (this.#isUpToDate()) await this.#sleep(Math.min(bookmarkMs, endMs) - performance.now());
      }
    } finally {
      unsubscribe();
    }
  }

  #isUpToDate(): boolean {
    return this.#collection.changesAfter(this.#revision)?.length === 0;
  }

  #nextBookmark(endMs: number): number {
    if (!this.#options.allowWatchBookmarks) return Number.POSITIVE_INFINITY;
    const now = performance.now();
    const beforeEnd = endMs - BEFORE_TIMEOUT_MS;
    return beforeEnd > now ? Math.min(now + this.#settings.bookmarkMs, beforeEnd) : Number.POSITIVE_INFINITY;
  }

  /** What a change is to this watch depends on whether the object was, and is, within its selectors. */
  async #change({ revision, previous, current }: Change): Promise<void> {
    const had = this.#inScope(previous);
    for (let i = 0; i < this.#repeat; i++) {
      if (this.#inScope(current)) await this.#event(had ? "MODIFIED" : "ADDED", current.tail);
      else if (had) await this.#event("DELETED", tailAtRevision(previous, revision));
    }
    this.#revision = revision;
  }

  #event(type: EventType, tail: Buffer): Promise<void> | undefined {
    return this.#writer.write(this.#starts[type], tail, END);
  }

  async #bookmark(revision: number, annotations: Readonly<Record<string, string>> | undefined): Promise<void> {
    const metadata = JSON.stringify({ resourceVersion: String(revision), annotations });
    await this.#event("BOOKMARK", Buffer.from(`"metadata":${metadata},${this.resource.emptyFields}}`));
    this.#revision = Math.max(this.#revision, revision);
  }

  /** Until something changed, the client left or the time is over. */
  async #sleep(ms: number): Promise<void> {
    if (this.#writer.closed.aborted) return;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      timer = setTimeout(resolve, Math.max(0, ms));
    });
    clearTimeout(timer);
    this.#wake = () => {};
  }
}

/** A watch that ends with its first event. */
export async function answerError(writer: BodyWriter, status: ApiStatus): Promise<void> {
  writer.begin();
  await writer.write(errorEvent(status));
  await writer.end();
}

function errorEvent(status: ApiStatus): Buffer {
  return Buffer.from(`{"type":"ERROR","object":${status.toJson()}}\n`);
}

function lineStarts(resource: Resource): Readonly<Record<EventType, Buffer>> {
  const start = (type: EventType): Buffer =>
    Buffer.from(`{"type":"${type}","object":{"kind":"${resource.kind}","apiVersion":"${apiVersionOf(resource)}",`);
  return { ADDED: start("ADDED"), MODIFIED: start("MODIFIED"), DELETED: start("DELETED"), BOOKMARK: start("BOOKMARK") };
}
