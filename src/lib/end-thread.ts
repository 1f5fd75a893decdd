// The end of a thread: it is asked to, so that what it has begun ends with it, and made to when it does not answer.
import type { Worker } from "node:worker_threads";

const STOP_MS = 2_000;

/** Tells the thread `message`, upon which it is to end itself. Resolves when it has ended; never rejects. */
export async function endThread(thread: Worker, message: unknown, withinMs = STOP_MS): Promise<void> {
  const ended = Promise.withResolvers<void>();
  thread.once("exit", () => ended.resolve());
  thread.on("error", () => {});
  // One that has ended already says so here alone.
  if (thread.threadId === -1) return;
  thread.postMessage(message);
  const timer = setTimeout(() => void thread.terminate(), withinMs);
  await ended.promise;
  clearTimeout(timer);
}
