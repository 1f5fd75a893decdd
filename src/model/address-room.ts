// Roles of addresses, when the map of them is full: those of nodes come first, then those that refuse undefined ports, as they
// come. An address without a role serves as it does with one; only what nobody defined is not refused there.
import type { Address } from "../lib/address.ts";
import type { AddressBook } from "./address-book.ts";
import type { AddressClaimRole } from "./address-claims.ts";
import type { Notice } from "./objects.ts";
import type { AddressRoles, Operation } from "./operations.ts";

type PutAddress = Extract<Operation, { op: "put-address" }>;

export interface AddressRoom {
  /** As the book's plan(), within the room there is. `again`: what another round's drops have made room for waits. */
  plan(
    book: AddressBook,
    limit: number,
    has: Map<Address, AddressRoles>,
    claimed: (address: Address) => AddressClaimRole | undefined,
  ): { readonly puts: Operation[]; readonly drops: Operation[]; readonly again: boolean };
  notices(): readonly Notice[];
}

export function createAddressRoom(most: number): AddressRoom {
  /** Addresses whose roles found no room. */
  const waiting = new Set<Address>();

  /** Takes back puts that do not fit, and for those of nodes that do not fit the roles of other addresses. */
  function cut(
    puts: Operation[],
    drops: Operation[],
    before: ReadonlySet<Address>,
    has: Map<Address, AddressRoles>,
  ): Operation[] {
    const isNew = (put: Operation): put is PutAddress => put.op === "put-address" && !before.has(put.address);
    const ofNodes = ({ roles }: PutAddress): boolean => roles.node || roles.peer;
    const fresh = puts.filter(isNew).sort((a, b) => Number(ofNodes(b)) - Number(ofNodes(a)));
    const beyond = new Set<Operation>(fresh.slice(Math.max(0, most - before.size)));
    let needed = 0;
    for (const put of fresh) {
      if (!beyond.has(put)) continue;
      has.delete(put.address);
      waiting.add(put.address);
      if (ofNodes(put)) needed++;
    }
    for (const [address, { node, peer }] of has) {
      if (needed <= drops.length) break;
      if (node || peer || !before.has(address)) continue;
      has.delete(address);
      waiting.add(address);
      drops.push({ op: "drop-address", address });
    }
    return puts.filter((put) => !beyond.has(put));
  }

  return {
    plan(book, limit, has, claimed) {
      if (has.size < most) {
        for (const address of waiting) book.touch(address);
        waiting.clear();
      }
      const before = has.size + book.dirtyCount() > most ? new Set(has.keys()) : undefined;
      const { puts, drops } = book.plan(limit, has, claimed);
      const fitting = before === undefined ? puts : cut(puts, drops, before, has);
      return { puts: fitting, drops, again: waiting.size > 0 && has.size < most };
    },
    notices() {
      if (waiting.size === 0) return [];
      const message = `could not give ${waiting.size} more addresses a role: map "addresses" is full; raise --max-frontends. What no Service defines is not refused there`;
      return [{ object: "Map addresses", file: "", field: "", reason: "table-full", message, severity: "error" }];
    },
  };
}
