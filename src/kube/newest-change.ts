// The last change that was seen of a resource. A server whose etcd was restored to an older state soon has versions as high as
// ours, but of another history: this change is not in it.
import { isBefore } from "./watch-event.ts";

interface Loose {
  readonly metadata?: { readonly name?: unknown; readonly namespace?: unknown; readonly resourceVersion?: unknown };
}

interface Change {
  readonly name: string;
  /** "" of what has none. */
  readonly namespace: string;
  readonly version: string;
  readonly isGone: boolean;
}

export interface NewestChange {
  /** Another history begins: a full list. */
  forget(): void;
  /** `isGone`: as it was when it was deleted. */
  saw(object: unknown, isGone: boolean): void;
  /** Field selector of the object that changed; "" when none was seen. */
  selector(): string;
  /** Whether what that selector finds now is as we know it. An object that changed meanwhile is not. */
  holds(found: readonly unknown[]): boolean;
}

function changeOf(object: unknown, isGone: boolean): Change | undefined {
  const { name, namespace, resourceVersion } = (object as Loose).metadata ?? {};
  if (typeof name !== "string" || typeof resourceVersion !== "string" || resourceVersion === "") return undefined;
  return { name, namespace: typeof namespace === "string" ? namespace : "", version: resourceVersion, isGone };
}

export function createNewestChange(): NewestChange {
  let newest: Change | undefined;
  return {
    forget() {
      newest = undefined;
    },
    saw(object, isGone) {
      const change = changeOf(object, isGone);
      if (change !== undefined && (newest === undefined || !isBefore(change.version, newest.version))) newest = change;
    },
    selector() {
      if (newest === undefined) return "";
      const { name, namespace } = newest;
      return `metadata.name=${name}${namespace === "" ? "" : `,metadata.namespace=${namespace}`}`;
    },
    holds(found) {
      if (newest === undefined) return true;
      if (newest.isGone) return found.length === 0;
      return found.some((object) => changeOf(object, false)?.version === newest?.version);
    },
  };
}
