// Who may have how much of a table when there is not enough for all: namespaces share it fairly, and within one its Services
// and pods. So who asks for too much takes it from himself first, and the order in which objects come decides nothing.
import { divide } from "../lib/fair-share.ts";
import { type OwnerKey, ownerOf } from "./address-claims.ts";
import type { FrontendSpec, PortSpec } from "./compile.ts";
import type { Capacity } from "./operations.ts";
import { isRestricted } from "./source-ranges.ts";

const SCARCE = ["frontends", "services", "endpoints", "sourceRanges"] as const;

/** What an owner asks for, or may have: numbers of frontends, of service ids, and of endpoints and source ranges over all of its ports. */
export type Demand = Readonly<Record<(typeof SCARCE)[number], number>>;

const NOTHING: Demand = { frontends: 0, services: 0, endpoints: 0, sourceRanges: 0 };
const ALL = Number.POSITIVE_INFINITY;
const UNLIMITED: Demand = { frontends: ALL, services: ALL, endpoints: ALL, sourceRanges: ALL };

/** This part of a table is nobody's: in it a change has its old and its new entries for a moment. */
const RESERVE = 1 / 16;

export interface Shares {
  /** `undefined`: the owner is gone. */
  ask(owner: OwnerKey, demand: Demand | undefined): void;
  /** As of the last settle(). */
  limitOf(owner: OwnerKey): Demand;
  /** Divides anew when demands changed. Returns whose limits are others. `isServed`: has something already, and precedence for the last pieces. */
  settle(isServed: (owner: OwnerKey) => boolean): OwnerKey[];
}

export function createShares(capacity: Capacity): Shares {
  const usable = (entries: number): number => entries - Math.floor(entries * RESERVE);
  const most: Demand = {
    frontends: usable(Math.min(capacity.frontends, capacity.rows)),
    // Service id 0 is nobody's.
    services: usable(capacity.services) - 1,
    endpoints: usable(Math.min(capacity.backends, capacity.slots)),
    sourceRanges: usable(capacity.sourceRanges),
  };
  const demands = new Map<OwnerKey, Demand>();
  const total = { ...NOTHING };
  const limits = {
    frontends: new Map<OwnerKey, number>(),
    services: new Map<OwnerKey, number>(),
    endpoints: new Map<OwnerKey, number>(),
    sourceRanges: new Map<OwnerKey, number>(),
  };
  let changed = false;

  return {
    ask(owner, demand) {
      const old = demands.get(owner);
      if (demand === undefined) demands.delete(owner);
      else demands.set(owner, demand);
      for (const what of SCARCE) {
        const more = (demand ?? NOTHING)[what] - (old ?? NOTHING)[what];
        total[what] += more;
        changed ||= more !== 0;
      }
    },
    limitOf(owner) {
      if (SCARCE.every((what) => limits[what].size === 0)) return UNLIMITED;
      return {
        frontends: limits.frontends.get(owner) ?? UNLIMITED.frontends,
        services: limits.services.get(owner) ?? UNLIMITED.services,
        endpoints: limits.endpoints.get(owner) ?? UNLIMITED.endpoints,
        sourceRanges: limits.sourceRanges.get(owner) ?? UNLIMITED.sourceRanges,
      };
    },
    settle(isServed) {
      const others = new Set<OwnerKey>();
      if (!changed) return [];
      changed = false;
      for (const what of SCARCE) {
        const before = limits[what];
        const now =
          total[what] <= most[what] ? new Map<OwnerKey, number>() : divideAmong(demands, what, most, isServed);
        limits[what] = now;
        for (const [owner, limit] of before) if (now.get(owner) !== limit) others.add(owner);
        for (const owner of now.keys()) if (!before.has(owner)) others.add(owner);
      }
      return [...others].filter((owner) => demands.has(owner));
    },
  };
}

export function demandOf(ports: readonly PortSpec[]): Demand {
  let frontends = 0;
  let endpoints = 0;
  let sourceRanges = 0;
  for (const port of ports) {
    frontends += port.frontends.length;
    endpoints += port.candidates.length;
    sourceRanges += rangesAskedFor(port);
  }
  return { frontends, services: ports.length, endpoints, sourceRanges };
}

function rangesAskedFor(port: PortSpec): number {
  return port.frontends.some((frontend) => isRestricted(frontend, port)) ? (port.sourceRanges?.length ?? 0) : 0;
}

/** What one port may have; no frontends: it is not served. */
export interface PortLimit {
  readonly frontends: readonly FrontendSpec[];
  readonly endpoints: number;
  readonly sourceRanges: number;
  /** Why not all frontends. */
  readonly table: "services" | "frontends";
}

/** Divides what an owner may have among its ports. What is `served` already, a port or a frontend, comes first. */
export function divideAmongPorts(
  ports: readonly PortSpec[],
  limit: Demand,
  served: { port(port: PortSpec): boolean; frontend(frontend: FrontendSpec): boolean },
): (port: PortSpec) => PortLimit {
  const asked = demandOf(ports);
  if (SCARCE.every((what) => asked[what] <= limit[what])) {
    return ({ frontends }) => ({ frontends, endpoints: ALL, sourceRanges: ALL, table: "frontends" });
  }
  const first = <T>(all: readonly T[], count: number, isFirst: (one: T) => boolean): ReadonlySet<T> =>
    new Set([...all.filter(isFirst), ...all.filter((one) => !isFirst(one))].slice(0, count));
  const withId = first(ports, limit.services, served.port);
  const allowed = first(
    [...withId].flatMap(({ frontends }) => frontends),
    limit.frontends,
    served.frontend,
  );
  const among = (asked: (port: PortSpec) => number, most: number): ReadonlyMap<PortSpec, number> =>
    divide(
      ports.map((port) => [port, asked(port)] as const),
      most,
    );
  const endpoints = among(({ candidates }) => candidates.length, limit.endpoints);
  const sourceRanges = among(rangesAskedFor, limit.sourceRanges);
  return (port) => ({
    frontends: withId.has(port) ? port.frontends.filter((frontend) => allowed.has(frontend)) : [],
    endpoints: endpoints.get(port) ?? ALL,
    sourceRanges: sourceRanges.get(port) ?? ALL,
    table: withId.has(port) ? "frontends" : "services",
  });
}

function divideAmong(
  demands: ReadonlyMap<OwnerKey, Demand>,
  what: (typeof SCARCE)[number],
  most: Demand,
  isServed: (owner: OwnerKey) => boolean,
): Map<OwnerKey, number> {
  const members = new Map<string, [OwnerKey, number][]>();
  const sums = new Map<string, number>();
  for (const [owner, { [what]: count }] of demands) {
    if (count === 0) continue;
    const namespace = ownerOf(owner).key.split("/", 1)[0]!;
    const known = members.get(namespace);
    if (known === undefined) members.set(namespace, [[owner, count]]);
    else known.push([owner, count]);
    sums.set(namespace, (sums.get(namespace) ?? 0) + count);
  }
  const limits = new Map<OwnerKey, number>();
  const byName = [...sums].sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [namespace, share] of divide(byName, most[what], true)) {
    const ordered = members
      .get(namespace)!
      .sort(([a], [b]) => Number(isServed(b)) - Number(isServed(a)) || (a < b ? -1 : 1));
    for (const [owner, limit] of divide(ordered, share)) limits.set(owner, limit);
  }
  return limits;
}
