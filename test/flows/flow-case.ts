// The shape of a flow case: objects, who asks, where, and what must come of it. Data only, so that every executor (the
// model of the datapath in reference.ts, the loaded programs by BPF_PROG_TEST_RUN) can run the same lines.
import { type Address, type Prefix, parsePrefix } from "../../src/lib/address.ts";
import { parseNodePortAddresses } from "../../src/model/node-port-addresses.ts";
import type { EndpointSlice, HostPort, Node, Service } from "../../src/model/objects.ts";
import type { PrefixRange, RowProtocol } from "../../src/model/operations.ts";
import type { Balancing } from "../../src/model/spread.ts";
import { endpoint, node } from "./builders.ts";

export interface FlowCase {
  /** A sentence of behaviour; unique. */
  readonly name: string;
  /**
   * What of an object it is about: a field of Service, EndpointSlice or Pod by its last name ("nodePort"), an annotation or
   * label by its name; "none": packets that no object asks for. Several are separated by ", ".
   */
  readonly field: string;
  readonly given: {
    readonly services?: readonly Service[];
    readonly slices?: readonly EndpointSlice[];
    readonly hostPorts?: readonly HostPort[];
    /** NODES when absent. */
    readonly nodes?: readonly Node[];
    /** Name of the node whose programs see the packet: "node1" when absent. */
    readonly thisNode?: string;
    /** Addresses of this node's devices with their networks; none when absent. */
    readonly networks?: readonly Prefix[];
    /** Clients outside are not served on cluster addresses (`--external-cluster-ips=off`). */
    readonly clusterIPsInside?: boolean;
    /** As `--external-ip-cidrs` and `--nodeport-addresses` take them; their defaults when absent. */
    readonly externalIPRanges?: readonly string[];
    readonly nodePortAddresses?: readonly string[];
  };
  /**
   * "outside": the packet comes in by an uplink; "pod": it comes out of a pod of this node; "host": a process of this node's
   * own network namespace sends it, by socket or by packet.
   */
  readonly from: { readonly kind: "outside" | "pod" | "host"; readonly address: Address };
  readonly to: { readonly address: Address; readonly port: number; readonly protocol: RowProtocol };
  /**
   * "syn-ack": the packet answers a connection instead of asking for one. "another-mac": its frame is another machine's. "echo": an
   * echo request, which has no port.
   */
  readonly packet?: "syn-ack" | "another-mac" | "echo";
  /** A socket of the client is left alone, as its source is not known yet: its packets are served. */
  readonly leftToPackets?: true;
  readonly expect: Served | { readonly verdict: Verdict };
  /** What the programs count it as, where `expect` does not say it. */
  readonly counted?: `DROP_${string}`;
}

/**
 * Over enough flows every backend named here is chosen, and no other ("10.244.1.2:8080", "[fd00::1]:8080"). `kept`: it
 * sees the client's address and port; `translated`: an address of this node instead.
 */
export interface Served {
  readonly kept?: readonly string[];
  readonly translated?: readonly string[];
  /** Of those that are named, all flows reach the same one. */
  readonly sticks?: true;
}

/** refuse: TCP reset, ICMP port unreachable, ECONNREFUSED. drop: nothing comes back. pass: none of our business. echo: answered as ping is. */
export type Verdict = "refuse" | "drop" | "pass" | "echo";

/** What the case's options mean to the model. */
export function modelOptions(given: Pick<FlowCase["given"], "externalIPRanges" | "nodePortAddresses">) {
  return {
    externalIPRanges: (given.externalIPRanges ?? []).map((text) => parsePrefix(text)!),
    nodePortAddresses: parseNodePortAddresses(given.nodePortAddresses ?? ["primary", "localhost"])!,
    balancing: SMALL_TABLES,
  };
}

export const NODES: readonly Node[] = [node(1), node(2), node(3)];

export const SERVICE_RANGES: readonly PrefixRange[] = [
  { address: "10.96.0.0", length: 12 },
  { address: "fd00:10:96::", length: 112 },
];

/** Of Services that ask for Maglev. */
export const SMALL_TABLES: Balancing = { byDefault: "hash", tableSize: 251 };

/** Clients as the cases use them. */
export const OUTSIDE = { kind: "outside", address: "192.168.122.51" } as const;
export const OUTSIDE_6 = { kind: "outside", address: "fd00:192:168:122::51" } as const;
/** A pod of node1 that is no backend. */
export const POD = { kind: "pod", address: "10.244.1.99" } as const;
export const POD_6 = { kind: "pod", address: "fd00:10:244:1::99" } as const;
/** A process of node1. */
export const HOST = { kind: "host", address: "192.168.122.11" } as const;
export const HOST_6 = { kind: "host", address: "fd00:192:168:122::11" } as const;

export const NODE1 = "192.168.122.11";
export const NODE1_6 = "fd00:192:168:122::11";
export const NODE2 = "192.168.122.12";

/** Backends as the cases use them: two pods of node1, one of node2, per family. */
export const HERE = "10.244.1.2";
export const HERE_TOO = "10.244.1.3";
export const THERE = "10.244.2.2";
export const HERE_6 = "fd00:10:244:1::2";
export const THERE_6 = "fd00:10:244:2::2";

export function tcp(address: Address, port: number): FlowCase["to"] {
  return { address, port, protocol: "TCP" };
}

export function sctp(address: Address, port: number): FlowCase["to"] {
  return { address, port, protocol: "SCTP" };
}

export function udp(address: Address, port: number): FlowCase["to"] {
  return { address, port, protocol: "UDP" };
}

/** A pod of this node and one of another, of each family. */
export const ENDPOINTS = [endpoint(HERE), endpoint(THERE, "node2")];
export const ENDPOINTS_6 = [endpoint(HERE_6), endpoint(THERE_6, "node2")];
