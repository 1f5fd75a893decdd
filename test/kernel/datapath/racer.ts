// A thread on a CPU of its own that puts packets to a program at the very moments at which the other one does.
import { parentPort, workerData } from "node:worker_threads";
import koffi from "koffi";
import { openPinnedProgram } from "../../../src/libbpf/mod.ts";
import { insideNamespace } from "./namespace.ts";
import { parsePacket } from "./packet.ts";

export interface RacerOptions {
  readonly programPath: string;
  readonly namespaceFile: string;
  readonly ifindex: number;
  readonly cpu: number;
  /** One word of both threads: how many rounds were begun, by either. */
  readonly begun: SharedArrayBuffer;
}

const { programPath, namespaceFile, ifindex, cpu, begun } = workerData as RacerOptions;
const setAffinity = koffi.load("libc.so.6").func("int sched_setaffinity(int, size_t, void *)");
const mask = new BigUint64Array(16);
mask[cpu >> 6] = 1n << BigInt(cpu & 63);
if (setAffinity(0, mask.byteLength, mask) !== 0) throw new Error(`could not go to CPU ${cpu}`);
const program = openPinnedProgram(programPath);
const context = new Uint8Array(192);
new DataView(context.buffer).setUint32(40, ifindex, true);
const word = new Int32Array(begun);
let rounds = 0;

/** Where the program sent each of the packets. */
parentPort?.on("message", (packets: readonly Uint8Array[]) => {
  const destinations = insideNamespace(namespaceFile, () =>
    packets.map((data) => {
      rounds++;
      Atomics.add(word, 0, 1);
      while (Atomics.load(word, 0) < 2 * rounds);
      return parsePacket(program.testRun({ data, context }).data).destination;
    }),
  );
  parentPort?.postMessage(destinations);
});
parentPort?.postMessage([]);
