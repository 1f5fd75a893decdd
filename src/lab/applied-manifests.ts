// The objects that were applied to a lab, as an API server would keep them: one by kind, namespace and name, with a uid
// that stays while it does. Kept on disk for whoever looks; the control process works from memory.
import { createHash, randomUUID } from "node:crypto";
import { mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type ManifestObject, objectTitle } from "../wire/kubernetes.ts";

export interface AppliedObject extends ManifestObject {
  readonly uid: string;
}

/** A file name for an identity: readable as far as file names go, and no two identities share one. */
export function fileNameOf(identity: string): string {
  const readable = identity
    .toLowerCase()
    .replace(/[^a-z0-9.-]+/g, "_")
    .slice(0, 120);
  return `${readable}-${createHash("sha256").update(identity).digest("hex").slice(0, 8)}.json`;
}

/** Writes a file so that readers see the old or the new content, whole. */
export function replaceFile(directory: string, name: string, content: string): void {
  const temporary = join(directory, `.${name}.new`);
  writeFileSync(temporary, content);
  renameSync(temporary, join(directory, name));
}

export class AppliedManifests {
  readonly #directory: string;
  readonly #objects = new Map<string, AppliedObject>();

  constructor(directory: string) {
    this.#directory = directory;
    mkdirSync(directory, { recursive: true });
  }

  /** Adds or replaces; the uid of an object that was there stays. */
  put(document: ManifestObject): AppliedObject {
    const identity = objectTitle(document.object);
    const uid = this.#objects.get(identity)?.uid ?? document.object.metadata.uid ?? randomUUID();
    const applied: AppliedObject = {
      ...document,
      object: { ...document.object, metadata: { ...document.object.metadata, uid } },
      uid,
    };
    this.#objects.set(identity, applied);
    replaceFile(this.#directory, fileNameOf(identity), `${JSON.stringify(applied.object, undefined, 2)}\n`);
    return applied;
  }

  get(identity: string): AppliedObject | undefined {
    return this.#objects.get(identity);
  }

  /** false when there was none. */
  remove(identity: string): boolean {
    if (!this.#objects.delete(identity)) return false;
    rmSync(join(this.#directory, fileNameOf(identity)), { force: true });
    return true;
  }

  /** In the order in which they were first applied. */
  all(): AppliedObject[] {
    return [...this.#objects.values()];
  }
}
