// Runs inside a backend pod: answers numbered UDP and TCP traffic with numbered traffic of its own, and short questions with
// its name. Argument: JSON {name, udp, stream, short, rate, udpRate}. Orders on standard input: stop, report. Ends when that does.
import type { RemoteInfo, Socket as UdpSocket } from "node:dgram";
import { createServer, type Socket } from "node:net";
import { atRate, lineReader, Numbered, say, streamLine, takeOrders, udpSocket } from "./numbered.ts";

interface Ports {
  readonly name: string;
  readonly udp: number;
  readonly stream: number;
  readonly short: number;
  /** Lines a second of each stream, 100 unless told. */
  readonly rate?: number;
  /** Datagrams a second of each conversation, 200 unless told. */
  readonly udpRate?: number;
}

const ports = JSON.parse(process.argv[2] ?? "{}") as Ports;
const flows = new Map<string, Numbered>();
const stops: (() => void)[] = [];
let stopped = false;

const peerOf = ({ address, port }: RemoteInfo): string => `${address}:${port}`;

const udpSockets = [udpSocket("udp4"), udpSocket("udp6")];

function answerUdp(udp: UdpSocket, data: Buffer, from: RemoteInfo): void {
  const [name = "", number = "0"] = data.toString("latin1").split(" ");
  if (name === "once") {
    udp.send(`once ${number} ${ports.name}`, from.port, from.address);
    return;
  }
  let flow = flows.get(name);
  if (flow === undefined) {
    const fresh = new Numbered();
    flow = fresh;
    flows.set(name, fresh);
    // It talks for itself from now on, at its own rate: not one datagram for each that comes.
    if (!stopped) {
      stops.push(
        atRate(ports.udpRate ?? 200, () =>
          udp.send(`${name} ${++fresh.sent}`, from.port, from.address, (error) => {
            if (error !== null) fresh.failed(error);
          }),
        ),
      );
    }
  }
  flow.came(Number(number), peerOf(from));
}

for (const udp of udpSockets) udp.on("message", (data, from) => answerUdp(udp, data, from));

function talk(socket: Socket): void {
  let flow: Numbered | undefined;
  const read = lineReader((name, number) => {
    if (flow === undefined) {
      const fresh = new Numbered();
      flow = fresh;
      flows.set(name, fresh);
      if (!stopped) stops.push(atRate(ports.rate ?? 100, () => void socket.write(streamLine(name, ++fresh.sent))));
    }
    flow.came(number, `${socket.remoteAddress}:${socket.remotePort}`);
  });
  socket.setNoDelay(true);
  socket.on("data", read);
  socket.on("error", (error) => flow?.failed(error));
  socket.on("close", () => {
    if (!stopped) flow?.failed("closed");
  });
}

/** Says its name and waits for the other side to close. */
function answerShort(socket: Socket): void {
  socket.on("error", () => undefined);
  socket.on("data", (data) => socket.write(`${data.toString("latin1").trim()} ${ports.name}\n`));
}

await Promise.all([
  ...udpSockets.map((udp) => new Promise<void>((resolve) => udp.bind(ports.udp, resolve))),
  new Promise<void>((resolve) => createServer(talk).listen(ports.stream, resolve)),
  new Promise<void>((resolve) => createServer(answerShort).listen(ports.short, resolve)),
]);
takeOrders({
  stop() {
    stopped = true;
    for (const stop of stops) stop();
  },
  report: () => say({ flows: Object.fromEntries([...flows].map(([name, flow]) => [name, flow.report()])) }),
});
say({ ready: true });
