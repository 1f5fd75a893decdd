// Long work on the main loop in slices: packets' neighbours, watchers and other requests get their turn in between.
import { setImmediate as othersTurn } from "node:timers/promises";

/** A slice, and whatever single step it ends with, stays well under the 20 ms that a task of the main loop may take. */
const SLICE_MS = 5;

export interface TimeSlices {
  /** To be awaited after each step when `isOver()`: the event loop turns, and the next slice begins. */
  next(): Promise<void>;
  isOver(): boolean;
}

/** The first slice begins now. */
export function createTimeSlices(now: () => number = () => performance.now()): TimeSlices {
  let endsAt = now() + SLICE_MS;
  return {
    isOver: () => now() >= endsAt,
    async next() {
      await othersTurn();
      endsAt = now() + SLICE_MS;
    },
  };
}
