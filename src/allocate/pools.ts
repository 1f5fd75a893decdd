// LoadBalancer addresses from IPAddressPools, by MetalLB's rules: who gets which address, who shares one, and for everybody
// who gets none the reason by name. Pure: what was given before is passed in, and kept while it is still right.
import {
  type Address,
  type AddressRange,
  addressFromBigInt,
  canonicalAddress,
  type Family,
  familyOf,
  parseRange,
  rangeContains,
  unusableReason,
} from "../lib/address.ts";
import { matchesSelector } from "../model/label-selector.ts";
import type { AddressPool, PendingReason } from "../model/objects.ts";
import { protocolOf, type ServiceRequest } from "./service-request.ts";

export interface PoolHolding {
  readonly addresses: readonly Address[];
  readonly pool: string;
  /** What the Service did with them when it got them: who changes that gives way to those who did not. Absent when unknown. */
  readonly use?: string;
}

export type PoolOutcome =
  | { readonly assigned: PoolHolding }
  | { readonly refused: PendingReason; readonly field: string; readonly message: string };

export interface PoolClient {
  readonly key: string;
  readonly service: ServiceRequest;
  /** The families that its policy lets it have, first one first. */
  readonly families: readonly Family[];
  readonly needsAllFamilies: boolean;
}

export interface PoolInput {
  readonly pools: readonly AddressPool[];
  /** Services of type LoadBalancer, oldest first. */
  readonly clients: readonly PoolClient[];
  readonly held: ReadonlyMap<string, PoolHolding>;
  readonly namespaceLabels: (namespace: string) => Readonly<Record<string, string>>;
  /** Addresses that are somebody's already: of nodes, pods. */
  readonly isForeign: (address: Address) => boolean;
}

interface Pool extends AddressPool {
  readonly parsed: readonly AddressRange[];
}

/** What counts when an address is shared. */
interface Use {
  readonly sharingKey: string;
  readonly backendKey: string;
  readonly ports: readonly string[];
}

// One look through a pool ends here, so that an IPv6 prefix does not take for ever.
const MAX_TRIED = 65_536;

const PREFIXES = ["metallb.io", "metallb.universe.tf"];

function annotation(
  service: ServiceRequest,
  name: string,
): { readonly key: string; readonly value: string } | undefined {
  for (const prefix of PREFIXES) {
    const key = `${prefix}/${name}`;
    const { annotations } = service.metadata;
    if (annotations !== undefined && Object.hasOwn(annotations, key)) return { key, value: annotations[key] ?? "" };
  }
  return undefined;
}

interface Request {
  readonly field: string;
  readonly addresses: readonly Address[];
  readonly pool: { readonly key: string; readonly value: string } | undefined;
}

interface Entry {
  readonly client: PoolClient;
  readonly request: Request;
  readonly use: Use;
}

function refuse(refused: PendingReason, field: string, message: string): PoolOutcome {
  return { refused, field, message: field === "" ? message : `${field}: ${message}` };
}

function requestOf(service: ServiceRequest): Request | PoolOutcome {
  const listed = annotation(service, "loadBalancerIPs");
  const single = service.spec.loadBalancerIP ?? "";
  const pool = annotation(service, "address-pool");
  if (listed !== undefined && single !== "") {
    return refuse(
      "invalid-request",
      "spec.loadBalancerIP",
      `may not be set together with the annotation ${listed.key}`,
    );
  }
  const field = listed === undefined ? "spec.loadBalancerIP" : `metadata.annotations.${listed.key}`;
  const texts =
    listed === undefined ? (single === "" ? [] : [single]) : listed.value.split(",").map((text) => text.trim());
  const addresses: Address[] = [];
  for (const text of texts) {
    const address = canonicalAddress(text);
    if (address === undefined)
      return refuse("invalid-request", field, `Invalid value: ${JSON.stringify(text)}: must be a valid IP address`);
    addresses.push(address);
  }
  if (addresses.length > 2 || (addresses.length === 2 && familyOf(addresses[0]!) === familyOf(addresses[1]!))) {
    return refuse("invalid-request", field, "may hold one address of each family");
  }
  return { field, addresses, pool };
}

