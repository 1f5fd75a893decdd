// One reading of the network by rtnetlink, in the network namespace of whoever asks.
import type { Device, Network, Route } from "../decide/network.ts";
import { type AddressRecord, type LinkRecord, type NetworkRecords, readNetworkRecords } from "../libbpf/mod.ts";

// Of linux/if.h, if_addr.h and rtnetlink.h.
const IFF_UP = 1;
const IFF_LOWER_UP = 1 << 16;
const IFA_F_SECONDARY = 1;
const IFA_F_DEPRECATED = 0x20;
const RT_SCOPE_UNIVERSE = 0;
const RTN_UNICAST = 1;

/** ARPHRD_… of linux/if_arp.h by iproute2's names. */
const LINK_TYPES = new Map([
  [1, "ether"],
  [32, "infiniband"],
  [512, "ppp"],
  [768, "ipip"],
  [769, "tunnel6"],
  [772, "loopback"],
  [776, "sit"],
  [778, "gre"],
  [823, "gre6"],
  [0xfffe, "none"],
]);

/** By LWTUNNEL_ENCAP_… of linux/lwtunnel.h. */
const ENCAPSULATIONS = ["", "mpls", "ip", "ila", "ip6", "seg6", "bpf", "seg6local", "rpl", "ioam6", "xfrm"];

/** Global, and neither a temporary address (RFC 8981) nor one that is on its way out. */
function isLasting({ address, scope, flags }: AddressRecord): boolean {
  const passing = IFA_F_DEPRECATED | (address.includes(":") ? IFA_F_SECONDARY : 0);
  return scope === RT_SCOPE_UNIVERSE && (flags & passing) === 0;
}

function deviceOf(
  link: LinkRecord,
  names: ReadonlyMap<number, string>,
  addresses: readonly AddressRecord[] = [],
): Device {
  const { ifindex, name, type, flags, mtu, address, lower, lowerNetns, kind } = link;
  return {
    name,
    ifindex,
    mac: address.length === 6 ? address : new Uint8Array(6),
    mtu,
    up: (flags & IFF_UP) !== 0,
    running: (flags & IFF_LOWER_UP) !== 0,
    master: names.get(link.master) ?? "",
    lower: lowerNetns === undefined ? (names.get(lower) ?? "") : "",
    kind,
    linkType: LINK_TYPES.get(type) ?? `[${type}]`,
    addresses: addresses.filter(isLasting).map((one) => ({ address: one.address, length: one.length })),
    farEnd: kind === "veth" && lower !== 0 ? { ifindex: lower, netns: lowerNetns } : undefined,
  };
}

function* routesOf(records: NetworkRecords, names: ReadonlyMap<number, string>): Generator<Route> {
  for (const { address, length, type, source, metric, hops } of records.routes) {
    if (type !== RTN_UNICAST) continue;
    for (const { ifindex, viaGateway, encapsulation } of hops) {
      const device = names.get(ifindex);
      // A device that came after the devices were read: it is read again, for that is a change.
      if (device === undefined) continue;
      yield {
        address,
        length,
        isDefault: length === 0,
        device,
        viaGateway,
        encapsulation: ENCAPSULATIONS[encapsulation] ?? `[${encapsulation}]`,
        source: source ?? "",
        metric,
      };
    }
  }
}

/** Rejects with KernelError. */
export async function readNetworkOnce(): Promise<Network> {
  const records = await readNetworkRecords();
  const names = new Map(records.links.map(({ ifindex, name }) => [ifindex, name]));
  const addresses = Map.groupBy(records.addresses, ({ ifindex }) => ifindex);
  return {
    devices: records.links.map((link) => deviceOf(link, names, addresses.get(link.ifindex))),
    routes: [...routesOf(records, names)],
    routesBySource: records.ruleSourceLengths.some((length) => length > 0),
  };
}
