// A client of the latency benchmark, run on a node: connects again and again, and says when the answer first is the one that
// was asked for. Reads lines "wait LETTER" on its standard input, writes "LETTER NANOSECONDS" (CLOCK_MONOTONIC, which all
// processes of a machine share). Arguments: address, port.
import { connect } from "node:net";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";

const [address = "", port = ""] = process.argv.slice(2);
/** Between two connections: what is measured is known to about this. */
const PAUSE_MS = 1;
const TIMEOUT_MS = 1_000;

/** The first byte that a new connection gets; "" when it is refused or gets none. */
function ask(): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port: Number(port) });
    const end = (answer: string): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(TIMEOUT_MS, () => end(""));
    socket.once("error", () => end(""));
    socket.once("end", () => end(""));
    socket.once("data", (bytes) => end(bytes.toString("latin1").slice(0, 1)));
  });
}

for await (const line of createInterface({ input: process.stdin })) {
  const letter = line.split(" ")[1] ?? "";
  while ((await ask()) !== letter) await pause(PAUSE_MS);
  process.stdout.write(`${letter} ${process.hrtime.bigint()}\n`);
}
