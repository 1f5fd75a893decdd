// Work that a leader does again and again.
import { type Clock, sleep } from "../kube/clock.ts";

export interface Repeated {
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly everyMs: number;
  /** Asked often, while it may not be done. */
  readonly isDue: () => boolean;
}

const DUE_MS = 200;

/** `work` every so often, one after another, as soon as it may be and until the signal is aborted. */
export async function repeat({ clock, signal, everyMs, isDue }: Repeated, work: () => Promise<void>): Promise<void> {
  while (!signal.aborted) {
    const isNow = isDue();
    if (isNow) await work();
    await sleep(clock, isNow ? everyMs : DUE_MS, signal);
  }
}
