// Starts the thread that watches and reads the network, asks it, and starts it anew when it dies: later each time, with one line in
// the log and a problem to be shown for all of them.
import { Worker } from "node:worker_threads";
import type { Network } from "../decide/network.ts";
import { Failure } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { createWakeup, takeWakeup } from "../libbpf/mod.ts";

export interface NetworkThreadData {
  /** Readable: read the network, once. */
  readonly askFd: number;
  /** Readable: end. */
  readonly endFd: number;
}

export type FromNetworkThread =
  | { readonly type: "changed" }
  /** undefined: as the one before. */
  | { readonly type: "network"; readonly network: Network | undefined }
  | { readonly type: "failed"; readonly reason: string };

export interface NetworkThread {
  /** undefined while no thread runs. One question at a time. Rejects with Failure "kernel". */
  read(): Promise<Network | undefined>;
  /** One sentence about a thread that dies, "" when it lives. */
  problem(): string;
  /** The thread ends at once. */
  stop(): void;
}

export interface NetworkThreadTimes {
  readonly firstRestartMs: number;
  readonly lastRestartMs: number;
  /** A thread that lived so long is sound. */
  readonly soundMs: number;
}

const TIMES: NetworkThreadTimes = { firstRestartMs: 1_000, lastRestartMs: 60_000, soundMs: 30_000 };
const LIMITS = { maxOldGenerationSizeMb: 256, maxYoungGenerationSizeMb: 2 };

// From a bundle the thread's own bundle lies beside it.
function workerUrl(): URL {
  return new URL(import.meta.url.endsWith(".ts") ? "./network-worker.ts" : "./network-worker.js", import.meta.url);
}

const textOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

interface Question {
  resolve(network: Network | undefined): void;
  reject(error: Failure): void;
}

/** `changed` is called when the network may have changed, and when a thread begins to watch. */
export function startNetworkThread(
  changed: () => void,
  log: Log,
  url: URL = workerUrl(),
  times: NetworkThreadTimes = TIMES,
): NetworkThread {
  const asking = createWakeup();
  const ending = createWakeup();
  const data: NetworkThreadData = { askFd: asking.fd, endFd: ending.fd };
  let stopped = false;
  let problem = "";
  let restartMs = times.firstRestartMs;
  let timer: NodeJS.Timeout | undefined;
  let running = false;
  let question: Question | undefined;
  let last: Network | undefined;

  function answered(): Question | undefined {
    const asked = question;
    question = undefined;
    return asked;
  }

  function take(message: FromNetworkThread): void {
    if (message.type === "changed") {
      if (!stopped) changed();
    } else if (message.type === "network") {
      last = message.network ?? last;
      answered()?.resolve(last);
    } else answered()?.reject(new Failure("kernel", "network", message.reason));
  }

  function ended(reason: string): void {
    running = false;
    clearTimeout(timer);
    // What this thread was asked is nothing for the next one.
    takeWakeup(asking.fd);
    answered()?.resolve(undefined);
    if (stopped) {
      process.off("exit", ending.wake);
      asking.close();
      ending.close();
    } else startAgain(reason);
  }

  function start(): void {
    let reason = "it stopped";
    try {
      const worker = new Worker(url, { workerData: data, resourceLimits: LIMITS, execArgv: [] });
      running = true;
      // Before that it has no effect.
      worker.once("online", () => worker.unref());
      worker.on("message", take);
      worker.on("error", (error) => {
        reason = textOf(error);
      });
      worker.on("exit", () => ended(reason));
      timer = setTimeout(sound, times.soundMs).unref();
    } catch (error) {
      // No more threads may be made.
      ended(textOf(error));
    }
  }

  function sound(): void {
    restartMs = times.firstRestartMs;
    if (problem !== "") log.info("the network is watched again");
    problem = "";
  }

  function startAgain(reason: string): void {
    const message = `the thread that watches the network ended (${reason}): changes are seen late until one stays`;
    if (problem === "") log.warn(message);
    problem = message;
    timer = setTimeout(start, restartMs).unref();
    restartMs = Math.min(restartMs * 2, times.lastRestartMs);
  }

  // The process waits for its threads, and this one waits for a descriptor.
  process.on("exit", ending.wake);
  start();
  return {
    async read() {
      if (!running) return undefined;
      if (question !== undefined) throw new Failure("internal", "network", "Cannot ask for the network twice at once");
      return new Promise((resolve, reject) => {
        question = { resolve, reject };
        asking.wake();
      });
    },
    problem: () => problem,
    stop() {
      if (stopped) return;
      stopped = true;
      clearTimeout(timer);
      ending.wake();
      if (!running) ended("");
    },
  };
}
