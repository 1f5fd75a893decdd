// Who uses which address of which pool, and which address is free. It decides nothing and keeps no reason.
import {
  type Address,
  type AddressRange,
  addressFromBigInt,
  addressToBigInt,
  type Family,
  familyOf,
  parseRange,
  unusableReason,
} from "../lib/address.ts";
import { matchesSelector } from "../model/label-selector.ts";
import type { AddressPool } from "../model/objects.ts";
import { mayShare, type Use } from "./pool-request.ts";
import type { ServiceRequest } from "./service-request.ts";

export interface Pool extends AddressPool {
  readonly parsed: readonly AddressRange[];
}

export interface PoolBookInput {
  /** They do not overlap. */
  readonly pools: readonly AddressPool[];
  readonly namespaceLabels: (namespace: string) => Readonly<Record<string, string>>;
  /** Addresses that are somebody's already: of nodes, pods. */
  readonly isForeign: (address: Address) => boolean;
}

/** Addresses by family. */
export type FamilyCounts = Readonly<Record<Family, number>>;

export interface PoolBook {
  readonly pools: readonly Pool[];
  poolOf(address: Address): Pool | undefined;
  /** Whether the pool is for this Service. */
  allows(pool: Pool, service: ServiceRequest): boolean;
  /** `key` may use the address so, beside those who use it already. `asEver`: it does, and changed nothing. */
  isFree(address: Address, use: Use, key: string, asEver?: boolean): boolean;
  firstFree(pool: Pool, family: Family, use: Use, key: string): Address | undefined;
  users(address: Address): readonly string[];
  addressesOf(key: string): readonly Address[];
  /** Replaces a use of it by the same key. */
  take(key: string, address: Address, use: Use): void;
  leave(key: string, address: Address): void;
  /** Of the pool's addresses those in use, each once. */
  assigned(pool: string): FamilyCounts;
  /** Goes up whenever somebody might have an address that was not to be had before. */
  openings(): number;
}

/** Addresses that confuse old firmware (`avoidBuggyIPs`). */
export function isBuggy(address: Address): boolean {
  return familyOf(address) === "IPv4" && /\.(0|255)$/.test(address);
}

export function parsePools(pools: readonly AddressPool[]): readonly Pool[] {
  return pools.map((pool) => ({ ...pool, parsed: pool.ranges.flatMap((text) => parseRange(text) ?? []) }));
}

/** How many of `0` and `255` end an IPv4 address of the range. */
function buggyIn({ family, first, last }: AddressRange): bigint {
  if (family === "IPv6") return 0n;
  const upTo = (value: bigint, end: bigint): bigint => (value < end ? 0n : (value - end) / 256n + 1n);
  const of = (end: bigint): bigint => upTo(last, end) - upTo(first - 1n, end);
  return of(0n) + of(255n);
}

/** How many addresses a pool may give; of more than a JSON number holds, so many. */
export function poolSize({ parsed, avoidBuggyIPs }: Pool): FamilyCounts {
  const size = { IPv4: 0n, IPv6: 0n };
  for (const range of parsed) {
    size[range.family] += range.last - range.first + 1n - (avoidBuggyIPs ? buggyIn(range) : 0n);
  }
  const most = BigInt(Number.MAX_SAFE_INTEGER);
  const whole = (value: bigint): number => Number(value < most ? value : most);
  return { IPv4: whole(size.IPv4), IPv6: whole(size.IPv6) };
}

// One look through a pool ends here, so that an IPv6 prefix does not take for ever.
const MAX_TRIED = 65_536;

interface OwnedRange extends AddressRange {
  readonly pool: Pool;
}

interface SharingGroup {
  addresses: Address[];
  /** By port: so many of `addresses`, from the first on, have it in use. */
  readonly fullUpTo: Map<string, number>;
}

