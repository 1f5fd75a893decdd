// What the prober and whoever starts it say to each other.
import type { Family } from "../../src/lib/address.ts";
import type { Outage } from "./figures.ts";

/** Between two questions of a kind. */
export const PERIOD_MS = 20;
/** Addresses that requests are sent from in turn: in half a second no answer is taken for that to another request. */
export const SLOTS = 24;

export interface Probing {
  /** The client's device on the LAN. */
  readonly ifindex: number;
  readonly mac: string;
  /** TCP and UDP. */
  readonly port: number;
}

/** Since the last mark; of questions whose fate is known. */
export interface ProbeReport {
  readonly questions: number;
  /** ARP requests, or neighbour solicitations. */
  readonly resolution: Outage;
  readonly datagrams: Outage;
  readonly connections: Outage;
  /** Time in which more than one MAC answered. */
  readonly severalMs: number;
  /** MACs that answered, one after the other; "a+b" answered the same request. */
  readonly speakers: readonly string[];
  /** MACs that answered in the last half second. */
  readonly speaking: readonly string[];
}

/** Nobody else's on the LAN of a lab or a cluster. */
export function slotAddress(family: Family, slot: number): string {
  return family === "IPv4" ? `192.168.122.${226 + slot}` : `fd00:192:168:122::e0:${(1 + slot).toString(16)}`;
}
