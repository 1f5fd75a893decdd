// Stands in for the thread that watches the network: dies as often as the file says, the last time when it is asked; then lives until it
// is told to end, and knows no devices.
import { readFileSync, writeFileSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import type { NetworkThreadData } from "../../../src/agent/network-thread.ts";
import { pollReadable, takeWakeup } from "../../../src/libbpf/mod.ts";

const file = process.env["DEATHS"] ?? "";
const deaths = Number(readFileSync(file, "utf8"));
writeFileSync(file, String(deaths - 1));
if (deaths > 1) throw new Error("out of luck");
const { askFd, endFd } = workerData as NetworkThreadData;
parentPort?.postMessage({ type: "changed" });
for (;;) {
  const ready = pollReadable([askFd, endFd], -1);
  if (ready.includes(endFd)) break;
  takeWakeup(askFd);
  if (deaths > 0) throw new Error("out of luck");
  parentPort?.postMessage({ type: "network", network: { devices: [], routes: [], routesBySource: false } });
}
