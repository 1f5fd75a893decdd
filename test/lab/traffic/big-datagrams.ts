// Runs in an outside client: sends datagrams of one size over one socket, each when the one before was answered or given up. Argument:
// JSON {host, port, size, count}. Prints JSON {answered: number[]}, the turns that were answered by who was asked.
import { once } from "node:events";
import { say, udpSocketFor } from "./numbered.ts";

const { host, port, size, count } = JSON.parse(process.argv[2] ?? "{}") as Record<"port" | "size" | "count", number> & {
  readonly host: string;
};
const socket = udpSocketFor(host);
const answered: number[] = [];
for (let turn = 0; turn < count; turn++) {
  const answer = once(socket, "message", { signal: AbortSignal.timeout(1000) }).catch(() => []);
  // A sender that was told of a smaller way by an ICMP error may hear it as an error of its next datagram.
  socket.send(Buffer.alloc(size, 0x78), port, host, () => undefined);
  const [, from] = (await answer) as [Buffer, { address: string; port: number }] | [];
  if (from?.address === host && from.port === port) answered.push(turn);
}
socket.close();
say({ answered });
