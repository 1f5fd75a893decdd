// Loaded into an agent with --import: records how long its main loop's tasks keep the loop from turning. On SIGUSR2 writes the
// longest since the last time, and the 99th percentile, in milliseconds, to the file that MILLRACE_LOOP_DELAY names.
import { writeFileSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { isMainThread } from "node:worker_threads";

const RESOLUTION_MS = 1;
const file = process.env.MILLRACE_LOOP_DELAY;
if (isMainThread && file !== undefined) {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delay.enable();
  process.on("SIGUSR2", () => {
    // A turn takes the resolution even when there is nothing to do.
    const beyond = (nanoseconds) => Math.max(0, nanoseconds / 1e6 - RESOLUTION_MS);
    writeFileSync(file, JSON.stringify({ maxMs: beyond(delay.max), p99Ms: beyond(delay.percentile(99)) }));
    delay.reset();
  });
}
