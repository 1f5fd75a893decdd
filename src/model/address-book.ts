// Whose an address is, as far as nodes are concerned, and what follows: its roles in the kernel, and which part of the Service
// ranges is no Service's. A node's own traffic depends on it: no answer here may cost it any. Pure.
import { type Address, familyOf, type Prefix, parsePrefix, prefixContains } from "../lib/address.ts";
import type { Notice, ServiceCIDR } from "./objects.ts";
import type { AddressRoles, Operation, PrefixRange } from "./operations.ts";

export interface AddressBook {
  /** An InternalIP of this node. */
  isOwn(address: Address): boolean;
  /** An InternalIP of any node. */
  isNode(address: Address): boolean;
  /** A device of this node has it. */
  isOnDevice(address: Address): boolean;
  /** The InternalIPs of a node were others. Returns those that came or went. */
  updateNode(own: boolean, old: readonly Address[], now: readonly Address[]): ReadonlySet<Address>;
  /** What this node's devices have: an address and its network's length each. Returns the addresses that came or went. */
  setNetworks(held: readonly Prefix[]): ReadonlySet<Address>;
  updateServiceCIDR(key: string, object: ServiceCIDR | undefined): void;
  /** Its roles may be others. */
  touch(address: Address): void;
  /** Exempt ranges first, then those of Services. */
  ranges(): readonly PrefixRange[];
  /** The ranges may differ from those that were taken last; true until takeRanges(). */
  rangesChanged(): boolean;
  takeRanges(): Operation;
  /** Ranges and roles are all unknown: as after an adoption. */
  reset(known: Iterable<Address>): void;
  /** Addresses whose roles are to be looked at. */
  dirtyCount(): number;
  /** Operations for so many of them at most. `refuses`: a port nobody defined is refused there. `has` is brought up to date. */
  plan(
    limit: number,
    has: Map<Address, AddressRoles>,
    refuses: (address: Address) => boolean,
  ): { readonly puts: Operation[]; readonly drops: Operation[] };
}

