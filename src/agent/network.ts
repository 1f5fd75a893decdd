// What the kernel knows of this network namespace's devices, addresses and routes, and a watch that says when it changed. Never
// changes anything.
import type { Address, Prefix } from "../lib/address.ts";
import type { Log } from "../lib/log.ts";
import { readNetworkHere } from "./network-reading.ts";
import { type NetworkThread, startNetworkThread } from "./network-thread.ts";

export interface Device {
  readonly name: string;
  readonly ifindex: number;
  /** Six bytes; all zero on devices without a link-layer address. */
  readonly mac: Uint8Array;
  readonly mtu: number;
  readonly up: boolean;
  /** Frames can be received: carrier and not administratively down. */
  readonly running: boolean;
  /** Name of the bridge, bond or VRF that it is enslaved to, "" when none. */
  readonly master: string;
  /** Name of the device that it lies on (a VLAN's), "" when none. */
  readonly lower: string;
  /** "veth", "bridge", "vxlan", "vlan", "bond", "tun" …; "" for a physical device. */
  readonly kind: string;
  /** "ether", "loopback", "none" … as the kernel names the link type. */
  readonly linkType: string;
  /** Global addresses in the kernel's order, with prefix length. */
  readonly addresses: readonly Prefix[];
  /** A veth's other end: its index, and the number by which its namespace is called here, undefined: it is in this one. */
  readonly farEnd: { readonly ifindex: number; readonly netns: number | undefined } | undefined;
}

export interface Route {
  /** First address of the destination; the unspecified address for the default route. */
  readonly address: Address;
  readonly length: number;
  readonly isDefault: boolean;
  readonly device: string;
  /** Through a next hop, not directly on the link. */
  readonly viaGateway: boolean;
  /** "ip", "ip6", "seg6", "mpls" …: the route wraps its packets itself (lwtunnel); "" when it does not. */
  readonly encapsulation: string;
  /** Preferred source, "" when none. */
  readonly source: Address | "";
  readonly metric: number;
}

export interface Network {
  readonly devices: readonly Device[];
  /** Unicast routes of the main table, both families. */
  readonly routes: readonly Route[];
  /** Some rule chooses its table by a packet's source. */
  readonly routesBySource: boolean;
}

/** What most questions are about. */
export type Links = Pick<Network, "devices" | "routes">;

/**
 * `read`, one after another: who asks during a reading shares the next one with all others who do, so that no answer is older than its
 * question or comes before an older one.
 */
export function oneAfterAnother<T>(read: () => Promise<T>): () => Promise<T> {
  let current: Promise<T> | undefined;
  let next: Promise<T> | undefined;
  const begin = (): Promise<T> => {
    next = undefined;
    const mine = read();
    const over = (): void => {
      if (current === mine) current = undefined;
    };
    current = mine;
    mine.then(over, over);
    return mine;
  };
  return () => {
    if (next !== undefined) return next;
    if (current === undefined) return begin();
    next = current.then(begin, begin);
    return next;
  };
}

let thread: NetworkThread | undefined;

/** Reads everything once: by the thread of a watch while there is one, else here. Throws Failure "kernel". */
export const readNetwork: () => Promise<Network> = oneAfterAnother(
  async () => (await thread?.read()) ?? readNetworkHere(),
);

export interface NetworkWatch {
  /** One sentence when changes are not seen at once, else "". */
  problem(): string;
  stop(): void;
}

const RESCAN_MS = 10_000;

/** Calls `changed` a moment after links, addresses, routes or rules changed, and every ten seconds all the same. One at a time. */
export function watchNetwork(changed: () => void, log: Log): NetworkWatch {
  const own = startNetworkThread(changed, log);
  const rescan = setInterval(changed, RESCAN_MS);
  thread = own;
  return {
    problem: own.problem,
    stop() {
      clearInterval(rescan);
      thread = undefined;
      own.stop();
    },
  };
}
