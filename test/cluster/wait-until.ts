// Waiting for a condition, with a name for what did not come.
import { setTimeout as delay } from "node:timers/promises";
import { Failure } from "../../src/lib/errors.ts";
import { patience } from "../../src/lib/patience.ts";
import type { Component } from "./component.ts";

export interface Waiting {
  /** On a machine that is not slow: MILLRACE_SLOW multiplies it. @default 60_000 */
  readonly timeoutMs?: number;
  /** @default 50 */
  readonly everyMs?: number;
  /** Without it nothing comes: when it has ended, so has the waiting. */
  readonly from?: Pick<Component, "name" | "pid" | "lastWords">;
}

/**
 * Calls `ask` until it returns something other than undefined. What it throws means "not yet".
 * @throws timeout with `what` and the last thing that was thrown; machine when the program that it is to come from has ended
 */
export async function waitUntil<T>(
  what: string,
  ask: () => T | undefined | Promise<T | undefined>,
  wait: Waiting = {},
) {
  const { timeoutMs = 60_000, everyMs = 50, from } = wait;
  const deadline = Date.now() + patience(timeoutMs);
  for (;;) {
    let trouble: unknown;
    if (from !== undefined && from.pid === undefined) {
      throw new Failure("machine", from.name, `could not see ${what}: ${from.name} has ended:\n${from.lastWords()}`);
    }
    try {
      const answer = await ask();
      if (answer !== undefined) return answer;
    } catch (error) {
      trouble = error;
    }
    if (Date.now() > deadline) {
      const reason = trouble instanceof Error ? `: ${trouble.message}` : "";
      throw new Failure("timeout", what, `could not see ${what} within ${patience(timeoutMs) / 1000} s${reason}`, {
        cause: trouble,
      });
    }
    await delay(everyMs);
  }
}
