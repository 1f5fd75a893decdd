// How an agent's heap grows while it starts and after, in processes of their own.
import { execFileSync } from "node:child_process";
import path from "node:path";
import { expect, it } from "vitest";

const HEAP = path.resolve(import.meta.dirname, "../../src/lib/heap.ts");
const SMALL = "--max-semi-space-size=2";
/** What the launcher passes besides. */
const SPARING = "--heap-growing-percent=10";

/** Runs the statements in a process with these flags, after `const settle = growFreely()`. They write one value as JSON. */
function inProcess<T>(flags: readonly string[], statements: string): T {
  const program = `const { growFreely } = await import(${JSON.stringify(HEAP)}); const settle = growFreely(); ${statements}`;
  const args = [...flags, "--input-type=module", "--eval", program];
  return JSON.parse(execFileSync(process.execPath, args, { encoding: "utf8", timeout: 60_000 })) as T;
}

/** Makes garbage of 60 MB, settles, and writes by how many megabytes that lowers what is resident. */
const SETTLE = `
  let list = Array.from({ length: 300_000 }, (_, i) => ({ name: "object " + i, at: [i, i + 1] }));
  list = list.slice(0, 10);
  const before = process.memoryUsage.rss();
  settle();
  console.log(JSON.stringify((before - process.memoryUsage.rss()) / 1e6));`;

/** Fills the heap with 200 MB before and after it is settled, and writes how many full collections there were meanwhile. */
const FILL_TWICE = `
  const { PerformanceObserver, constants } = await import("node:perf_hooks");
  let full = 0;
  new PerformanceObserver((list) => {
    for (const { detail } of list.getEntries()) if (detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR) full++;
  }).observe({ entryTypes: ["gc"] });
  const pause = () => new Promise((done) => setTimeout(done, 50));
  let kept = [];
  const fill = async () => {
    full = 0;
    for (let i = 0; i < 500; i++) {
      kept.push(Array.from({ length: 10_000 }, (_, k) => ({ k })));
      await new Promise(setImmediate);
    }
    await pause();
    return full;
  };
  const starting = await fill();
  kept = [];
  settle();
  await pause();
  console.log(JSON.stringify({ starting, settled: await fill() }));`;

it("is collected, and its free pages are given back, when the start is over", () => {
  expect(inProcess<number>([SMALL, SPARING], SETTLE)).toBeGreaterThan(20);
});

it("is left to the engine in a process that was started without the launcher's limit", () => {
  expect(Math.abs(inProcess<number>([SMALL], SETTLE))).toBeLessThan(5);
});

it("is collected less often during the start than after it", () => {
  const { starting, settled } = inProcess<{ starting: number; settled: number }>([SMALL, SPARING], FILL_TWICE);
  expect(settled).toBeGreaterThan(3 * starting);
});
