// Brings what the objects ask for into the maps: plans, applies in parts where much is new, and says how that went. After a failure
// what the kernel holds is the truth, and everything is compared with it anew.
import type { Dataplane } from "../datapath/dataplane.ts";
import { Failure } from "../lib/errors.ts";
import type { Model } from "../model/model-interface.ts";
import type { SyncRecorder } from "./sync-stats.ts";

/** A plan of everything goes in parts of so many Services and endpoints, so that no task of the loop is long. */
const PLAN_PART = 800;

export interface MapsState {
  /** Names the state of the source that is in force. */
  appliedDigest: string;
  lastApply: { atMs: number; durationMs: number; operations: number; error: string };
  readonly applies: { total: number; failed: number; operations: number };
}

export interface Maps {
  readonly state: MapsState;
  /** Ends when nothing is dirty any more. @throws Failure when the kernel refused something: then it is to be called again */
  apply(): Promise<void>;
}

export interface MapsParts {
  readonly model: Pick<Model, "adopt" | "plan" | "isDirty">;
  readonly dataplane: Pick<Dataplane, "apply" | "readState">;
  readonly syncs: Pick<SyncRecorder, "begin" | "inForce">;
  /** Names the state of the source that the model has now. */
  readonly digest: () => string;
  /** All that was asked is in force: called before the grace period that follows. */
  readonly inForce: () => void;
  /** Backends were retired, or may have been while no agent ran. */
  readonly retired: () => void;
  /** The first time that was asked is done. */
  readonly firstDone: () => void;
  /** An invariant is broken: the process is to end. */
  readonly broken: (error: unknown) => void;
}

export function createMaps({ model, dataplane, syncs, digest, inForce, retired, firstDone, broken }: MapsParts): Maps {
  const state: MapsState = {
    appliedDigest: "",
    lastApply: { atMs: 0, durationMs: 0, operations: 0, error: "" },
    applies: { total: 0, failed: 0, operations: 0 },
  };
  let isAdopted = true;
  /** Everything is compared, not only what changed. */
  let isFull = true;

  async function applyAll(): Promise<void> {
    if (!isAdopted) model.adopt(dataplane.readState());
    isAdopted = true;
    // What came during an apply was part of it.
    if (!isFull && !model.isDirty()) return;
    // The parts of a plan are one sync.
    let start = performance.now();
    let count = 0;
    do {
      const planned = digest();
      syncs.begin();
      const operations = model.plan(isFull ? PLAN_PART : undefined);
      count += operations.length;
      const isLast = !model.isDirty();
      await dataplane.apply(operations, () => {
        const durationMs = performance.now() - start;
        state.lastApply = { atMs: Date.now(), durationMs, operations: count, error: "" };
        if (isFull || operations.some(({ op }) => op === "retire-backend")) retired();
        if (!isLast) return;
        syncs.inForce(durationMs, Date.now(), isFull);
        state.appliedDigest = planned;
        inForce();
      });
      state.applies.operations += operations.length;
      if (isLast) {
        isFull = false;
        if (state.applies.total++ === 0) firstDone();
        start = performance.now();
        count = 0;
      } else await new Promise((resolve) => setImmediate(resolve));
    } while (model.isDirty());
  }

  return {
    state,
    async apply() {
      try {
        await applyAll();
      } catch (error) {
        if (!(error instanceof Failure) || error.code === "internal") broken(error);
        state.applies.failed++;
        const message = error instanceof Error ? error.message : String(error);
        state.lastApply = { ...state.lastApply, atMs: Date.now(), error: message };
        isAdopted = false;
        isFull = true;
        throw error;
      }
    },
  };
}
