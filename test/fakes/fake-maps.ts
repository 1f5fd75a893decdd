// The kernel's maps as the model asks for them: a small real implementation. It refuses what the real ones refuse (full
// tables, absent keys) and what would break a reader (writing what is live), and can fail in the middle of a batch.

import { type Prefix, prefixContains } from "../../src/lib/address.ts";
import { Failure } from "../../src/lib/errors.ts";
import { frontendText, prefixText } from "../../src/model/compile.ts";
import {
  type AddressRoles,
  type Backend,
  type Capacity,
  type FrontendKey,
  type KernelState,
  type Operation,
  type PrefixRange,
  type Row,
  type Slot,
  WINDOWS,
  type Window,
} from "../../src/model/operations.ts";

export interface FakeFrontend {
  readonly key: FrontendKey;
  readonly row: number;
  readonly generation: number;
}

export interface FakeBackend extends Backend {
  readonly state: "live" | "retired" | "free";
}

export interface FakeMaps {
  readonly frontends: ReadonlyMap<string, FakeFrontend>;
  readonly rows: ReadonlyMap<number, Row>;
  readonly backends: ReadonlyMap<number, FakeBackend>;
  readonly addresses: ReadonlyMap<string, AddressRoles>;
  /** {address, port} of retired UDP backends -> service id. */
  readonly retired: ReadonlyMap<string, number>;
  readonly serviceRanges: readonly PrefixRange[];
  /** Is the address in the Service's source ranges? */
  letsIn(serviceId: number, address: string): boolean;
  /** How often established flows of the Service were to be measured anew. */
  readonly policies: ReadonlyMap<number, number>;
  slot(index: number): Slot;
  /** Applies in order. With `failAfter`, that many are applied and then it throws. */
  apply(operations: readonly Operation[], failAfter?: number): void;
  readState(): KernelState;
  /** Everything in use as sorted text. */
  dump(): string;
  clone(): FakeMaps;
}

const FREE_SLOT: Slot = { backend: 0, generation: 0 };

interface Contents {
  readonly frontends: Map<string, FakeFrontend>;
  readonly rows: Map<number, Row>;
  readonly rowGenerations: Map<number, number>;
  readonly backends: Map<number, FakeBackend>;
  readonly slots: Map<number, Slot>;
  readonly addresses: Map<string, AddressRoles>;
  readonly retired: Map<string, number>;
  serviceRanges: readonly PrefixRange[];
  /** By service id and text of the network. */
  readonly sourceRanges: Map<string, { readonly serviceId: number; readonly range: Prefix }>;
  readonly policies: Map<number, number>;
  /** What was retired or dropped since the last grace may still be in use. */
  readonly unsettledBackends: Set<number>;
  readonly unsettledRows: Set<number>;
  unsettledSlots: readonly Window[];
}

export function createFakeMaps(capacity: Capacity): FakeMaps {
  return over(capacity, {
    frontends: new Map(),
    rows: new Map(),
    rowGenerations: new Map(),
    backends: new Map(),
    slots: new Map(),
    addresses: new Map(),
    retired: new Map(),
    serviceRanges: [],
    sourceRanges: new Map(),
    policies: new Map(),
    unsettledBackends: new Set(),
    unsettledRows: new Set(),
    unsettledSlots: [],
  });
}

