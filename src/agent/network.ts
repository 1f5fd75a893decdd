// What the kernel knows of this network namespace's devices, addresses and routes, and a watch that says when it changed. Never
// changes anything.
import type { Network } from "../decide/network.ts";
import type { Log } from "../lib/log.ts";
import { readNetworkHere } from "./network-reading.ts";
import { type NetworkThread, startNetworkThread } from "./network-thread.ts";

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

let thread: NetworkThread | undefined;

/** Reads everything once: by the thread of a watch while there is one, else here. Throws Failure "kernel". */
export const readNetwork: () => Promise<Network> = oneAfterAnother(
  async () => (await thread?.read()) ?? readNetworkHere(),
);

export interface NetworkWatch {
  /** One sentence when changes are not seen at once, else "". */
  problem(): string;
  stop(): void;
}

const RESCAN_MS = 10_000;

/** Calls `changed` a moment after links, addresses, routes or rules changed, and every ten seconds all the same. One at a time. */
export function watchNetwork(changed: () => void, log: Log): NetworkWatch {
  const own = startNetworkThread(changed, log);
  const rescan = setInterval(changed, RESCAN_MS);
  thread = own;
  return {
    problem: own.problem,
    stop() {
      clearInterval(rescan);
      thread = undefined;
      own.stop();
    },
  };
}
