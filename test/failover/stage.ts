// One run: an address that one node announces and a client asks for, something that happens, and what the client noticed.
import { setTimeout as delay } from "node:timers/promises";
import type { Address, Family } from "../../src/lib/address.ts";
import { type Program, until } from "../lab/traffic/test-lab.ts";
import type { ProbeReport } from "./probe-words.ts";
import { PORT, poolAddress, type Site } from "./site.ts";

/** What the client noticed in one run; milliseconds. */
export interface Outcome {
  /** Longest time without an answer to ARP requests or neighbour solicitations. */
  readonly unresolvedMs: number;
  /** Longest time without an answer over UDP or to a TCP connection, whichever is longer. */
  readonly unansweredMs: number;
  /** Time with more than one MAC that answered, a split not counted. */
  readonly severalMs: number;
  /** Who spoke, one after the other, by name. */
  readonly speakers: readonly string[];
  /** Nobody answered any more at the end. */
  readonly isOpen: boolean;
  /** How many of each were not answered: which way what was lost went. */
  readonly lost?: { readonly requests: number; readonly datagrams: number; readonly connections: number };
}

interface Part extends Outcome {
  readonly isSplit: boolean;
}

/** Until every question was answered for so long nothing has settled. */
const CALM_MS = 1500;
const START_LIMIT_MS = 60_000;

export class Stage implements AsyncDisposable {
  readonly site: Site;
  readonly address: Address;
  readonly name: string;
  readonly #prober: Program;
  readonly #parts: Part[] = [];
  /** The node that announced the address when the run began. */
  holder = "";

  private constructor(site: Site, prober: Program, name: string, address: Address) {
    this.site = site;
    this.#prober = prober;
    this.name = name;
    this.address = address;
  }

  /** An address of its own for each run: what a product remembers of one tells nothing of the next. */
  static make(site: Site, prober: Program, index: number, family: Family): Stage {
    return new Stage(site, prober, `failover-${index}`, poolAddress(index, family));
  }

  get others(): readonly string[] {
    return this.site.announcers.filter((node) => node !== this.holder);
  }

  /** Watches before there is anything to see. */
  watch(): void {
    this.#prober.say(`watch ${this.name} ${this.address}`);
  }

  expose(): Promise<void> {
    return this.site.expose(new Map([[this.name, this.address]]));
  }

  /** Makes the Service, and waits until one node announces it and the client is served. */
  async open(): Promise<void> {
    await this.site.lan.forgetNeighbour(this.address);
    await this.expose();
    this.watch();
    await this.calm(START_LIMIT_MS);
  }

  /** Resolves when one speaker answered, and all questions were answered, for a while. @throws when that does not come */
  async calm(limitMs: number): Promise<void> {
    const since = Date.now();
    this.mark();
    await until(
      `${this.address} to be announced by one node and served`,
      async () => {
        await delay(CALM_MS);
        const report = await this.#report();
        const { resolution, datagrams, connections, severalMs, speakers, speaking } = report;
        const lost = resolution.unanswered + datagrams.unanswered + connections.unanswered;
        if (lost === 0 && severalMs === 0 && speaking.length === 1 && speakers.length === 1) {
          this.holder = this.site.lan.ownerOf(speaking[0]!);
          return true;
        }
        this.mark();
        return undefined;
      },
      limitMs,
    ).catch(async (error: Error) => {
      const last = JSON.stringify(await this.#report());
      throw new Error(`${error.message}; after ${Date.now() - since} ms the client sees ${last}`);
    });
    this.mark();
  }

  mark(): void {
    this.#prober.say(`mark ${this.name}`);
  }

  async #report(): Promise<ProbeReport> {
    this.#prober.say(`report ${this.name}`);
    return this.#prober.answer<ProbeReport>();
  }

  pause(ms: number): Promise<void> {
    return delay(ms);
  }

  /** Resolves when the client is served again, at the latest after `limitMs`; not before `leastMs`. */
  async recovered(limitMs: number, leastMs = 1000): Promise<void> {
    const end = Date.now() + limitMs;
    await delay(leastMs);
    while (Date.now() < end) {
      const { resolution, datagrams, connections, speaking } = await this.#report();
      const isServed = [resolution, datagrams, connections].every(({ isOpen }) => !isOpen);
      if (isServed && speaking.length > 0) return;
      await delay(200);
    }
  }

  /** Ends a part of the run: what was noticed since the part before counts. `isSplit`: that two speak counts not. */
  async take({ isSplit = false } = {}): Promise<void> {
    // Of the last questions the answers are still to come.
    await delay(1000);
    const { resolution, datagrams, connections, severalMs, speakers } = await this.#report();
    this.mark();
    const { lan } = this.site;
    this.#parts.push({
      unresolvedMs: resolution.longestMs,
      unansweredMs: Math.max(datagrams.longestMs, connections.longestMs),
      severalMs,
      speakers: speakers.map((macs) =>
        macs
          .split("+")
          .map((mac) => lan.ownerOf(mac))
          .join("+"),
      ),
      isOpen: resolution.isOpen || datagrams.isOpen || connections.isOpen,
      lost: {
        requests: resolution.unanswered,
        datagrams: datagrams.unanswered,
        connections: connections.unanswered,
      },
      isSplit,
    });
  }

  /** Of all parts; the run is over. */
  outcome(): Outcome {
    const most = (pick: (part: Part) => number): number => Math.round(Math.max(0, ...this.#parts.map(pick)));
    const lostOf = (kind: keyof NonNullable<Outcome["lost"]>): number =>
      this.#parts.reduce((sum, { lost }) => sum + (lost?.[kind] ?? 0), 0);
    const speakers: string[] = [];
    for (const one of this.#parts.flatMap((part) => part.speakers)) if (speakers.at(-1) !== one) speakers.push(one);
    return {
      unresolvedMs: most((part) => part.unresolvedMs),
      unansweredMs: most((part) => part.unansweredMs),
      severalMs: this.#parts.filter(({ isSplit }) => !isSplit).reduce((sum, part) => sum + part.severalMs, 0),
      speakers,
      isOpen: this.#parts.at(-1)?.isOpen ?? true,
      lost: {
        requests: lostOf("requests"),
        datagrams: lostOf("datagrams"),
        connections: lostOf("connections"),
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#prober.say(`forget ${this.name}`);
    await this.site.withdraw([this.name]);
  }
}

/** Starts the prober that all stages of a site share. It ends with `end()`. */
export const startProber = (site: Site): Promise<Program> => site.lan.startProber(PORT);
