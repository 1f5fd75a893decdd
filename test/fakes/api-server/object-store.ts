// What etcd and the watch cache are to a real API server: objects under one revision counter, with a bounded history of
// changes from which watches resume and earlier states are told. Objects are kept as text, ready to be written.
import { createHash } from "node:crypto";
import { PLURALS, type Plural, pluralOfKind, RESOURCES } from "./resources.ts";

/** An object as a test writes it. Beyond kind and metadata anything goes, wrong types too. */
export interface KubernetesObject {
  readonly kind: string;
  readonly apiVersion?: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly [field: string]: unknown;
  };
  readonly [field: string]: unknown;
}

/** Immutable: a write makes another one. */
export interface StoredObject {
  /** "namespace/name", or "name" of what has no namespace; the order of lists. */
  readonly key: string;
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** What a field selector may ask for, by path. */
  readonly fields: Readonly<Record<string, string>>;
  readonly revision: number;
  /** Its JSON after the opening brace, without kind and apiVersion: list items have neither, watch events have both. */
  readonly tail: Buffer;
}

export interface Change {
  readonly revision: number;
  /** undefined: deleted. */
  readonly current: StoredObject | undefined;
  /** undefined: created. */
  readonly previous: StoredObject | undefined;
}

/** A state to go back to. */
export interface Snapshot {
  readonly revision: number;
  readonly objects: ReadonlyMap<Plural, readonly StoredObject[]>;
}

/** One resource's objects in key order, and its latest changes. */
export class Collection {
  readonly #limit: number;
  readonly #listeners = new Set<() => void>();
  #sorted: StoredObject[];
  #history: Change[] = [];
  #floor: number;
  /** The last change that left the history: a running watch that has not seen it cannot go on. */
  #forgotten = 0;

  /** `limit`: how many changes are kept. `floor`: the revision of `objects`. */
  constructor(limit: number, objects: readonly StoredObject[], floor: number) {
    this.#limit = limit;
    this.#sorted = [...objects];
    this.#floor = floor;
  }

  /** The oldest revision that a watch can start from, and that an exact list can show. */
  get floor(): number {
    return this.#floor;
  }

  /** In key order; a copy, so that it can be written out while others write. */
  list(): StoredObject[] {
    return this.#sorted.slice();
  }

  get size(): number {
    return this.#sorted.length;
  }

  get(key: string): StoredObject | undefined {
    const found = this.#sorted[lowerBound(this.#sorted, key)];
    return found?.key === key ? found : undefined;
  }

  /** The list as it was at a revision that is not below the floor. */
  listAt(revision: number): StoredObject[] {
    const objects = this.list();
    for (let i = this.#history.length - 1; i >= 0; i--) {
      const change = this.#history[i]!;
      if (change.revision <= revision) break;
      place(objects, (change.current ?? change.previous)!.key, change.previous);
    }
    return objects;
  }

