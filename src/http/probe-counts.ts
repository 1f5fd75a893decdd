// How /healthz and /livez were answered, counted by status as kube-proxy counts it.

export type Probe = "healthz" | "livez";

export interface ProbeCounts {
  count(probe: Probe, status: number): void;
  /** From the first answer with a status on, in the order in which they came. */
  of(probe: Probe): readonly { readonly status: number; readonly answers: number }[];
}

export function createProbeCounts(): ProbeCounts {
  const counts = { healthz: new Map<number, number>(), livez: new Map<number, number>() };
  return {
    count(probe, status) {
      counts[probe].set(status, (counts[probe].get(status) ?? 0) + 1);
    },
    of: (probe) => Array.from(counts[probe], ([status, answers]) => ({ status, answers })),
  };
}
