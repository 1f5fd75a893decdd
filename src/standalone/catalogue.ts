// All documents of all files to the objects that count: each checked, each once, by "Kind namespace/name". An object that
// became wrong keeps its last good version while its file still speaks of it. Allocates nothing.
import type { Notice } from "../model/objects.ts";
import type { FieldError } from "../wire/field-checks.ts";
import { type KubernetesObject, type ManifestObject, objectTitle, type RawDocument } from "../wire/kubernetes.ts";
import { isMetalLbWorkload, type KindUse } from "./kinds.ts";
import { validateMetadata } from "./metadata.ts";
import { sameJson } from "./same-json.ts";
import { validateObject } from "./validate.ts";

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

interface Checked {
  readonly title: string;
  readonly use: KindUse | undefined;
  readonly object: KubernetesObject | undefined;
  /** The key could be told, whatever else is wrong; else "". */
  readonly key: string;
  readonly errors: readonly FieldError[];
}

interface Entry {
  readonly document: RawDocument;
  readonly checked: Checked;
}

interface Told extends FieldError {
  readonly severity: Notice["severity"];
}

// Somebody's directory of wrong files must not grow the answers of the API without bound.
const MAX_NOTICES_PER_FILE = 100;

function check(raw: unknown): Checked {
  const { object, info, title, errors } = validateMetadata(raw);
  if (object === undefined || info === undefined) return { title, use: undefined, object: undefined, key: "", errors };
  const key = objectTitle(object);
  const namespace = object.metadata.namespace ?? "";
  const use = info.use === "workload" && isMetalLbWorkload(object.kind, namespace) ? "skipped" : info.use;
  return { title, use, object, key, errors: use === "used" ? validateObject(object) : [] };
}

function wrong({ checked: { title, errors }, document }: Entry, kept: boolean): readonly Told[] {
  const where = title === "" ? `document ${document.index + 1} of ${document.file}: ` : "";
  const tail = kept ? "; its last good version stays in force" : "";
  return errors.map((error) => ({ ...error, message: `${where}${error.message}${tail}`, severity: "error" }));
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
      const object = entry.checked.title === "" ? file : entry.checked.title;
      const more = "there are more notices about this file than are shown";
      found.push(
        count === MAX_NOTICES_PER_FILE
          ? { object: file, file, field: "", reason: "more-notices", message: more, severity: "warning" }
          : { object, file, field, reason, message, severity },
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
    const entry = { document, checked: check(document.object) };
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

  function right({ use, object }: Checked): readonly Told[] {
    if (use === "workload" && options.workloads === "noticed") {
      const message = "accepted, but nothing is started here: Pods count with the status that they carry";
      return [{ field: "", reason: "workload-not-run", message, severity: "info" }];
    }
    if (use === "skipped") {
      const message = `${object?.kind} has no use here and is skipped`;
      return [{ field: "", reason: "unused-kind", message, severity: "info" }];
    }
    return [];
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
      /** Keys of wrong objects, and of those that are not used. */
      const others = new Map<string, RawDocument>();
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
        const first = now.used.get(key) ?? (others.size === 0 ? undefined : others.get(key));
        if (first !== undefined) {
          const message = `metadata.name: Duplicate value: ${key} is defined in ${first.file} already, which counts`;
          tell(entry, [{ field: "metadata.name", reason: "duplicate-object", message, severity: "error" }]);
          continue;
        }
        if (errors.length > 0 || object === undefined || use === undefined) {
          others.set(key, entry.document);
          tell(entry, wrong(entry, keep(key)));
          continue;
        }
        if (use !== "used") {
          others.set(key, entry.document);
          tell(entry, right(entry.checked));
        }
        // A file that was written again holds other objects that mostly say the same.
        const before = current[use].get(key);
        const same = before !== undefined && sameJson(before.object, object);
        const { file, index } = entry.document;
        const stays = same && before.file === file;
        now[use].set(key, stays ? before : { file, index, object: same ? before.object : object });
      }
      for (const entry of unreadable) {
        const key = stoodThere(entry.document);
        const isDefined = now.used.has(key) || others.has(key);
        tell(entry, wrong(entry, key !== "" && !isDefined && keep(key)));
      }
      const notices = toNotices(told, entries);
      current = now;
      entriesBefore = entries;
      return { objects: now.used, workloads: now.workload, skipped: now.skipped, notices };
    },
  };
}