function over(capacity: Capacity, maps: Contents): FakeMaps {
  const refuse: (operation: Operation, why: string) => never = (operation, why) => {
    throw new Failure("kernel", operation.op, `could not ${operation.op} ${JSON.stringify(operation)}: ${why}`);
  };

  const isPointedTo = (row: number): boolean => {
    const key = maps.rows.get(row)?.key;
    return key !== undefined && maps.frontends.get(frontendText(key))?.row === row;
  };

  /** Slots that some live row may read. */
  const isWatched = (first: number, count: number): boolean => {
    for (const { row } of maps.frontends.values()) {
      const windows = maps.rows.get(row)?.windows;
      if (windows === undefined) continue;
      for (const window of [windows.external, windows.internal, windows.cluster]) {
        if (window.count > 0 && window.first < first + count && first < window.first + window.count) return true;
      }
    }
    return false;
  };

  /** Readers may be on their way to the slots that the row's windows named. */
  const leaveWindows = (row: number | undefined): void => {
    const windows = row === undefined ? undefined : maps.rows.get(row)?.windows;
    if (windows === undefined) return;
    maps.unsettledSlots = [...maps.unsettledSlots, windows.external, windows.internal, windows.cluster];
  };

  /** A window that clients use shows only backends that say so. */
  const refuseUntold = (operation: Operation, row: Row | undefined): void => {
    if (row === undefined) return;
    for (const [bit, name] of WINDOWS.entries()) {
      if ((row.kind === "cluster-ip") !== (name === "internal")) continue;
      const { first, count } = row.windows[name];
      for (let at = first; at < first + count; at++) {
        const { backend, generation } = maps.slots.get(at) ?? FREE_SLOT;
        const shown = maps.backends.get(backend);
        if (shown?.state === "live" && shown.generation === generation && !(shown.windows & (1 << bit)))
          refuse(operation, `backend ${backend} does not say that the ${name} window shows it`);
      }
    }
  };

  const isUnsettled = (first: number, count: number): boolean =>
    maps.unsettledSlots.some((window) => window.first < first + count && first < window.first + window.count);

  const applyOne = (operation: Operation): void => {
    switch (operation.op) {
      case "put-backends": {
        const { serviceId, indexes, generations, endpoints } = operation;
        if (generations.length !== indexes.length || endpoints.length !== indexes.length) refuse(operation, "ragged");
        for (const [i, index] of indexes.entries()) {
          const generation = generations[i]!;
          const old = maps.backends.get(index);
          if (index >= capacity.backends) refuse(operation, "index out of range");
          if (old?.state === "live") refuse(operation, "it is in use");
          if (maps.unsettledBackends.has(index)) refuse(operation, "no grace since it was retired");
          if (generation === 0 || generation === old?.generation) refuse(operation, "stale generation");
          maps.backends.set(index, { ...endpoints[i]!, serviceId, generation, state: "live" });
        }
        return;
      }
      case "set-backend": {
        const { index, generation, local, windows } = operation;
        const old = maps.backends.get(index);
        if (old?.state !== "live" || old.generation !== generation) refuse(operation, "it is not live");
        maps.backends.set(index, { ...old, local, windows });
        for (const { row } of maps.frontends.values()) refuseUntold(operation, maps.rows.get(row));
        return;
      }
      case "put-slots": {
        const { first, backends, generations } = operation;
        if (first + backends.length > capacity.slots) refuse(operation, "index out of range");
        if (isWatched(first, backends.length)) refuse(operation, "a live window covers it");
        if (isUnsettled(first, backends.length)) refuse(operation, "no grace since a window left it");
        for (const [i, backend] of backends.entries()) {
          maps.slots.set(first + i, { backend, generation: generations[i]! });
        }
        return;
      }
      case "put-row": {
        const { index, row } = operation;
        if (index >= capacity.rows) refuse(operation, "index out of range");
        if (isPointedTo(index)) refuse(operation, "a frontend points to it");
        if (maps.unsettledRows.has(index)) refuse(operation, "no grace since it was dropped");
        if (row.generation === 0 || maps.rowGenerations.get(index) === row.generation) {
          refuse(operation, "stale generation");
        }
        maps.rows.set(index, row);
        maps.rowGenerations.set(index, row.generation);
        return;
      }
      case "set-windows": {
        const row = maps.rows.get(operation.index);
        if (row === undefined) refuse(operation, "there is no row");
        leaveWindows(operation.index);
        maps.rows.set(operation.index, { ...row, windows: operation.windows });
        refuseUntold(operation, maps.rows.get(operation.index));
        return;
      }
      case "set-row": {
        const { index, kind, affinity, restricted } = operation;
        const row = maps.rows.get(index);
        if (row?.kind !== kind) refuse(operation, "there is no such row");
        maps.rows.set(index, { ...row, affinity, restricted });
        return;
      }
      case "put-source-ranges":
        for (const range of operation.ranges) {
          const text = `${operation.serviceId} ${prefixText(range)}`;
          if (maps.sourceRanges.has(text)) refuse(operation, "it is there");
          if (maps.sourceRanges.size >= capacity.sourceRanges) refuse(operation, "the map is full");
          maps.sourceRanges.set(text, { serviceId: operation.serviceId, range });
        }
        return;
      case "free-source-ranges":
        for (const range of operation.ranges) {
          if (!maps.sourceRanges.delete(`${operation.serviceId} ${prefixText(range)}`))
            refuse(operation, "it is not there");
        }
        return;
      case "raise-policy":
        maps.policies.set(operation.serviceId, (maps.policies.get(operation.serviceId) ?? 0) + 1);
        return;
      case "put-frontend": {
        const { key, row, generation } = operation;
        const text = frontendText(key);
        const old = maps.frontends.get(text);
        if (old === undefined && maps.frontends.size >= capacity.frontends) refuse(operation, "the map is full");
        if (maps.rows.get(row)?.generation !== generation) refuse(operation, "its row is not there");
        if (old !== undefined) maps.unsettledRows.add(old.row);
        leaveWindows(old?.row);
        refuseUntold(operation, maps.rows.get(row));
        maps.frontends.set(text, { key, row, generation });
        return;
      }
      case "drop-frontend": {
        const text = frontendText(operation.key);
        const old = maps.frontends.get(text);
        if (old === undefined) refuse(operation, "it does not exist");
        maps.frontends.delete(text);
        leaveWindows(old.row);
        maps.unsettledRows.add(old.row);
        return;
      }
      case "put-address":
        if (!maps.addresses.has(operation.address) && maps.addresses.size >= capacity.addresses) {
          refuse(operation, "the map is full");
        }
        maps.addresses.set(operation.address, operation.roles);
        return;
      case "drop-address":
        if (!maps.addresses.delete(operation.address)) refuse(operation, "it does not exist");
        return;
      case "set-service-ranges":
        maps.serviceRanges = operation.ranges;
        return;
      case "retire-backend": {
        const old = maps.backends.get(operation.index);
        if (old?.state !== "live") refuse(operation, "it is not live");
        if (old.generation === operation.generation) refuse(operation, "stale generation");
        if (operation.udp) maps.retired.set(`${old.address} ${old.port}`, old.serviceId);
        maps.backends.set(operation.index, { ...old, generation: operation.generation, state: "retired" });
        maps.unsettledBackends.add(operation.index);
        return;
      }
      case "grace":
        maps.unsettledBackends.clear();
        maps.unsettledRows.clear();
        maps.unsettledSlots = [];
        return;
      case "free-backend": {
        const old = maps.backends.get(operation.index);
        if (old?.state !== "retired") refuse(operation, "it is not retired");
        if (maps.unsettledBackends.has(operation.index)) refuse(operation, "no grace since it was retired");
        maps.backends.set(operation.index, { ...old, state: "free" });
        return;
      }
      case "free-row":
        if (!maps.rows.has(operation.index)) refuse(operation, "there is no row");
        if (isPointedTo(operation.index)) refuse(operation, "a frontend points to it");
        if (maps.unsettledRows.has(operation.index)) refuse(operation, "no grace since it was dropped");
        maps.rows.delete(operation.index);
        return;
      case "free-slots":
        if (isWatched(operation.first, operation.count)) refuse(operation, "a live window covers it");
        if (isUnsettled(operation.first, operation.count)) refuse(operation, "no grace since a window left it");
        for (let i = 0; i < operation.count; i++) maps.slots.delete(operation.first + i);
        return;
    }
  };

  return {
    frontends: maps.frontends,
    rows: maps.rows,
    backends: maps.backends,
    addresses: maps.addresses,
    retired: maps.retired,
    get serviceRanges() {
      return maps.serviceRanges;
    },
    letsIn(serviceId, address) {
      for (const one of maps.sourceRanges.values())
        if (one.serviceId === serviceId && prefixContains(one.range, address)) return true;
      return false;
    },
    policies: maps.policies,
    slot: (index) => maps.slots.get(index) ?? FREE_SLOT,
    apply(operations, failAfter = Number.POSITIVE_INFINITY) {
      for (const [i, operation] of operations.entries()) {
        if (i >= failAfter) throw new Failure("kernel", operation.op, `could not ${operation.op}: made to fail`);
        applyOne(operation);
      }
    },
    readState() {
      const rows = new Map<number, Row>();
      for (const { row, generation, key } of maps.frontends.values()) {
        const found = maps.rows.get(row);
        if (found?.generation === generation && frontendText(found.key) === frontendText(key)) rows.set(row, found);
      }
      const live = [...maps.backends].filter(([, backend]) => backend.state === "live");
      const others = [...maps.backends].filter(([, backend]) => backend.state !== "live");
      return {
        frontends: [...maps.frontends.values()],
        rows,
        backends: new Map(live.map(([index, { state, ...backend }]) => [index, backend])),
        rowGenerations: new Map([...maps.rowGenerations].filter(([index]) => !rows.has(index))),
        backendGenerations: new Map(others.map(([index, { generation }]) => [index, generation])),
        slot: (index) => maps.slots.get(index) ?? FREE_SLOT,
        addresses: new Map(maps.addresses),
        sourceRanges: new Map(
          [...Map.groupBy(maps.sourceRanges.values(), (one) => one.serviceId)].map(([serviceId, list]) => [
            serviceId,
            list.map(({ range }) => range),
          ]),
        ),
      };
    },
    dump: () => dumpOf(maps),
    clone: () =>
      over(capacity, {
        frontends: new Map(maps.frontends),
        rows: new Map(maps.rows),
        rowGenerations: new Map(maps.rowGenerations),
        backends: new Map(maps.backends),
        slots: new Map(maps.slots),
        addresses: new Map(maps.addresses),
        retired: new Map(maps.retired),
        serviceRanges: maps.serviceRanges,
        sourceRanges: new Map(maps.sourceRanges),
        policies: new Map(maps.policies),
        unsettledBackends: new Set(maps.unsettledBackends),
        unsettledRows: new Set(maps.unsettledRows),
        unsettledSlots: maps.unsettledSlots,
      }),
  };
}

