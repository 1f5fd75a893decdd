import { describe, expect, it } from "vitest";
import { createSyncRecorder, type SyncStats } from "../../src/agent/sync-stats.ts";
import { exponentialBounds, Histogram, type HistogramData } from "../../src/lib/histogram.ts";
import type { ObjectEvent } from "../../src/model/objects.ts";

const service = (name = "web"): ObjectEvent => ({ kind: "Service", key: `default/${name}`, object: undefined });
const slice = (triggerMs?: number): ObjectEvent => ({
  kind: "EndpointSlice",
  key: "default/web-1",
  object: undefined,
  ...(triggerMs === undefined ? {} : { triggerMs }),
});
const node: ObjectEvent = { kind: "Node", key: "node1", object: undefined };

const summary = ({ services, endpoints, waitingSinceMs, lastQueuedMs, lastSyncedMs }: SyncStats) => ({
  services: [services.pending, services.total],
  endpoints: [endpoints.pending, endpoints.total],
  times: [waitingSinceMs, lastQueuedMs, lastSyncedMs],
});
const measured = ({ count, sumSeconds }: HistogramData) => [count, sumSeconds];

describe("changes", () => {
  it("are pending from their arrival until they are in force, and counted once", () => {
    const recorder = createSyncRecorder();
    recorder.queued([service(), slice(), slice(), node], 1000);
    expect(summary(recorder.stats)).toEqual({ services: [1, 1], endpoints: [2, 2], times: [1000, 1000, 0] });
    recorder.begin();
    recorder.queued([service("db")], 2000);
    expect(summary(recorder.stats)).toEqual({ services: [2, 2], endpoints: [2, 2], times: [1000, 2000, 0] });
    recorder.inForce(5, 3000, false);
    expect(summary(recorder.stats)).toEqual({ services: [1, 2], endpoints: [0, 2], times: [2000, 2000, 3000] });
    recorder.begin();
    recorder.inForce(5, 4000, false);
    expect(summary(recorder.stats)).toEqual({ services: [0, 2], endpoints: [0, 2], times: [0, 2000, 4000] });
    expect(measured(recorder.stats.waits)).toEqual([2, 4]);
  });

  it("stay pending when an apply fails, and count from their first arrival", () => {
    const recorder = createSyncRecorder();
    recorder.queued([slice(500)], 1000);
    recorder.begin();
    recorder.queued([slice(1500)], 2000);
    recorder.begin();
    expect(summary(recorder.stats).endpoints).toEqual([2, 2]);
    recorder.inForce(5, 4500, true);
    expect(summary(recorder.stats).endpoints).toEqual([0, 2]);
    expect(measured(recorder.stats.waits)).toEqual([1, 3.5]);
    expect(measured(recorder.stats.networkProgramming)).toEqual([2, 4 + 3]);
  });

  it("are kept the times of for the first hundred thousand, however long applies fail", () => {
    const recorder = createSyncRecorder();
    const changes = Array.from({ length: 60_000 }, () => slice(500));
    for (let failed = 0; failed < 3; failed++) {
      recorder.queued(changes, 1000);
      recorder.begin();
    }
    recorder.inForce(5, 2000, false);
    expect(recorder.stats.endpoints).toEqual({ pending: 0, total: 180_000 });
    expect(measured(recorder.stats.networkProgramming)[0]).toBe(100_000);
  });

  it("that change nothing here are pending no longer, and are no sync", () => {
    const recorder = createSyncRecorder();
    recorder.queued([slice(500)], 1000);
    recorder.unchanged();
    expect(summary(recorder.stats)).toEqual({ services: [0, 0], endpoints: [0, 1], times: [0, 1000, 0] });
    recorder.queued([service()], 2000);
    recorder.begin();
    recorder.inForce(5, 2500, false);
    expect(measured(recorder.stats.networkProgramming)).toEqual([0, 0]);
    expect(measured(recorder.stats.waits)).toEqual([1, 0.5]);
  });

  it("of which there are none leave no time", () => {
    const recorder = createSyncRecorder();
    recorder.queued([], 1000);
    expect(summary(recorder.stats).times).toEqual([0, 0, 0]);
  });
});

describe("durations", () => {
  it("are of full syncs, of partial ones, and of both", () => {
    const recorder = createSyncRecorder();
    recorder.begin();
    recorder.inForce(500, 1000, true);
    recorder.inForce(250, 2000, false);
    recorder.inForce(250, 3000, false);
    const { full, partial, all, waits } = recorder.stats;
    expect([full, partial, all, waits].map(measured)).toEqual([
      [1, 0.5],
      [2, 0.5],
      [3, 1],
      [0, 0],
    ]);
  });

  it("of network programming need a trigger time, and are never negative when clocks differ", () => {
    const recorder = createSyncRecorder();
    recorder.queued([slice(), slice(0), slice(9000), slice(1000)], 2000);
    recorder.begin();
    recorder.inForce(5, 3000, false);
    expect(measured(recorder.stats.networkProgramming)).toEqual([2, 2]);
  });

  it("fall into kube-proxy's buckets", () => {
    const { full, networkProgramming } = createSyncRecorder().stats;
    expect([full.bounds.length, full.bounds[0], full.bounds.at(-1)]).toEqual([15, 0.001, 16.384]);
    const { bounds } = networkProgramming;
    expect(bounds).toEqual(expect.arrayContaining([0.25, 0.5, 1, 59, 60, 115, 120, 150, 300]));
    expect(bounds).toEqual([...bounds].sort((a, b) => a - b));
    expect(bounds.filter((bound) => bound >= 0.25)).toHaveLength(2 + 59 + 12 + 7);
  });
});

describe("a histogram", () => {
  it.each([
    [0, 0],
    [1, 0],
    [1.01, 1],
    [2, 1],
    [4, 2],
    [4.01, 3],
    [1e9, 3],
  ])("puts %d s into bucket %i of 1, 2 and 4 s", (seconds, bucket) => {
    const histogram = new Histogram(exponentialBounds(1, 2, 3));
    histogram.observe(seconds);
    expect(histogram.buckets.indexOf(1)).toBe(bucket);
    expect(measured(histogram)).toEqual([1, seconds]);
  });
});
