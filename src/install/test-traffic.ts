// The two ends of the installer's self-test, which run in pods of Millrace's own image: a server that says on which node it is, and a client
// that asks for everything in a list.
import { createSocket, type Socket } from "node:dgram";
import { lookup } from "node:dns/promises";
import { createServer, request, type Server } from "node:http";
import { setTimeout as after } from "node:timers/promises";

/** One thing that a client asks. */
export interface Target {
  /** For sentences: "node port of kind-worker". */
  readonly name: string;
  readonly protocol: "tcp" | "udp";
  /** An address, or a name. */
  readonly host: string;
  readonly port: number;
}

export interface TestResult {
  readonly good: number;
  readonly bad: readonly { readonly name: string; readonly why: string }[];
}

const ANSWER_MS = 2_000;
const PAUSE_MS = 300;
/** How often each target has to answer, so that more than one backend is met. */
const TIMES = 3;

export interface TestServer {
  readonly port: number;
  close(): Promise<void>;
}

/** Answers HTTP and UDP of the same port with the node's name, on every address of both families as far as there are. */
export async function startTestServer(node: string, port: number): Promise<TestServer> {
  const http = createServer((_, response) => void response.end(`${node}\n`));
  const isDual = await listenHttp(http, port, "::").then(
    () => true,
    () => listenHttp(http, port, "0.0.0.0").then(() => false),
  );
  const address = http.address();
  const chosen = typeof address === "object" && address !== null ? address.port : port;
  const udp = createSocket(isDual ? "udp6" : "udp4");
  udp.on("message", (_, from) => udp.send(`${node}\n`, from.port, from.address));
  await bindUdp(udp, chosen);
  return {
    port: chosen,
    async close() {
      http.closeAllConnections();
      await Promise.all([
        new Promise((resolve) => http.close(resolve)),
        new Promise<void>((resolve) => udp.close(resolve)),
      ]);
    },
  };
}

function listenHttp(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

function bindUdp(socket: Socket, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.bind(port, () => {
      socket.off("error", reject);
      socket.on("error", () => {});
      resolve();
    });
  });
}

/** Asks all at once, each again and again until it answered often enough or the time is over. */
export async function askTargets(targets: readonly Target[], waitMs: number): Promise<TestResult> {
  const deadline = performance.now() + waitMs;
  const said = await Promise.all(targets.map((target) => askUntil(target, deadline)));
  const bad = targets.flatMap(({ name }, at) => (said[at] === "" ? [] : [{ name, why: said[at]! }]));
  return { good: targets.length - bad.length, bad };
}

async function askUntil(target: Target, deadline: number): Promise<string> {
  let good = 0;
  for (;;) {
    const said = await askOnce(target).then(
      (text) => (text === "" ? "the answer is empty" : ""),
      (error: NodeJS.ErrnoException) => error.message || (error.code ?? "it failed"),
    );
    good = said === "" ? good + 1 : 0;
    if (good === TIMES) return "";
    if (performance.now() >= deadline) return said === "" ? "it answers now and then only" : said;
    if (said !== "") await after(PAUSE_MS);
  }
}

function askOnce({ protocol, host, port }: Target): Promise<string> {
  return protocol === "tcp" ? askHttp(host, port) : askUdp(host, port);
}

function askHttp(host: string, port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = request({ host, port, path: "/", agent: false, timeout: ANSWER_MS }, async (response) => {
      try {
        let text = "";
        for await (const piece of response) text += String(piece);
        if (response.statusCode === 200) resolve(text.trim());
        else reject(new Error(`status ${response.statusCode}`));
      } catch (error) {
        reject(error as Error);
      }
    });
    asked.on("timeout", () => asked.destroy(new Error(`no answer within ${ANSWER_MS / 1000} s`)));
    asked.on("error", reject);
    asked.end();
  });
}

async function askUdp(host: string, port: number): Promise<string> {
  const { address, family } = await lookup(host);
  const socket = createSocket(family === 6 ? "udp6" : "udp4");
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const timer = setTimeout(() => reject(new Error(`no answer within ${ANSWER_MS / 1000} s`)), ANSWER_MS);
  socket.on("error", reject);
  socket.on("message", (message) => resolve(message.toString().trim()));
  socket.send("?", port, address, (error) => {
    if (error !== null) reject(error);
  });
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    socket.close();
  }
}
