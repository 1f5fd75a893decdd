// One thing outside that is kept as it is wanted: its own attempts one after another, its own result, its own wait after a failure,
// whatever comes meanwhile. None fails another, and nothing is thrown at whoever wants something.
import type { EffectState } from "../decide/health.ts";
import type { Log } from "../lib/log.ts";
import type { Timers } from "./timers.ts";

export interface EffectStatus extends EffectState {
  /** Since when it has been so, milliseconds since the epoch; 0: nothing was tried yet. */
  readonly sinceMs: number;
  /** When it is tried again, milliseconds since the epoch; 0: not before something else is wanted. */
  readonly nextTryMs: number;
}

export interface Effect<W> {
  /** From now on this is wanted. It is done at once, unless an attempt is under way or failed a short while ago. */
  want(wanted: W): void;
  status(): EffectStatus;
  isBusy(): boolean;
  /** Resolves when no attempt is under way. */
  settled(): Promise<void>;
}

export interface EffectParts<W> {
  readonly name: string;
  /** Brings it about. What it throws is a failure, and it is asked again. */
  readonly apply: (wanted: W) => void | Promise<void>;
  /** After each attempt that was not at once, and each that changed the result. */
  readonly onResult: () => void;
  readonly timers: Timers;
  readonly log: Log;
  /** The same thing, which was brought about, is not asked for again. */
  readonly once?: boolean;
}

const RETRY_MS = [100, 500, 2_000, 10_000];

export function createEffect<W>({ name, apply, onResult, timers, log, once = false }: EffectParts<W>): Effect<W> {
  let wanted: { readonly value: W } | undefined;
  let done: { readonly value: W } | undefined;
  let running: Promise<void> | undefined;
  let failures = 0;
  /** Calls off the next attempt of what failed; until then nobody else's wish is one. */
  let retry: (() => void) | undefined;
  let state = { ok: true, error: "", sinceMs: 0, nextTryMs: 0 };

  function succeeded(value: W): void {
    done = { value };
    if (failures > 0) log.info({ effect: name }, "works again");
    const isNews = failures > 0 || state.sinceMs === 0;
    failures = 0;
    state = { ok: true, error: "", sinceMs: isNews ? Date.now() : state.sinceMs, nextTryMs: 0 };
    if (isNews) onResult();
  }

  function failed(error: unknown, value: W): void {
    const delay = RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)]!;
    const message = error instanceof Error ? error.message : String(error);
    if (state.ok || state.error !== message)
      log.error({ effect: name, err: error, retryMs: delay }, `could not apply: ${name}`);
    const now = Date.now();
    state = { ok: false, error: message, sinceMs: state.ok ? now : state.sinceMs, nextTryMs: now + delay };
    done = undefined;
    wanted ??= { value };
    retry?.();
    retry = timers.after(delay, () => {
      retry = undefined;
      attempt();
    });
    onResult();
  }

  function attempt(): void {
    if (timers.isStopped() || running !== undefined || wanted === undefined || retry !== undefined) return;
    const { value } = wanted;
    wanted = undefined;
    if (once && done !== undefined && done.value === value) return;
    try {
      const result = apply(value);
      if (result === undefined) {
        succeeded(value);
        return;
      }
      running = result
        .then(
          () => succeeded(value),
          (error: unknown) => failed(error, value),
        )
        .finally(() => {
          running = undefined;
          onResult();
          attempt();
        });
    } catch (error) {
      failed(error, value);
    }
  }

  return {
    want(value) {
      wanted = { value };
      attempt();
    },
    status: () => ({ name, ...state }),
    isBusy: () => running !== undefined,
    settled: async () => await running,
  };
}
