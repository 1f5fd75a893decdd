// The directory from which a lab's agents learn everything: one Kubernetes object per file, each change by rename. The
// order of writing is the order of the objects given, removals last.
import { createHash } from "node:crypto";
import { mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { digestOf } from "../standalone/manifest-reader.ts";
import { type KubernetesObject, objectTitle } from "../wire/kubernetes.ts";

/** A file name for an identity: readable as far as file names go, and no two identities share one. */
export function fileNameOf(identity: string): string {
  const lower = identity.toLowerCase();
  const readable = lower.replace(/[^a-z0-9.-]+/g, "_").slice(0, 120);
  return `${readable}-${createHash("sha256").update(identity).digest("hex").slice(0, 8)}.json`;
}

/** Writes a file so that readers see the old or the new content, whole. */
export function replaceFile(directory: string, name: string, content: string): void {
  const temporary = join(directory, `.${name}.new`);
  writeFileSync(temporary, content);
  renameSync(temporary, join(directory, name));
}

export class StateDirectory {
  readonly #directory: string;
  readonly #files = new Map<string, string>();
  /** Digests of the contents this directory had, with their turn: an agent that reports one has seen everything up to it. */
  readonly #turns = new Map<string, number>();
  #turn = 0;

  constructor(directory: string) {
    this.#directory = directory;
    mkdirSync(directory, { recursive: true });
    this.#remember();
  }

  /** Makes the directory hold exactly these objects. */
  write(objects: readonly KubernetesObject[]): void {
    const wanted = new Map(
      objects.map((object) => [fileNameOf(objectTitle(object)), `${JSON.stringify(object, undefined, 2)}\n`]),
    );
    let changed = false;
    for (const [name, content] of wanted) {
      if (this.#files.get(name) === content) continue;
      replaceFile(this.#directory, name, content);
      this.#files.set(name, content);
      changed = true;
    }
    for (const name of [...this.#files.keys()]) {
      if (wanted.has(name)) continue;
      rmSync(join(this.#directory, name), { force: true });
      this.#files.delete(name);
      changed = true;
    }
    if (changed) this.#remember();
  }

  #remember(): void {
    this.#turns.set(digestOf([...this.#files].map(([name, content]) => ({ name, content }))), ++this.#turn);
    for (const [digest, turn] of this.#turns) if (turn < this.#turn - 5000) this.#turns.delete(digest);
  }

  get turn(): number {
    return this.#turn;
  }

  /** Which write a digest stands for; 0 when none of ours. */
  turnOf(digest: string): number {
    return this.#turns.get(digest) ?? 0;
  }
}
