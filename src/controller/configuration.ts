// What MetalLB's objects say, taken as a whole: the pools in force, what is wrong by object and field, and what is not done
// here. A configuration with a fault is refused as a whole: the last one without stays in force. Pure.
import {
  type Address,
  addressFromBigInt,
  addressToBigInt,
  familyOf,
  parseRange,
  rangeContains,
} from "../lib/address.ts";
import { matchesSelector } from "../model/label-selector.ts";
import type { AddressPool, L2Advertisement } from "../model/objects.ts";
import { createChecks } from "../wire/field-checks.ts";
import type { AddressPoolObject, L2AdvertisementObject } from "../wire/kubernetes.ts";
import { checkAddressPool, checkL2Advertisement } from "../wire/metallb-checks.ts";
import { normaliseAddressPool, normaliseL2Advertisement } from "../wire/normalise.ts";
import type { ObjectRef } from "./object-ref.ts";

/** An object as the API gave it; of its own fields nothing is known to be there. */
export interface ListedObject {
  readonly ref: ObjectRef;
  readonly object: Readonly<Record<string, unknown>>;
}

export interface MetallbObjects {
  readonly pools: readonly ListedObject[];
  readonly advertisements: readonly ListedObject[];
  /** BGPAdvertisements, BGPPeers, BFDProfiles, Communities. */
  readonly bgp: readonly ListedObject[];
  readonly nodeAddresses: ReadonlyMap<Address, string>;
}

/** Something to be said about one object. */
export interface Remark {
  readonly ref: ObjectRef;
  /** An event's reason. */
  readonly reason: "InvalidConfiguration" | "BGPNotSupported" | "NotAnnounced";
  readonly message: string;
}

export interface Configuration {
  readonly pools: readonly AddressPool[];
  /** False: a fault took pools out of `pools`, or may have. */
  readonly isWhole: boolean;
}

export interface JudgedConfiguration extends Configuration {
  /** Faults of pools: as long as there is one, the configuration before stays in force. */
  readonly faults: readonly Remark[];
  readonly remarks: readonly Remark[];
}

interface CheckedPool {
  readonly ref: ObjectRef;
  readonly pool: AddressPool;
}

const shown = (range: string): string => JSON.stringify(range);

/** One fault for each pool that overlaps another, or itself. */
function overlaps(checked: readonly CheckedPool[]): Remark[] {
  const ranges = checked.flatMap(({ ref, pool }) =>
    pool.ranges.flatMap((text, index) => {
      const range = parseRange(text);
      return range === undefined ? [] : [{ ref, pool, text, index, ...range }];
    }),
  );
  const faults = new Map<ObjectRef, Remark>();
  for (const family of ["IPv4", "IPv6"] as const) {
    const sorted = ranges
      .filter((one) => one.family === family)
      .sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0));
    let widest = sorted[0];
    for (const one of sorted.slice(1)) {
      if (widest !== undefined && one.first <= widest.last) {
        for (const [mine, other] of [[one, widest] as const, [widest, one] as const]) {
          const of =
            mine.ref === other.ref
              ? "another range of this pool"
              : `${shown(other.text)} of IPAddressPool ${other.ref.name}`;
          const message = `spec.addresses[${mine.index}]: Invalid value: ${shown(mine.text)}: overlaps with ${of}`;
          if (!faults.has(mine.ref)) faults.set(mine.ref, { ref: mine.ref, reason: "InvalidConfiguration", message });
        }
      }
      if (widest === undefined || one.last > widest.last) widest = one;
    }
  }
  return [...faults.values()];
}

function nodesWithin(
  { ref, pool }: CheckedPool,
  nodes: readonly { value: bigint; family: string; name: string }[],
): Remark[] {
  for (const [index, text] of pool.ranges.entries()) {
    const range = parseRange(text);
    if (range === undefined) continue;
    const found = nodes.find(
      (one) => one.family === range.family && one.value >= range.first && one.value <= range.last,
    );
    if (found === undefined) continue;
    const address = addressFromBigInt(found.value, range.family);
    const message = `spec.addresses[${index}]: Invalid value: ${shown(text)}: holds ${address}, an address of Node ${found.name}`;
    return [{ ref, reason: "InvalidConfiguration", message }];
  }
  return [];
}

