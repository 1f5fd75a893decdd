// The thread in which manifests are read and allocated for: the main loop gets changes alone, in portions that it asks for one
// by one, as taking them over is work for it too.
import { parentPort, workerData } from "node:worker_threads";
import { Failure, type FailureCode } from "../lib/errors.ts";
import { collectGarbage } from "../lib/heap.ts";
import type { ObjectEvent } from "../model/objects.ts";
import type { OwnNode } from "../model/source.ts";
import { createManifestWork, type ManifestWorkOptions, type Told } from "./manifest-work.ts";

export type FromThread =
  /** A part of what is told next, to be answered by "next". */
  | { readonly type: "events"; readonly events: readonly ObjectEvent[] }
  /** Notices are left out while they are those of last time. */
  | { readonly type: "told"; readonly told: Omit<Told, "notices"> & Partial<Pick<Told, "notices">> }
  | { readonly type: "warning"; readonly fields: object; readonly message: string }
  | { readonly type: "failed"; readonly code: FailureCode; readonly subject: string; readonly message: string };

export type ToThread = "next" | "stop" | { readonly ownNode: OwnNode };

/** Objects and endpoints: some milliseconds of the main loop. */
const PORTION = 1_000;

function run(port: NonNullable<typeof parentPort>): void {
  const post = (message: FromThread): void => port.postMessage(message);
  let wake = (): void => {};
  let stopping = false;
  let toldNotices: Told["notices"] | undefined;
  const next = (): Promise<void> =>
    new Promise((resolve) => {
      wake = resolve;
      if (stopping) resolve();
    });

  async function tell(told: Told): Promise<void> {
    let events: ObjectEvent[] = [];
    let weight = 0;
    for (const event of told.events) {
      events.push(event);
      weight += 1 + (event.kind === "EndpointSlice" ? (event.object?.endpoints.length ?? 0) : 0);
      if (weight < PORTION) continue;
      post({ type: "events", events });
      await next();
      events = [];
      weight = 0;
    }
    const { notices, ...rest } = { ...told, events };
    post({ type: "told", told: notices === toldNotices ? rest : { ...rest, notices } });
    toldNotices = notices;
    await next();
  }

  const log = {
    warn: (fields: object, message: string) => post({ type: "warning", fields, message }),
  };
  const work = createManifestWork(
    workerData as ManifestWorkOptions,
    tell,
    log as Parameters<typeof createManifestWork>[2],
  );
  port.on("message", (message: ToThread) => {
    if (message === "next") wake();
    else if (message === "stop") {
      stopping = true;
      wake();
      void work.stop().finally(() => process.exit(0));
    } else work.setOwnNode(message.ownNode);
  });
  // What parsing all files has left is most of this thread's memory.
  work.start().then(collectGarbage, (error: Error) => {
    const { code, subject } = error instanceof Failure ? error : { code: "internal" as const, subject: "manifests" };
    post({ type: "failed", code, subject, message: error.message });
  });
}

if (parentPort !== null) run(parentPort);
