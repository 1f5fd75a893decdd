// Asks a server again and again, each time over a new socket, and prints the answers as one line of JSON. Started inside
// a pod, node or client by checks; a program of its own so that it starts fast and needs nothing installed.
//   probe '{"via":"tcp","host":"10.96.0.7","port":80,"count":12,"timeoutMs":2000,"until":["a","b"]}'
// `via` is tcp (HTTP GET), udp (one datagram), lookup (the system's resolver) or cname. With `until` it stops early, as
// soon as all these have answered: a lab's pods say more than their name, others nothing else.
import { createSocket } from "node:dgram";
import { lookup, promises as resolver } from "node:dns";
import { connect } from "node:net";
import { patience } from "../lib/patience.ts";

export interface ProbeOrder {
  readonly via: "tcp" | "udp" | "lookup" | "cname";
  readonly host: string;
  readonly port?: number;
  /** What a GET asks for, and without its slash a datagram, which is never empty. @default "/" */
  readonly path?: string;
  readonly count?: number;
  readonly timeoutMs?: number;
  readonly until?: readonly string[];
  /** Ends with the first turn that fails. */
  readonly untilError?: boolean;
  /** Keeps asking for so long, whatever the count. */
  readonly forMs?: number;
}

export interface ProbeAnswer {
  /** What came back; "" when nothing did. */
  readonly text: string;
  /** Error code such as ECONNREFUSED or ETIMEDOUT, "" when it went well. */
  readonly error: string;
  readonly ms: number;
}

function overTcp(host: string, port: number, path: string, timeoutMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port });
    let received = "";
    const timer = setTimeout(() => socket.destroy(Object.assign(new Error(), { code: "ETIMEDOUT" })), timeoutMs);
    socket.setEncoding("utf8");
    socket.on("connect", () => socket.write(`GET ${path} HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n`));
    socket.on("data", (text: string) => {
      received += text;
    });
    socket.on("error", (error) => {
      clearTimeout(timer);
      reject(error);
    });
    socket.on("close", () => {
      clearTimeout(timer);
      const body = received.indexOf("\r\n\r\n");
      if (body >= 0) resolve(received.slice(body + 4).trim());
      else reject(Object.assign(new Error(), { code: "EMPTY" }));
    });
  });
}

function overUdp(host: string, port: number, text: string, timeoutMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
    const done = (end: () => void) => {
      clearTimeout(timer);
      socket.close();
      end();
    };
    const timer = setTimeout(() => done(() => reject(Object.assign(new Error(), { code: "ETIMEDOUT" }))), timeoutMs);
    socket.on("message", (data, from) => {
      const fromAsked = from.port === port && from.address === host;
      done(() =>
        fromAsked
          ? resolve(data.toString().trim())
          : reject(Object.assign(new Error(), { code: `FROM_${from.address}` })),
      );
    });
    socket.on("error", (error) => done(() => reject(error)));
    // An unconnected socket: the answer's source address must be translated back for it to be recognised.
    socket.send(text, port, host);
  });
}

function ask({ via, host, port = 80, path = "/", timeoutMs = patience(2000) }: ProbeOrder): Promise<string> {
  switch (via) {
    case "tcp":
      return overTcp(host, port, path, timeoutMs);
    case "udp":
      return overUdp(host, port, path.slice(1) || "?", timeoutMs);
    case "lookup":
      return new Promise((resolve, reject) => {
        lookup(host, { all: true }, (error, list) =>
          error === null ? resolve(list.map((one) => one.address).join(",")) : reject(error),
        );
      });
    case "cname":
      return resolver.resolveCname(host).then((names) => names.join(","));
  }
}

const order = JSON.parse(process.argv[2] ?? "{}") as ProbeOrder;
const answers: ProbeAnswer[] = [];
const missing = new Set(order.until ?? []);
const began = performance.now();
for (
  let turn = 0;
  order.forMs === undefined ? turn < (order.count ?? 1) : performance.now() - began < order.forMs;
  turn++
) {
  const start = performance.now();
  let text = "";
  let error = "";
  try {
    text = await ask(order);
  } catch (cause) {
    error = (cause as NodeJS.ErrnoException).code ?? String(cause);
  }
  answers.push({ text, error, ms: Math.round(performance.now() - start) });
  if (order.untilError && error !== "") break;
  if (order.until === undefined) continue;
  missing.delete(/^pod=(\S+) /.exec(text)?.[1] ?? text);
  if (missing.size === 0) break;
}
process.stdout.write(`${JSON.stringify(answers)}\n`);