  /** In order; undefined when some of them are no longer known. */
  changesAfter(revision: number): readonly Change[] | undefined {
    if (revision < this.#forgotten) return undefined;
    let low = 0;
    for (let high = this.#history.length; low < high; ) {
      const middle = (low + high) >>> 1;
      if (this.#history[middle]!.revision <= revision) low = middle + 1;
      else high = middle;
    }
    return this.#history.slice(low);
  }

  apply(change: Change): void {
    place(this.#sorted, (change.current ?? change.previous)!.key, change.current);
    this.#history.push(change);
    // Twice the limit before trimming, so that a write costs the same on average however long the history is.
    if (this.#history.length >= 2 * this.#limit) this.#trim(this.#history.length - this.#limit);
    for (const listener of this.#listeners) listener();
  }

  /** Forgets the history: whoever resumes from before `revision` is told that it is too old. */
  compact(revision: number): void {
    this.#forgotten = this.#history.at(-1)?.revision ?? this.#forgotten;
    this.#history = [];
    this.#floor = revision;
  }

  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #trim(count: number): void {
    this.#forgotten = this.#history.splice(0, count).at(-1)!.revision;
    this.#floor = this.#history[0]!.revision - 1;
  }
}

export class ObjectStore {
  readonly #historyLimit: number;
  readonly #waiting = new Set<() => void>();
  readonly #collections = new Map<Plural, Collection>();
  #revision: number;

  /** `historyLimit`: changes kept of each resource, at least. */
  constructor(historyLimit: number, firstRevision = 1) {
    this.#historyLimit = historyLimit;
    this.#revision = firstRevision;
    for (const plural of PLURALS) this.#collections.set(plural, new Collection(historyLimit, [], firstRevision));
  }

  get revision(): number {
    return this.#revision;
  }

  collection(plural: Plural): Collection {
    return this.#collections.get(plural)!;
  }

  /** Creates or replaces. uid and creationTimestamp are kept, or made, when the object has none. */
  put(object: KubernetesObject): StoredObject {
    const plural = pluralOfKind(object.kind);
    if (plural === undefined) throw new TypeError(`the fake API server holds no ${object.kind}`);
    const collection = this.collection(plural);
    const previous = collection.get(keyOf(object.metadata));
    const revision = ++this.#revision;
    const current = storedObject(object, revision);
    collection.apply({ revision, current, previous });
    this.#wake();
    return current;
  }

  /** The revision of the deletion; undefined when there is no such object. */
  delete(plural: Plural, key: string): number | undefined {
    const collection = this.collection(plural);
    const previous = collection.get(key);
    if (previous === undefined) return undefined;
    const revision = ++this.#revision;
    collection.apply({ revision, current: undefined, previous });
    this.#wake();
    return revision;
  }

  /** As it was written, with what the server added. */
  read(plural: Plural, key: string): KubernetesObject | undefined {
    const stored = this.collection(plural).get(key);
    if (stored === undefined) return undefined;
    return { kind: RESOURCES[plural].kind, ...JSON.parse(`{${stored.tail.toString()}`) };
  }

  /** Writes of what the server does not hold move the revision too. */
  skipRevisions(count: number): void {
    this.#revision += count;
    this.#wake();
  }

  compact(): void {
    for (const collection of this.#collections.values()) collection.compact(this.#revision);
  }

  snapshot(): Snapshot {
    const objects = PLURALS.map((plural) => [plural, this.collection(plural).list()] as const);
    return { revision: this.#revision, objects: new Map(objects) };
  }

  /** Back to an older state and its revision: numbers that were given out already are given out again. */
  restore({ revision, objects }: Snapshot): void {
    this.#revision = revision;
    for (const [plural, list] of objects) {
      this.#collections.set(plural, new Collection(this.#historyLimit, list, revision));
    }
  }

  /** Resolves to whether the revision was reached within the time. */
  async reach(revision: number, timeoutMs: number): Promise<boolean> {
    if (this.#revision >= revision) return true;
    return await new Promise((resolve) => {
      const finish = (reached: boolean): void => {
        clearTimeout(timer);
        this.#waiting.delete(check);
        resolve(reached);
      };
      const check = (): void => {
        if (this.#revision >= revision) finish(true);
      };
      const timer = setTimeout(() => finish(false), timeoutMs);
      this.#waiting.add(check);
    });
  }

  #wake(): void {
    for (const check of this.#waiting) check();
  }
}

/** The text of an object whose metadata tells another revision: of a deletion. */
export function tailAtRevision({ tail }: StoredObject, revision: number): Buffer {
  const object = JSON.parse(`{${tail.toString()}`);
  object.metadata.resourceVersion = String(revision);
  return tailOf(object);
}

function storedObject({ kind, apiVersion: _, metadata, ...rest }: KubernetesObject, revision: number): StoredObject {
  const key = keyOf(metadata);
  const full = {
    uid: uidOf(kind, key),
    creationTimestamp: "2026-01-01T00:00:00Z",
    ...metadata,
    resourceVersion: String(revision),
  };
  const labels = typeof metadata.labels === "object" && metadata.labels !== null ? metadata.labels : {};
  return {
    key,
    namespace: metadata.namespace ?? "",
    name: metadata.name,
    labels,
    fields: fieldsOf(kind, metadata, rest["spec"]),
    revision,
    tail: tailOf({ metadata: full, ...rest }),
  };
}

function fieldsOf(kind: string, metadata: KubernetesObject["metadata"], spec: unknown): Record<string, string> {
  const plural = pluralOfKind(kind);
  const fields: Record<string, string> = {
    "metadata.name": metadata.name,
    "metadata.namespace": metadata.namespace ?? "",
  };
  for (const name of plural === undefined ? [] : RESOURCES[plural].specSelectors) {
    const value = typeof spec === "object" && spec !== null ? (spec as Record<string, unknown>)[name] : undefined;
    fields[`spec.${name}`] = typeof value === "string" ? value : "";
  }
  return fields;
}

function tailOf(object: object): Buffer {
  return Buffer.from(JSON.stringify(object).slice(1));
}

function keyOf({ namespace, name }: KubernetesObject["metadata"]): string {
  return namespace === undefined ? name : `${namespace}/${name}`;
}

/** The same object has the same uid in every run. */
export function uidOf(kind: string, key: string): string {
  const hex = createHash("md5").update(`${kind} ${key}`).digest("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20)}`;
}

/** Sets, replaces or removes the object of a key in a list sorted by key. */
function place(sorted: StoredObject[], key: string, object: StoredObject | undefined): void {
  const index = lowerBound(sorted, key);
  const present = sorted[index]?.key === key ? 1 : 0;
  if (object === undefined) sorted.splice(index, present);
  else if (present === 1) sorted[index] = object;
  else sorted.splice(index, 0, object);
}

function lowerBound(sorted: readonly StoredObject[], key: string): number {
  let low = 0;
  for (let high = sorted.length; low < high; ) {
    const middle = (low + high) >>> 1;
    if (sorted[middle]!.key < key) low = middle + 1;
    else high = middle;
  }
  return low;
}
