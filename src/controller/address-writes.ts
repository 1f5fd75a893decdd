// Carries out the writes that the allocation wants: some at once, so many in a second, none when we do not lead, and each that
// failed again after a while.
import type { AddressWrite } from "../allocate/allocation-records.ts";
import type { ClusterAllocation } from "../allocate/cluster-allocation.ts";
import { createBackoff } from "../kube/backoff.ts";
import type { Clock } from "../kube/clock.ts";
import type { ClusterWriter } from "../kube/cluster-writer.ts";
import { createTokenBucket } from "../kube/token-bucket.ts";
import { POOL_ANNOTATION } from "../wire/kubernetes.ts";
import { FORMER_POOL_ANNOTATION, SHARED_CONDITION } from "./service-record.ts";

const AT_ONCE = 8;
const BURST = 100;

export interface AddressWritesOptions {
  readonly allocation: Pick<ClusterAllocation, "begin" | "end">;
  readonly writer: Pick<ClusterWriter, "patchServiceStatus">;
  readonly clock: Clock;
  readonly random: () => number;
  readonly perSecond: number;
  readonly mayWrite: () => boolean;
  readonly onWritten: (write: AddressWrite) => void;
  /** A write was refused, or nobody knows what became of it. It is tried again. */
  readonly onFailed: (write: AddressWrite, message: string) => void;
}

export interface AddressWrites {
  /** For these Services there is something to write. */
  want(keys: readonly string[]): void;
  waiting(): number;
  /** Resolves when nothing is under way. */
  idle(): Promise<void>;
}

/** The patch of a Service's status, bound to the version that it was decided by (RFC 7386). `now`: RFC 3339. */
export function statusPatch(write: AddressWrite, now: string): Readonly<Record<string, unknown>> {
  const { record, addresses, pool } = write;
  return {
    metadata: {
      uid: record.uid,
      resourceVersion: record.version,
      annotations: { [POOL_ANNOTATION]: pool === "" ? null : pool, [FORMER_POOL_ANNOTATION]: null },
    },
    status: {
      loadBalancer: addresses.length === 0 ? null : { ingress: addresses.map((ip) => ({ ip })) },
      ...(write.use === record.use ? {} : { conditions: conditionsOf(write, now) }),
    },
  };
}

/** The whole list: a merge patch replaces it. */
function conditionsOf({ record, use }: AddressWrite, lastTransitionTime: string): readonly object[] | null {
  const ours = { type: SHARED_CONDITION, status: "True", reason: "Assigned", message: use, lastTransitionTime };
  const all = use === "" ? record.conditions : [...record.conditions, ours];
  return all.length === 0 ? null : all;
}

export function createAddressWrites(options: AddressWritesOptions): AddressWrites {
  const { allocation, writer, clock, random, perSecond, mayWrite, onWritten, onFailed } = options;
  const queue = new Set<string>();
  const later = new Map<string, ReturnType<typeof createBackoff>>();
  /** Not before their time has come. */
  const delayed = new Set<string>();
  const bucket = createTokenBucket(perSecond, BURST, clock.now);
  const running = new Set<Promise<void>>();
  let isPaused = false;

  function pump(): void {
    for (const key of queue) {
      if (running.size >= AT_ONCE || isPaused || !mayWrite()) return;
      queue.delete(key);
      if (delayed.has(key)) continue;
      const wait = bucket.take();
      if (wait > 0) {
        queue.add(key);
        isPaused = true;
        clock.after(wait, () => {
          isPaused = false;
          pump();
        });
        return;
      }
      const write = allocation.begin(key);
      if (write === undefined) continue;
      const done = carryOut(write).finally(() => {
        running.delete(done);
        pump();
      });
      running.add(done);
    }
  }

  async function carryOut(write: AddressWrite): Promise<void> {
    const { key, request } = write.record;
    const { name, namespace = "default" } = request.metadata;
    const result = await writer.patchServiceStatus(
      { name, namespace },
      statusPatch(write, new Date(clock.wallMs()).toISOString()),
    );
    if (result.outcome === "done") {
      later.delete(key);
      allocation.end(write, "written");
      onWritten(write);
      return;
    }
    allocation.end(write, result.outcome === "refused" ? "failed" : "unknown");
    retry(key);
    // A conflict is no trouble: the watch shows with what.
    if (result.outcome !== "conflict" && result.outcome !== "absent") onFailed(write, result.message);
  }

  function retry(key: string): void {
    const backoff = later.get(key) ?? createBackoff(random);
    later.set(key, backoff);
    delayed.add(key);
    clock.after(100 + backoff.next(), () => {
      delayed.delete(key);
      want([key]);
    });
  }

  function want(keys: readonly string[]): void {
    for (const key of keys) queue.add(key);
    pump();
  }

  return {
    want,
    waiting: () => queue.size + delayed.size,
    async idle() {
      while (running.size > 0) await Promise.all(running);
    },
  };
}
