// In which families some Service, or a host port, has an address: what is amiss in another one costs nobody a packet. Pure.
import type { Address } from "../lib/address.ts";
import type { ObjectEvent } from "../model/objects.ts";

/** As the sysctls are called. */
export type NetFamily = "ipv4" | "ipv6";

const ALL: readonly NetFamily[] = ["ipv4", "ipv6"];

const familyIn = (address: Address): NetFamily => (address.includes(":") ? "ipv6" : "ipv4");

function addressesOf(event: ObjectEvent): readonly Address[] {
  if (event.object === undefined) return [];
  if (event.kind === "HostPorts") return event.object.map(({ podAddress }) => podAddress);
  if (event.kind !== "Service") return [];
  const { clusterIPs, externalIPs, grants } = event.object;
  return [...clusterIPs, ...externalIPs, ...grants.addresses.map(({ address }) => address)];
}

/**
 * `before`, and the families of what came: in a fixed order, and the same array where nothing is new. A family stays when its last
 * Service goes: the next one is about to be asked for.
 */
export function servedFamilies(before: readonly NetFamily[], events: readonly ObjectEvent[]): readonly NetFamily[] {
  if (before.length === ALL.length) return before;
  const found = new Set(before);
  for (const event of events) for (const address of addressesOf(event)) found.add(familyIn(address));
  return found.size === before.length ? before : ALL.filter((family) => found.has(family));
}
