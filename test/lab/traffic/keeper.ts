// Runs in a pod or on a node: keeps connected UDP sockets to a Service and asks all the while. Argument: JSON {clients: Client[]}.
// Orders on standard input: mark (counts begin anew), report. Ends when that does.
import type { Socket } from "node:dgram";
import { say, takeOrders, udpSocketFor } from "./numbered.ts";

export interface Client {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  /** It opens another socket when it is told an error; else it goes on with the one that it has, for ever. */
  readonly opensAnew: boolean;
}

export interface KeptReport {
  /** Answers by pod. */
  readonly pods: Readonly<Record<string, number>>;
  /** When each of them answered first, in milliseconds since the epoch. */
  readonly firstMs: Readonly<Record<string, number>>;
  /** Errors by code. */
  readonly errors: Readonly<Record<string, number>>;
  /** Between two answers, the last one to now included. */
  readonly longestGapMs: number;
  /** Names that answers bore, other than the one asked. */
  readonly strangeNames: readonly string[];
}

const { clients } = JSON.parse(process.argv[2] ?? "{}") as { clients: readonly Client[] };
const ASK_MS = 50;
const reports: Record<string, () => KeptReport> = {};
const marks: (() => void)[] = [];

function keep({ name, host, port, opensAnew }: Client): void {
  let pods: Record<string, number> = {};
  let firstMs: Record<string, number> = {};
  let errors: Record<string, number> = {};
  let strangeNames: string[] = [];
  let longestGapMs = 0;
  let lastMs = performance.now();
  let socket: Socket | undefined;
  const count = (into: Record<string, number>, key: string): void => {
    into[key] = (into[key] ?? 0) + 1;
  };
  const answered = (): void => {
    longestGapMs = Math.max(longestGapMs, performance.now() - lastMs);
    lastMs = performance.now();
  };
  function failed(of: Socket, error: NodeJS.ErrnoException | null): void {
    if (error === null || of !== socket) return;
    count(errors, error.code ?? error.message);
    if (!opensAnew) return;
    socket.close();
    open();
  }
  function open(): void {
    const fresh = udpSocketFor(host);
    socket = fresh;
    fresh.on("error", (error) => failed(fresh, error));
    fresh.on("message", (data, from) => {
      if (from.address !== host || from.port !== port) strangeNames.push(`${from.address}:${from.port}`);
      const pod = /pod=(\S+)/.exec(data.toString("latin1"))?.[1] ?? "";
      count(pods, pod);
      firstMs[pod] ??= Date.now();
      answered();
    });
    fresh.connect(port, host);
  }
  open();
  setInterval(() => {
    const of = socket;
    try {
      of?.send("who", (error) => failed(of, error));
    } catch {
      // Not connected yet.
    }
  }, ASK_MS);
  marks.push(() => {
    [pods, firstMs, errors, strangeNames, longestGapMs] = [{}, {}, {}, [], 0];
  });
  reports[name] = () => {
    const silentMs = performance.now() - lastMs;
    return { pods, firstMs, errors, strangeNames, longestGapMs: Math.round(Math.max(longestGapMs, silentMs)) };
  };
}

for (const client of clients) keep(client);
takeOrders({
  mark: () => {
    for (const mark of marks) mark();
  },
  report: () => say({ flows: Object.fromEntries(Object.entries(reports).map(([name, report]) => [name, report()])) }),
});
say({ ready: true });