/** Whether the advertisement announces the pool. */
function selects({ namespace, pools, poolSelectors }: L2Advertisement, pool: AddressPool): boolean {
  if (namespace !== pool.namespace) return false;
  if (pools.length + poolSelectors.length === 0) return true;
  return pools.includes(pool.name) || poolSelectors.some((one) => matchesSelector(one, pool.labels));
}

function check(
  listed: ListedObject,
  by: (checks: ReturnType<typeof createChecks>, object: Readonly<Record<string, unknown>>) => void,
): Remark | undefined {
  const checks = createChecks();
  by(checks, listed.object);
  if (checks.errors.length === 0) return undefined;
  const message = checks.errors.map((one) => one.message).join("; ");
  return { ref: listed.ref, reason: "InvalidConfiguration", message };
}

function unannounced(
  pools: readonly CheckedPool[],
  advertisements: readonly L2Advertisement[],
  hasBgp: boolean,
): Remark[] {
  const beside = hasBgp ? ": BGP objects announce nothing here" : "";
  return pools
    .filter(({ pool }) => !advertisements.some((one) => selects(one, pool)))
    .map(({ ref }) => ({
      ref,
      reason: "NotAnnounced",
      message: `its addresses are given to Services, but no L2Advertisement announces them${beside}`,
    }));
}

/** Judges all objects together. Of pools with a fault none is among the result's. */
export function judgeConfiguration({ pools, advertisements, bgp, nodeAddresses }: MetallbObjects): JudgedConfiguration {
  const faults: Remark[] = [];
  const checked: CheckedPool[] = [];
  const byName = new Map<string, ObjectRef>();
  for (const one of pools) {
    const fault = check(one, checkAddressPool);
    const other = byName.get(one.ref.name);
    if (other !== undefined) {
      const message = `metadata.name: Duplicate value: ${shown(one.ref.name)}: there is an IPAddressPool of this name in namespace ${other.namespace}`;
      faults.push({ ref: one.ref, reason: "InvalidConfiguration", message });
    } else byName.set(one.ref.name, one.ref);
    if (fault !== undefined) faults.push(fault);
    else if (other === undefined) {
      checked.push({ ref: one.ref, pool: normaliseAddressPool(one.object as unknown as AddressPoolObject) });
    }
  }
  const nodes = [...nodeAddresses].map(([address, name]) => ({
    value: addressToBigInt(address),
    family: familyOf(address),
    name,
  }));
  faults.push(...overlaps(checked), ...checked.flatMap((one) => nodesWithin(one, nodes)));
  const blamed = new Set(faults.map(({ ref }) => ref));
  const sound = checked.filter(({ ref }) => !blamed.has(ref));

  const remarks: Remark[] = [];
  const announcing: L2Advertisement[] = [];
  for (const one of advertisements) {
    const fault = check(one, checkL2Advertisement);
    if (fault === undefined) announcing.push(normaliseL2Advertisement(one.object as unknown as L2AdvertisementObject));
    else remarks.push(fault);
  }
  for (const { ref } of bgp) {
    const message = `Millrace announces by layer 2 alone: this ${ref.kind} has no effect`;
    remarks.push({ ref, reason: "BGPNotSupported", message });
  }
  remarks.push(...unannounced(sound, announcing, bgp.length > 0));
  return { pools: sound.map(({ pool }) => pool), isWhole: faults.length === 0, faults, remarks };
}

/** The configuration in force after `judged`, where `before` was: the last whole one, and without any what is sound. */
export function configurationInForce(before: Configuration | undefined, judged: JudgedConfiguration): Configuration {
  if (judged.isWhole || before === undefined || !before.isWhole)
    return { pools: judged.pools, isWhole: judged.isWhole };
  return before;
}

/** Of these addresses those that one of the pools holds. */
export function addressesWithin(pools: readonly AddressPool[], addresses: Iterable<Address>): ReadonlySet<Address> {
  const ranges = pools.flatMap((pool) => pool.ranges.flatMap((text) => parseRange(text) ?? []));
  return new Set([...addresses].filter((one) => ranges.some((range) => rangeContains(range, one))));
}
