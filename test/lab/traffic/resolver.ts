// Runs in a pod or on a node: asks a DNS server all the while, as Go's resolver does it, which kubelet has: each question by a connected
// UDP socket of its own, two attempts of five seconds. Argument: JSON {host, port}. Orders on standard input: mark (counts begin anew,
// with questions that are asked from then on), report. Ends when that does.
import { say, takeOrders, udpSocketFor } from "./numbered.ts";

export interface ResolverReport {
  /** Answered questions by pod. */
  readonly pods: Readonly<Record<string, number>>;
  /** Attempts that came to nothing, by what they ended in. */
  readonly failedAttempts: Readonly<Record<string, number>>;
  /** Questions that no attempt had an answer to. */
  readonly unanswered: number;
  /** The longest that an answered question took, or one has been waiting for. */
  readonly longestMs: number;
}

interface Counts {
  readonly pods: Record<string, number>;
  readonly failedAttempts: Record<string, number>;
  unanswered: number;
  longestMs: number;
}

const { host, port } = JSON.parse(process.argv[2] ?? "{}") as { readonly host: string; readonly port: number };
const ATTEMPTS = 2;
const ATTEMPT_MS = 5_000;
const BETWEEN_MS = 20;

const nothing = (): Counts => ({ pods: {}, failedAttempts: {}, unanswered: 0, longestMs: 0 });
let counts = nothing();
/** When the question was asked that waits for its answer, and whose it is. */
let asked = { atMs: performance.now(), of: counts };

const count = (into: Record<string, number>, key: string): void => {
  into[key] = (into[key] ?? 0) + 1;
};

/** The pod that answered, or what it failed with. */
function attempt(): Promise<{ readonly pod: string } | { readonly failed: string }> {
  return new Promise((resolve) => {
    const socket = udpSocketFor(host);
    const timer = setTimeout(() => end({ failed: "time-out" }), ATTEMPT_MS);
    function end(result: { readonly pod: string } | { readonly failed: string }): void {
      clearTimeout(timer);
      socket.close();
      socket.removeAllListeners();
      socket.on("error", () => undefined);
      resolve(result);
    }
    const fail = (error: NodeJS.ErrnoException): void => end({ failed: error.code ?? error.message });
    socket.once("error", fail);
    socket.once("message", (data) => end({ pod: /pod=(\S+)/.exec(data.toString("latin1"))?.[1] ?? "" }));
    socket.connect(port, host, () => socket.send("who"));
  });
}

async function ask(of: Counts): Promise<void> {
  for (let tries = 0; tries < ATTEMPTS; tries++) {
    const result = await attempt();
    if ("pod" in result) {
      count(of.pods, result.pod);
      return;
    }
    count(of.failedAttempts, result.failed);
  }
  of.unanswered++;
}

takeOrders({
  mark: () => {
    counts = nothing();
  },
  report: () => {
    const waitingMs = asked.of === counts ? performance.now() - asked.atMs : 0;
    const resolver: ResolverReport = { ...counts, longestMs: Math.round(Math.max(counts.longestMs, waitingMs)) };
    say({ flows: { resolver } });
  },
});
say({ ready: true });
for (;;) {
  asked = { atMs: performance.now(), of: counts };
  await ask(asked.of);
  asked.of.longestMs = Math.max(asked.of.longestMs, performance.now() - asked.atMs);
  await new Promise((resolve) => setTimeout(resolve, BETWEEN_MS));
}
