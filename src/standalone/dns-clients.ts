// Who may ask the cluster's DNS server: nodes, pods, this machine and what runs on it. It listens on an address of the LAN,
// whose other hosts, and whoever forges their addresses, get nothing out of it.
import { existsSync } from "node:fs";
import { BlockList } from "node:net";
import { networkInterfaces } from "node:os";
import { type Address, canonicalAddress, familyOf, parsePrefix } from "../lib/address.ts";
import type { Node, ObjectEvent } from "../model/objects.ts";

export interface DnsClients {
  /** Nodes count, other objects are ignored. */
  update(events: readonly ObjectEvent[]): void;
  /** `address` as a socket names its peer. */
  mayAsk(address: string): boolean;
}

export interface DnsClientsOptions {
  readonly listening: readonly Address[];
  /** Some Service has an endpoint there, ready or not. */
  readonly isEndpoint: (address: Address) => boolean;
  /** @default os.networkInterfaces */
  readonly interfaces?: typeof networkInterfaces;
  /** Whether it is a network card rather than a bridge, a veth or the like. @default by /sys/class/net */
  readonly isHardware?: (device: string) => boolean;
  /** @default performance.now */
  readonly now?: () => number;
}

const LOOK_AGAIN_MS = 1_000;

function familyName(address: Address): "ipv4" | "ipv6" {
  return familyOf(address) === "IPv4" ? "ipv4" : "ipv6";
}

function addPrefix(to: BlockList, text: string): void {
  const prefix = parsePrefix(text);
  if (prefix !== undefined) to.addSubnet(prefix.address, prefix.length, familyName(prefix.address));
}

export function createDnsClients(options: DnsClientsOptions): DnsClients {
  const { listening, isEndpoint, interfaces = networkInterfaces, now = () => performance.now() } = options;
  const { isHardware = (device) => existsSync(`/sys/class/net/${device}/device`) } = options;
  const nodes = new Map<string, Node>();
  let ofNodes = new BlockList();
  let ofMachine = new BlockList();
  let lookedAt = Number.NEGATIVE_INFINITY;

  function lookAtMachine(): void {
    lookedAt = now();
    ofMachine = new BlockList();
    for (const [device, list = []] of Object.entries(interfaces())) {
      const isOutside = isHardware(device) || list.some((one) => listening.includes(one.address));
      for (const { address, cidr } of list) {
        ofMachine.addAddress(address, familyName(address));
        if (!isOutside && cidr !== null) addPrefix(ofMachine, cidr);
      }
    }
  }

  return {
    update(events) {
      const changes = events.filter((event) => event.kind === "Node");
      if (changes.length === 0) return;
      for (const { key, object } of changes) {
        if (object === undefined) nodes.delete(key);
        else nodes.set(key, object);
      }
      ofNodes = new BlockList();
      for (const { internalAddresses, podCIDRs } of nodes.values()) {
        for (const one of internalAddresses) ofNodes.addAddress(one, familyName(one));
        for (const one of podCIDRs) addPrefix(ofNodes, one);
      }
    },
    mayAsk(text) {
      const address = canonicalAddress(text.split("%", 1)[0] ?? "");
      if (address === undefined) return false;
      const family = familyName(address);
      if (isEndpoint(address) || ofNodes.check(address, family) || ofMachine.check(address, family)) return true;
      // Containers' networks come and go.
      if (now() - lookedAt < LOOK_AGAIN_MS) return false;
      lookAtMachine();
      return ofMachine.check(address, family);
    },
  };
}
