// What a source has delivered, and by the how-manieth of its threads: a new thread knows nothing of what the one before it read.
import type { ObjectEvent, ObjectKey } from "./objects.ts";

export interface Delivered {
  /** Of the last thread that `began()`. */
  note(event: ObjectEvent): void;
  began(): void;
  /** Takes out what the last thread has not delivered, as events. */
  takeLeft(): ObjectEvent[];
}

export function createDelivered(): Delivered {
  const threads = new Map<ObjectEvent["kind"], Map<ObjectKey, number>>();
  let thread = 0;
  return {
    note({ kind, key, object }) {
      const keys = threads.get(kind) ?? new Map<ObjectKey, number>();
      threads.set(kind, keys);
      if (object === undefined) keys.delete(key);
      else keys.set(key, thread);
    },
    began() {
      thread++;
    },
    takeLeft() {
      const left: ObjectEvent[] = [];
      for (const [kind, keys] of threads) {
        for (const [key, by] of keys) {
          if (by < thread && keys.delete(key)) left.push({ kind, key, object: undefined });
        }
      }
      return left;
    },
  };
}
