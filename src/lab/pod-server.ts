// The server of every pod, whatever its image: one line of text over TCP (HTTP) and UDP on each port, that says who
// answered whom. A program of its own, kept small since there is one per pod: it imports nothing but sockets.
//   pod-server NAME NODE PORT,PORT… GRACE_MS END_MS
// SIGTERM: it goes on for GRACE_MS, then ends. END_MS > 0: it ends by itself after that time, as a Job's pod does.
// GET /stream?lines=N&every=MS sends N numbered lines, one each MS; GET /bytes?size=N sends N bytes; else the one line.
import { createSocket } from "node:dgram";
import { writeSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { networkInterfaces } from "node:os";

const [, , podName = "-", nodeName = "-", portList = "80", graceMs = "2000", endMs = "0"] = process.argv;
const ports = portList.split(",").map(Number);
let ending = false;

function answer(address: string, clientPort: number, port: number): string {
  const plain = address.startsWith("::ffff:") ? address.slice(7) : address;
  const client = plain.includes(":") ? `[${plain}]:${clientPort}` : `${plain}:${clientPort}`;
  return `pod=${podName} node=${nodeName} client=${client} port=${port}\n`;
}

function head(status: string, length: number | undefined, close: boolean): string {
  const size = length === undefined ? "" : `Content-Length: ${length}\r\n`;
  return `HTTP/1.1 ${status}\r\nContent-Type: text/plain\r\n${size}${close ? "Connection: close\r\n" : ""}\r\n`;
}

function stream(socket: Socket, query: URLSearchParams): void {
  const lines = Number(query.get("lines") ?? "100");
  const everyMs = Number(query.get("every") ?? "10");
  let sent = 0;
  socket.write(head("200 OK", undefined, true));
  const timer = setInterval(() => {
    if (sent < lines) socket.write(`${++sent} pod=${podName}\n`);
    if (sent >= lines) {
      clearInterval(timer);
      socket.end();
    }
  }, everyMs);
  socket.on("close", () => clearInterval(timer));
}

function bytes(socket: Socket, size: number, close: boolean): void {
  const chunk = Buffer.alloc(65536, "0123456789abcdef");
  let left = size;
  socket.write(head("200 OK", size, close));
  const more = () => {
    while (left > 0) {
      const part = left >= chunk.length ? chunk : chunk.subarray(0, left);
      left -= part.length;
      if (!socket.write(part)) {
        socket.once("drain", more);
        return;
      }
    }
    if (close) socket.end();
  };
  more();
}

function serve(socket: Socket, port: number): void {
  const line = answer(socket.remoteAddress ?? "-", socket.remotePort ?? 0, port);
  let received = "";
  socket.setNoDelay(true);
  socket.on("error", () => socket.destroy());
  socket.on("data", (data) => {
    received += data.toString("latin1");
    for (let end = received.indexOf("\r\n\r\n"); end >= 0; end = received.indexOf("\r\n\r\n")) {
      const request = received.slice(0, end);
      received = received.slice(end + 4);
      const [method = "", target = "", version = ""] = request
        .slice(0, request.indexOf("\r\n") < 0 ? undefined : request.indexOf("\r\n"))
        .split(" ");
      const keeps =
        version === "HTTP/1.1" ? !/\nconnection: *close/i.test(request) : /\nconnection: *keep-alive/i.test(request);
      const close = ending || !keeps;
      const [path = "", query = ""] = target.split("?");
      if (method !== "GET" && method !== "HEAD") socket.write(head("405 Method Not Allowed", 0, true));
      else if (path === "/stream" && method === "GET") {
        stream(socket, new URLSearchParams(query));
        return;
      } else if (path === "/bytes" && method === "GET") {
        bytes(socket, Number(new URLSearchParams(query).get("size") ?? "1000000"), close);
        return;
      } else socket.write(head("200 OK", line.length, close) + (method === "HEAD" ? "" : line));
      if (close || (method !== "GET" && method !== "HEAD")) {
        socket.end();
        return;
      }
    }
    if (received.length > 65536) socket.destroy();
  });
}

function fail(what: string, error: Error): never {
  writeSync(2, `pod-server: could not listen on ${what}: ${error.message}\n`);
  process.exit(1);
}

function listen(host: string, port: number, udp: readonly string[]): Promise<void>[] {
  const tcp = new Promise<void>((resolve) => {
    const server = createServer({ allowHalfOpen: false }, (socket) => serve(socket, port));
    server.on("error", (error) => fail(`tcp port ${port}`, error));
    server.listen({ host, port, backlog: 4096 }, resolve);
  });
  // One socket per address: an answer must leave from the address that was asked, also where a node has many.
  const datagrams = udp.map(
    (address) =>
      new Promise<void>((resolve) => {
        const socket = createSocket(address.includes(":") ? { type: "udp6", ipv6Only: true } : { type: "udp4" });
        socket.on("error", (error) => fail(`udp port ${port} of ${address}`, error));
        socket.on("message", (_data, from) =>
          socket.send(answer(from.address, from.port, port), from.port, from.address, () => {}),
        );
        socket.bind({ address, port }, () => resolve());
      }),
  );
  return [tcp, ...datagrams];
}

const addresses = Object.values(networkInterfaces())
  .flatMap((list) => list ?? [])
  .map(({ address }) => address)
  .filter((address) => !address.startsWith("fe80:"));
const wildcard = addresses.some((address) => address.includes(":")) ? "::" : "0.0.0.0";

process.on("SIGTERM", () => {
  ending = true;
  setTimeout(() => process.exit(0), Number(graceMs));
});
process.on("SIGINT", () => {});
process.on("SIGHUP", () => {});

await Promise.all(ports.flatMap((port) => listen(wildcard, port, addresses)));
// Whoever started it reads this; nobody may be left to read it.
try {
  writeSync(1, "ready\n");
} catch {}
if (Number(endMs) > 0) setTimeout(() => process.exit(0), Number(endMs));
