// Starts the thread that watches and reads the network, asks it, and starts it anew when it dies: later each time, with one line in
// the log and a problem to be shown for all of them.
import { Worker } from "node:worker_threads";
import { Failure } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { createWakeup } from "../libbpf/mod.ts";
import type { Network } from "./network.ts";

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
  let stopped = false;
  let problem = "";
  let restartMs = times.firstRestartMs;
  let timer: NodeJS.Timeout | undefined;
  let end: (() => void) | undefined;
  let ask: ((question: Question) => void) | undefined;

  function start(): void {
    const asking = createWakeup();
    const ending = createWakeup();
    const data: NetworkThreadData = { askFd: asking.fd, endFd: ending.fd };
    const worker = new Worker(url, { workerData: data, resourceLimits: LIMITS, execArgv: [] });
    // Before that it has no effect.
    worker.once("online", () => worker.unref());
    end = ending.wake;
    // The process waits for its threads, and this one waits for a descriptor.
    process.on("exit", end);
    let question: Question | undefined;
    let last: Network | undefined;
    let reason = "it stopped";
    ask = (asked) => {
      if (question !== undefined) throw new Failure("internal", "network", "Cannot ask for the network twice at once");
      question = asked;
      asking.wake();
    };
    const answered = (): Question | undefined => {
      const asked = question;
      question = undefined;
      return asked;
    };
    worker.on("message", (message: FromNetworkThread) => {
      if (message.type === "changed") {
        if (!stopped) changed();
      } else if (message.type === "network") {
        last = message.network ?? last;
        answered()?.resolve(last);
      } else answered()?.reject(new Failure("kernel", "network", message.reason));
    });
    worker.on("error", (error) => {
      reason = error instanceof Error ? error.message : String(error);
    });
    worker.on("exit", () => {
      process.off("exit", ending.wake);
      asking.close();
      ending.close();
      clearTimeout(timer);
      ask = undefined;
      end = undefined;
      answered()?.resolve(undefined);
      if (!stopped) startAgain(reason);
    });
    timer = setTimeout(sound, times.soundMs).unref();
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

  start();
  return {
    read: () =>
      ask === undefined ? Promise.resolve(undefined) : new Promise((resolve, reject) => ask?.({ resolve, reject })),
    problem: () => problem,
    stop() {
      stopped = true;
      clearTimeout(timer);
      end?.();
    },
  };
}
