// Stands in for the thread that reads the API: the first one delivers nodes a and b and dies, the next one b and c.
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parentPort, workerData } from "node:worker_threads";
import { packChanges } from "../../src/kube/rows.ts";
import type { FromWorker, ToWorker, WorkerOptions } from "../../src/kube/worker-messages.ts";
import type { Node } from "../../src/model/objects.ts";

const mark = join((workerData as WorkerOptions).stateDir, "died-once");
const isFirst = !existsSync(mark);
let acknowledged = 0;

function node(name: string): Node {
  return {
    name,
    labels: {},
    internalAddresses: [],
    externalAddresses: [],
    kubeletPort: 0,
    podCIDRs: [],
    ready: true,
    networkUnavailable: false,
    excludeFromLoadBalancers: false,
    goingAway: false,
  };
}

function send(names: readonly string[], synced: boolean): void {
  const packed = packChanges(names.map((name) => ({ kind: "Node", key: name, content: node(name) })));
  parentPort?.postMessage({ type: "changes", packed, synced, digest: "" } satisfies FromWorker);
}

parentPort?.on("message", (message: ToWorker) => {
  if (message === "stop") process.exit();
  acknowledged++;
  if (isFirst) {
    writeFileSync(mark, "");
    throw new Error("out of luck");
  }
  if (acknowledged === 1) setTimeout(() => send(["b"], true), 100);
});
parentPort?.postMessage({ type: "started" } satisfies FromWorker);
if (isFirst) send(["a", "b"], true);
else send(["c"], false);
