// Batches of events on their way from the source, which begins at once, to the agent, which first loads its programs.
import type { Deliver } from "../model/source.ts";

/** Keeps the order of batches. */
export interface Mailbox {
  readonly deliver: Deliver;
  /** From here on `take` gets them, `failed` what it throws. What waited comes first, one batch in each turn of the event loop. */
  open(take: Deliver, failed: (error: unknown) => void): void;
}

export function createMailbox(): Mailbox {
  const waiting: Parameters<Deliver>[] = [];
  let taker: Deliver | undefined;
  const next = (): void => {
    const batch = waiting.shift();
    if (batch === undefined) return;
    taker?.(...batch);
    if (waiting.length > 0) setImmediate(next);
  };
  return {
    deliver(...batch) {
      if (taker === undefined || waiting.length > 0) waiting.push(batch);
      else taker(...batch);
    },
    open(take, failed) {
      taker = (...batch) => {
        try {
          take(...batch);
        } catch (error) {
          failed(error);
        }
      };
      if (waiting.length > 0) setImmediate(next);
    },
  };
}
