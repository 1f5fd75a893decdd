// What is kept as it is wanted: attempts never overlap, a failure waits longer each time whatever comes meanwhile, and it stays the
// failure of one thing.
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { createEffect, type EffectParts } from "../../src/agent/effect.ts";
import { createTimers, type Timers } from "../../src/agent/timers.ts";

const log = { debug: vi.fn(), info: vi.fn(), warn: vi.fn(), error: vi.fn() };
let timers: Timers;
const escaped = vi.fn();
beforeEach(() => {
  vi.useFakeTimers();
  vi.clearAllMocks();
  timers = createTimers(escaped);
});
afterEach(() => {
  timers.stop();
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
  expect(escaped).not.toHaveBeenCalled();
});

const effect = (apply: (wanted: number) => void | Promise<void>, given: Partial<EffectParts<number>> = {}) =>
  createEffect<number>({ name: "test", apply, onResult: () => undefined, timers, log, ...given });

it("what is wanted is done at once, and said to be since when", () => {
  const done: number[] = [];
  const one = effect((wanted) => void done.push(wanted));
  expect(one.status()).toEqual({ name: "test", ok: true, error: "", sinceMs: 0, nextTryMs: 0 });
  vi.setSystemTime(5_000);
  one.want(1);
  one.want(2);
  expect(done).toEqual([1, 2]);
  expect(one.status()).toEqual({ name: "test", ok: true, error: "", sinceMs: 5_000, nextTryMs: 0 });
});

it("a failure is tried again after 0.1, 0.5, 2 and then every 10 s, also while events keep coming", async () => {
  const tried: number[] = [];
  const started = performance.now();
  const one = effect(() => {
    tried.push(Math.round(performance.now() - started));
    throw new Error("no");
  });
  one.want(0);
  for (let i = 0; i < 300; i++) {
    await vi.advanceTimersByTimeAsync(100);
    one.want(i);
  }
  expect(tried).toEqual([0, 100, 600, 2600, 12_600, 22_600]);
  expect(log.error).toHaveBeenCalledTimes(1);
  expect(one.status()).toMatchObject({ ok: false, error: "no" });
  expect(one.status().nextTryMs - Date.now()).toBe(2_600);
});

it("a timer that fires a little early does not lose the attempt", () => {
  const waiting: (() => void)[] = [];
  const early: Timers = {
    now: () => 0,
    after: (_ms, run) => {
      waiting.push(() => void run());
      return () => undefined;
    },
    guard: (run) => run(),
    soon: () => () => undefined,
    every: () => () => undefined,
    isStopped: () => false,
    stop: () => undefined,
  };
  let works = false;
  const one = effect(
    () => {
      if (!works) throw new Error("no");
    },
    { timers: early },
  );
  one.want(1);
  expect(one.status().ok).toBe(false);
  works = true;
  // The clock says that nothing of the wait is over.
  for (const run of waiting.splice(0)) run();
  expect(one.status().ok).toBe(true);
});

it("what is wanted last is what is tried again, and the next failure waits as briefly as the first", async () => {
  const tried: number[] = [];
  let works = false;
  const one = effect((wanted) => {
    tried.push(wanted);
    if (!works) throw new Error("no");
  });
  one.want(1);
  one.want(2);
  works = true;
  await vi.advanceTimersByTimeAsync(100);
  expect([tried, one.status().ok]).toEqual([[1, 2], true]);
  works = false;
  one.want(3);
  await vi.advanceTimersByTimeAsync(100);
  expect(tried).toEqual([1, 2, 3, 3]);
});

it("attempts that take time never overlap, and only the last of what was wanted meanwhile is done", async () => {
  const started: number[] = [];
  const ends: (() => void)[] = [];
  const results = vi.fn();
  const one = effect(
    (wanted) => {
      started.push(wanted);
      return new Promise((resolve) => ends.push(resolve));
    },
    { onResult: results },
  );
  for (const wanted of [1, 2, 3]) one.want(wanted);
  expect([started, one.isBusy()]).toEqual([[1], true]);
  ends[0]!();
  await vi.advanceTimersByTimeAsync(0);
  expect(started).toEqual([1, 3]);
  ends[1]!();
  await one.settled();
  await vi.advanceTimersByTimeAsync(0);
  expect([started, one.isBusy(), results.mock.calls.length > 0]).toEqual([[1, 3], false, true]);
});

it("an attempt that rejects is a failure of its own, and nothing escapes", async () => {
  const one = effect(() => Promise.reject(new Error("later")));
  const other = effect(() => undefined);
  one.want(1);
  other.want(1);
  await vi.advanceTimersByTimeAsync(1);
  expect([one.status().error, other.status().ok]).toEqual(["later", true]);
});

it("what was brought about is not asked for again when it is the same, but is after a failure", async () => {
  const tried: number[] = [];
  const one = effect((wanted) => void tried.push(wanted), { once: true });
  one.want(1);
  one.want(1);
  one.want(2);
  expect(tried).toEqual([1, 2]);
});

it("a timer whose run throws or rejects is told, and goes on", async () => {
  const told: unknown[] = [];
  const own = createTimers((error) => told.push((error as Error).message));
  let runs = 0;
  own.every(10, () => {
    runs++;
    if (runs === 1) throw new Error("thrown");
    return Promise.reject(new Error("rejected"));
  });
  await vi.advanceTimersByTimeAsync(35);
  // The same thing is told once in a minute.
  expect([runs, told]).toEqual([3, ["thrown", "rejected"]]);
  own.stop();
  await vi.advanceTimersByTimeAsync(100);
  expect(runs).toBe(3);
});
