// This node's network as decisions are made from it: devices, addresses and routes of its namespace. Types alone.
import type { Address, Prefix } from "../lib/address.ts";

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
