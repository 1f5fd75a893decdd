// All documents of all files to the objects that count: each checked, each once, by "Kind namespace/name". An object that
// became wrong keeps its last good version while its file still speaks of it. Allocates nothing.
import type { Notice } from "../model/objects.ts";
import type { FieldError } from "../wire/field-checks.ts";
import type { ManifestObject, RawDocument } from "../wire/kubernetes.ts";
import { placeInFile } from "./field-places.ts";
import type { KindUse } from "./kinds.ts";
import { atOnce, type Work } from "./portions.ts";
import { sameJson } from "./same-json.ts";
import { type CheckedDocument, checkDocument } from "./validate.ts";

export interface CatalogueContent {
  /** Kinds that are used, by "Kind namespace/name"; of a catalogue's first update in the order of files and documents. */
  readonly objects: ReadonlyMap<string, ManifestObject>;
  /** Deployments and the like, checked as far as their metadata goes. */
  readonly workloads: ReadonlyMap<string, ManifestObject>;
  /** Kinds without use, kept for what others refer to (the labels of Namespaces). */
  readonly skipped: ReadonlyMap<string, ManifestObject>;
  readonly notices: readonly Notice[];
}

export interface InForce {
  readonly document: ManifestObject;
  readonly use: KindUse;
}

/** The version before, and the one from now on; undefined where there is none. */
export interface CatalogueChange {
  readonly before: InForce | undefined;
  readonly after: InForce | undefined;
}

export interface Catalogue {
  /**
   * Takes in all documents there are now, and says what became of it: by "Kind namespace/name", new objects in the order of
   * their documents. Costs little for documents that are the same objects as last time.
   */
  take(documents: readonly RawDocument[]): Work<ReadonlyMap<string, CatalogueChange>>;
  /** By "Kind namespace/name". */
  inForce(): ReadonlyMap<string, InForce>;
  notices(): readonly Notice[];
  /** `take` at once, and everything there is then. */
  update(documents: readonly RawDocument[]): CatalogueContent;
}

export interface CatalogueOptions {
  /** "noticed": workloads have one notice each, as nothing starts them. "run": somebody does. */
  readonly workloads: "noticed" | "run";
}

interface Told extends FieldError {
  readonly severity: Notice["severity"];
}

interface Entry {
  readonly document: RawDocument;
  readonly checked: CheckedDocument;
  /** Its place among all documents. */
  order: number;
  /** The object that stood here before the document's very name or kind became unreadable; else "". */
  readonly standsFor: string;
  told: readonly Told[];
}

// Somebody's directory of wrong files must not grow the answers of the API without bound.
const MAX_NOTICES_PER_FILE = 100;
const NOTHING_TOLD: readonly Told[] = [];

