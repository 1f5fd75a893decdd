// The loop of a lab: does its step again as long as something changed, one at a time, and wakes who waits for it to be at rest.
import { setTimeout as delay } from "node:timers/promises";
import { Failure } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { patience } from "../lib/patience.ts";

const READY_TIMEOUT_MS = patience(60_000);

export interface LoopAround {
  /** The lab's name, and where its log is. */
  readonly name: string;
  readonly controlLog: string;
  readonly log: Log;
}

export class Loop {
  readonly #step: () => Promise<void>;
  readonly #around: LoopAround;
  readonly #waiters = new Set<() => void>();
  #dirty = false;
  #working = false;
  #broken: Error | undefined;

  constructor(step: () => Promise<void>, around: LoopAround) {
    this.#step = step;
    this.#around = around;
  }

  /** What the last step failed with, undefined when it went well. */
  get broken(): Error | undefined {
    return this.#broken;
  }

  changed(): void {
    this.#dirty = true;
    if (this.#working) return;
    this.#working = true;
    setImmediate(() => void this.#work());
  }

  async #work(): Promise<void> {
    while (this.#dirty) {
      this.#dirty = false;
      try {
        await this.#step();
        this.#broken = undefined;
      } catch (error) {
        this.#broken = error as Error;
        this.#around.log.error({ error: String((error as Error).stack ?? error) }, "could not reconcile");
        await delay(200);
        // Tried again with the next change; a failure that stays is seen by whoever waits.
      }
    }
    this.#working = false;
    this.wake();
  }

  /** Whoever waits asks again. */
  wake(): void {
    for (const wake of this.#waiters) wake();
    this.#waiters.clear();
  }

  /** Resolves when the loop is at rest and `pending` has nothing to say. @throws timeout */
  async settled(pending: () => string | undefined): Promise<void> {
    const deadline = Date.now() + READY_TIMEOUT_MS;
    for (;;) {
      const reason = this.#dirty || this.#working ? "the lab is busy" : (this.#broken?.message ?? pending());
      if (reason === undefined) return;
      const leftMs = deadline - Date.now();
      const { name, controlLog } = this.#around;
      const said = `could not finish within ${READY_TIMEOUT_MS / 1000} s: ${reason}; the log is ${controlLog}`;
      if (leftMs <= 0) throw new Failure("timeout", name, said);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(() => this.wake(), Math.min(leftMs, 1000));
        this.#waiters.add(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }
}
