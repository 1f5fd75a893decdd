// What the kernel knows of this network namespace's devices, addresses and routes, and a watch that says when it changed. Never
// changes anything.
import { setTimeout as sleep } from "node:timers/promises";
import type { Network } from "../decide/network.ts";
import type { Log } from "../lib/log.ts";
import { createWakeup, listenToNetwork, type NetlinkListener, pollReadableAsync } from "../libbpf/mod.ts";
import { readNetworkOnce } from "./network-reading.ts";
import type { Timers } from "./timers.ts";

/**
 * `read`, one after another: who asks during a reading shares the next one with all others who do, so that no answer is older than its
 * question or comes before an older one.
 */
export function oneAfterAnother<T>(read: () => Promise<T>): () => Promise<T> {
  let current: Promise<T> | undefined;
  let next: Promise<T> | undefined;
  const begin = (): Promise<T> => {
    next = undefined;
    const mine = read();
    const over = (): void => {
      if (current === mine) current = undefined;
    };
    current = mine;
    mine.then(over, over);
    return mine;
  };
  return () => {
    if (next !== undefined) return next;
    if (current === undefined) return begin();
    next = current.then(begin, begin);
    return next;
  };
}

/** Reads everything once. Rejects with KernelError. */
export const readNetwork: () => Promise<Network> = oneAfterAnother(readNetworkOnce);

export interface NetworkWatch {
  /** One sentence when changes are not seen at once, else "". */
  problem(): string;
  stop(): void;
}

/** What changes together gathers for so long. */
const GATHER_MS = 30;
/** Others have their turn in the thread of libuv's that waits, where there is one only, and so has a process that ends. */
const TURN_MS = 1_000;
const TIMES = { rescanMs: 10_000, firstRetryMs: 1_000, lastRetryMs: 60_000 };

/**
 * Calls `changed` a moment after links, addresses, routes or rules changed, and every ten seconds all the same. When it cannot listen
 * it tries again, later each time, with one line in the log for all of them.
 */
export function watchNetwork(
  changed: () => void,
  timers: Pick<Timers, "every">,
  log: Log,
  listen: () => Pick<NetlinkListener, "fd" | "drain" | typeof Symbol.dispose> = listenToNetwork,
  times: typeof TIMES = TIMES,
): NetworkWatch {
  const ending = createWakeup();
  const stopping = new AbortController();
  const { signal } = stopping;
  const endRescans = timers.every(times.rescanMs, changed);
  let problem = "";
  let delay = times.firstRetryMs;

  async function follow(): Promise<void> {
    using changes = listen();
    // Before it listened it heard nothing.
    let heard = true;
    while (!signal.aborted) {
      if (heard) {
        await sleep(GATHER_MS);
        changes.drain();
        if (!signal.aborted) changed();
      }
      heard = (await pollReadableAsync([ending.fd, changes.fd], TURN_MS)).includes(changes.fd);
      if (problem !== "") log.info("changes of the network are seen at once again");
      problem = "";
      delay = times.firstRetryMs;
    }
  }

  async function run(): Promise<void> {
    while (!signal.aborted) {
      await follow().catch((error: Error) => {
        if (problem === "")
          log.warn({ reason: error.message }, "changes of the network are seen every ten seconds only");
        problem = `changes of the network are seen every ten seconds only: ${error.message}`;
        const waiting = sleep(delay, undefined, { signal }).catch(() => {});
        delay = Math.min(delay * 2, times.lastRetryMs);
        return waiting;
      });
    }
    ending.close();
  }

  void run();
  return {
    problem: () => problem,
    stop() {
      endRescans();
      stopping.abort();
      ending.wake();
    },
  };
}
