// A clock that stands still until it is turned.
import { setImmediate as turn } from "node:timers/promises";
import type { Clock } from "../../src/kube/clock.ts";

export interface ManualClock extends Clock {
  /** Runs what falls due on the way, in order, each with all that follows from it. */
  advance(ms: number): Promise<void>;
}

/** Everything that waits for promises alone has happened. */
export async function settled(): Promise<void> {
  for (let i = 0; i < 5; i++) await turn();
}

export function createManualClock(): ManualClock {
  let now = 1_000;
  const due = new Map<object, { at: number; readonly run: () => void }>();
  return {
    now: () => now,
    wallMs: () => now,
    after(ms, run) {
      const timer = {
        restart: () => void due.set(timer, { at: now + ms, run }),
        stop: () => void due.delete(timer),
      };
      timer.restart();
      return timer;
    },
    async advance(ms) {
      const until = now + ms;
      await settled();
      for (;;) {
        const next = [...due].filter(([, { at }]) => at <= until).sort(([, a], [, b]) => a.at - b.at)[0];
        if (next === undefined) break;
        const [timer, { at, run }] = next;
        due.delete(timer);
        now = at;
        run();
        await settled();
      }
      now = until;
    },
  };
}
