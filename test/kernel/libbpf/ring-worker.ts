// Reads a ring buffer in a worker with a blocking wait, and loads an object there to show that a thread can.
import { parentPort, workerData } from "node:worker_threads";
import { openObject, pollReadable, RingBuffer } from "../../../src/libbpf/mod.ts";

const { mapFd, wakeFd, path } = workerData as { mapFd: number; wakeFd: number; path: string };
using object = openObject(path);
object.load();
const records: number[] = [];
using ring = RingBuffer.open(mapFd, (record) =>
  records.push(new DataView(record.buffer, record.byteOffset).getUint32(0, true)),
);
parentPort?.postMessage({ programs: object.programs().length });
for (;;) {
  const ready = pollReadable([ring.fd, wakeFd], -1);
  if (ready.includes(ring.fd) && ring.consume() > 0) parentPort?.postMessage({ records: records.splice(0) });
  if (ready.includes(wakeFd)) break;
}