function useOf(service: ServiceRequest): Use {
  const local = service.spec.externalTrafficPolicy === "Local";
  const selector = Object.entries(service.spec.selector ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  return {
    sharingKey: annotation(service, "allow-shared-ip")?.value ?? "",
    // With policy Local two Services may share an address only if the same pods stand behind both.
    backendKey: local ? `local ${JSON.stringify(selector)}` : "cluster",
    ports: (service.spec.ports ?? []).map((port) => `${protocolOf(port)}/${port.port}`).sort(),
  };
}

function mayShare(a: Use, b: Use): boolean {
  if (a.sharingKey === "" || a.sharingKey !== b.sharingKey || a.backendKey !== b.backendKey) return false;
  return !a.ports.some((port) => b.ports.includes(port));
}

/** Pools in the order of their names; one that overlaps an earlier one is told apart, and not used. */
export function usablePools(pools: readonly AddressPool[]): {
  readonly usable: readonly AddressPool[];
  readonly overlapping: readonly { readonly pool: AddressPool; readonly with: string; readonly range: number }[];
} {
  const usable: Pool[] = [];
  const overlapping: { pool: AddressPool; with: string; range: number }[] = [];
  for (const pool of [...pools].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))) {
    const parsed = pool.ranges.flatMap((text) => parseRange(text) ?? []);
    let clash: { pool: AddressPool; with: string; range: number } | undefined;
    for (const [range, mine] of parsed.entries()) {
      for (const other of usable) {
        const overlaps = other.parsed.some(
          (one) => one.family === mine.family && one.first <= mine.last && mine.first <= one.last,
        );
        if (overlaps) clash ??= { pool, with: other.name, range };
      }
    }
    if (clash === undefined) usable.push({ ...pool, parsed });
    else overlapping.push(clash);
  }
  return { usable, overlapping };
}

