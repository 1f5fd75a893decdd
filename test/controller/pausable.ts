// A process that is stopped and goes on (SIGSTOP, SIGCONT): its timers and answers wait, time does not.
import type { Clock } from "../../src/kube/clock.ts";
import type { FakeClient } from "./fake-cluster.ts";

export interface Pausable {
  readonly clock: Clock;
  wrap(client: FakeClient): void;
  pause(): void;
  resume(): void;
  /** It never goes on (SIGKILL). */
  kill(): void;
}

export function pausable(clock: Clock): Pausable {
  let isPaused = false;
  let isDead = false;
  let waiting: (() => void)[] = [];
  const when = (run: () => void): void => {
    if (isPaused) waiting.push(run);
    else run();
  };
  const awake = (): Promise<void> => new Promise((resolve) => when(resolve));
  return {
    clock: { ...clock, after: (ms, run) => clock.after(ms, () => when(run)) },
    wrap(client) {
      const { get, send } = client;
      const gated = <A extends readonly unknown[], R>(call: (...args: A) => Promise<R>) => {
        return async (...args: A): Promise<R> => {
          try {
            return await call(...args);
          } finally {
            await awake();
          }
        };
      };
      client.get = gated(async (...args: Parameters<typeof get>) => {
        const response = await get(...args);
        async function* slow(): AsyncGenerator<Uint8Array> {
          for await (const chunk of response.body) {
            await awake();
            yield chunk;
          }
        }
        return { ...response, body: slow() };
      });
      client.send = gated(send);
    },
    pause() {
      isPaused = true;
    },
    kill() {
      isPaused = true;
      isDead = true;
    },
    resume() {
      if (isDead) return;
      isPaused = false;
      const due = waiting;
      waiting = [];
      for (const run of due) run();
    },
  };
}
