// Who is how old, and by which uid it is known: what an API server writes into an object when it first sees it.
import { randomUUID } from "node:crypto";
import { AGE_ANNOTATION, type KubernetesObject } from "../wire/kubernetes.ts";
import type { AllocationState, FirstSeen } from "./allocation-state.ts";

// A millisecond of today leaves twelve bits of a number for its fractions.
const AGE_STEP_MS = 1 / 1024;

export interface Ages {
  /** Those seen for the first time are younger than all others, in the order in which they are asked for. */
  recall(title: string): FirstSeen;
  /** It counts as another from now on. */
  renew(title: string): void;
  /** With uid, creation time and age; what the manifest says of the first two stays. */
  stamp<T extends KubernetesObject>(title: string, object: T): T;
  /** What to keep when there are `count` objects; undefined when that is what was kept before. */
  kept(count: number, exists: (title: string) => boolean): Pick<AllocationState, "lastAge" | "firstSeen"> | undefined;
}

const stamped = new WeakMap<KubernetesObject, { readonly seen: FirstSeen; readonly object: KubernetesObject }>();

/** Ages of one pass, over what was kept before. `now`: milliseconds since the epoch. */
export function createAges(before: Pick<AllocationState, "lastAge" | "firstSeen">, now: number): Ages {
  const fresh = new Map<string, FirstSeen>();
  let { lastAge } = before;

  function renew(title: string): FirstSeen {
    // The clock may have been set back.
    lastAge = Math.max(now, lastAge + AGE_STEP_MS);
    const seen = { age: lastAge, uid: randomUUID() };
    fresh.set(title, seen);
    return seen;
  }
  const recall = (title: string): FirstSeen =>
    (fresh.size === 0 ? undefined : fresh.get(title)) ?? before.firstSeen.get(title) ?? renew(title);

  return {
    recall,
    renew,
    stamp<T extends KubernetesObject>(title: string, object: T): T {
      const seen = recall(title);
      const done = stamped.get(object);
      if (done?.seen === seen) return done.object as T;
      const { metadata } = object;
      const full = {
        ...object,
        metadata: {
          ...metadata,
          uid: metadata.uid || seen.uid,
          creationTimestamp: metadata.creationTimestamp || `${new Date(seen.age).toISOString().slice(0, 19)}Z`,
          annotations: { ...metadata.annotations, [AGE_ANNOTATION]: String(seen.age) },
        },
      };
      stamped.set(object, { seen, object: full });
      return full;
    },
    kept(count, exists) {
      if (fresh.size === 0 && count === before.firstSeen.size) return undefined;
      const firstSeen = new Map([...before.firstSeen].filter(([title]) => exists(title)));
      for (const [title, seen] of fresh) firstSeen.set(title, seen);
      return { lastAge, firstSeen };
    },
  };
}