export function createCatalogue(options: CatalogueOptions): Catalogue {
  const current = new Map<string, InForce>();
  const definitions = new Map<string, Entry[]>();
  /** Keys that are defined more than once. */
  const contested = new Set<string>();
  const standIns = new Map<string, Set<Entry>>();
  let entries: readonly Entry[] = [];
  let notices: readonly Notice[] = [];

  function placeOf({ file, index }: RawDocument): string {
    return `${file}\0${index}`;
  }

  function enter(entry: Entry, affected: Set<string>): void {
    const { key } = entry.checked;
    if (key !== "") {
      const others = definitions.get(key);
      if (others === undefined) definitions.set(key, [entry]);
      else {
        others.push(entry);
        contested.add(key);
      }
      affected.add(key);
    } else if (entry.standsFor === "") entry.told = wrong(entry, false);
    else {
      standIns.set(entry.standsFor, (standIns.get(entry.standsFor) ?? new Set()).add(entry));
      affected.add(entry.standsFor);
    }
  }

  function leave(entry: Entry, affected: Set<string>): void {
    const { key } = entry.checked;
    if (key !== "") {
      const left = (definitions.get(key) ?? []).filter((one) => one !== entry);
      if (left.length === 0) definitions.delete(key);
      else definitions.set(key, left);
      if (left.length < 2) contested.delete(key);
      affected.add(key);
    } else if (entry.standsFor !== "") {
      const left = standIns.get(entry.standsFor);
      left?.delete(entry);
      if (left?.size === 0) standIns.delete(entry.standsFor);
      affected.add(entry.standsFor);
    }
  }

  function unknownTo({ unknown }: CheckedDocument): readonly Told[] {
    return unknown.length === 0 ? NOTHING_TOLD : unknown.map((one) => ({ ...one, severity: "warning" }));
  }

  function wrong({ checked, document }: Entry, kept: boolean): readonly Told[] {
    const { title, errors } = checked;
    const where = title === "" ? `document ${document.index + 1}: ` : "";
    const tail = kept ? "; its last good version stays in force" : "";
    const told = errors.map((one): Told => ({ ...one, message: `${where}${one.message}${tail}`, severity: "error" }));
    return [...told, ...unknownTo(checked)];
  }

  function right(checked: CheckedDocument): readonly Told[] {
    const { use, object } = checked;
    if (use === "workload" && options.workloads === "noticed") {
      const message = "accepted, but nothing is started here: Pods count with the status that they carry";
      return [{ field: "", reason: "workload-not-run", message, severity: "info" }, ...unknownTo(checked)];
    }
    if (use === "skipped") {
      const message = `${object?.kind} has no use here and is skipped`;
      return [{ field: "", reason: "unused-kind", message, severity: "info" }];
    }
    return unknownTo(checked);
  }

  /** What is in force under `key` from now on. Entries are told what is wrong with them on the way. */
  function resolve(key: string): InForce | undefined {
    const before = current.get(key);
    const defined = definitions.get(key);
    if (defined === undefined) {
      const places = standIns.get(key);
      for (const entry of places ?? []) entry.told = wrong(entry, before !== undefined);
      return places === undefined ? undefined : before;
    }
    for (const entry of standIns.get(key) ?? []) entry.told = wrong(entry, false);
    // Who was there first stays, whatever its file is called; of those that are read at once the first by file name.
    const holds = (entry: Entry): number => (entry.document.file === before?.document.file ? 0 : 1);
    if (defined.length > 1) defined.sort((a, b) => holds(a) - holds(b) || a.order - b.order);
    const [first, ...others] = defined as [Entry, ...Entry[]];
    for (const entry of others) {
      const holder = placeInFile(first.document.file, first.document.object, "metadata.name");
      const message = `metadata.name: Duplicate value: ${holder} has it, and that one counts`;
      entry.told = [{ field: "metadata.name", reason: "duplicate-object", message, severity: "error" }];
    }
    const { errors, object, use } = first.checked;
    if (errors.length > 0 || object === undefined || use === undefined) {
      first.told = wrong(first, before !== undefined);
      return before;
    }
    first.told = right(first.checked);
    const { file, index } = first.document;
    // A file that was written again holds other objects that mostly say the same.
    const same = before?.use === use && sameJson(before.document.object, object);
    if (same && before.document.file === file) return before;
    return { document: { file, index, object: same ? before.document.object : object }, use };
  }

  function* tell(): Work<readonly Notice[]> {
    const found: Notice[] = [];
    const counts = new Map<string, number>();
    for (const { document, checked, told, order } of entries) {
      if (order % 256 === 0) yield;
      for (const { field, reason, message, severity } of told) {
        const { file } = document;
        const count = (counts.get(file) ?? 0) + 1;
        counts.set(file, count);
        if (count > MAX_NOTICES_PER_FILE) break;
        const place = placeInFile(file, document.object, field);
        const object = checked.title === "" ? place : checked.title;
        const more = "there are more notices about this file than are shown";
        found.push(
          count === MAX_NOTICES_PER_FILE
            ? { object: file, file, field: "", reason: "more-notices", message: more, severity: "warning" }
            : { object, file: place, field, reason, message, severity },
        );
      }
    }
    return found;
  }

  function* take(documents: readonly RawDocument[]): Work<ReadonlyMap<string, CatalogueChange>> {
    const changes = new Map<string, CatalogueChange>();
    const least = Math.min(entries.length, documents.length);
    let head = 0;
    while (head < least && entries[head]!.document === documents[head]) head++;
    let tail = 0;
    while (tail < least - head && entries.at(-1 - tail)!.document === documents.at(-1 - tail)) tail++;
    if (head + tail === entries.length && head + tail === documents.length) return changes;

    const gone = new Map<RawDocument, Entry>();
    const wasAt = new Map<string, Entry>();
    for (const entry of entries.slice(head, entries.length - tail)) {
      gone.set(entry.document, entry);
      wasAt.set(placeOf(entry.document), entry);
      yield;
    }
    const window: Entry[] = [];
    const affected = new Set<string>();
    for (const document of documents.slice(head, documents.length - tail)) {
      yield;
      const kept = gone.get(document);
      if (kept !== undefined) {
        gone.delete(document);
        window.push(kept);
        continue;
      }
      const found = checkDocument(document.object);
      const before = found.key === "" ? wasAt.get(placeOf(document)) : undefined;
      const stoodFor = before === undefined ? "" : before.checked.key || before.standsFor;
      const standsFor = current.has(stoodFor) ? stoodFor : "";
      const entry: Entry = { document, checked: found, order: 0, standsFor, told: NOTHING_TOLD };
      window.push(entry);
      enter(entry, affected);
    }
    for (const entry of gone.values()) {
      leave(entry, affected);
      yield;
    }
    const all = entries.slice(0, head);
    for (const entry of window) all.push(entry);
    for (const entry of entries.slice(entries.length - tail)) all.push(entry);
    for (let order = head; order < all.length; order++) all[order]!.order = order;
    entries = all;
    for (const key of contested) affected.add(key);
    for (const key of affected) {
      const before = current.get(key);
      const after = resolve(key);
      if (after === undefined) current.delete(key);
      else current.set(key, after);
      if (after !== before) changes.set(key, { before, after });
      yield;
    }
    notices = yield* tell();
    return changes;
  }

  return {
    take,
    inForce: () => current,
    notices: () => notices,
    update(documents) {
      atOnce(take(documents));
      const by = (use: KindUse): ReadonlyMap<string, ManifestObject> =>
        new Map([...current].filter(([, one]) => one.use === use).map(([key, one]) => [key, one.document]));
      return { objects: by("used"), workloads: by("workload"), skipped: by("skipped"), notices };
    },
  };
}
