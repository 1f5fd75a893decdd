// Who uses an address as an endpoint or host address: found by the network that the address lies in, so that a million
// endpoints take no entry each. An answer may name users that do not have the address itself: they are compiled in vain.
import type { Address } from "../lib/address.ts";

export interface AddressUsers {
  /** `user` has these addresses, and no others in the networks that they lie in. */
  add(user: string, addresses: Iterable<Address>): void;
  /** Takes back what add() entered. */
  remove(user: string, addresses: Iterable<Address>): void;
  /** Everyone who may have it; "many": there are too many to list, so that looking at everyone is as good. */
  of(address: Address): ReadonlySet<string> | "many";
}

/** So many users of a network are listed by name. */
const LISTED = 64;
const NOBODY: ReadonlySet<string> = new Set();

/** The text before the last separator: a /24 of IPv4, a /112 of IPv6. Any function of the address would do. */
function networkOf(address: Address): string {
  const end = Math.max(address.lastIndexOf("."), address.lastIndexOf(":"));
  return address.slice(0, end);
}

function networksOf(addresses: Iterable<Address>): ReadonlySet<string> {
  const networks = new Set<string>();
  for (const address of addresses) networks.add(networkOf(address));
  return networks;
}

export function createAddressUsers(): AddressUsers {
  /** By network: its users, or how many they are. */
  const users = new Map<string, Set<string> | number>();
  return {
    add(user, addresses) {
      for (const network of networksOf(addresses)) {
        const known = users.get(network);
        if (known === undefined) users.set(network, new Set([user]));
        else if (typeof known === "number") users.set(network, known + 1);
        else if (known.size < LISTED) known.add(user);
        else users.set(network, known.size + (known.has(user) ? 0 : 1));
      }
    },
    remove(user, addresses) {
      for (const network of networksOf(addresses)) {
        const known = users.get(network);
        if (known === undefined) continue;
        if (typeof known !== "number") known.delete(user);
        const left = typeof known === "number" ? known - 1 : known.size;
        if (left === 0) users.delete(network);
        else if (typeof known === "number") users.set(network, left);
      }
    },
    of(address) {
      const known = users.get(networkOf(address));
      return typeof known === "number" ? "many" : (known ?? NOBODY);
    },
  };
}
