// The directory of manifests as the agent's source of objects. Reading, allocating and answering DNS goes on in a thread
// (manifest-work.ts); this is its end on the main loop.
import { Worker } from "node:worker_threads";
import { endThread } from "../lib/end-thread.ts";
import { Failure } from "../lib/errors.ts";
import { createLog, type Log } from "../lib/log.ts";
import { createDelivered } from "../model/delivered.ts";
import type { Notice, ObjectEvent } from "../model/objects.ts";
import type { Deliver, OwnNode, Source } from "../model/source.ts";
import type { FromThread, ToThread } from "./manifest-thread.ts";
import type { ManifestWorkOptions, Told } from "./manifest-work.ts";
import { sameJson } from "./same-json.ts";

export interface ManifestSourceOptions extends ManifestWorkOptions {
  readonly log?: Log;
}

export interface ManifestSource extends Source {
  setOwnNode(node: OwnNode): void;
}

const LIMITS = { maxYoungGenerationSizeMb: 12, stackSizeMb: 4 };
const RESTART_MS = 1_000;

// From a bundle the thread's own bundle lies beside it.
function threadUrl(): URL {
  return new URL(import.meta.url.endsWith(".ts") ? "./manifest-thread.ts" : "./manifest-thread.js", import.meta.url);
}

export function createManifestSource(
  { log = createLog("manifests"), ...options }: ManifestSourceOptions,
  url: URL = threadUrl(),
): ManifestSource {
  let deliver: Deliver = () => {};
  let thread: Worker | undefined;
  let { ownNode } = options;
  const delivered = createDelivered();
  let state: Omit<Told, "events"> | undefined;
  let bypassing: ReadonlySet<string> = new Set();
  let lost: Notice | undefined;
  let lastEventMs = 0;
  let stopped = false;
  let restart: NodeJS.Timeout | undefined;

  function notices(): readonly Notice[] {
    return [...(lost === undefined ? [] : [lost]), ...(state?.notices ?? [])];
  }

  function take(events: ObjectEvent[], told: Omit<Told, "events">, isFirst: boolean): void {
    events.forEach(delivered.note);
    if (isFirst) for (const event of delivered.takeLeft()) events.push(event);
    const before = state;
    const isNew = before === undefined || events.length > 0 || told.digest !== before.digest;
    state = told;
    bypassing = new Set(told.bypassing);
    lost = undefined;
    if (!isNew) return;
    lastEventMs = Date.now();
    deliver(events, told.digest, true);
  }

  function onLost(reason: string): void {
    if (stopped) return;
    const message = `the thread that reads the manifests ended (${reason}): started anew in ${RESTART_MS / 1000} s`;
    lost = { object: "manifests", file: "", field: "", reason: "thread-lost", message, severity: "error" };
    restart = setTimeout(() => void launch().catch((error: Error) => onLost(error.message)), RESTART_MS);
  }

  /** Resolves when its first state was delivered; rejects with its Failure. */
  function launch(): Promise<void> {
    const started = new Worker(url, { workerData: { ...options, ownNode }, resourceLimits: LIMITS, execArgv: [] });
    thread = started;
    delivered.began();
    let gathered: ObjectEvent[] = [];
    let isFirst = true;
    return new Promise((resolve, reject) => {
      let reason = "it stopped";
      started.on("error", (error: Error) => {
        reason = error.message;
      });
      started.on("exit", () => {
        resolve();
        if (thread !== started) return;
        thread = undefined;
        onLost(reason);
      });
      started.on("message", (message: FromThread) => {
        if (thread !== started || stopped) return;
        switch (message.type) {
          case "events":
            for (const event of message.events) gathered.push(event);
            break;
          case "told": {
            const { events, ...told } = { notices: state?.notices ?? [], ...message.told };
            for (const event of events) gathered.push(event);
            const all = gathered;
            gathered = [];
            take(all, told, isFirst);
            isFirst = false;
            resolve();
            break;
          }
          case "warning":
            log.warn(message.fields, message.message);
            return;
          case "failed":
            thread = undefined;
            void started.terminate();
            reject(new Failure(message.code, message.subject, message.message));
            return;
        }
        // Others have their turn before the next message can come.
        setImmediate(() => started.postMessage("next" satisfies ToThread));
      });
    });
  }

  return {
    start(onEvents) {
      deliver = onEvents;
      return launch();
    },
    status: () => ({ kind: "manifests", synced: state !== undefined, lastEventMs, digest: state?.digest ?? "" }),
    bypassesSockets: (node) => bypassing.has(node),
    notices,
    setOwnNode(node) {
      if (sameJson(node, ownNode)) return;
      ownNode = node;
      thread?.postMessage({ ownNode: node } satisfies ToThread);
    },
    async stop() {
      stopped = true;
      clearTimeout(restart);
      const ending = thread;
      thread = undefined;
      if (ending !== undefined) await endThread(ending, "stop" satisfies ToThread);
    },
  };
}
