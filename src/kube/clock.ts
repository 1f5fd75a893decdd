// Time as the list and watch loops see it, so that tests can turn it by hand.

export interface Timer {
  /** The whole time again from now, also after it ran or was stopped. */
  restart(): void;
  stop(): void;
}

export interface Clock {
  /** Milliseconds; only differences mean anything. */
  now(): number;
  /** Milliseconds since the epoch. */
  wallMs(): number;
  after(ms: number, run: () => void): Timer;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  wallMs: () => Date.now(),
  after(ms, run) {
    let timer = setTimeout(run, ms);
    let stopped = false;
    return {
      restart() {
        if (stopped) timer = setTimeout(run, ms);
        else timer.refresh();
        stopped = false;
      },
      stop() {
        stopped = true;
        clearTimeout(timer);
      },
    };
  },
};

/** Resolves after `ms`, or at once when the signal is aborted. */
export function sleep(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
      return;
    }
    const finish = (): void => {
      timer.stop();
      signal.removeEventListener("abort", finish);
      resolve();
    };
    const timer = clock.after(ms, finish);
    signal.addEventListener("abort", finish);
  });
}
