// LoadBalancer addresses from IPAddressPools, by MetalLB's rules: who gets which address, who shares one, and for everybody
// who gets none the reason by name. Pure: what was given before is passed in, and kept while it is still right.
import { type Address, type Family, familyOf } from "../lib/address.ts";
import type { AddressPool } from "../model/objects.ts";
import { createPoolBook, isBuggy, type Pool, type PoolBook, type PoolBookInput, parsePools } from "./pool-book.ts";
import { type PoolRequest, type Refusal, refuse, requestOf, type Use, useOf } from "./pool-request.ts";
import type { ServiceRequest } from "./service-request.ts";

export interface PoolHolding {
  readonly addresses: readonly Address[];
  readonly pool: string;
  /** What the Service did with them when it got them: who changes that gives way to those who did not. Absent when unknown. */
  readonly use?: string;
}

export type PoolOutcome =
  /** `unmet`: it asks for another address, which it cannot have, and keeps what it has. */
  { readonly assigned: PoolHolding; readonly unmet?: Refusal } | Refusal;

export interface PoolClient {
  readonly key: string;
  readonly service: ServiceRequest;
  /** The families that its policy lets it have, first one first. */
  readonly families: readonly Family[];
  readonly needsAllFamilies: boolean;
}

/** One round of giving out addresses. Whoever is in the book and no client stays as it is. */
export interface PoolRound {
  /** Services of type LoadBalancer, oldest first. */
  readonly clients: readonly PoolClient[];
  readonly held: ReadonlyMap<string, PoolHolding>;
  /** The class of Services that are ours. @default those without one */
  readonly loadBalancerClass?: string;
  /**
   * What is still to be seen with a Service, by its key, whatever is decided here: nobody else may have it meanwhile, not even when the
   * Service itself goes on to another address. Services that are no clients count too.
   */
  readonly lingering?: ReadonlyMap<string, ReadonlyMap<Address, Use>>;
  /** Whoever asks for an address that it cannot have keeps the one that it has. @default false: it loses it, as with MetalLB */
  readonly keepsUnmet?: boolean;
}

export interface PoolInput extends PoolBookInput, PoolRound {}

const NO_REQUEST: PoolRequest = { field: "", addresses: [], pool: undefined };

interface Entry {
  readonly client: PoolClient;
  readonly request: PoolRequest;
  readonly use: Use;
}

/** Pools in the order of their names; one that overlaps an earlier one is told apart, and not used. */
export function usablePools(pools: readonly AddressPool[]): {
  readonly usable: readonly AddressPool[];
  readonly overlapping: readonly { readonly pool: AddressPool; readonly with: string; readonly range: number }[];
} {
  const usable: Pool[] = [];
  const overlapping: { pool: AddressPool; with: string; range: number }[] = [];
  for (const pool of parsePools(pools).toSorted((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))) {
    let clash: { pool: AddressPool; with: string; range: number } | undefined;
    for (const [range, mine] of pool.parsed.entries()) {
      for (const other of usable) {
        const overlaps = other.parsed.some(
          (one) => one.family === mine.family && one.first <= mine.last && mine.first <= one.last,
        );
        if (overlaps) clash ??= { pool, with: other.name, range };
      }
    }
    if (clash === undefined) usable.push(pool);
    else overlapping.push(clash);
  }
  return { usable, overlapping };
}

/** An outcome for every client. */
export function assignPoolAddresses(input: PoolInput): ReadonlyMap<string, PoolOutcome> {
  return assignFrom(createPoolBook(input), input);
}

