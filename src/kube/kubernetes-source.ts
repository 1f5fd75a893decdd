// The Kubernetes API as the agent's source of objects. A thread reads it (api-worker.ts); this side takes its messages in,
// one after another, starts it anew when it is lost, and says what is wrong.
import { Worker } from "node:worker_threads";
import { endThread } from "../lib/end-thread.ts";
import { Failure } from "../lib/errors.ts";
import { createDelivered } from "../model/delivered.ts";
import type { Notice } from "../model/objects.ts";
import type { AnnouncedService, ApiStats, Deliver, Source } from "../model/source.ts";
import { apiStatsOf } from "./api-stats.ts";
import { createUnpacker } from "./rows.ts";
import type { FromWorker, ThreadStats, ToWorker, WorkerOptions } from "./worker-messages.ts";

export interface KubernetesSource extends Source {
  /** As of a second ago at most; undefined before the thread has told any. */
  api(): ApiStats | undefined;
}

const FIRST_RESTART_MS = 1_000;
const LAST_RESTART_MS = 30_000;
/** What the thread holds is little (a hash by object); what it parses is short-lived. */
const THREAD_LIMITS = { maxOldGenerationSizeMb: 512, maxYoungGenerationSizeMb: 12, stackSizeMb: 4 };

// From a bundle the thread's own bundle lies beside it.
function workerUrl(): URL {
  return new URL(import.meta.url.endsWith(".ts") ? "./api-worker.ts" : "./api-worker.js", import.meta.url);
}

export function createKubernetesSource(options: WorkerOptions, url: URL = workerUrl()): KubernetesSource {
  const unpacker = createUnpacker();
  const delivered = createDelivered();
  let deliver: Deliver = () => {};
  let worker: Worker | undefined;
  let stats: ThreadStats | undefined;
  let notices: readonly Notice[] = [];
  let lost: Notice | undefined;
  let synced = false;
  let digest = "";
  let lastEventMs = 0;
  let stopped = false;
  /** Told last, for a thread that takes over. */
  let announced: readonly AnnouncedService[] | undefined;
  let restart: NodeJS.Timeout | undefined;
  let restartMs = FIRST_RESTART_MS;

  function takeChanges(from: Worker, message: Extract<FromWorker, { type: "changes" }>, isFirstSynced: boolean): void {
    const events = unpacker.unpack(message.packed);
    events.forEach(delivered.note);
    if (isFirstSynced) for (const event of delivered.takeLeft()) events.push(event);
    synced ||= message.synced;
    digest = message.digest;
    if (events.length > 0) lastEventMs = Date.now();
    deliver(events, digest, synced);
    // Others have their turn before the next message can come.
    setImmediate(() => {
      if (worker === from) from.postMessage("acknowledged" satisfies ToWorker);
    });
  }

  function onLost(reason: string): void {
    if (stopped) return;
    const seconds = restartMs / 1000;
    const message = `the thread that reads the Kubernetes API ended (${reason}): started anew in ${seconds} s`;
    lost = { object: "Kubernetes API", file: "", field: "", reason: "thread-lost", message, severity: "error" };
    restart = setTimeout(() => void launch().catch((error: Error) => onLost(error.message)), restartMs);
    restartMs = Math.min(restartMs * 2, LAST_RESTART_MS);
  }

  /** Resolves when the thread knows where the API is; rejects with its Failure when it does not. */
  function launch(): Promise<void> {
    const thread = new Worker(url, { workerData: options, resourceLimits: THREAD_LIMITS, execArgv: [] });
    worker = thread;
    delivered.began();
    let threadSynced = false;
    return new Promise((resolve, reject) => {
      let reason = "it stopped";
      thread.on("error", (error: Error) => {
        reason = error.message;
      });
      thread.on("exit", () => {
        resolve();
        if (worker !== thread) return;
        worker = undefined;
        onLost(reason);
      });
      thread.on("message", (message: FromWorker) => {
        if (worker !== thread) return;
        switch (message.type) {
          case "started":
            if (announced !== undefined) tell({ type: "announced", list: announced });
            resolve();
            break;
          case "failed":
            worker = undefined;
            void thread.terminate();
            reject(new Failure(message.code, message.subject, message.message));
            break;
          case "changes": {
            const isFirstSynced = message.synced && !threadSynced;
            threadSynced ||= message.synced;
            if (isFirstSynced) {
              lost = undefined;
              restartMs = FIRST_RESTART_MS;
            }
            takeChanges(thread, message, isFirstSynced);
            break;
          }
          case "status":
            stats = message.stats;
            if (message.notices === undefined) break;
            notices = message.notices;
            break;
        }
      });
    });
  }

  function tell(message: ToWorker): void {
    worker?.postMessage(message);
  }

  return {
    announced(list) {
      announced = list;
      tell({ type: "announced", list });
    },
    report: (report) => tell({ type: "report", report }),
    start(onEvents) {
      deliver = onEvents;
      return launch();
    },
    status: () => ({ kind: "kubernetes", synced, lastEventMs, digest }),
    notices: () => (lost === undefined ? notices : [lost, ...notices]),
    // Pods are not read, so nothing is known of what runs in them.
    bypassesSockets: () => false,
    api: () => (stats === undefined ? undefined : apiStatsOf(stats)),
    async stop() {
      stopped = true;
      clearTimeout(restart);
      const thread = worker;
      worker = undefined;
      if (thread !== undefined) await endThread(thread, "stop" satisfies ToWorker);
    },
  };
}
