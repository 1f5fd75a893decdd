// The keys by which announcers know each other: what the Secret is to hold next. Pure. Agents accept every key of it and send with
// `current`; each step is left for as long as a kubelet takes to bring it to its node. A key is 32 lower-case hex digits, 16 bytes.

export const KEY_PATTERN = /^[0-9a-f]{32}$/;
/** Kubelets bring a changed Secret to its node within their sync period and their cache's life: a minute each. */
export const SETTLE_MS = 180_000;
/** Set to anything by whoever wants new keys now; taken away when it is done. */
export const ROTATE_ANNOTATION = "millrace.io/rotate";
/** RFC 3339: when the Secret last changed. */
export const CHANGED_ANNOTATION = "millrace.io/changed";

export interface SecretState {
  /** Decoded. */
  readonly keys: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface SecretChange {
  /** What is to be there; null: to be removed. */
  readonly keys: Readonly<Record<string, string | null>>;
  readonly annotations: Readonly<Record<string, string | null>>;
  readonly why: string;
}

function changedMs({ annotations }: SecretState): number {
  const at = Date.parse(annotations[CHANGED_ANNOTATION] ?? "");
  return Number.isNaN(at) ? 0 : at;
}

/**
 * What to change, undefined: nothing. `secret`: undefined when there is none. `rotateAfterMs`: 0 for never. `nowMs`: since the epoch.
 * `newKey` makes one.
 */
export function secretStep(
  secret: SecretState | undefined,
  rotateAfterMs: number,
  nowMs: number,
  newKey: () => string,
): SecretChange | undefined {
  const stamped = { [CHANGED_ANNOTATION]: new Date(nowMs).toISOString() };
  const { current = "", next = "" } = secret?.keys ?? {};
  if (secret === undefined || !KEY_PATTERN.test(current)) {
    const why = secret === undefined ? "made" : "its key `current` was no key: replaced";
    return { keys: { current: newKey() }, annotations: stamped, why };
  }
  const age = nowMs - changedMs(secret);
  // The clock may have been set back.
  const isFresh = Math.abs(age) < SETTLE_MS;
  if (next !== "") {
    if (isFresh) return undefined;
    if (!KEY_PATTERN.test(next))
      return { keys: { next: null }, annotations: stamped, why: "its key `next` was no key: removed" };
    return {
      keys: { current: next, previous: current, next: null },
      annotations: stamped,
      why: "the next key is the current one",
    };
  }
  const { previous } = secret.keys;
  const isAsked = Object.hasOwn(secret.annotations, ROTATE_ANNOTATION);
  if (previous !== undefined && !isFresh) {
    return { keys: { previous: null }, annotations: stamped, why: "the previous key is not accepted any more" };
  }
  if (previous !== undefined || (!isAsked && (rotateAfterMs === 0 || age < rotateAfterMs))) return undefined;
  return {
    keys: { next: newKey() },
    annotations: { ...stamped, [ROTATE_ANNOTATION]: null },
    why: "a next key is accepted beside the current one",
  };
}
