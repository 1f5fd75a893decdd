// Long work in portions, so that whoever else waits for the main loop has a turn in between. A piece of work is a
// generator that yields wherever it may be interrupted; it knows neither clock nor budget.
import { setImmediate as othersTurn } from "node:timers/promises";

/** Yields after every step of some microseconds; returns its result. Nothing else may touch its data meanwhile. */
export type Work<T> = Generator<void, T, void>;

const BUDGET_MS = 8;

export async function inPortions<T>(work: Work<T>): Promise<T> {
  let since = performance.now();
  for (;;) {
    const step = work.next();
    if (step.done === true) return step.value;
    if (performance.now() - since < BUDGET_MS) continue;
    await othersTurn();
    since = performance.now();
  }
}

export function atOnce<T>(work: Work<T>): T {
  for (;;) {
    const step = work.next();
    if (step.done === true) return step.value;
  }
}

const RUN = 64;

/** A sorted copy; equal members keep their order. */
export function* sorted<T>(list: readonly T[], compare: (a: T, b: T) => number): Work<T[]> {
  let from: T[] = [];
  for (let at = 0; at < list.length; at += RUN) {
    for (const one of list.slice(at, at + RUN).sort(compare)) from.push(one);
    yield;
  }
  for (let width = RUN; width < from.length; width *= 2) {
    const to: T[] = [];
    for (let at = 0; at < from.length; at += 2 * width) {
      let [left, right] = [at, Math.min(at + width, from.length)];
      const [middle, end] = [right, Math.min(at + 2 * width, from.length)];
      while (left < middle || right < end) {
        const takeLeft = right === end || (left < middle && compare(from[left]!, from[right]!) <= 0);
        to.push(from[takeLeft ? left++ : right++]!);
        if (to.length % RUN === 0) yield;
      }
    }
    from = to;
  }
  return from;
}
