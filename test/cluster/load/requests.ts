// Runs on a member of the LAN or in a pod: one HTTP request after another, each over a connection of its own, as fast as they
// are answered. Argument: JSON {targets: RequestTarget[]}. Orders on standard input: stop, report. Ends when that does.
import { connect } from "node:net";
import { say, takeOrders } from "../../lab/traffic/numbered.ts";

export interface RequestTarget {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  /** How many ask at a time. */
  readonly workers: number;
}

/** refused: nobody listens, or so a reset in answer to the first packet says; reset: ended without a whole answer. */
export type RequestTrouble = "refused" | "reset" | "timedOut" | "other";

export interface RequestReport {
  readonly asked: number;
  readonly answered: number;
  readonly failed: Readonly<Record<RequestTrouble, number>>;
  /** Who answered, and how often: an answer's body is a host name. */
  readonly servers: Readonly<Record<string, number>>;
  readonly slowestMs: number;
  /** The first twenty. */
  readonly errors: readonly string[];
}

const TIMEOUT_MS = 5000;
/** After a failure: a refusal comes at once, and one moment is not to fill the report. */
const PAUSE_MS = 20;

class RequestError extends Error {
  readonly trouble: RequestTrouble;

  constructor(trouble: RequestTrouble, message: string) {
    super(message);
    this.trouble = trouble;
  }
}

const BY_CODE: Readonly<Record<string, RequestTrouble>> = {
  ECONNREFUSED: "refused",
  ECONNRESET: "reset",
  EPIPE: "reset",
  ETIMEDOUT: "timedOut",
};

/** The answer's body. @throws RequestError */
function ask(host: string, port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const socket = connect({ host, port, noDelay: true });
    const fail = (trouble: RequestTrouble, message: string): void => {
      reject(new RequestError(trouble, message));
      socket.destroy();
    };
    socket.setTimeout(TIMEOUT_MS, () => fail("timedOut", "silent for 5 s"));
    socket.on("connect", () => socket.write("GET /hostname HTTP/1.1\r\nHost: load\r\nConnection: close\r\n\r\n"));
    socket.on("data", (data) => {
      text += data.toString("latin1");
    });
    socket.on("error", (error: NodeJS.ErrnoException) => fail(BY_CODE[error.code ?? ""] ?? "other", error.message));
    socket.on("close", () => {
      const [head = "", body = ""] = text.split("\r\n\r\n");
      const length = /^content-length: (\d+)$/im.exec(head)?.[1];
      if (length === undefined || body.length < Number(length)) fail("reset", "closed before the end of an answer");
      else if (!head.startsWith("HTTP/1.1 200 ")) fail("other", head.split("\r\n")[0]!);
      else resolve(body);
    });
  });
}

const { targets } = JSON.parse(process.argv[2] ?? "{}") as { targets: readonly RequestTarget[] };
const reports: Record<string, () => RequestReport> = {};
let stopped = false;

function hammer({ name, host, port, workers }: RequestTarget): void {
  let asked = 0;
  let answered = 0;
  let slowestMs = 0;
  const failed = { refused: 0, reset: 0, timedOut: 0, other: 0 };
  const servers: Record<string, number> = {};
  const errors: string[] = [];
  reports[name] = () => ({ asked, answered, failed, servers, slowestMs: Math.round(slowestMs), errors });

  async function work(): Promise<void> {
    while (!stopped) {
      asked++;
      const began = performance.now();
      try {
        const server = await ask(host, port);
        answered++;
        servers[server] = (servers[server] ?? 0) + 1;
        slowestMs = Math.max(slowestMs, performance.now() - began);
      } catch (error) {
        const { trouble, message } = error as RequestError;
        failed[trouble]++;
        const when = new Date().toISOString().slice(11, 23);
        if (errors.length < 20) errors.push(`${when} ${message} after ${Math.round(performance.now() - began)} ms`);
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
    }
  }
  for (let i = 0; i < workers; i++) void work();
}

for (const target of targets) hammer(target);
takeOrders({
  stop() {
    stopped = true;
  },
  report: () => say({ flows: Object.fromEntries(Object.entries(reports).map(([name, report]) => [name, report()])) }),
});
say({ ready: true });
