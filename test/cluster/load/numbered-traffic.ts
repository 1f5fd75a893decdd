// Numbered traffic between members and pods of a cluster while things happen to it: what was sent against what arrived, on
// both sides. The programs are those of the lab, test/lab/traffic/client.ts and server.ts.
import type { Flow, NewReport } from "../../lab/traffic/client.ts";
import type { FlowReport } from "../../lab/traffic/numbered.ts";
import { type Program, pause, show } from "../../lab/traffic/test-lab.ts";
import type { ClusterLoad } from "./cluster-load.ts";
import { TRAFFIC_PORTS } from "./load-pods.ts";

export type { Flow, FlowReport, NewReport };

/** Milliseconds for what is under way when the sending stops. */
const SETTLE_MS = 2500;

export interface Outcome {
  /** By flow, as the client saw it. */
  readonly clients: Readonly<Record<string, FlowReport | NewReport>>;
  /** By server and flow. A server that ended before has none. */
  readonly servers: Readonly<Record<string, Readonly<Record<string, FlowReport>>>>;
}

export class NumberedTraffic {
  readonly #load: ClusterLoad;
  readonly #servers = new Map<string, Program>();
  readonly #clients: Program[] = [];

  constructor(load: ClusterLoad) {
    this.#load = load;
  }

  /** Lets the pod answer, under its own name; `rate`: lines and datagrams a second of each flow, the server's own unless told. */
  async answerIn(pod: string, rate?: number): Promise<void> {
    const rates = rate === undefined ? {} : { rate, udpRate: rate };
    this.#servers.set(pod, await this.#load.inPod(pod, "server", { name: pod, ...TRAFFIC_PORTS, ...rates }));
  }

  async fromPod(pod: string, flows: readonly Flow[]): Promise<void> {
    this.#clients.push(await this.#load.inPod(pod, "client", { flows }));
  }

  async fromMember(member: string, flows: readonly Flow[]): Promise<void> {
    this.#clients.push(await this.#load.on(member, "client", { flows }));
  }

  /** Names what happens from now on: new connections are counted by it, and errors carry it. */
  mark(text: string): void {
    for (const client of this.#clients) client.say(`mark ${text}`);
  }

  /** The names of the flows that a pod answers. */
  async flowsOf(pod: string): Promise<string[]> {
    return Object.keys((await this.#servers.get(pod)!.report<FlowReport>()) ?? {});
  }

  /** The pod goes, and with it what answers in it. */
  async forget(pod: string): Promise<void> {
    await this.#servers.get(pod)?.end();
    this.#servers.delete(pod);
  }

  /** Ends the sending on both sides, waits for what is under way, and collects what came. */
  async stop(): Promise<Outcome> {
    for (const program of [...this.#clients, ...this.#servers.values()]) program.say("stop");
    await pause(SETTLE_MS);
    const clients = await Promise.all(this.#clients.map((client) => client.report<FlowReport | NewReport>()));
    const servers = await Promise.all(
      [...this.#servers].map(async ([pod, server]) => [pod, await server.report<FlowReport>()] as const),
    );
    return { clients: Object.assign({}, ...clients), servers: Object.fromEntries(servers) };
  }
}

/**
 * What both sides of a held flow ought to be, and are: equal when nothing was lost, doubled, or answered by somebody else.
 * Datagrams that did not reach the backend are another matter: `lostToBackend`.
 */
export function compareSides({ name, kind }: Flow, outcome: Outcome): { found: object; expected: object } {
  const mine = outcome.clients[name] as FlowReport;
  const theirs = serversOf(name, outcome);
  const [other] = theirs;
  const isStream = kind === "tcp";
  const side = (report: FlowReport | undefined, isComplete: boolean) =>
    report && {
      errors: report.errors,
      missing: isComplete ? report.missing : [],
      duplicates: report.duplicates,
      peers: report.peers.length,
      outOfOrder: isStream ? report.outOfOrder : 0,
    };
  const intact = { errors: [], missing: [], duplicates: 0, peers: 1, outOfOrder: 0 };
  return {
    found: {
      backends: theirs.length,
      client: side(mine, true),
      backend: side(other, isStream),
      arrived: isStream ? other?.received : mine.sent,
      came: mine.received,
    },
    expected: { backends: 1, client: intact, backend: intact, arrived: mine.sent, came: other?.sent },
  };
}

/** Datagrams that did not reach the backend; of new conversations the questions without an answer. */
export function lostToBackend(name: string, outcome: Outcome): number {
  const mine = outcome.clients[name]!;
  if ("tried" in mine) return mine.tried - mine.answered;
  return serversOf(name, outcome).reduce((left, { received }) => left - received, mine.sent);
}

function serversOf(name: string, { servers }: Outcome): FlowReport[] {
  return Object.values(servers).flatMap((reports) => reports[name] ?? []);
}

/** Prints a line for each flow. */
export function printTraffic(title: string, flows: readonly Flow[], outcome: Outcome): void {
  const line = (flow: Flow): Record<string, string | number> => {
    const mine = outcome.clients[flow.name]!;
    if ("tried" in mine) {
      return {
        sent: mine.tried,
        received: mine.answered,
        errors: mine.errors.length,
        "slowest or gap, ms": mine.slowestMs,
      };
    }
    const theirs = serversOf(flow.name, outcome);
    const sum = (count: "sent" | "received") => theirs.reduce((total, one) => total + one[count], 0);
    return {
      sent: mine.sent,
      arrived: sum("received"),
      back: sum("sent"),
      received: mine.received,
      errors: mine.errors.length,
      "slowest or gap, ms": Math.max(mine.longestGapMs, ...theirs.map(({ longestGapMs }) => longestGapMs)),
    };
  };
  show(`\n${title}`, Object.fromEntries(flows.map((flow) => [flow.name, line(flow)])));
}
