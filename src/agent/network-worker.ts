// The thread that blocks until the network changes, says so, and reads it when it is asked to. It ends when it is told to.
import { isDeepStrictEqual } from "node:util";
import { parentPort, workerData } from "node:worker_threads";
import type { Network } from "../decide/network.ts";
import { listenToNetwork, pollReadable, takeWakeup } from "../libbpf/mod.ts";
import { readNetworkHere } from "./network-reading.ts";
import type { FromNetworkThread, NetworkThreadData } from "./network-thread.ts";

/** What changes together gathers for so long. */
const GATHER_MS = 30;
/** Nothing is done then, but a thread that nobody wakes any more can be ended. */
const TURN_MS = 10_000;

const { askFd, endFd } = workerData as NetworkThreadData;
const post = (message: FromNetworkThread): void => parentPort?.postMessage(message);
let last: Network | undefined;

/** What is as it was is not sent again. */
function reading(): FromNetworkThread {
  try {
    const network = readNetworkHere();
    if (isDeepStrictEqual(network, last)) return { type: "network", network: undefined };
    last = network;
    return { type: "network", network };
  } catch (error) {
    return { type: "failed", reason: error instanceof Error ? error.message : String(error) };
  }
}

using changes = listenToNetwork();
// Before it listened it heard nothing.
post({ type: "changed" });
for (;;) {
  const ready = pollReadable([endFd, askFd, changes.fd], TURN_MS);
  if (ready.includes(endFd)) break;
  if (ready.includes(changes.fd)) {
    pollReadable([endFd], GATHER_MS);
    changes.drain();
    post({ type: "changed" });
  }
  if (ready.includes(askFd)) {
    takeWakeup(askFd);
    post(reading());
  }
}
