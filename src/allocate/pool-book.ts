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

export function createPoolBook({ pools: given, namespaceLabels, isForeign }: PoolBookInput): PoolBook {
  const pools = parsePools(given);
  const uses = new Map<Address, Map<string, Use>>();
  const byKey = new Map<string, Set<Address>>();
  const assigned = new Map(pools.map(({ name }) => [name, { IPv4: 0, IPv6: 0 }]));
  /** Where to begin to look in a range: ten thousand Services would else look at each other's addresses. */
  const closedUpTo = new Map<AddressRange, bigint>();
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

  /** Nobody who asks later can have it, unless somebody leaves it. */
  function isClosed(pool: Pool, address: Address): boolean {
    if (pool.avoidBuggyIPs && isBuggy(address)) return true;
    if (isForeign(address) || unusableReason(address) !== undefined) return true;
    for (const { sharingKey } of uses.get(address)?.values() ?? []) if (sharingKey === "") return true;
    return false;
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
      const closed = closedUpTo.get(range);
      if (closed !== undefined && value >= range.first && value < closed) closedUpTo.set(range, value);
    }
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
      let tried = 0;
      for (const range of pool.parsed) {
        if (range.family !== family) continue;
        let value = closedUpTo.get(range) ?? range.first;
        let onlyClosed = true;
        for (; value <= range.last && tried < MAX_TRIED; value++, tried++) {
          const address = addressFromBigInt(value, family);
          const closed = isClosed(pool, address) && !uses.get(address)?.has(key);
          if (onlyClosed && !closed) {
            onlyClosed = false;
            closedUpTo.set(range, value);
          }
          if (!closed && isFree(address, use, key)) return address;
        }
        if (onlyClosed) closedUpTo.set(range, value);
      }
      return undefined;
    },
    users: (address) => [...(uses.get(address)?.keys() ?? [])],
    addressesOf: (key) => [...(byKey.get(key) ?? [])],
    take(key, address, use) {
      const users = uses.get(address) ?? new Map<string, Use>();
      const before = users.get(key);
      if (users.size === 0) count(address, 1);
      // A use that lets others in may follow one that did not.
      else if (before?.sharingKey === "" && use.sharingKey !== "") reopen(address);
      else if (before?.ports.some((port) => !use.ports.includes(port))) openings++;
      uses.set(address, users.set(key, use));
      const mine = byKey.get(key) ?? new Set<Address>();
      byKey.set(key, mine.add(address));
    },
    leave(key, address) {
      const users = uses.get(address);
      if (!users?.delete(key)) return;
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
