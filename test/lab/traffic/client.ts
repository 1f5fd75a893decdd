// Runs in an outside client or a pod: holds numbered flows open, and makes new connections all the while. Argument: JSON
// {flows: Flow[]}. Orders on standard input: mark TEXT (names what happens from now on), stop, report. Ends when that does.
import { connect, type Socket } from "node:net";
import { atRate, lineReader, Numbered, say, streamLine, takeOrders, udpSocketFor } from "./numbered.ts";

export interface Flow {
  /** One word. */
  readonly name: string;
  /** udp: one socket, sendto(); udp-connected: connect() first; new-tcp and new-udp: a fresh socket each time. */
  readonly kind: "udp" | "udp-connected" | "tcp" | "new-tcp" | "new-udp";
  /** An IPv4 or IPv6 address. */
  readonly host: string;
  readonly port: number;
  /** tcp: lines a second, 100 unless told. udp, udp-connected: datagrams, 200. new-*: connections, 20. */
  readonly rate?: number;
}

export interface NewReport {
  readonly tried: number;
  readonly answered: number;
  /** Per mark. */
  readonly byMark: Readonly<Record<string, number>>;
  readonly byServer: Readonly<Record<string, number>>;
  readonly errors: readonly string[];
  readonly slowestMs: number;
}

const { flows } = JSON.parse(process.argv[2] ?? "{}") as { flows: readonly Flow[] };
const reports: Record<string, () => unknown> = {};
const stops: (() => void)[] = [];
let mark = "start";
let stopped = false;
/** New connections that have neither an answer nor an error yet. */
let pending = 0;

/** "ECONNREFUSED during SIGKILL after 3 ms". */
const stamp = (text: string): string => `${new Date().toISOString().slice(11, 23)} [${mark}] ${text}`;

function holdUdp({ name, kind, host, port, rate = 200 }: Flow): void {
  const flow = new Numbered();
  reports[name] = () => flow.report();
  const socket = udpSocketFor(host);
  socket.on("error", (error) => flow.failed(stamp(error.message)));
  socket.on("message", (data, from) => {
    if (from.address !== host || from.port !== port) flow.failed(stamp(`from ${from.address}:${from.port}`));
    flow.came(Number(data.toString("latin1").split(" ")[1]), `${from.address}:${from.port}`);
  });
  const failed = (error: Error | null): void => {
    if (error !== null) flow.failed(stamp(error.message));
  };
  const go = (): void => {
    stops.push(
      atRate(rate, () => {
        const text = `${name} ${++flow.sent}`;
        if (kind === "udp") socket.send(text, port, host, failed);
        else socket.send(text, failed);
      }),
    );
  };
  if (kind === "udp") socket.bind(0, go);
  else socket.connect(port, host, go);
}

function holdTcp({ name, host, port, rate = 100 }: Flow): void {
  const flow = new Numbered();
  reports[name] = () => flow.report();
  const socket = connect({ host, port, noDelay: true });
  socket.on("connect", () => stops.push(atRate(rate, () => void socket.write(streamLine(name, ++flow.sent)))));
  socket.on("error", (error) => flow.failed(stamp(error.message)));
  socket.on("close", () => {
    if (!stopped) flow.failed(stamp("closed"));
  });
  socket.on(
    "data",
    lineReader((_, number) => flow.came(number, `${socket.remoteAddress}:${socket.remotePort}`)),
  );
}

/** What is answered later is lost; how long answers take is told, not judged. */
const LOST_MS = 10_000;

function makeNew({ name, kind, host, port, rate = 20 }: Flow): void {
  let tried = 0;
  let answered = 0;
  let slowestMs = 0;
  const byMark: Record<string, number> = {};
  const byServer: Record<string, number> = {};
  const errors: string[] = [];
  reports[name] = (): NewReport => ({ tried, answered, byMark, byServer, errors, slowestMs: Math.round(slowestMs) });
  const failed = (text: string): void => void (errors.length < 50 && errors.push(stamp(text)));
  const succeeded = (server: string, began: number): void => {
    answered++;
    byMark[mark] = (byMark[mark] ?? 0) + 1;
    byServer[server] = (byServer[server] ?? 0) + 1;
    slowestMs = Math.max(slowestMs, performance.now() - began);
  };
  const overTcp = (number: number, began: number): void => {
    let done = false;
    pending++;
    const socket: Socket = connect({ host, port, noDelay: true });
    const end = (trouble: string | undefined, server = ""): void => {
      if (done) return;
      done = true;
      pending--;
      if (trouble === undefined) succeeded(server, began);
      else failed(`${trouble} after ${Math.round(performance.now() - began)} ms`);
      socket.end();
    };
    socket.setTimeout(LOST_MS, () => end("no answer"));
    socket.on("connect", () => socket.write(`hello ${number}\n`));
    socket.on("error", (error) => end(error.message));
    socket.on("close", () => end("closed without an answer"));
    socket.on("data", (data) => {
      const [, back = "", server = ""] = data.toString("latin1").trim().split(" ");
      end(Number(back) === number ? undefined : `wrong answer ${data}`, server);
    });
  };
  const overUdp = (number: number, began: number): void => {
    const socket = udpSocketFor(host);
    pending++;
    const timer = setTimeout(() => end("no answer"), LOST_MS);
    function end(trouble: string | undefined, server = ""): void {
      clearTimeout(timer);
      socket.close();
      pending--;
      if (trouble === undefined) succeeded(server, began);
      else failed(`${trouble} after ${Math.round(performance.now() - began)} ms`);
    }
    socket.once("error", (error) => end(error.message));
    socket.once("message", (data, from) => {
      const [, back = "", server = ""] = data.toString("latin1").split(" ");
      if (from.address !== host || from.port !== port) end(`from ${from.address}:${from.port}`);
      else end(Number(back) === number ? undefined : `wrong answer ${data}`, server);
    });
    socket.send(`once ${number}`, port, host);
  };
  stops.push(
    atRate(rate, () => {
      const number = ++tried;
      (kind === "new-tcp" ? overTcp : overUdp)(number, performance.now());
    }),
  );
}

/** Once stopped, when every new connection has come to its end. */
function tell(): void {
  if (stopped && pending > 0) setTimeout(tell, 50);
  else say({ flows: Object.fromEntries(Object.entries(reports).map(([name, report]) => [name, report()])) });
}

for (const flow of flows) {
  if (flow.kind === "tcp") holdTcp(flow);
  else if (flow.kind === "udp" || flow.kind === "udp-connected") holdUdp(flow);
  else makeNew(flow);
}
takeOrders({
  mark(text) {
    mark = text;
  },
  stop() {
    stopped = true;
    for (const stop of stops) stop();
  },
  report: tell,
});
say({ ready: true });
