// All documents of all files to the objects that count: each checked, each once, by "Kind namespace/name". An object that
// became wrong keeps its last good version while its file still speaks of it. Allocates nothing.
import type { Notice } from "../model/objects.ts";
import type { FieldError } from "../wire/field-checks.ts";
import type { ManifestObject, RawDocument } from "../wire/kubernetes.ts";
import { placeInFile } from "./field-places.ts";
import type { KindUse } from "./kinds.ts";
import { sameJson } from "./same-json.ts";
import { type CheckedDocument, checkDocument } from "./validate.ts";

export interface CatalogueContent {
  /** Kinds that are used, by "Kind namespace/name". One that did not change is the same object as last time. */
  readonly objects: ReadonlyMap<string, ManifestObject>;
  /** Deployments and the like, checked as far as their metadata goes. */
  readonly workloads: ReadonlyMap<string, ManifestObject>;
  /** Kinds without use, kept for what others refer to (the labels of Namespaces). */
  readonly skipped: ReadonlyMap<string, ManifestObject>;
  readonly notices: readonly Notice[];
}

export interface Catalogue {
  /** Everything in force, given all documents there are now. Documents that were seen before are not checked again. */
  update(documents: readonly RawDocument[]): CatalogueContent;
}

export interface CatalogueOptions {
  /** "noticed": workloads have one notice each, as nothing starts them. "run": somebody does. */
  readonly workloads: "noticed" | "run";
}

interface Entry {
  readonly document: RawDocument;
  readonly checked: CheckedDocument;
}

interface Told extends FieldError {
  readonly severity: Notice["severity"];
}

// Somebody's directory of wrong files must not grow the answers of the API without bound.
const MAX_NOTICES_PER_FILE = 100;

function unknownTo({ unknown }: CheckedDocument): readonly Told[] {
  return unknown.map((one) => ({ ...one, severity: "warning" }));
}

function wrong({ checked, document }: Entry, kept: boolean): readonly Told[] {
  const where = checked.title === "" ? `document ${document.index + 1}: ` : "";
  const tail = kept ? "; its last good version stays in force" : "";
  const told = checked.errors.map(
    (one): Told => ({ ...one, message: `${where}${one.message}${tail}`, severity: "error" }),
  );
  return [...told, ...unknownTo(checked)];
}

function toNotices(told: ReadonlyMap<Entry, readonly Told[]>, entries: readonly Entry[]): readonly Notice[] {
  const found: Notice[] = [];
  const counts = new Map<string, number>();
  for (const entry of told.size === 0 ? [] : entries) {
    const { file } = entry.document;
    for (const { field, reason, message, severity } of told.get(entry) ?? []) {
      const count = (counts.get(file) ?? 0) + 1;
      counts.set(file, count);
      if (count > MAX_NOTICES_PER_FILE) break;
      const place = placeInFile(file, entry.document.object, field);
      const object = entry.checked.title === "" ? place : entry.checked.title;
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

export function createCatalogue(options: CatalogueOptions): Catalogue {
  const seen = new WeakMap<RawDocument, Entry>();
  /** The object that stood where the very name or kind of a document is unreadable now. */
  const standsFor = new WeakMap<RawDocument, string>();
  let entriesBefore: readonly Entry[] = [];
  let current: Readonly<Record<KindUse, ReadonlyMap<string, ManifestObject>>> = {
    used: new Map(),
    workload: new Map(),
    skipped: new Map(),
  };

  function useBefore(key: string): KindUse | undefined {
    return (["used", "workload", "skipped"] as const).find((use) => current[use].has(key));
  }

  function entryOf(document: RawDocument): Entry {
    const known = seen.get(document);
    if (known !== undefined) return known;
    const entry = { document, checked: checkDocument(document.object) };
    seen.set(document, entry);
    return entry;
  }

  function stoodThere(document: RawDocument): string {
    const known = standsFor.get(document);
    if (known !== undefined) return known;
    const before = entriesBefore.find(
      (one) => one.document.file === document.file && one.document.index === document.index,
    );
    const key = before === undefined ? "" : before.checked.key || (standsFor.get(before.document) ?? "");
    const found = useBefore(key) === undefined ? "" : key;
    standsFor.set(document, found);
    return found;
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

  /** Who was there first stays, whatever its file is called; of those that are read at once the first by file name. */
  function holdersOf(entries: readonly Entry[]): ReadonlyMap<string, Entry> {
    const holders = new Map<string, Entry>();
    for (const entry of entries) {
      const { key } = entry.checked;
      const other = key === "" ? entry : holders.get(key);
      if (other === undefined) holders.set(key, entry);
      else if (other !== entry) {
        const use = useBefore(key);
        const file = use && current[use].get(key)?.file;
        if (entry.document.file === file && other.document.file !== file) holders.set(key, entry);
      }
    }
    return holders;
  }

  return {
    update(documents) {
      const entries = documents.map(entryOf);
      const told = new Map<Entry, readonly Told[]>();
      const tell = (entry: Entry, what: readonly Told[]): void => void (what.length > 0 && told.set(entry, what));
      const now: Record<KindUse, Map<string, ManifestObject>> = {
        used: new Map(),
        workload: new Map(),
        skipped: new Map(),
      };
      const holders = holdersOf(entries);
      const keep = (key: string): boolean => {
        const use = useBefore(key);
        if (use !== undefined) now[use].set(key, current[use].get(key)!);
        return use !== undefined;
      };
      const unreadable: Entry[] = [];
      for (const entry of entries) {
        const { key, errors, object, use } = entry.checked;
        if (key === "") {
          unreadable.push(entry);
          continue;
        }
        const holder = holders.get(key);
        if (holder !== undefined && holder !== entry) {
          const { file, object } = holder.document;
          const message = `metadata.name: Duplicate value: ${placeInFile(file, object, "metadata.name")} has it, and that one counts`;
          tell(entry, [{ field: "metadata.name", reason: "duplicate-object", message, severity: "error" }]);
          continue;
        }
        if (errors.length > 0 || object === undefined || use === undefined) {
          tell(entry, wrong(entry, keep(key)));
          continue;
        }
        tell(entry, right(entry.checked));
        // A file that was written again holds other objects that mostly say the same.
        const before = current[use].get(key);
        const same = before !== undefined && sameJson(before.object, object);
        const { file, index } = entry.document;
        const stays = same && before.file === file;
        now[use].set(key, stays ? before : { file, index, object: same ? before.object : object });
      }
      for (const entry of unreadable) {
        const key = stoodThere(entry.document);
        tell(entry, wrong(entry, key !== "" && !holders.has(key) && keep(key)));
      }
      const notices = toNotices(told, entries);
      current = now;
      entriesBefore = entries;
      return { objects: now.used, workloads: now.workload, skipped: now.skipped, notices };
    },
  };
}
