// What is counted of the way from a change of an object to the kernel's maps, with the meaning that kube-proxy gave to the
// numbers of these names (kubeproxy_*): dashboards that were made for it go on.
import { exponentialBounds, Histogram, type HistogramData } from "../lib/histogram.ts";
import type { ObjectEvent } from "../model/objects.ts";

/** Bounds of kube-proxy's own histograms, seconds: sums over nodes with either proxy need the same ones. */
const SYNC_BOUNDS = exponentialBounds(0.001, 2, 15);
const PROGRAMMING_BOUNDS = [
  ...[0.25, 0.5],
  ...Array.from({ length: 59 }, (_, i) => i + 1),
  ...Array.from({ length: 12 }, (_, i) => 60 + 5 * i),
  ...Array.from({ length: 7 }, (_, i) => 120 + 30 * i),
];

/** Nearly all of them are below the first bound of kube-proxy's. */
const FINE_BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** Of so many changes, the first ones, it is kept when they were made, as long as nothing comes into force. */
const TRIGGERS_MAX = 100_000;

export interface ChangeCount {
  /** Not in force yet. */
  readonly pending: number;
  readonly total: number;
}

export interface SyncStats {
  /** From the start of a plan until it was in force: of all objects (after a start or a failure), of what changed, of both. */
  readonly full: HistogramData;
  readonly partial: HistogramData;
  readonly all: HistogramData;
  /** From the change of a Pod or Service to its being in force here, by the clocks of the two machines. */
  readonly networkProgramming: HistogramData;
  /** The same by finer bounds. */
  readonly fineProgramming: HistogramData;
  /** From the arrival of a change to its being in force: of all that came into force at once, the one that waited longest. */
  readonly waits: HistogramData;
  /** When the oldest change that is not in force yet came, milliseconds since the epoch; 0: there is none. */
  readonly waitingSinceMs: number;
  readonly services: ChangeCount;
  readonly endpoints: ChangeCount;
  /** When changes last came, milliseconds since the epoch; 0: never. */
  readonly lastQueuedMs: number;
  /** When changes were last in force, milliseconds since the epoch; 0: never. */
  readonly lastSyncedMs: number;
}

export interface SyncRecorder {
  readonly stats: SyncStats;
  /** Events were entered into the model. */
  queued(events: readonly ObjectEvent[], nowMs: number): void;
  /** What begins to be planned now is what was queued before. */
  begin(): void;
  /** What was queued before the last begin() is in force. `isFull`: everything was compared, not only what changed. */
  inForce(durationMs: number, nowMs: number, isFull: boolean): void;
  /** What was queued changes nothing in the kernel: it counts as neither pending nor synced. */
  unchanged(): void;
}

interface Waiting {
  services: number;
  endpoints: number;
  readonly triggersMs: number[];
  /** When the oldest came; 0: nothing waits. */
  sinceMs: number;
}

const nothing = (): Waiting => ({ services: 0, endpoints: 0, triggersMs: [], sinceMs: 0 });

export function createSyncRecorder(): SyncRecorder {
  const full = new Histogram(SYNC_BOUNDS);
  const partial = new Histogram(SYNC_BOUNDS);
  const all = new Histogram(SYNC_BOUNDS);
  const networkProgramming = new Histogram(PROGRAMMING_BOUNDS);
  const fineProgramming = new Histogram(FINE_BOUNDS);
  const waits = new Histogram(SYNC_BOUNDS);
  let waiting = nothing();
  let planned = nothing();
  let services = 0;
  let endpoints = 0;
  let lastQueuedMs = 0;
  let lastSyncedMs = 0;
  return {
    get stats() {
      return {
        full,
        partial,
        all,
        networkProgramming,
        fineProgramming,
        waits,
        waitingSinceMs: planned.sinceMs || waiting.sinceMs,
        services: { pending: waiting.services + planned.services, total: services },
        endpoints: { pending: waiting.endpoints + planned.endpoints, total: endpoints },
        lastQueuedMs,
        lastSyncedMs,
      };
    },
    queued(events, nowMs) {
      for (const event of events) {
        if (event.kind === "Service") {
          waiting.services++;
          services++;
        } else if (event.kind === "EndpointSlice") {
          waiting.endpoints++;
          endpoints++;
          if (event.triggerMs !== undefined && event.triggerMs > 0) waiting.triggersMs.push(event.triggerMs);
        }
      }
      if (events.length === 0) return;
      lastQueuedMs = nowMs;
      waiting.sinceMs ||= nowMs;
    },
    begin() {
      // What an apply that failed had begun with is still to come into force.
      planned = {
        services: planned.services + waiting.services,
        endpoints: planned.endpoints + waiting.endpoints,
        triggersMs: [...planned.triggersMs, ...waiting.triggersMs].slice(0, TRIGGERS_MAX),
        sinceMs: planned.sinceMs || waiting.sinceMs,
      };
      waiting = nothing();
    },
    inForce(durationMs, nowMs, isFull) {
      all.observe(durationMs / 1000);
      (isFull ? full : partial).observe(durationMs / 1000);
      for (const triggerMs of planned.triggersMs) {
        const seconds = Math.max(0, nowMs - triggerMs) / 1000;
        networkProgramming.observe(seconds);
        fineProgramming.observe(seconds);
      }
      if (planned.sinceMs > 0) waits.observe(Math.max(0, nowMs - planned.sinceMs) / 1000);
      planned = nothing();
      lastSyncedMs = nowMs;
    },
    unchanged() {
      waiting = nothing();
    },
  };
}
