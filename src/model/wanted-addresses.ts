// Which Services want an address, whether they got it or not: who is to be looked at anew when something is learned of it.
import { type Address, type Prefix, parsePrefix, prefixContains } from "../lib/address.ts";
import { createAddressUsers } from "./address-users.ts";
import type { Node, ObjectKey, Service } from "./objects.ts";

export interface WantedAddresses {
  update(key: ObjectKey, service: Service | undefined): void;
  of(address: Address): ObjectKey[];
  /** Services that were granted an address, or have an external one, in a pod network that came or went. */
  inOtherNetworks(old: Node | undefined, next: Node | undefined): ObjectKey[];
  all(): Iterable<Address>;
}

export function createWantedAddresses(): WantedAddresses {
  const wanted = new Map<ObjectKey, readonly Address[]>();
  const granted = new Map<ObjectKey, readonly Address[]>();
  const users = createAddressUsers();
  return {
    update(key, service) {
      users.remove(key, wanted.get(key) ?? []);
      const { grants: { addresses: given = [] } = {}, externalIPs = [] } = service ?? {};
      const grants = given.map(({ address }) => address);
      for (const address of externalIPs) if (!grants.includes(address)) grants.push(address);
      const clusterIPs = service?.clusterIPs ?? [];
      const addresses = grants.length === 0 ? clusterIPs : [...clusterIPs, ...grants];
      users.add(key, addresses);
      if (addresses.length > 0) wanted.set(key, addresses);
      else wanted.delete(key);
      if (grants.length > 0) granted.set(key, grants);
      else granted.delete(key);
    },
    of(address) {
      const found = users.of(address);
      return [...(found === "many" ? wanted.keys() : found)].filter((key) => wanted.get(key)?.includes(address));
    },
    inOtherNetworks(old, next) {
      const [before, now] = [old?.podCIDRs ?? [], next?.podCIDRs ?? []];
      const networks: Prefix[] = [...before, ...now]
        .filter((one) => !(before.includes(one) && now.includes(one)))
        .flatMap((one) => parsePrefix(one) ?? []);
      if (networks.length === 0) return [];
      return [...granted].flatMap(([key, addresses]) =>
        addresses.some((address) => networks.some((network) => prefixContains(network, address))) ? [key] : [],
      );
    },
    *all() {
      for (const addresses of wanted.values()) yield* addresses;
    },
  };
}
