// Who wants which address or node-level port, and who wins: ClusterIP over LoadBalancer over external IP, node port over host port, within
// one kind the older. It knows claims only, never objects or maps, and tells whom a change of claims concerns.
import { type Address, familyOf } from "../lib/address.ts";
import type { ObjectKey } from "./objects.ts";
import type { FrontendKey, RowProtocol } from "./operations.ts";

/** Who claims: a Service by its own key, or a pod's host ports by hostPortOwner(). */
export type OwnerKey = string;

const HOST_PORT = "host-port ";
export const hostPortOwner = (key: ObjectKey): OwnerKey => `${HOST_PORT}${key}`;

/** Which object an owner is, with its key. */
export function ownerOf(owner: OwnerKey): { readonly kind: "service" | "host-port"; readonly key: ObjectKey } {
  const isHostPort = owner.startsWith(HOST_PORT);
  return isHostPort ? { kind: "host-port", key: owner.slice(HOST_PORT.length) } : { kind: "service", key: owner };
}

export interface AddressClaim {
  readonly kind: "cluster-ip" | "load-balancer" | "external-ip";
  readonly address: Address;
  /** A port nobody defined is refused at this address. */
  readonly refuse: boolean;
  /** Another proxy's: kept from everybody here, and left alone. */
  readonly isForeign: boolean;
  /** "TCP 80": a LoadBalancer address or external IP is shared port by port, a ClusterIP is one Service's whole. */
  readonly ports: readonly string[];
}

/** A port of the node itself: on every address of a family ("0.0.0.0" or "::"), or on one. */
export interface PortClaim {
  readonly kind: "node-port" | "host-port";
  readonly address: Address;
  readonly port: number;
  readonly protocol: RowProtocol;
}

export interface Claims {
  /** Smaller is older. */
  readonly age: number;
  readonly addresses: readonly AddressClaim[];
  readonly ports: readonly PortClaim[];
}

export type AddressClaimRole = "refuse" | "foreign";

export interface AddressClaims {
  /** Replaces the claims of `owner`; undefined: it has none any more. */
  set(owner: OwnerKey, claims: Claims | undefined): void;
  /** Who has this address and port for frontends of this kind: the winning owner, or undefined when nobody claims it. */
  addressWinner(address: Address, servicePort: string): { owner: OwnerKey; kind: AddressClaim["kind"] } | undefined;
  portWinner(owner: OwnerKey, claim: PortClaim): { owner: OwnerKey; kind: PortClaim["kind"] } | undefined;
  /** Somebody claims it as a Service's address. */
  isClaimed(address: Address): boolean;
  claimants(address: Address): Iterable<OwnerKey>;
  /** Those who may have a frontend there. */
  claimantsOf(key: FrontendKey): Iterable<OwnerKey>;
  isClusterIP(address: Address): boolean;
  /** refuse: a port nobody defined is refused there. foreign: it is left to another proxy. */
  roleOf(address: Address): AddressClaimRole | undefined;
}

interface HeldAddress extends AddressClaim {
  readonly owner: OwnerKey;
  readonly age: number;
}

interface HeldPort extends PortClaim {
  readonly owner: OwnerKey;
  readonly age: number;
}

