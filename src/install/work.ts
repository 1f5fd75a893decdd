// How a command of some minutes waits for a cluster: asks again and again, tells what it waits for, and outlives an API server that is away
// for a moment.
import { ApiError } from "../kube/api-error.ts";
import { type Clock, sleep } from "../kube/clock.ts";
import { type ClusterObject, type ClusterObjects, RequestRefused } from "../kube/cluster-objects.ts";
import { Failure } from "../lib/errors.ts";

export interface Progress {
  /** Something was done, or is to be known. */
  line(text: string): void;
  /** What is waited for now; the next one, or a line, takes its place. */
  live(text: string): void;
}

/** What every part of the work has. */
export interface Work {
  readonly api: ClusterObjects;
  readonly clock: Clock;
  readonly progress: Progress;
  /** The user wants to stop: nothing new is begun. */
  readonly signal: AbortSignal;
  /** For one node, or one thing of the cluster. */
  readonly timeoutMs: number;
}

export type Look<T> =
  | { readonly done: T }
  | { readonly waiting: string }
  /** It will not come. */
  | { readonly failed: string };

const EVERY_MS = 1_000;

/** An answer that says nothing about what was asked. */
function isPassing(error: unknown): error is Error {
  if (error instanceof ApiError) return error.kind === "unreachable" || error.kind === "timeout";
  return error instanceof RequestRefused && (error.status === 429 || error.status >= 500);
}

/** What was waited for does not come. */
export class NotReached extends Error {
  override readonly name = "NotReached";
}

export function stopIfAsked({ signal }: Work): void {
  if (signal.aborted)
    throw new Failure("cluster", "the cluster", "stopped as asked for: the same command again goes on");
}

/** Looks once a second until it is done. Rejects with NotReached when it failed or took too long, with a Failure when it is to stop. */
export async function until<T>(
  work: Work,
  what: string,
  look: () => Promise<Look<T>>,
  timeoutMs: number = work.timeoutMs,
): Promise<T> {
  const { clock, progress, signal } = work;
  const deadline = clock.now() + timeoutMs;
  let last = "";
  for (;;) {
    stopIfAsked(work);
    const found = await look().catch((error: unknown): Look<T> => {
      if (isPassing(error)) return { waiting: error.message };
      throw error;
    });
    if ("done" in found) return found.done;
    if ("failed" in found) throw new NotReached(found.failed);
    last = found.waiting;
    if (clock.now() >= deadline) throw new NotReached(`${last} (after ${Math.round(timeoutMs / 1000)} s)`);
    progress.live(`${what}: ${last}`);
    await sleep(clock, EVERY_MS, signal);
  }
}

/** A request that does no harm when it is sent again, through an API server that is away for a moment. */
export async function persist<T>(work: Work, what: string, request: () => Promise<T>): Promise<T> {
  return until(work, what, async () => ({ done: await request() }), Math.min(work.timeoutMs, 60_000));
}

/** A merge patch made from what is there, again when another was faster. Nothing is sent when `change` gives undefined. */
export async function change(
  work: Work,
  kind: "Node" | "DaemonSet",
  which: { readonly name: string; readonly namespace?: string },
  change: (object: ClusterObject) => object | undefined,
): Promise<ClusterObject | undefined> {
  return persist(work, `${kind} ${which.name}`, async () => {
    for (let tries = 1; ; tries++) {
      const object = await work.api.get(kind, which);
      if (object === undefined) return undefined;
      const body = change(object) as { metadata?: object } | undefined;
      if (body === undefined) return object;
      const { resourceVersion } = object.metadata;
      try {
        return await work.api.patch(kind, which, { ...body, metadata: { ...body.metadata, resourceVersion } });
      } catch (error) {
        if (!(error instanceof RequestRefused) || error.status !== 409 || tries === 10) throw error;
      }
    }
  });
}

/** One after another in `lanes` lanes. The first that fails ends it: what is under way is seen to its end. */
export async function inLanes<T>(all: readonly T[], lanes: number, run: (one: T) => Promise<void>): Promise<void> {
  const queue = [...all];
  let failure: { readonly error: unknown } | undefined;
  const lane = async (): Promise<void> => {
    for (let one = queue.shift(); one !== undefined && failure === undefined; one = queue.shift()) {
      try {
        await run(one);
      } catch (error) {
        failure ??= { error };
      }
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, lanes) }, lane));
  if (failure !== undefined) throw failure.error;
}
