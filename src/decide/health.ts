// Whether load balancers and probes may count on this node: as kube-proxy's health checks and KEP-3836 have it.

/** How the last attempt at something went. */
export interface EffectState {
  readonly name: string;
  readonly ok: boolean;
  /** "" when it went well. */
  readonly error: string;
}

export interface Health {
  /** What is asked of this agent comes into force. */
  readonly healthy: boolean;
  /** Why not, in words that may be told to anybody. */
  readonly reasons: readonly string[];
  /** The same with what exactly went wrong. */
  readonly details: readonly string[];
  /** False when a change waits for so long that the agent hangs: to start it anew may help. As kube-proxy's /livez. */
  readonly live: boolean;
  /** False when the node is going away: traffic ought to be led elsewhere, though what comes is served. */
  readonly nodeEligible: boolean;
}

export interface HealthQuestion {
  readonly synced: boolean;
  readonly filled: boolean;
  /** Milliseconds since the epoch; 0: nothing waits. */
  readonly waitingSinceMs: number;
  readonly goingAway: boolean;
  readonly effects: readonly EffectState[];
  readonly nowMs: number;
}

/** kube-proxy is given two of its sync periods of 30 s. */
const WAITING_MS = 60_000;

/** Without these the node serves something else than it was asked to. What others fail at is told in notices. */
const NEEDED: Readonly<Record<string, string>> = {
  maps: "a change could not be brought in force",
  settings: "the settings of the programs could not be written",
  sockets: "programs could not be attached to sockets",
};

export function decideHealth(question: HealthQuestion): Health {
  const { synced, filled, waitingSinceMs, goingAway, effects, nowMs } = question;
  const found: (readonly [reason: string, detail: string])[] = [];
  if (!synced) found.push(["the source of objects has not synced yet", ""]);
  for (const { name, ok, error } of effects) {
    const reason = ok ? undefined : NEEDED[name];
    if (reason !== undefined) found.push([reason, error]);
  }
  const waitsMs = waitingSinceMs === 0 ? 0 : nowMs - waitingSinceMs;
  const hangs = filled && waitsMs > WAITING_MS;
  if (hangs) found.push([`a change has not come into force for ${WAITING_MS / 1000} s`, ""]);
  if (synced && !filled && found.length === 0) found.push(["the first state is not in force yet", ""]);
  return {
    healthy: found.length === 0,
    reasons: found.map(([reason]) => reason),
    details: found.map(([reason, detail]) => (detail === "" ? reason : `${reason}: ${detail}`)),
    live: !hangs,
    nodeEligible: !goingAway,
  };
}