/** `onRival`: an owner's chances changed because of another's claims. `onAddress`: an address got or lost claims, or its refusal changed. */
export function createAddressClaims(on: {
  onRival(owner: OwnerKey): void;
  onAddress(address: Address): void;
}): AddressClaims {
  const claimsOf = new Map<OwnerKey, Claims>();
  const addresses = new Map<Address, HeldAddress[]>();
  const ports = new Map<string, HeldPort[]>();

  const without = <K, H extends { owner: OwnerKey }>(index: Map<K, H[]>, key: K, owner: OwnerKey): H[] => {
    const rest = (index.get(key) ?? []).filter((held) => held.owner !== owner);
    if (rest.length === 0) index.delete(key);
    else index.set(key, rest);
    return rest;
  };

  const set = (owner: OwnerKey, next: Claims | undefined): void => {
    const old = claimsOf.get(owner);
    if (sameClaims(old, next)) return;
    for (const claim of old?.addresses ?? []) {
      for (const rival of without(addresses, claim.address, owner)) on.onRival(rival.owner);
      on.onAddress(claim.address);
    }
    for (const claim of old?.ports ?? []) {
      for (const rival of without(ports, portKey(claim), owner)) on.onRival(rival.owner);
    }
    if (next === undefined) {
      claimsOf.delete(owner);
      return;
    }
    claimsOf.set(owner, next);
    for (const claim of next.addresses) {
      const held = addresses.get(claim.address) ?? [];
      for (const rival of held) if (rival.owner !== owner) on.onRival(rival.owner);
      held.push({ ...claim, owner, age: next.age });
      addresses.set(claim.address, held.sort(byRank));
      on.onAddress(claim.address);
    }
    for (const claim of next.ports) {
      const held = ports.get(portKey(claim)) ?? [];
      for (const rival of held) if (rival.owner !== owner) on.onRival(rival.owner);
      held.push({ ...claim, owner, age: next.age });
      ports.set(portKey(claim), held.sort(byRank));
    }
  };

  return {
    set,
    addressWinner: (address, servicePort) =>
      addresses.get(address)?.find((held) => held.kind === "cluster-ip" || held.ports.includes(servicePort)),
    portWinner(owner, claim) {
      const accepted: HeldPort[] = [];
      for (const held of ports.get(portKey(claim)) ?? []) {
        const winner = accepted.find((other) => overlap(other, held));
        if (held.owner === owner && held.kind === claim.kind && held.address === claim.address) return winner ?? held;
        if (winner === undefined) accepted.push(held);
      }
      return undefined;
    },
    isClaimed: (address) => addresses.has(address),
    claimants: (address) => (addresses.get(address) ?? []).map((held) => held.owner),
    claimantsOf: ({ address, protocol, port }) =>
      [...(addresses.get(address) ?? []), ...(ports.get(`${protocol} ${port}`) ?? [])].map((held) => held.owner),
    isClusterIP: (address) => addresses.get(address)?.[0]?.kind === "cluster-ip",
    roleOf(address) {
      const held = addresses.get(address);
      if (held?.[0]?.isForeign === true) return "foreign";
      return held?.some((one) => one.refuse) === true ? "refuse" : undefined;
    },
  };
}

function portKey(claim: PortClaim): string {
  return `${claim.protocol} ${claim.port}`;
}

/** A port on one address lies within the same port on all of them. */
function overlap(a: PortClaim, b: PortClaim): boolean {
  if (a.address === b.address) return true;
  return familyOf(a.address) === familyOf(b.address) && (isEvery(a.address) || isEvery(b.address));
}

function isEvery(address: Address): boolean {
  return address === "0.0.0.0" || address === "::";
}

const RANK = { "cluster-ip": 0, "load-balancer": 1, "external-ip": 2, "node-port": 0, "host-port": 1 };

function byRank(a: HeldAddress | HeldPort, b: HeldAddress | HeldPort): number {
  return RANK[a.kind] - RANK[b.kind] || a.age - b.age || (a.owner < b.owner ? -1 : a.owner > b.owner ? 1 : 0);
}

function sameClaims(a: Claims | undefined, b: Claims | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return (
    a.age === b.age &&
    sameList(
      a.addresses,
      b.addresses,
      (x, y) =>
        x.address === y.address &&
        x.kind === y.kind &&
        x.refuse === y.refuse &&
        x.isForeign === y.isForeign &&
        sameList(x.ports, y.ports, (p, q) => p === q),
    ) &&
    sameList(
      a.ports,
      b.ports,
      (x, y) => x.address === y.address && x.port === y.port && x.protocol === y.protocol && x.kind === y.kind,
    )
  );
}

function sameList<T>(a: readonly T[], b: readonly T[], same: (x: T, y: T) => boolean): boolean {
  return a.length === b.length && a.every((x, i) => same(x, b[i]!));
}
