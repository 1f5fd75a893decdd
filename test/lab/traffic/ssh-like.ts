// Connections as SSH's beside all Services: one that is kept, with lines to and fro many times a second, and new ones, on each of a
// number of ways. They tell whether all of them go on.
import { expect } from "vitest";
import type { Flow, NewReport } from "./client.ts";
import type { FlowReport } from "./numbered.ts";
import { type Program, type TestLab, until } from "./test-lab.ts";

/** Where sshd would listen: here connections are kept. */
export const SSH = 22;
/** Where somebody moved it, into the range of the node ports: here new ones are made. */
export const MOVED = 30022;

type Report = FlowReport | NewReport;

/** Lines that came, or new connections that were answered. */
const doneBy = (report: Report): number => ("answered" in report ? report.answered : report.received);

/** When so much is done, then something of it was begun only now: `report` holds what had been begun. */
const goalAfter = (report: Report | undefined): number =>
  report === undefined ? 10 : "answered" in report ? report.tried + 2 : report.received + 10;

export class SshLike {
  readonly #clients: readonly Program[];
  readonly #servers: readonly Program[];

  private constructor(clients: readonly Program[], servers: readonly Program[]) {
    this.#clients = clients;
    this.#servers = servers;
  }

  /** Servers at these places of the lab, and from each client what goes to these addresses. They end with the lab. */
  static async start(
    lab: TestLab,
    servers: readonly string[],
    ways: Readonly<Record<string, readonly string[]>>,
  ): Promise<SshLike> {
    const ports = { udp: MOVED, stream: SSH, short: MOVED, rate: 20 };
    const far = await Promise.all(servers.map((name) => lab.program(name, "server.ts", { name, ...ports })));
    const near = Object.entries(ways).map(([place, addresses]) => {
      const flows = addresses.flatMap((host): Flow[] => [
        { name: `${place}-to-${host}-kept`, kind: "tcp", host, port: SSH, rate: 20 },
        { name: `${place}-to-${host}-new`, kind: "new-tcp", host, port: MOVED, rate: 8 },
      ]);
      return lab.program(place, "client.ts", { flows });
    });
    return new SshLike(await Promise.all(near), far);
  }

  /** Errors from now on name this. */
  mark(text: string): void {
    for (const client of this.#clients) client.say(`mark ${text}`);
  }

  /** Of both sides of each kept connection, and of the makers of new ones. */
  async #reports(): Promise<Readonly<Record<string, Report>>> {
    const [clients, servers] = await Promise.all(
      [this.#clients, this.#servers].map((programs) => Promise.all(programs.map((one) => one.report<Report>()))),
    );
    const far = servers!.flatMap((one) => Object.entries(one).map(([name, report]) => [`far end of ${name}`, report]));
    return Object.assign({}, ...clients!, Object.fromEntries(far));
  }

  /** Resolves when, from now on, every kept connection went on and every flow of new ones made some. @throws when one failed */
  async goOn(): Promise<void> {
    const before = await this.#reports();
    let waiting: readonly string[] = [];
    const all = async (): Promise<true | undefined> => {
      const now = Object.entries(await this.#reports());
      const failed = now.filter(([, { errors }]) => errors.length > 0);
      if (failed.length > 0) expect.fail(failed.map(([name, { errors }]) => `${name}: ${errors[0]}`).join("\n"));
      waiting = now.filter(([name, report]) => doneBy(report) < goalAfter(before[name])).map(([name]) => name);
      return waiting.length === 0 ? true : undefined;
    };
    await until("connections to go on", all).catch((cause: unknown) => {
      throw waiting.length === 0 ? cause : new Error(`connections stand still: ${waiting.join(", ")}`, { cause });
    });
  }

  /** Connections that are kept, and those that were made and answered. */
  async sums(): Promise<{ readonly kept: number; readonly answered: number }> {
    const all = Object.values(await this.#reports());
    const fresh = all.filter((one) => "answered" in one);
    return { kept: (all.length - fresh.length) / 2, answered: fresh.reduce((sum, { answered }) => sum + answered, 0) };
  }
}
