// What is known of the objects of one resource: for each its key, a hash of its content and its size. Decides from lists and
// events which changes go on to the model; keeps no object.
import type { Notice, ObjectKey } from "../model/objects.ts";
import { judgeList, type Loss, lostTotal } from "./relist-guard.ts";
import type { Change, Complaint, Taken } from "./row.ts";

export interface KnownObjectsOptions {
  readonly kind: Change["kind"];
  /** As notices name the objects. @default kind */
  readonly title?: string;
  readonly take: (object: unknown) => Taken;
  /** Gets every change of content, in order. */
  readonly emit: (change: Change) => void;
  /** Every full list is applied as it is. */
  readonly trustLists: boolean;
  /** Frontends, endpoints or objects that a process before knew: what the first list is measured by. @default 0 */
  readonly remembered?: number;
}

export type ListOutcome =
  | { readonly outcome: "applied" }
  /** What the list takes away waits for a second one that agrees; what it adds is in force. */
  | { readonly outcome: "held"; readonly before: number; readonly lost: number };

export interface KnownObjects {
  /** A full list begins; one that had begun is forgotten, what it added stays. */
  listBegins(): void;
  /** One object of the list, or one that came or changed while it was read; of two with one key the later counts. */
  listed(object: unknown): void;
  /** One object that went while the list was read. */
  unlisted(object: unknown): void;
  /** All of them were listed: what was not is gone. */
  listEnds(): ListOutcome;
  changed(object: unknown): void;
  gone(object: unknown): void;
  /** Objects refused, and addresses left out of objects, as they stand now. */
  notices(): readonly Notice[];
  /** Goes up with each change of the notices. */
  noticesVersion(): number;
  count(): number;
  /** The sum of their sizes (see Taken). */
  total(): number;
}

interface Known {
  hash: number;
  size: number;
  /** Number of the last list that had it. */
  list: number;
}

type Sound = Extract<Taken, { outcome: "taken" }>;

export function createKnownObjects({
  kind,
  title = kind,
  take,
  emit,
  trustLists,
  remembered = 0,
}: KnownObjectsOptions): KnownObjects {
  const known = new Map<ObjectKey, Known>();
  /** By key, with the number of the last list that had the object. */
  const complaints = new Map<ObjectKey, { readonly found: readonly Complaint[]; readonly list: number }>();
  let complaintsVersion = 0;
  let total = 0;
  let list = 0;
  let before = 0;
  /** Of the list being read: objects that lost frontends or endpoints, to be applied when it is. */
  let shrunk = new Map<ObjectKey, Sound>();
  let held: Loss | undefined;
  /** Until a first list was applied: how many there ought to be. */
  let expected = remembered;

  function complain(key: ObjectKey, found: readonly Complaint[]): void {
    if (found.length === 0 && !complaints.has(key)) return;
    complaintsVersion++;
    if (found.length === 0) complaints.delete(key);
    else complaints.set(key, { found, list });
  }

  function remove(key: ObjectKey): void {
    const one = known.get(key);
    complain(key, []);
    if (one === undefined) return;
    known.delete(key);
    total -= one.size;
    emit(
      kind === "EndpointSlice"
        ? { kind, key, content: undefined, triggerMs: 0 }
        : ({ kind, key, content: undefined } as Change),
    );
  }

  function put({ change, hash, size, complaints: found }: Sound): void {
    const { key } = change;
    complain(key, found);
    const one = known.get(key);
    if (one === undefined) {
      known.set(key, { hash, size, list });
      total += size;
      emit(change);
      return;
    }
    one.list = list;
    if (one.hash === hash) return;
    total += size - one.size;
    one.hash = hash;
    one.size = size;
    emit(change);
  }

  /** An unusable object counts as listed, so that its last good state stays. */
  function keepRefused(key: ObjectKey, found: readonly Complaint[]): void {
    const one = known.get(key);
    if (one !== undefined) one.list = list;
    complain(key, found);
  }

  function lossOfList(): Loss {
    const lost = new Map<ObjectKey, number>();
    for (const [key, one] of known) if (one.list !== list && one.size > 0) lost.set(key, one.size);
    for (const [key, { size }] of shrunk) {
      const one = known.get(key);
      if (one !== undefined && one.list === list) lost.set(key, one.size - size);
    }
    // Whose they were is not known any more.
    if (expected > total) lost.set("", expected - total);
    return { before, lost };
  }

  return {
    listBegins() {
      list++;
      before = Math.max(total, expected);
      shrunk = new Map();
    },
    listed(object) {
      const taken = take(object);
      const key = taken.outcome === "taken" ? taken.change.key : taken.key;
      shrunk.delete(key);
      if (taken.outcome === "refused") keepRefused(key, taken.complaints);
      if (taken.outcome !== "taken") return;
      const one = known.get(key);
      if (one === undefined || taken.size >= one.size) {
        const { change } = taken;
        // Its trigger may be old: it says nothing about how long this list took.
        put(change.kind === "EndpointSlice" ? { ...taken, change: { ...change, triggerMs: 0 } } : taken);
        return;
      }
      one.list = list;
      shrunk.set(key, taken);
    },
    unlisted(object) {
      const taken = take(object);
      const key = taken.outcome === "taken" ? taken.change.key : taken.key;
      shrunk.delete(key);
      const one = known.get(key);
      if (one !== undefined) one.list = 0;
    },
    listEnds() {
      const loss = lossOfList();
      if (!trustLists && judgeList(kind, loss, held) === "hold") {
        held = loss;
        shrunk = new Map();
        return { outcome: "held", before, lost: lostTotal(loss) };
      }
      held = undefined;
      expected = 0;
      for (const [key, one] of known) if (one.list !== list) remove(key);
      for (const one of shrunk.values()) put(one);
      for (const [key, one] of complaints) if (one.list !== list) complain(key, []);
      shrunk = new Map();
      return { outcome: "applied" };
    },
    changed(object) {
      const taken = take(object);
      if (taken.outcome === "taken") put(taken);
      else if (taken.outcome === "skipped") remove(taken.key);
      else complain(taken.key, taken.complaints);
    },
    gone(object) {
      const taken = take(object);
      remove(taken.outcome === "taken" ? taken.change.key : taken.key);
    },
    notices: () =>
      [...complaints].flatMap(([key, { found }]) =>
        found.map(({ field, reason, message }) => ({
          object: key === "" ? title : `${title} ${key}`,
          file: "",
          field,
          reason,
          message,
          severity: "error" as const,
        })),
      ),
    noticesVersion: () => complaintsVersion,
    count: () => known.size,
    total: () => total,
  };
}