/** `configured`: ranges of Services that hold as long as there are no ServiceCIDR objects. */
export function createAddressBook(configured: readonly PrefixRange[]): AddressBook {
  /** How many nodes have an InternalIP. */
  const nodeAddresses = new Map<Address, number>();
  let ownAddresses: ReadonlySet<Address> = new Set();
  /** By their text. */
  let held: ReadonlyMap<string, Prefix> = new Map();
  let onDevices: ReadonlySet<Address> = new Set();
  const serviceCIDRs = new Map<string, ServiceCIDR>();
  const dirty = new Set<Address>();
  let changed = true;

  /** Those of the ServiceCIDR objects, oldest name first; without any, those of the configuration. */
  function serviceRanges(): readonly PrefixRange[] {
    if (serviceCIDRs.size === 0) return configured;
    const texts = new Set([...serviceCIDRs.keys()].sort().flatMap((key) => serviceCIDRs.get(key)!.cidrs));
    return [...texts].flatMap((text) => parsePrefix(text) ?? []);
  }

  function ranges(): readonly PrefixRange[] {
    const services = serviceRanges();
    return [...exemptRanges([...held.values()], services), ...services];
  }

  function changeRanges(): void {
    changed = true;
    // A device's address has a role only where a range would take it for a Service's.
    for (const address of onDevices) dirty.add(address);
  }

  function rolesOf(address: Address, services: readonly PrefixRange[], refuse: boolean): AddressRoles {
    const node = ownAddresses.has(address);
    const isNode = nodeAddresses.has(address);
    const inRange = onDevices.has(address) && services.some((range) => prefixContains(range, address));
    return {
      node,
      refuse: refuse && !isNode && !onDevices.has(address),
      peer: !node && (isNode || inRange),
    };
  }

  return {
    isOwn: (address) => ownAddresses.has(address),
    isNode: (address) => nodeAddresses.has(address),
    isOnDevice: (address) => onDevices.has(address),
    updateNode(own, old, now) {
      for (const address of now) nodeAddresses.set(address, (nodeAddresses.get(address) ?? 0) + 1);
      for (const address of old) {
        const left = nodeAddresses.get(address)! - 1;
        if (left === 0) nodeAddresses.delete(address);
        else nodeAddresses.set(address, left);
      }
      if (own) ownAddresses = new Set(now);
      const touched = new Set([...old, ...now]);
      for (const address of touched) dirty.add(address);
      return touched;
    },
    setNetworks(list) {
      // Many devices may have one address: what counts is which there are.
      const unique = new Map(list.map((one) => [`${one.address}/${one.length}`, one]));
      if (unique.size === held.size && [...unique.keys()].every((text) => held.has(text))) return new Set();
      const before = onDevices;
      held = unique;
      onDevices = new Set(list.map(({ address }) => address));
      const touched = new Set([...onDevices, ...before].filter((one) => !(onDevices.has(one) && before.has(one))));
      for (const address of touched) dirty.add(address);
      changeRanges();
      return touched;
    },
    updateServiceCIDR(key, object) {
      if (object === undefined) serviceCIDRs.delete(key);
      else serviceCIDRs.set(key, object);
      changeRanges();
    },
    touch: (address) => dirty.add(address),
    ranges,
    rangesChanged: () => changed,
    takeRanges() {
      changed = false;
      return { op: "set-service-ranges", ranges: ranges() };
    },
    reset(known) {
      for (const address of known) dirty.add(address);
      for (const address of nodeAddresses.keys()) dirty.add(address);
      changeRanges();
    },
    dirtyCount: () => dirty.size,
    plan(limit, has, refuses) {
      const puts: Operation[] = [];
      const drops: Operation[] = [];
      const services = serviceRanges();
      let left = limit;
      for (const address of dirty) {
        if (left-- <= 0) break;
        dirty.delete(address);
        const old = has.get(address);
        const roles = rolesOf(address, services, refuses(address));
        if (roles.node || roles.refuse || roles.peer) {
          if (old?.node === roles.node && old.refuse === roles.refuse && old.peer === roles.peer) continue;
          puts.push({ op: "put-address", address, roles });
          has.set(address, roles);
        } else if (old !== undefined) {
          drops.push({ op: "drop-address", address });
          has.delete(address);
        }
      }
      return { puts, drops };
    },
  };
}

/**
 * The networks of devices that lie in a Service range, or around one, each once and none within another: neighbours there are no
 * Service's free addresses. A single address needs no range: it has a role.
 */
export function exemptRanges(held: readonly Prefix[], services: readonly PrefixRange[]): readonly PrefixRange[] {
  const networks = held
    .filter(({ address, length }) => length < bitsOf(address))
    .filter(({ address, length }) =>
      services.some((range) => prefixContains(range, address) || prefixContains({ address, length }, range.address)),
    )
    .sort((a, b) => a.length - b.length || (a.address < b.address ? -1 : 1));
  const found: PrefixRange[] = [];
  for (const { address, length } of networks) {
    if (found.some((range) => prefixContains(range, address))) continue;
    const network = parsePrefix(`${address}/${length}`);
    if (network !== undefined) found.push({ ...network, exempt: true });
  }
  return found;
}

const bitsOf = (address: Address): number => (familyOf(address) === "IPv4" ? 32 : 128);

/** What is said of ranges that the kernel's table has no room for. */
export function rangeNotices(ranges: readonly PrefixRange[], most: number): readonly Notice[] {
  const beyond = ranges.slice(most).filter(({ exempt }) => exempt !== true);
  if (beyond.length === 0) return [];
  const texts = beyond.map(({ address, length }) => `${address}/${length}`).join(", ");
  return [
    {
      object: "ServiceCIDR",
      file: "",
      field: "spec.cidrs",
      reason: "too-many-service-ranges",
      message: `could not keep more than ${most} ranges of cluster addresses: addresses of ${texts} that no Service has are not dropped`,
      severity: "warning",
    },
  ];
}
