// Runs in a client of a lab or a cluster: asks again and again, and holds connections open, until standard input ends.
// Argument: JSON Traffic. What is refused, lost or broken off is no failure here, and is tried again.
import { createSocket } from "node:dgram";
import { connect } from "node:net";

export interface Traffic {
  readonly asks?: readonly Ask[];
  readonly holds?: readonly Hold[];
}

export interface Ask {
  readonly kind: "tcp" | "udp";
  /** An IPv4 or IPv6 address. */
  readonly host: string;
  readonly port: number;
  readonly everyMs: number;
}

export interface Hold {
  readonly host: string;
  readonly port: number;
  /** Connections that are open at the same time; each is opened again when it ends. */
  readonly count: number;
}

const AGAIN_MS = 500;
/** A line every 20 s keeps the server from ending it. */
const STREAM = "GET /stream?lines=100000&every=20000 HTTP/1.1\r\nhost: test\r\n\r\n";
const ONCE = "GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";

function askTcp(host: string, port: number): void {
  const socket = connect({ host, port });
  socket.setTimeout(2000, () => socket.destroy());
  socket.on("error", () => {});
  socket.on("connect", () => socket.write(ONCE));
  socket.resume();
}

function askUdp(host: string, port: number): void {
  const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
  socket.on("error", () => {});
  socket.send("question", port, host, () => setTimeout(() => socket.close(), 1000));
}

function hold(host: string, port: number): void {
  const socket = connect({ host, port });
  socket.on("error", () => {});
  socket.on("connect", () => socket.write(STREAM));
  socket.on("close", () => setTimeout(hold, AGAIN_MS, host, port));
  socket.resume();
}

const { asks = [], holds = [] } = JSON.parse(process.argv[2] ?? "{}") as Traffic;
for (const { kind, host, port, everyMs } of asks) setInterval(kind === "tcp" ? askTcp : askUdp, everyMs, host, port);
// Not all at once: a listener's queue is short.
for (const { host, port, count } of holds) for (let i = 0; i < count; i++) setTimeout(hold, i * 2, host, port);
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
process.stdout.write("ready\n");
