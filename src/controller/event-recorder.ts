// Events about objects (core/v1), as `kubectl describe` shows them: those that say the same are one event with a count, and no
// storm of them reaches the API server. Whoever records one never waits, and nothing depends on its being written.
import { createHash } from "node:crypto";
import type { Clock } from "../kube/clock.ts";
import type { ClusterWriter } from "../kube/cluster-writer.ts";
import { createTokenBucket } from "../kube/token-bucket.ts";
import type { ObjectRef } from "./object-ref.ts";

export interface EventText {
  readonly ref: ObjectRef;
  readonly type: "Normal" | "Warning";
  /** MetalLB's where it has one. */
  readonly reason: string;
  readonly message: string;
}

export interface EventRecorderOptions {
  readonly writer: Pick<ClusterWriter, "createEvent" | "readEvent" | "patchEvent">;
  readonly component: string;
  readonly clock: Clock;
  /** Whether anything may be written now. */
  readonly mayWrite: () => boolean;
}

export interface EventRecorder {
  record(event: EventText): void;
  /** Events that were not written since too many waited, or the server would not have them. */
  dropped(): number;
  /** Resolves when nothing is under way. */
  idle(): Promise<void>;
}

const MOST_WAITING = 1_000;
const MOST_REMEMBERED = 10_000;
const MESSAGE_LENGTH = 1_024;
/** One that says the same is counted, not written, for so long. */
const SILENCE_MS = 60_000;
const BURST = 50;
const PER_SECOND = 10;

interface Known {
  readonly name: string;
  writtenMs: number;
}

export function createEventRecorder({ writer, component, clock, mayWrite }: EventRecorderOptions): EventRecorder {
  const queue: EventText[] = [];
  const known = new Map<string, Known>();
  const bucket = createTokenBucket(PER_SECOND, BURST, clock.now);
  let dropped = 0;
  let running: Promise<void> | undefined;

  /** The same words about the same object have the same name, whichever process writes them. */
  function nameOf({ ref, reason, message, type }: EventText): string {
    const text = [ref.kind, ref.uid, reason, type, message].join("\n");
    return `${ref.name.slice(0, 200)}.${createHash("sha256").update(text).digest("hex").slice(0, 16)}`;
  }

  async function write(event: EventText, name: string): Promise<boolean> {
    const { ref, type, reason } = event;
    // Events about what has no namespace are kept in this one.
    const namespace = ref.namespace || "default";
    const now = new Date(clock.wallMs());
    const created = await writer.createEvent(namespace, {
      metadata: { name, namespace },
      involvedObject: { ...ref },
      type,
      reason,
      message: event.message.slice(0, MESSAGE_LENGTH),
      source: { component },
      reportingComponent: component,
      reportingInstance: component,
      firstTimestamp: now,
      lastTimestamp: now,
      count: 1,
    });
    if (created.outcome !== "conflict") return created.outcome === "done";
    const found = await writer.readEvent({ namespace, name });
    if (found.outcome !== "done") return false;
    const count = (found.object.count ?? 1) + 1;
    return (
      (await writer.patchEvent({ namespace, name }, { count, lastTimestamp: now.toISOString() })).outcome === "done"
    );
  }

  async function drain(): Promise<void> {
    for (let event = queue.shift(); event !== undefined; event = queue.shift()) {
      for (let wait = bucket.take(); wait > 0; wait = bucket.take()) {
        await new Promise<void>((resolve) => void clock.after(wait, resolve));
      }
      if (!mayWrite()) {
        dropped += 1 + queue.length;
        queue.length = 0;
        return;
      }
      if (!(await write(event, nameOf(event)))) dropped++;
    }
  }

  return {
    record(event) {
      const name = nameOf(event);
      const one = known.get(name);
      if (one !== undefined && clock.now() - one.writtenMs < SILENCE_MS) return;
      known.delete(name);
      known.set(name, { name, writtenMs: clock.now() });
      if (known.size > MOST_REMEMBERED) known.delete(known.keys().next().value!);
      if (queue.length >= MOST_WAITING) {
        dropped++;
        return;
      }
      queue.push(event);
      running ??= drain().finally(() => {
        running = undefined;
      });
    },
    dropped: () => dropped,
    idle: () => running ?? Promise.resolve(),
  };
}
