// Numbered traffic, both sides of it: what was sent, what came, in which order, from whom. Used by server.ts and client.ts,
// which run inside the lab's namespaces.
import { createSocket, type Socket } from "node:dgram";
import { isIPv6 } from "node:net";

export interface FlowReport {
  /** Numbers 1..sent were sent by this side. */
  readonly sent: number;
  /** How many different numbers came. */
  readonly received: number;
  readonly highest: number;
  /** Numbers below `highest` that never came; the first fifty. */
  readonly missing: readonly number[];
  readonly duplicates: number;
  readonly outOfOrder: number;
  /** Addresses that the other side was seen at. */
  readonly peers: readonly string[];
  readonly errors: readonly string[];
  /** Milliseconds of the longest silence between two arrivals. */
  readonly longestGapMs: number;
}

export class Numbered {
  sent = 0;
  readonly #seen = new Set<number>();
  readonly #peers = new Set<string>();
  readonly #errors: string[] = [];
  #highest = 0;
  #duplicates = 0;
  #outOfOrder = 0;
  #lastMs = 0;
  #longestGapMs = 0;

  came(number: number, peer: string): void {
    const now = performance.now();
    if (this.#lastMs > 0) this.#longestGapMs = Math.max(this.#longestGapMs, now - this.#lastMs);
    this.#lastMs = now;
    this.#peers.add(peer);
    if (this.#seen.has(number)) {
      this.#duplicates++;
      return;
    }
    this.#seen.add(number);
    if (number < this.#highest) this.#outOfOrder++;
    else this.#highest = number;
  }

  failed(error: unknown): void {
    const text = error instanceof Error ? error.message : String(error);
    if (this.#errors.length < 50) this.#errors.push(`${new Date().toISOString().slice(11, 23)} ${text}`);
  }

  report(): FlowReport {
    const missing: number[] = [];
    for (let n = 1; n <= this.#highest && missing.length < 50; n++) if (!this.#seen.has(n)) missing.push(n);
    return {
      sent: this.sent,
      received: this.#seen.size,
      highest: this.#highest,
      missing,
      duplicates: this.#duplicates,
      outOfOrder: this.#outOfOrder,
      peers: [...this.#peers],
      errors: this.#errors,
      longestGapMs: Math.round(this.#longestGapMs),
    };
  }
}

/**
 * The kernel may allow less, and doubles that: room for half a second that the machine may be busy elsewhere. A datagram that
 * an XDP program let by takes more than a page.
 */
const RECEIVE_BUFFER = 1 << 20;

export const udpSocket = (type: "udp4" | "udp6"): Socket =>
  createSocket({ type, ipv6Only: type === "udp6", recvBufferSize: RECEIVE_BUFFER });

/** A UDP socket of the family of the address `host`. */
export const udpSocketFor = (host: string): Socket => udpSocket(isIPv6(host) ? "udp6" : "udp4");

/** Calls `send` so often that on average `perSecond` calls are made, also when timers come late. Returns how to stop it. */
export function atRate(perSecond: number, send: () => void): () => void {
  const began = performance.now();
  let done = 0;
  const timer = setInterval(
    () => {
      const due = Math.floor(((performance.now() - began) * perSecond) / 1000);
      while (done < due) {
        done++;
        send();
      }
    },
    Math.max(1, 1000 / perSecond),
  );
  return () => clearInterval(timer);
}

/** Reads orders, one a line, from standard input; its end ends the process: nobody is left to report to. */
export function takeOrders(orders: Readonly<Record<string, (argument: string) => void>>): void {
  let rest = "";
  process.stdin.setEncoding("utf8");
  process.stdin.on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const [order = "", ...argument] = line.split(" ");
      orders[order]?.(argument.join(" "));
    }
  });
  process.stdin.on("end", () => process.exit(0));
}

export function say(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

/** Line `number` of the TCP stream: every tenth is long, so that segments are of all sizes. */
export const streamLine = (name: string, number: number): string =>
  `${name} ${number}${number % 10 === 0 ? ` ${"x".repeat(4000)}` : ""}\n`;

/** Splits a TCP stream into lines; a line's number must be the next one. */
export function lineReader(onLine: (name: string, number: number) => void): (data: Buffer) => void {
  let rest = "";
  return (data) => {
    const lines = (rest + data.toString("latin1")).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const [name = "", number = "0"] = line.split(" ");
      onLine(name, Number(number));
    }
  };
}
