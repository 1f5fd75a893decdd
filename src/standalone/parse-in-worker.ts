// Parses manifest files in a thread of their own, one after another, each within a time limit. A file that takes longer, or
// more memory than the thread may have, costs the thread, not the process.
import { Worker } from "node:worker_threads";
import type { FieldPlaces } from "./field-places.ts";
import type { ParseResult } from "./manifest-parser.ts";

export interface ParserThread {
  /** Never rejects: what went wrong is the result's `problem`. */
  parse(text: string, isJson: boolean): Promise<ParseResult>;
  stop(): Promise<void>;
}

type Reply =
  | { readonly places: ReadonlyMap<number, FieldPlaces> }
  | { readonly objects: readonly unknown[]; readonly more: boolean }
  | Extract<ParseResult, { readonly problem: string }>;

const IDLE_MS = 5_000;

// From a bundle the thread's own bundle lies beside it.
function workerUrl(): URL {
  return new URL(import.meta.url.endsWith(".ts") ? "./manifest-worker.ts" : "./manifest-worker.js", import.meta.url);
}

export function createParserThread(limitMs: number, url: URL = workerUrl()): ParserThread {
  let worker: Worker | undefined;
  let idle: NodeJS.Timeout | undefined;
  let queue: Promise<unknown> = Promise.resolve();
  let stopped = false;

  async function discard(): Promise<void> {
    clearTimeout(idle);
    const gone = worker;
    worker = undefined;
    await gone?.terminate();
  }

  function running(): Worker {
    clearTimeout(idle);
    if (worker === undefined) {
      worker = new Worker(url, { resourceLimits: { maxOldGenerationSizeMb: 768, stackSizeMb: 4 }, execArgv: [] });
      // A thread that was given up may still report why; that must not end the process.
      worker.on("error", () => {});
    }
    return worker;
  }

  async function parseNow(text: string, isJson: boolean): Promise<ParseResult> {
    if (stopped) return { problem: "parsing was broken off" };
    const thread = running();
    const objects: unknown[] = [];
    let places: ReadonlyMap<number, FieldPlaces> = new Map();
    const result = await new Promise<ParseResult>((resolve) => {
      const finish = (outcome: ParseResult, lost: boolean): void => {
        clearTimeout(timer);
        thread.off("message", onMessage).off("error", onError).off("exit", onExit);
        if (lost && worker === thread) void discard();
        resolve(outcome);
      };
      const onMessage = (reply: Reply): void => {
        if ("problem" in reply) {
          finish(reply, false);
          return;
        }
        if ("places" in reply) {
          places = reply.places;
          return;
        }
        for (const object of reply.objects) objects.push(object);
        if (reply.more) setImmediate(() => thread.postMessage("next"));
        else finish({ objects, places }, false);
      };
      const onError = (error: Error & { code?: string }): void => {
        const memory = error.code === "ERR_WORKER_OUT_OF_MEMORY";
        finish({ problem: memory ? "parsing needs too much memory" : `parsing failed: ${error.message}` }, true);
      };
      const onExit = (): void => finish({ problem: "parsing was broken off" }, true);
      const timer = setTimeout(
        () => finish({ problem: `parsing took longer than ${limitMs / 1000} s` }, true),
        limitMs,
      );
      thread.on("message", onMessage).on("error", onError).on("exit", onExit);
      thread.postMessage({ text, isJson });
    });
    if (worker !== undefined) {
      idle = setTimeout(() => void discard(), IDLE_MS);
      idle.unref();
    }
    return result;
  }

  return {
    parse(text, isJson) {
      const result = queue.then(() => parseNow(text, isJson));
      queue = result;
      return result;
    },
    stop() {
      stopped = true;
      return discard();
    },
  };
}
