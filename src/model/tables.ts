// What the model believes of the kernel's maps: who holds which service id, row, backend and slot range. This is the
// allocation, the model's only state; objects and claims are not here.
import type { Address, Family, Prefix } from "../lib/address.ts";
import type { OwnerKey } from "./address-claims.ts";
import {
  createIndexAllocator,
  createRangeAllocator,
  type IndexAllocator,
  type RangeAllocator,
  type SlotRange,
} from "./allocation.ts";
import type { AddressRoles, Capacity, FrontendKey, FrontendKind, RowProtocol, Windows } from "./operations.ts";

/** A row that its frontend points to. */
export interface InstalledRow {
  readonly text: string;
  readonly key: FrontendKey;
  readonly index: number;
  readonly generation: number;
  readonly kind: FrontendKind;
  readonly group: Group;
  windows: Windows;
  affinity: number;
  restricted: boolean;
  /** Its group gave it up or lost it; it is freed at the end of the round. */
  leaving: boolean;
}

/** Backends in the order of their slots. */
export interface SlotLayout {
  readonly first: number;
  readonly backends: Uint32Array;
}

/** All that belongs to one service id. */
export interface Group {
  readonly serviceId: number;
  readonly protocol: RowProtocol;
  /** undefined: adopted, and not yet claimed by content. */
  owner: OwnerKey | undefined;
  /** Which port of the owner: PortSpec.key. */
  key: string;
  family: Family;
  portName: string;
  port: number;
  nodePort: number;
  rows: InstalledRow[];
  /** One when it has slots. An adopted group may have several, of which the next plan keeps at most one. */
  layouts: SlotLayout[];
  /** Disjoint ranges that it owns. */
  ranges: SlotRange[];
  /** Backends that are in no layout: adopted ones, those that wait for slots, and those that are drained. */
  strays: number[];
  /** How many slots it has where backends stand more than once; 0: each stands in them once. */
  spread: number;
  /** What `source_ranges` holds of it. */
  sourceRanges: readonly Prefix[];
  /** The ranges that its flows were told of last, as text; "" when there are none, or nobody knows. */
  policy: string;
}

export interface Tables {
  readonly capacity: Capacity;
  readonly services: IndexAllocator;
  readonly rows: IndexAllocator;
  readonly backends: IndexAllocator;
  readonly slots: RangeAllocator;
  /** Last generation used, by index. */
  readonly rowGenerations: Uint32Array;
  readonly backendGenerations: Uint32Array;
  readonly backendAddresses: Address[];
  readonly backendPorts: Uint16Array;
  readonly backendLocal: Uint8Array;
  /** See Backend.windows. */
  readonly backendWindows: Uint8Array;
  /** Elements of `source_ranges`. */
  sourceRangesUsed: number;
  /** By frontendText. */
  readonly frontends: Map<string, InstalledRow>;
  /** Frontends of the kernel that point to no valid row: replaced or dropped by the next plan. */
  readonly broken: Map<string, FrontendKey>;
  readonly groups: Map<number, Group>;
  readonly addresses: Map<Address, AddressRoles>;
  /** Slots of all groups where backends stand more than once. */
  spread: number;
  /** Something was retired before the adoption and may still be in use: wait before an index is used again. */
  graceFirst: boolean;
}

export function createTables(capacity: Capacity): Tables {
  return {
    capacity,
    // Service id 0 is what an unused row or backend reads as.
    services: createIndexAllocator(1, capacity.services, "fresh"),
    rows: createIndexAllocator(0, capacity.rows, "compact"),
    backends: createIndexAllocator(0, capacity.backends, "compact"),
    slots: createRangeAllocator(capacity.slots),
    rowGenerations: new Uint32Array(capacity.rows),
    backendGenerations: new Uint32Array(capacity.backends),
    backendAddresses: [],
    backendPorts: new Uint16Array(capacity.backends),
    backendLocal: new Uint8Array(capacity.backends),
    backendWindows: new Uint8Array(capacity.backends),
    sourceRangesUsed: 0,
    frontends: new Map(),
    broken: new Map(),
    groups: new Map(),
    addresses: new Map(),
    spread: 0,
    graceFirst: false,
  };
}

type GroupPort = Pick<Group, "protocol" | "key" | "family" | "portName" | "port" | "nodePort">;

/** Enters a group that holds nothing yet. */
export function addGroup(tables: Tables, serviceId: number, spec: GroupPort): Group {
  const { protocol, key, family, portName, port, nodePort } = spec;
  const known = { serviceId, protocol, owner: undefined, key, family, portName, port, nodePort };
  const group: Group = {
    ...known,
    ...{ rows: [], layouts: [], ranges: [], strays: [], spread: 0, sourceRanges: [], policy: "" },
  };
  tables.groups.set(serviceId, group);
  return group;
}

/** The group's backends stand more than once in so many slots, or in none. */
export function setSpread(tables: Tables, group: Group, slots: number): void {
  tables.spread += slots - group.spread;
  group.spread = slots;
}

/** So many slots may be had by those whose backends stand in them more than once: the rest is for each backend's old and new slot. */
export function spreadRoom({ capacity, spread }: Tables): number {
  return Math.max(0, capacity.slots - 2 * capacity.backends) - spread;
}

/** Every backend index that the group holds, once. */
export function backendsOf(group: Group): Iterable<number> {
  const [only] = group.layouts;
  if (only === undefined) return group.strays;
  return new Set([...group.layouts.flatMap((layout) => [...layout.backends]), ...group.strays]);
}
