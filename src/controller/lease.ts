// Who leads, by a Lease (coordination.k8s.io/v1) as client-go's leader election keeps it: what to do next about what was last
// seen of it. Pure: times are milliseconds of the claimant's own clock, which is never set; the Lease's are never compared.

export interface LeaseTimings {
  /** A Lease that was not renewed for so long may be taken. */
  readonly durationMs: number;
  /** A leader that could not renew for so long leads no more. */
  readonly renewDeadlineMs: number;
  readonly retryMs: number;
}

export interface LeaseSeen {
  /** resourceVersion. */
  readonly version: string;
  /** "" when it was released. */
  readonly holder: string;
  readonly transitions: number;
  /** Of its holder, as it says. */
  readonly durationMs: number;
  /** When this state of it was first seen. */
  readonly seenMs: number;
}

export type LeaseStep =
  | { readonly do: "create" }
  /** Write ourselves as holder, bound to `version`. */
  | { readonly do: "claim"; readonly version: string; readonly transitions: number; readonly isRenewal: boolean }
  | { readonly do: "wait" };

/** `lease`: undefined when there is none. */
export function leaseStep(lease: LeaseSeen | undefined, identity: string, nowMs: number): LeaseStep {
  if (lease === undefined) return { do: "create" };
  const { version, holder, transitions, durationMs, seenMs } = lease;
  if (holder === identity) return { do: "claim", version, transitions, isRenewal: true };
  if (holder !== "" && nowMs - seenMs < durationMs) return { do: "wait" };
  return { do: "claim", version, transitions: transitions + 1, isRenewal: false };
}

/** Until when a leader may begin a write: `renewedMs` is when its last successful renewal was sent. */
export function leadsUntil(renewedMs: number, { renewDeadlineMs }: LeaseTimings): number {
  return renewedMs + renewDeadlineMs;
}

/** A write that begins while we lead ends before another may lead. */
export function writeTimeoutMs({ durationMs, renewDeadlineMs }: LeaseTimings): number {
  return Math.min(4_000, (durationMs - renewDeadlineMs) * 0.8);
}
