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
import type { AddressPool, PendingReason } from "../model/objects.ts";
import { own, type ServiceObject } from "../wire/kubernetes.ts";
import { matchesSelector } from "../wire/label-selector.ts";
import type { Work } from "./portions.ts";

export interface PoolHolding {
  readonly addresses: readonly Address[];
  readonly pool: string;
}

export type PoolOutcome =
  | { readonly assigned: PoolHolding }
  | { readonly refused: PendingReason; readonly field: string; readonly message: string };

export interface PoolClient {
  readonly key: string;
  readonly service: ServiceObject;
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

interface Use {
  readonly sharingKey: string;
  readonly backendKey: string;
  readonly ports: ReadonlySet<string>;
}

// One look through a pool ends here, so that an IPv6 prefix does not take for ever.
const MAX_TRIED = 65_536;

const PREFIXES = ["metallb.io", "metallb.universe.tf"];

function annotation(
  service: ServiceObject,
  name: string,
): { readonly key: string; readonly value: string } | undefined {
  for (const prefix of PREFIXES) {
    const key = `${prefix}/${name}`;
    const value = own(service.metadata.annotations, key);
    if (value !== undefined) return { key, value };
  }
  return undefined;
}

interface Request {
  readonly field: string;
  readonly addresses: readonly Address[];
  readonly pool: { readonly key: string; readonly value: string } | undefined;
}

function refuse(refused: PendingReason, field: string, message: string): PoolOutcome {
  return { refused, field, message: field === "" ? message : `${field}: ${message}` };
}

function requestOf(service: ServiceObject): Request | PoolOutcome {
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

function useOf(service: ServiceObject): Use {
  const local = service.spec.externalTrafficPolicy === "Local";
  const selector = Object.entries(service.spec.selector ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  return {
    sharingKey: annotation(service, "allow-shared-ip")?.value ?? "",
    // With policy Local two Services may share an address only if the same pods stand behind both.
    backendKey: local ? `local ${JSON.stringify(selector)}` : "cluster",
    ports: new Set((service.spec.ports ?? []).map((port) => `${port.protocol ?? "TCP"}/${port.port}`)),
  };
}

function mayShare(a: Use, b: Use): boolean {
  if (a.sharingKey === "" || a.sharingKey !== b.sharingKey || a.backendKey !== b.backendKey) return false;
  for (const port of a.ports) if (b.ports.has(port)) return false;
  return true;
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
export function* assignPoolAddresses(input: PoolInput): Work<ReadonlyMap<string, PoolOutcome>> {
  const pools = input.pools.map(
    (pool): Pool => ({ ...pool, parsed: pool.ranges.flatMap((text) => parseRange(text) ?? []) }),
  );
  const uses = new Map<Address, Map<string, Use>>();
  const outcomes = new Map<string, PoolOutcome>();
  /** Where to begin to look in a range: ten thousand Services would else look at each other's addresses. */
  const closedUpTo = new Map<AddressRange, bigint>();

  const has = (pool: Pool, address: Address): boolean => pool.parsed.some((range) => rangeContains(range, address));
  const poolOf = (address: Address): Pool | undefined => pools.find((pool) => has(pool, address));

  function allows(pool: Pool, service: ServiceObject): boolean {
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

  function take(key: string, use: Use, holding: PoolHolding): void {
    for (const address of holding.addresses) {
      const users = uses.get(address) ?? new Map<string, Use>();
      uses.set(address, users.set(key, use));
    }
    outcomes.set(key, { assigned: holding });
  }

  /** Nobody who asks later can have it: what is given is not taken back while addresses are assigned. */
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
  function fixed(client: PoolClient, request: Request): PoolOutcome | undefined {
    const { service, key } = client;
    const use = useOf(service);
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

  function kept(client: PoolClient, request: Request, holding: PoolHolding): PoolHolding | undefined {
    const pool = pools.find((one) => one.name === holding.pool);
    if (pool === undefined || !allows(pool, client.service) || holding.addresses.length === 0) return undefined;
    if (request.pool !== undefined && request.pool.value !== pool.name) return undefined;
    const use = useOf(client.service);
    const addresses = holding.addresses.filter((one) => client.families.includes(familyOf(one)));
    if (addresses.length === 0 || addresses.some((one) => !has(pool, one) || !isFree(one, use, client.key)))
      return undefined;
    if (pool.avoidBuggyIPs && addresses.some(isBuggy)) return undefined;
    if (client.families.length === addresses.length) return { addresses, pool: pool.name };
    // It was given one family, and may now have two.
    const both = client.families.flatMap(
      (family) => addresses.find((one) => familyOf(one) === family) ?? firstFree(pool, family, use, client.key) ?? [],
    );
    if (client.needsAllFamilies && both.length < client.families.length) return undefined;
    return { addresses: both, pool: pool.name };
  }

  function free(client: PoolClient, request: Request): PoolOutcome {
    const { service } = client;
    const use = useOf(service);
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
    for (const pool of order) {
      const holding = fromPool(pool, client, use);
      if (holding !== undefined) return { assigned: holding };
    }
    const families = order.some((pool) => pool.parsed.some((range) => client.families.includes(range.family)));
    if (!families) return refuse("wrong-family", "", `no IPAddressPool has ${client.families.join(" and ")} addresses`);
    return refuse("pool-exhausted", "", `no free address is left in ${order.map((pool) => pool.name).join(", ")}`);
  }

  const requests: { readonly client: PoolClient; readonly request: Request }[] = [];
  for (const client of input.clients) {
    const name = client.service.spec.loadBalancerClass ?? "";
    const request =
      name !== ""
        ? refuse("wrong-class", "spec.loadBalancerClass", `${name} gives this Service its addresses, not Millrace`)
        : requestOf(client.service);
    if ("addresses" in request) requests.push({ client, request });
    else outcomes.set(client.key, request);
  }
  // What is held for the very address that is asked for, then holders of any, then new requests: nobody loses an address to a newcomer.
  const waiting: typeof requests = [];
  for (const entry of requests) {
    yield;
    const { client, request } = entry;
    const before = input.held.get(client.key);
    const same =
      before !== undefined &&
      request.addresses.length === before.addresses.length &&
      request.addresses.every((one) => before.addresses.includes(one));
    if (before !== undefined && same && request.addresses.length > 0) {
      const outcome = fixed(client, request);
      if (outcome !== undefined && "assigned" in outcome) take(client.key, useOf(client.service), outcome.assigned);
      else waiting.push(entry);
    } else if (before !== undefined && request.addresses.length === 0) {
      const holding = kept(client, request, before);
      if (holding === undefined) waiting.push(entry);
      else take(client.key, useOf(client.service), holding);
    } else waiting.push(entry);
  }
  const late: typeof requests = [];
  for (const entry of waiting) {
    yield;
    const outcome = fixed(entry.client, entry.request);
    if (outcome === undefined) late.push(entry);
    else if ("assigned" in outcome) take(entry.client.key, useOf(entry.client.service), outcome.assigned);
    else outcomes.set(entry.client.key, outcome);
  }
  for (const { client, request } of late) {
    yield;
    const outcome = free(client, request);
    if ("assigned" in outcome) take(client.key, useOf(client.service), outcome.assigned);
    else outcomes.set(client.key, outcome);
  }
  return outcomes;
}