function dumpOf(maps: Contents): string {
  const lines: string[] = [];
  for (const [address, roles] of maps.addresses) {
    const names = (["node", "refuse", "peer", "withoutNodePorts"] as const).filter((role) => roles[role]);
    lines.push(`address ${[address, ...names].join(" ")}`);
  }
  for (const [text, { row: index }] of maps.frontends) {
    const row = maps.rows.get(index);
    if (row === undefined) lines.push(`frontend ${text} -> row ${index} MISSING`);
    else {
      const { external, internal, cluster } = row.windows;
      const windows = `ext ${windowText(maps, external)} int ${windowText(maps, internal)} all ${windowText(maps, cluster)}`;
      const words = `${row.affinity > 0 ? ` affinity ${row.affinity}` : ""}${row.restricted ? " restricted" : ""}`;
      lines.push(
        `frontend ${text} ${row.kind} service ${row.serviceId} row ${index}.${row.generation}${words} ${windows}`,
      );
    }
  }
  for (const [index, backend] of maps.backends) {
    if (backend.state === "free") continue;
    const { address, port, serviceId, generation, local, state } = backend;
    const words = `${local ? " local" : ""}${state === "retired" ? " retired" : ""}`;
    lines.push(`backend ${index}.${generation} service ${serviceId} ${endpointText(address, port)}${words}`);
  }
  for (const text of maps.sourceRanges.keys()) lines.push(`source ${text}`);
  for (const [text, serviceId] of maps.retired) lines.push(`retired ${text} service ${serviceId}`);
  for (const { address, length, exempt } of maps.serviceRanges) {
    lines.push(`range ${address}/${length}${exempt === true ? " exempt" : ""}`);
  }
  return lines.sort().join("\n");
}

function windowText(maps: Contents, window: Window): string {
  if (window.count === 0) return window.whenEmpty;
  const slots = Array.from({ length: window.count }, (_, i) => maps.slots.get(window.first + i)?.backend ?? "?");
  return `${window.first}[${slots.join(" ")}]`;
}

/** "10.0.0.1:80", "[fd00::1]:80". */
export function endpointText(address: string, port: number): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}
