// Looks whether MetalLB runs in this cluster, for as long as we lead: two that do not know of each other would give the same addresses.
import { type Clock, sleep } from "../kube/clock.ts";
import { type ClusterObject, type ClusterObjects, RequestRefused } from "../kube/cluster-objects.ts";
import { isRunningMetallb, METALLB_LABELS, workloadTitle } from "../kube/metallb-workloads.ts";
import type { Log } from "../lib/log.ts";

export interface MetallbGuardOptions {
  readonly api: Pick<ClusterObjects, "list">;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly log: Pick<Log, "warn">;
}

/** unknown: nobody has answered yet. */
export type GuardState = "unknown" | "absent" | "running";

export interface MetallbGuard {
  /** Until the signal is aborted. */
  run(): Promise<void>;
  state(): GuardState;
  /** Its workloads, by their titles' order. */
  found(): readonly ClusterObject[];
  /** Why it could not look, "" when it could. */
  problem(): string;
  /** Aborted once the state is another than now, and at the end. */
  phase(): AbortSignal;
}

/** By its labels, and where it was found before: a few objects. */
const LOOK_MS = 5_000;
/** At every workload, by its image too. */
const FULL_LOOK_MS = 300_000;
const FORBIDDEN_MS = 60_000;
const RETRY_MS = 1_000;

export function createMetallbGuard({ api, clock, signal, log }: MetallbGuardOptions): MetallbGuard {
  let state: GuardState = "unknown";
  let found: readonly ClusterObject[] = [];
  let problem = "";
  let phase = new AbortController();
  let fullMs: number | undefined;

  function become(next: GuardState): void {
    if (next === state) return;
    state = next;
    const before = phase;
    phase = new AbortController();
    before.abort();
  }

  async function look(isFull: boolean): Promise<void> {
    const namespaces = new Set(found.map(({ metadata }) => metadata.namespace ?? ""));
    const choices = isFull
      ? [{}]
      : [
          ...METALLB_LABELS.map((labelSelector) => ({ labelSelector })),
          ...[...namespaces].map((namespace) => ({ namespace })),
        ];
    const lists = await Promise.all(
      (["Deployment", "DaemonSet"] as const).flatMap((kind) =>
        choices.map((choice) => api.list(kind, { ...choice, isWanted: isRunningMetallb })),
      ),
    );
    const byTitle = new Map(lists.flat().map((one) => [workloadTitle(one), one]));
    found = [...byTitle].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, one]) => one);
    become(found.length === 0 ? "absent" : "running");
  }

  /** Milliseconds until the next one. */
  async function attempt(): Promise<number> {
    const isFull = fullMs === undefined || clock.now() - fullMs >= FULL_LOOK_MS;
    try {
      await look(isFull);
      problem = "";
      if (isFull) fullMs = clock.now();
      return LOOK_MS;
    } catch (error) {
      if (signal.aborted) return 0;
      const before = problem;
      problem = `could not look whether MetalLB runs: ${error instanceof Error ? error.message : String(error)}`;
      if (problem !== before) log.warn(problem);
      const isForbidden = error instanceof RequestRefused && error.status === 403;
      // An account of before may not look, and gave addresses all the same.
      if (isForbidden && state === "unknown") become("absent");
      return isForbidden ? FORBIDDEN_MS : state === "unknown" ? RETRY_MS : LOOK_MS;
    }
  }

  return {
    async run() {
      while (!signal.aborted) await sleep(clock, await attempt(), signal);
      phase.abort();
    },
    state: () => state,
    found: () => found,
    problem: () => problem,
    phase: () => phase.signal,
  };
}