/** An outcome for every client. */
export function assignPoolAddresses(input: PoolInput): ReadonlyMap<string, PoolOutcome> {
  const pools = input.pools.map(
    (pool): Pool => ({ ...pool, parsed: pool.ranges.flatMap((text) => parseRange(text) ?? []) }),
  );
  const uses = new Map<Address, Map<string, Use>>();
  const outcomes = new Map<string, PoolOutcome>();
  /** Where to begin to look in a range: ten thousand Services would else look at each other's addresses. */
  const closedUpTo = new Map<AddressRange, bigint>();

  const has = (pool: Pool, address: Address): boolean => pool.parsed.some((range) => rangeContains(range, address));
  const poolOf = (address: Address): Pool | undefined => pools.find((pool) => has(pool, address));

  function allows(pool: Pool, service: ServiceRequest): boolean {
    const namespace = service.metadata.namespace ?? "default";
    const byNamespace = pool.namespaces.length > 0 || pool.namespaceSelectors.length > 0;
    if (byNamespace) {
      const labels = input.namespaceLabels(namespace);
      if (!pool.namespaces.includes(namespace) && !pool.namespaceSelectors.some((one) => matchesSelector(one, labels)))
        return false;
    }
    return (
      pool.serviceSelectors.length === 0 ||
      pool.serviceSelectors.some((one) => matchesSelector(one, service.metadata.labels))
    );
  }

  function isBuggy(address: Address): boolean {
    return familyOf(address) === "IPv4" && /\.(0|255)$/.test(address);
  }

  function isFree(address: Address, use: Use, key: string): boolean {
    if (input.isForeign(address) || unusableReason(address) !== undefined) return false;
    for (const [other, theirs] of uses.get(address) ?? []) if (other !== key && !mayShare(use, theirs)) return false;
    return true;
  }

  function take({ client: { key }, use }: Entry, { addresses, pool }: PoolHolding): void {
    for (const address of addresses) {
      const users = uses.get(address) ?? new Map<string, Use>();
      uses.set(address, users.set(key, use));
    }
    outcomes.set(key, { assigned: { addresses, pool, use: JSON.stringify(use) } });
  }

  function release({ client: { key } }: Entry, { addresses }: PoolHolding): void {
    for (const address of addresses) uses.get(address)?.delete(key);
    closedUpTo.clear();
  }

  function settle(entry: Entry, outcome: PoolOutcome): void {
    if ("assigned" in outcome) take(entry, outcome.assigned);
    else outcomes.set(entry.client.key, outcome);
  }

  /** Nobody who asks later can have it, unless it is released. */
  function isClosed(pool: Pool, address: Address): boolean {
    if (pool.avoidBuggyIPs && isBuggy(address)) return true;
    if (input.isForeign(address) || unusableReason(address) !== undefined) return true;
    for (const { sharingKey } of uses.get(address)?.values() ?? []) if (sharingKey === "") return true;
    return false;
  }

  function firstFree(pool: Pool, family: Family, use: Use, key: string): Address | undefined {
    let tried = 0;
    for (const range of pool.parsed) {
      if (range.family !== family) continue;
      let value = closedUpTo.get(range) ?? range.first;
      let onlyClosed = true;
      for (; value <= range.last && tried < MAX_TRIED; value++, tried++) {
        const address = addressFromBigInt(value, family);
        const closed = isClosed(pool, address);
        if (onlyClosed && !closed) {
          onlyClosed = false;
          closedUpTo.set(range, value);
        }
        if (!closed && isFree(address, use, key)) return address;
      }
      if (onlyClosed) closedUpTo.set(range, value);
    }
    return undefined;
  }

  function fromPool(pool: Pool, client: PoolClient, use: Use): PoolHolding | undefined {
    const addresses = client.families.flatMap((family) => firstFree(pool, family, use, client.key) ?? []);
    const enough = client.needsAllFamilies ? addresses.length === client.families.length : addresses.length > 0;
    return enough ? { addresses, pool: pool.name } : undefined;
  }

  // Those that say which address they want, and those that hold one, before those that take any.
  function fixed({ client, request, use }: Entry): PoolOutcome | undefined {
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
    const inUse = request.addresses.find((one) => (pool.avoidBuggyIPs && isBuggy(one)) || !isFree(one, use, key));
    if (inUse !== undefined) {
      const who = [...(uses.get(inUse)?.keys() ?? [])].filter((one) => one !== key);
      const why = who.length > 0 ? `is in use by the Service ${who.join(", ")}` : "cannot be given to a Service";
      return refuse("address-in-use", request.field, `${inUse} ${why}`);
    }
    return { assigned: { addresses: request.addresses, pool: pool.name } };
  }

  /** What of a holding may stay. */
  function kept({ client, request, use }: Entry, holding: PoolHolding): PoolHolding | undefined {
    const pool = pools.find((one) => one.name === holding.pool);
    if (pool === undefined || !allows(pool, client.service)) return undefined;
    if (request.pool !== undefined && request.pool.value !== pool.name) return undefined;
    const addresses = holding.addresses.filter((one) => client.families.includes(familyOf(one)));
    if (addresses.length === 0 || addresses.some((one) => !has(pool, one) || !isFree(one, use, client.key)))
      return undefined;
    if (pool.avoidBuggyIPs && addresses.some(isBuggy)) return undefined;
    return { addresses, pool: pool.name };
  }

  /** It was given one family, and may now have two. */
  function completed({ client, use }: Entry, holding: PoolHolding): PoolHolding {
    const pool = pools.find((one) => one.name === holding.pool);
    if (pool === undefined || holding.addresses.length === client.families.length) return holding;
    const addresses = client.families.flatMap(
      (family) =>
        holding.addresses.find((one) => familyOf(one) === family) ?? firstFree(pool, family, use, client.key) ?? [],
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
  for (const client of input.clients) {
    const name = client.service.spec.loadBalancerClass ?? "";
    const request =
      name !== ""
        ? refuse("wrong-class", "spec.loadBalancerClass", `${name} gives this Service its addresses, not Millrace`)
        : requestOf(client.service);
    if ("addresses" in request) entries.push({ client, request, use: useOf(client.service) });
    else outcomes.set(client.key, request);
  }
  // Nobody loses an address to a newcomer, nor to somebody who was edited: first come holders that use theirs as they did,
  // then holders that use them otherwise now, then those that ask for an address, then those that take any.
  const holders = entries.filter(({ client, request }) => {
    const before = input.held.get(client.key)?.addresses ?? [];
    const { addresses } = request;
    return addresses.length === 0
      ? before.length > 0
      : addresses.length === before.length && addresses.every((one) => before.includes(one));
  });
  const isEdited = ({ client, use }: Entry): boolean =>
    (input.held.get(client.key)?.use ?? JSON.stringify(use)) !== JSON.stringify(use);
  const edited = new Set(holders.filter(isEdited));
  const placed = new Map<Entry, PoolHolding>();
  for (const entry of [...holders.filter((one) => !edited.has(one)), ...edited]) {
    const outcome = fixed(entry);
    const stays =
      outcome === undefined
        ? kept(entry, input.held.get(entry.client.key)!)
        : "assigned" in outcome
          ? outcome.assigned
          : undefined;
    if (stays === undefined) continue;
    take(entry, stays);
    placed.set(entry, stays);
  }
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
      release(entry, holding);
      late.add(entry);
    } else take(entry, whole);
  }
  for (const entry of entries) if (late.has(entry)) settle(entry, free(entry));
  return outcomes;
}