export function createPoolBook({ pools: given, namespaceLabels, isForeign }: PoolBookInput): PoolBook {
  const pools = parsePools(given);
  const uses = new Map<Address, Map<string, Use>>();
  const byKey = new Map<string, Set<Address>>();
  const assigned = new Map(pools.map(({ name }) => [name, { IPv4: 0, IPv6: 0 }]));
  // Where to begin to look: ten thousand Services would else look at each other's addresses.
  const usedUpTo = new Map<AddressRange, bigint>();
  /** By pool, family and what else must be equal for an address to be shared. */
  const groups = new Map<string, SharingGroup>();
  const ranges: Record<Family, OwnedRange[]> = { IPv4: [], IPv6: [] };
  for (const pool of pools) for (const range of pool.parsed) ranges[range.family].push({ ...range, pool });
  for (const list of Object.values(ranges)) list.sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0));

  function poolOf(address: Address): Pool | undefined {
    const value = addressToBigInt(address);
    const sorted = ranges[familyOf(address)];
    let low = 0;
    for (let high = sorted.length; low < high; ) {
      const middle = (low + high) >>> 1;
      if (sorted[middle]!.first <= value) low = middle + 1;
      else high = middle;
    }
    const range = sorted[low - 1];
    return range !== undefined && value <= range.last ? range.pool : undefined;
  }

  function isFree(address: Address, use: Use, key: string, asEver = false): boolean {
    if (isForeign(address) || unusableReason(address) !== undefined) return false;
    for (const [other, theirs] of uses.get(address) ?? []) {
      if (other !== key && !(asEver && theirs.isLeaving) && !mayShare(use, theirs)) return false;
    }
    return true;
  }

  /** Nobody uses it, and it may be given. */
  function isUnused(pool: Pool, address: Address): boolean {
    if (uses.has(address) || !isGiven(pool, address)) return false;
    return !isForeign(address) && unusableReason(address) === undefined;
  }

  function firstUnused(pool: Pool, family: Family): Address | undefined {
    let tried = 0;
    for (const range of pool.parsed) {
      if (range.family !== family) continue;
      let value = usedUpTo.get(range) ?? range.first;
      while (value <= range.last && tried++ < MAX_TRIED && !isUnused(pool, addressFromBigInt(value, family))) value++;
      usedUpTo.set(range, value);
      if (value <= range.last && tried <= MAX_TRIED) return addressFromBigInt(value, family);
    }
    return undefined;
  }

  const groupName = (pool: string, family: Family, { sharingKey, backendKey }: Use): string =>
    JSON.stringify([pool, family, sharingKey, backendKey]);

  function portIsUsed(address: Address, port: string): boolean {
    for (const { ports } of uses.get(address)?.values() ?? []) if (ports.includes(port)) return true;
    return false;
  }

  /** One that others with the same key use, on other ports. */
  function firstShared(pool: Pool, family: Family, use: Use, key: string): Address | undefined {
    const group = use.sharingKey === "" ? undefined : groups.get(groupName(pool.name, family, use));
    if (group === undefined) return undefined;
    const upTo = (port: string): number => group.fullUpTo.get(port) ?? 0;
    const port = use.ports.reduce((best, one) => (upTo(one) > upTo(best) ? one : best), use.ports[0] ?? "");
    let isFull = true;
    for (let i = upTo(port); i < group.addresses.length; i++) {
      const address = group.addresses[i]!;
      isFull &&= portIsUsed(address, port);
      if (isFull) group.fullUpTo.set(port, i + 1);
      else if (isGiven(pool, address) && isFree(address, use, key)) return address;
    }
    return undefined;
  }

  const isGiven = (pool: Pool, address: Address): boolean => !(pool.avoidBuggyIPs && isBuggy(address));

  /** Whether somebody uses the address with the same key; apart from `key`. */
  function isSharedBy(address: Address, { sharingKey, backendKey }: Use, key = ""): boolean {
    for (const [other, theirs] of uses.get(address) ?? []) {
      if (other !== key && theirs.sharingKey === sharingKey && theirs.backendKey === backendKey) return true;
    }
    return false;
  }

  function join(address: Address, use: Use, key: string): void {
    const pool = poolOf(address);
    if (pool === undefined || use.sharingKey === "" || isSharedBy(address, use, key)) return;
    const name = groupName(pool.name, familyOf(address), use);
    const group = groups.get(name) ?? { addresses: [] as Address[], fullUpTo: new Map<string, number>() };
    groups.set(name, group);
    group.addresses.push(address);
  }

  function part(address: Address, use: Use): void {
    const name = groupName(poolOf(address)?.name ?? "", familyOf(address), use);
    const group = groups.get(name);
    if (group === undefined) return;
    group.fullUpTo.clear();
    if (isSharedBy(address, use)) return;
    group.addresses = group.addresses.filter((one) => one !== address);
    if (group.addresses.length === 0) groups.delete(name);
  }

  function count(address: Address, by: number): void {
    const counts = assigned.get(poolOf(address)?.name ?? "");
    if (counts !== undefined) counts[familyOf(address)] += by;
  }

  let openings = 0;

  /** Somebody who asks later may have it again. */
  function reopen(address: Address): void {
    openings++;
    const value = addressToBigInt(address);
    for (const range of poolOf(address)?.parsed ?? []) {
      const used = usedUpTo.get(range);
      if (used !== undefined && value >= range.first && value < used) usedUpTo.set(range, value);
    }
  }

  /** Of these the one that comes first in the pool. */
  function earliest(pool: Pool, addresses: readonly Address[]): Address | undefined {
    const place = (address: Address): [number, bigint] => {
      const value = addressToBigInt(address);
      const family = familyOf(address);
      const isIn = (range: AddressRange): boolean =>
        range.family === family && range.first <= value && value <= range.last;
      return [pool.parsed.findIndex(isIn), value];
    };
    return addresses.toSorted((a, b) => {
      const [[rangeA, valueA], [rangeB, valueB]] = [place(a), place(b)];
      return rangeA - rangeB || (valueA < valueB ? -1 : 1);
    })[0];
  }

  return {
    pools,
    poolOf,
    isFree,
    allows(pool, service) {
      const namespace = service.metadata.namespace ?? "default";
      const byNamespace = pool.namespaces.length > 0 || pool.namespaceSelectors.length > 0;
      if (byNamespace && !pool.namespaces.includes(namespace)) {
        const labels = namespaceLabels(namespace);
        if (!pool.namespaceSelectors.some((one) => matchesSelector(one, labels))) return false;
      }
      const { serviceSelectors } = pool;
      return (
        serviceSelectors.length === 0 || serviceSelectors.some((one) => matchesSelector(one, service.metadata.labels))
      );
    },
    firstFree(pool, family, use, key) {
      const isMine = (one: Address): boolean =>
        familyOf(one) === family && poolOf(one) === pool && isGiven(pool, one) && isFree(one, use, key);
      const mine = [...(byKey.get(key) ?? [])].filter(isMine);
      const others = [firstShared(pool, family, use, key), firstUnused(pool, family)];
      return earliest(
        pool,
        [...mine, ...others].flatMap((one) => one ?? []),
      );
    },
    users: (address) => [...(uses.get(address)?.keys() ?? [])],
    addressesOf: (key) => [...(byKey.get(key) ?? [])],
    take(key, address, use) {
      const users = uses.get(address) ?? new Map<string, Use>();
      const before = users.get(key);
      if (users.size === 0) count(address, 1);
      // A use that lets others in may follow one that did not.
      else if (
        before !== undefined &&
        (before.sharingKey === "" || before.ports.some((one) => !use.ports.includes(one)))
      )
        openings++;
      if (before !== undefined) {
        users.delete(key);
        part(address, before);
      }
      uses.set(address, users.set(key, use));
      join(address, use, key);
      const mine = byKey.get(key) ?? new Set<Address>();
      byKey.set(key, mine.add(address));
    },
    leave(key, address) {
      const users = uses.get(address);
      const before = users?.get(key);
      if (users === undefined || before === undefined) return;
      users.delete(key);
      part(address, before);
      if (users.size === 0) {
        uses.delete(address);
        count(address, -1);
      }
      const mine = byKey.get(key);
      mine?.delete(address);
      if (mine?.size === 0) byKey.delete(key);
      reopen(address);
    },
    assigned: (pool) => assigned.get(pool) ?? { IPv4: 0, IPv6: 0 },
    openings: () => openings,
  };
}
