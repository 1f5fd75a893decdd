// Long work on the main loop in portions: packets' neighbours, watchers and other requests get their turn in between.
import { setImmediate as othersTurn } from "node:timers/promises";

/** A portion, and whatever single step it ends with, stays well under the 20 ms that a task of the main loop may take. */
const PORTION_MS = 5;

export interface Portions {
  isOver(): boolean;
  /** To be awaited after each step when `isOver()`: the event loop turns, and the next portion begins. */
  next(): Promise<void>;
}

/** The first portion begins now. */
export function createPortions(): Portions {
  let endsAt = performance.now() + PORTION_MS;
  return {
    isOver: () => performance.now() >= endsAt,
    async next() {
      await othersTurn();
      endsAt = performance.now() + PORTION_MS;
    },
  };
}

/** Runs work that yields wherever it may be interrupted, and returns its result. */
export async function inPortions<T>(work: Generator<void, T>): Promise<T> {
  const portions = createPortions();
  for (;;) {
    const step = work.next();
    if (step.done === true) return step.value;
    if (portions.isOver()) await portions.next();
  }
}