/** An outcome for every client of the round, which the book holds from then on. */
export function assignFrom(book: PoolBook, round: PoolRound): ReadonlyMap<string, PoolOutcome> {
  const { pools, poolOf, allows } = book;
  const outcomes = new Map<string, PoolOutcome>();
  const malformed: [Entry, Refusal][] = [];
  const has = (pool: Pool, address: Address): boolean => poolOf(address) === pool;
  /** Whether an address is to be had. Who has it, and was not edited, keeps it beside who is about to go. */
  const isFree = (address: Address, entry: Entry): boolean => {
    const { key } = entry.client;
    const asEver = change(entry) !== "edited" && round.lingering?.get(key)?.has(address) === true;
    return book.isFree(address, entry.use, key, asEver);
  };

  /** Whether it uses otherwise than when it got it what it has. */
  function change({ client, use }: Entry): "none" | "unknown" | "edited" {
    const before = round.held.get(client.key)?.use;
    return before === undefined ? "unknown" : before === JSON.stringify(use) ? "none" : "edited";
  }

  function take({ client: { key }, use }: Entry, { addresses, pool }: PoolHolding): PoolOutcome {
    for (const address of addresses) book.take(key, address, use);
    const outcome = { assigned: { addresses, pool, use: JSON.stringify(use) } };
    outcomes.set(key, outcome);
    return outcome;
  }

  /** It stays in the book with what lingers. */
  function release(key: string, addresses: readonly Address[]): void {
    const stays = round.lingering?.get(key);
    for (const address of addresses) if (!stays?.has(address)) book.leave(key, address);
  }

  function settle(entry: Entry, outcome: PoolOutcome): void {
    if ("assigned" in outcome) {
      take(entry, outcome.assigned);
      return;
    }
    const held = round.keepsUnmet ? round.held.get(entry.client.key) : undefined;
    const stays = held && kept({ ...entry, request: { ...entry.request, addresses: [], pool: undefined } }, held);
    const found = stays === undefined ? outcome : { ...take(entry, stays), unmet: outcome };
    outcomes.set(entry.client.key, found as PoolOutcome);
  }

  function fromPool(pool: Pool, client: PoolClient, use: Use): PoolHolding | undefined {
    const addresses = client.families.flatMap((family) => book.firstFree(pool, family, use, client.key) ?? []);
    const enough = client.needsAllFamilies ? addresses.length === client.families.length : addresses.length > 0;
    return enough ? { addresses, pool: pool.name } : undefined;
  }

  // Those that say which address they want, and those that hold one, before those that take any.
  function fixed(entry: Entry): PoolOutcome | undefined {
    const { client, request } = entry;
    const { service, key } = client;
    const [first] = request.addresses;
    const pool = first === undefined ? undefined : poolOf(first);
    if (first === undefined) return undefined;
    const shown = request.addresses.join(", ");
    if (pools.length === 0)
      return refuse("no-pool", request.field, `there is no IPAddressPool that ${shown} could come from`);
    if (pool === undefined || request.addresses.some((one) => !has(pool, one))) {
      return refuse("not-in-pool", request.field, `${shown} is in no IPAddressPool`);
    }
    if (request.pool !== undefined && request.pool.value !== pool.name) {
      return refuse(
        "not-in-pool",
        request.field,
        `${shown} is not in the IPAddressPool ${request.pool.value} that the annotation asks for`,
      );
    }
    if (!allows(pool, service)) {
      return refuse(
        "pool-not-allowed",
        request.field,
        `the IPAddressPool ${pool.name} of ${shown} is not for this Service`,
      );
    }
    const asked = request.addresses.map(familyOf);
    const missing = client.needsAllFamilies && asked.length < client.families.length;
    if (missing || asked.some((family) => !client.families.includes(family))) {
      return refuse(
        "wrong-family",
        request.field,
        `${shown} does not match the ipFamilies of the Service, ${client.families.join(", ")}`,
      );
    }
    const inUse = request.addresses.find((one) => (pool.avoidBuggyIPs && isBuggy(one)) || !isFree(one, entry));
    if (inUse !== undefined) {
      const who = book.users(inUse).filter((one) => one !== key);
      const why = who.length > 0 ? `is in use by the Service ${who.join(", ")}` : "cannot be given to a Service";
      return refuse("address-in-use", request.field, `${inUse} ${why}`);
    }
    return { assigned: { addresses: request.addresses, pool: pool.name } };
  }

  /** What of a holding may stay. */
  function kept(entry: Entry, holding: PoolHolding): PoolHolding | undefined {
    const { client, request } = entry;
    const pool = pools.find((one) => one.name === holding.pool);
    if (pool === undefined || !allows(pool, client.service)) return undefined;
    if (request.pool !== undefined && request.pool.value !== pool.name) return undefined;
    // Of a pool that was split by family one address stays, where one is enough.
    const addresses = holding.addresses.filter(
      (one) => client.families.includes(familyOf(one)) && (client.needsAllFamilies || has(pool, one)),
    );
    if (addresses.length === 0 || addresses.some((one) => !has(pool, one) || !isFree(one, entry))) return undefined;
    if (pool.avoidBuggyIPs && addresses.some(isBuggy)) return undefined;
    return { addresses, pool: pool.name };
  }

  /** It was given one family, and may now have two. */
  function completed({ client, use }: Entry, holding: PoolHolding): PoolHolding {
    const pool = pools.find((one) => one.name === holding.pool);
    if (pool === undefined || holding.addresses.length === client.families.length) return holding;
    const addresses = client.families.flatMap(
      (family) =>
        holding.addresses.find((one) => familyOf(one) === family) ??
        book.firstFree(pool, family, use, client.key) ??
        [],
    );
    return { ...holding, addresses };
  }

  function free({ client, request, use }: Entry): PoolOutcome {
    const { service, families } = client;
    if (request.pool !== undefined) {
      const field = `metadata.annotations.${request.pool.key}`;
      const pool = pools.find((one) => one.name === request.pool?.value);
      if (pool === undefined) return refuse("unknown-pool", field, `there is no IPAddressPool ${request.pool.value}`);
      if (!allows(pool, service))
        return refuse("pool-not-allowed", field, `the IPAddressPool ${pool.name} is not for this Service`);
      const holding = fromPool(pool, client, use);
      return holding === undefined
        ? refuse("pool-exhausted", field, `the IPAddressPool ${pool.name} has no free address`)
        : { assigned: holding };
    }
    if (pools.length === 0) return refuse("no-pool", "", "there is no IPAddressPool to take an address from");
    const bound = (pool: Pool): boolean =>
      pool.namespaces.length + pool.namespaceSelectors.length + pool.serviceSelectors.length > 0;
    const rank = (pool: Pool): number => (pool.priority === 0 ? Number.POSITIVE_INFINITY : pool.priority);
    // Pools meant for this Service first, by priority (0 comes last), then those for everybody.
    const order = pools
      .filter((pool) => pool.autoAssign && allows(pool, service))
      .sort(
        (a, b) =>
          Number(bound(b)) - Number(bound(a)) ||
          (rank(a) === rank(b) ? 0 : rank(a) - rank(b)) ||
          (a.name < b.name ? -1 : 1),
      );
    if (order.length === 0) return refuse("no-pool", "", "no IPAddressPool gives addresses to this Service by itself");
    // Of pools that come equally first in that, the one that has the most of what the Service would like.
    const worth = ({ addresses }: PoolHolding): number =>
      addresses.length === families.length ? 3 : addresses.some((one) => familyOf(one) === families[0]) ? 2 : 1;
    for (const isBound of [true, false]) {
      let best: PoolHolding | undefined;
      for (const pool of order.filter((one) => bound(one) === isBound)) {
        const holding = fromPool(pool, client, use);
        if (holding !== undefined && (best === undefined || worth(holding) > worth(best))) best = holding;
        if (best !== undefined && worth(best) === 3) break;
      }
      if (best !== undefined) return { assigned: best };
    }
    if (!order.some((pool) => pool.parsed.some((range) => families.includes(range.family))))
      return refuse("wrong-family", "", `no IPAddressPool has ${families.join(" and ")} addresses`);
    return refuse("pool-exhausted", "", `no free address is left in ${order.map((pool) => pool.name).join(", ")}`);
  }

  const entries: Entry[] = [];
  const ours = round.loadBalancerClass ?? "";
  for (const client of round.clients) {
    const name = client.service.spec.loadBalancerClass ?? "";
    const request =
      name !== ours
        ? refuse("wrong-class", "spec.loadBalancerClass", `${name} gives this Service its addresses, not Millrace`)
        : requestOf(client.service);
    const entry = { client, request: "addresses" in request ? request : NO_REQUEST, use: useOf(client.service) };
    release(client.key, book.addressesOf(client.key));
    if ("addresses" in request) entries.push(entry);
    else if (request.refused === "wrong-class") outcomes.set(client.key, request);
    else malformed.push([entry, request]);
  }
  // Nobody loses an address to a newcomer, nor to somebody who was edited: first come holders that use theirs as they did (of some
  // it is not known), then those of whom a write is under way, then holders that use them otherwise now, then those that ask for an address, then those that take any.
  const holders = entries.filter(({ client, request }) => {
    const before = round.held.get(client.key)?.addresses ?? [];
    const { addresses } = request;
    return addresses.length === 0
      ? before.length > 0
      : addresses.length === before.length && addresses.every((one) => before.includes(one));
  });
  const placed = new Map<Entry, PoolHolding>();
  function place(entry: Entry): void {
    const outcome = fixed(entry);
    const stays =
      outcome === undefined
        ? kept(entry, round.held.get(entry.client.key)!)
        : "assigned" in outcome
          ? outcome.assigned
          : undefined;
    if (stays === undefined) return;
    take(entry, stays);
    placed.set(entry, stays);
  }
  function linger(isTheirs: (key: string) => boolean): void {
    for (const [key, uses] of round.lingering ?? []) {
      const outcome = outcomes.get(key);
      const stays = outcome !== undefined && "assigned" in outcome ? outcome.assigned.addresses : [];
      if (isTheirs(key)) for (const [address, use] of uses) if (!stays.includes(address)) book.take(key, address, use);
    }
  }
  const clients = new Set(round.clients.map(({ key }) => key));
  const changes = Map.groupBy(holders, change);
  for (const entry of [...(changes.get("none") ?? []), ...(changes.get("unknown") ?? [])]) place(entry);
  linger((key) => !clients.has(key));
  for (const entry of changes.get("edited") ?? []) place(entry);
  linger((key) => clients.has(key));
  for (const [entry, refusal] of malformed) settle(entry, refusal);
  const late = new Set<Entry>();
  for (const entry of entries) {
    if (placed.has(entry)) continue;
    const outcome = fixed(entry);
    if (outcome === undefined) late.add(entry);
    else settle(entry, outcome);
  }
  for (const [entry, holding] of placed) {
    if (entry.request.addresses.length > 0) continue;
    const whole = completed(entry, holding);
    if (entry.client.needsAllFamilies && whole.addresses.length < entry.client.families.length) {
      release(entry.client.key, holding.addresses);
      late.add(entry);
    } else take(entry, whole);
  }
  for (const entry of entries) if (late.has(entry)) settle(entry, free(entry));
  return outcomes;
}
