// Runs in an outside client or a pod: connects, asks and checks who answered, as fast as it can, until told to stop. Argument:
// JSON {targets: Target[]}. Orders on standard input: stop, report. Ends when that does.
import { connect } from "node:net";
import { say, takeOrders, udpSocketFor } from "./numbered.ts";

export interface Target {
  readonly name: string;
  /** An IPv4 or IPv6 address. */
  readonly host: string;
  readonly port: number;
  /** Every answering pod's name begins so. */
  readonly expected: string;
  /** How many ask at a time: with TCP, with a fresh UDP socket each time, with one UDP socket all the time. */
  readonly tcp: number;
  readonly udp: number;
  readonly heldUdp: number;
}

export interface HammerReport {
  readonly asked: number;
  readonly answered: number;
  readonly pods: number;
  readonly strangers: readonly string[];
  readonly errors: readonly string[];
  readonly errorCount: number;
  readonly slowestMs: number;
}

const { targets } = JSON.parse(process.argv[2] ?? "{}") as { targets: readonly Target[] };
const reports: Record<string, () => HammerReport> = {};
let stopped = false;

/** The answer to one question, or an error. */
type Ask = () => Promise<string>;

function overTcp(host: string, port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const socket = connect({ host, port, noDelay: true });
    socket.setTimeout(5000, () => socket.destroy(new Error("no answer for 5 s")));
    socket.on("connect", () => socket.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
    socket.on("data", (data) => {
      text += data.toString("latin1");
    });
    socket.on("error", reject);
    socket.on("close", () => {
      if (text === "") reject(new Error("closed without an answer"));
      else resolve(text);
    });
  });
}

function overUdp(host: string, port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = udpSocketFor(host);
    const timer = setTimeout(() => end(() => reject(new Error("no answer for 2 s"))), 2000);
    function end(done: () => void): void {
      clearTimeout(timer);
      socket.close();
      done();
    }
    socket.once("error", (error) => end(() => reject(error)));
    socket.once("message", (data, from) =>
      end(() => {
        if (from.address !== host || from.port !== port) reject(new Error(`answer from ${from.address}:${from.port}`));
        else resolve(data.toString("latin1"));
      }),
    );
    socket.send("who", port, host);
  });
}

/** A new socket after so many questions: among the pods that it asks there are some that go. */
const HELD_FOR = 300;

/** One socket for many questions, one after the other. */
function heldUdp(host: string, port: number): Ask {
  let left = 0;
  let socket = udpSocketFor(host);
  let waiting: { resolve(text: string): void; reject(error: Error): void } | undefined;
  const open = (): void => {
    socket.close();
    const fresh = udpSocketFor(host);
    socket = fresh;
    left = HELD_FOR;
    fresh.on("error", (error) => waiting?.reject(error));
    fresh.on("message", (data, from) => {
      if (fresh !== socket) return;
      if (from.address === host && from.port === port) waiting?.resolve(data.toString("latin1"));
      else waiting?.reject(new Error(`answer from ${from.address}:${from.port}`));
    });
  };
  return () =>
    new Promise((resolve, reject) => {
      if (left-- === 0) open();
      const timer = setTimeout(() => waiting?.reject(new Error("no answer for 2 s")), 2000);
      const done =
        <T>(then: (value: T) => void) =>
        (value: T): void => {
          clearTimeout(timer);
          waiting = undefined;
          then(value);
        };
      waiting = { resolve: done(resolve), reject: done(reject) };
      socket.send("who", port, host);
    });
}

function hammer(name: string, expected: string, workers: readonly Ask[]): void {
  let asked = 0;
  let answered = 0;
  let errorCount = 0;
  let slowestMs = 0;
  const pods = new Set<string>();
  const strangers: string[] = [];
  const errors: string[] = [];
  reports[name] = () => ({
    asked,
    answered,
    pods: pods.size,
    strangers,
    errors,
    errorCount,
    slowestMs: Math.round(slowestMs),
  });
  for (const ask of workers) {
    void (async () => {
      while (!stopped) {
        asked++;
        const began = performance.now();
        try {
          const text = await ask();
          const pod = /pod=(\S+)/.exec(text)?.[1] ?? "";
          answered++;
          pods.add(pod);
          if (!pod.startsWith(expected) && strangers.length < 20) strangers.push(text.trim());
          slowestMs = Math.max(slowestMs, performance.now() - began);
        } catch (error) {
          errorCount++;
          const when = new Date().toISOString().slice(11, 23);
          const ms = Math.round(performance.now() - began);
          if (errors.length < 20) errors.push(`${when} ${(error as Error).message} after ${ms} ms`);
          // A refusal comes at once: do not fill the report with one moment.
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
      }
    })();
  }
}

for (const { name, host, port, expected, tcp, udp, heldUdp: held } of targets) {
  hammer(
    `${name} tcp`,
    expected,
    Array.from({ length: tcp }, () => () => overTcp(host, port)),
  );
  hammer(
    `${name} udp`,
    expected,
    Array.from({ length: udp }, () => () => overUdp(host, port)),
  );
  hammer(
    `${name} held udp`,
    expected,
    Array.from({ length: held }, () => heldUdp(host, port)),
  );
}
takeOrders({
  stop() {
    stopped = true;
  },
  report: () => say({ flows: Object.fromEntries(Object.entries(reports).map(([name, report]) => [name, report()])) }),
});
say({ ready: true });
