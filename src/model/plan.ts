// From what a port asks for and what the kernel has to operations, in an order in which every prefix is safe:
// put -> switch -> drop -> settle -> retire -> grace -> free. It changes the tables as if every operation succeeded.
import type { OwnerKey } from "./address-claims.ts";
import { nextGeneration, type SlotRange, subtract } from "./allocation.ts";
import type { FrontendSpec, PortSpec } from "./compile.ts";
import type { Candidate } from "./endpoints.ts";
import { fitEndpoints, fitFrontends, isOwn, type Shortage } from "./fit.ts";
import type { Backend, Operation, Row, Windows } from "./operations.ts";
import type { PortLimit } from "./shares.ts";
import {
  applySourceRanges,
  endSourceRanges,
  isRestricted,
  removeSourceRanges,
  type SourceRanges,
} from "./source-ranges.ts";
import { addGroup, backendsOf, type Group, type InstalledRow, setSpread, type Tables } from "./tables.ts";
import { sameWindows, windowBits, windowsOf } from "./windows.ts";

/** The operations of changes that share one grace. */
export interface Round {
  readonly puts: Operation[];
  readonly switches: Operation[];
  /** What no frontend needs any more, of those that were switched or dropped. */
  readonly settles: Operation[];
  readonly drops: Operation[];
  readonly retires: Operation[];
  readonly leaving: InstalledRow[];
  readonly freedBackends: number[];
  readonly freedRanges: SlotRange[];
  readonly freedServices: number[];
  readonly leavingSourceRanges: SourceRanges[];
  /** Elements of `source_ranges` that are free after this round. */
  freedSourceRanges: number;
}

export function beginRound(): Round {
  return {
    puts: [],
    switches: [],
    settles: [],
    drops: [],
    retires: [],
    leaving: [],
    freedBackends: [],
    freedRanges: [],
    freedServices: [],
    leavingSourceRanges: [],
    freedSourceRanges: 0,
  };
}

export interface Applied {
  /** undefined: nothing of the port is served, and what `old` had is still there. */
  readonly group: Group | undefined;
  readonly shortages: Shortage[];
}

/**
 * Brings `old` (undefined: there is none yet) to what `spec` asks for, at `frontends` of its own and with so many endpoints and
 * source ranges at most. When a table is too full for that, fewer are served: those that were before, then others in their order.
 */
export function applyPort(
  tables: Tables,
  round: Round,
  owner: OwnerKey,
  spec: PortSpec,
  old: Group | undefined,
  limit: Pick<PortLimit, "frontends" | "endpoints" | "sourceRanges">,
): Applied {
  if (old === undefined && tables.services.available === 0) {
    const asked = limit.frontends.length;
    return { group: undefined, shortages: [{ table: "services", served: 0, asked, share: false }] };
  }
  const shortages: Shortage[] = [];
  const frontends = fitFrontends(tables, limit.frontends, old, shortages);
  if (frontends.length === 0) return { group: undefined, shortages };
  const placed = fitEndpoints(tables, spec, frontends, old, limit.endpoints, shortages);
  const { layout, indexes, fresh, first, kept, waiting, spread } = placed;
  const total = indexes.length;
  const count = spread?.positions.length ?? total;

  const group = old ?? addGroup(tables, tables.services.take(), spec);
  group.owner = owner;
  group.key = spec.key;
  group.family = spec.family;
  group.portName = spec.portName;
  group.port = spec.port;
  group.nodePort = spec.nodePort;

  const { localCount, clusterCount } = spread ?? layout;
  const lying = { slots: { length: count }, localCount, clusterCount };
  const served = frontends.map((frontend) => ({ frontend, windows: windowsOf(frontend.kind, spec, lying, first) }));
  const shown = frontends.map(({ kind }) => ({ kind, windows: windowsOf(kind, spec, layout, 0) }));
  const bits = windowBits(shown, total);
  if (fresh < total) {
    for (let i = 0; i < total; i++) {
      if (indexes[i] !== -1) setBackend(tables, round, indexes[i]!, layout.slots[i]!.local, bits[i]!);
    }
  }
  for (const index of waiting) setBackend(tables, round, index, tables.backendLocal[index] === 1, 0);
  if (fresh > 0) putBackends(tables, round, group, layout.slots, indexes, bits);
  const backends = kept ?? spread?.positions.map((position) => indexes[position]!) ?? Uint32Array.from(indexes);
  if (kept === undefined && total > 0) {
    const generations = backends.map((index) => tables.backendGenerations[index]!);
    round.puts.push({ op: "put-slots", first, backends, generations });
  }
  // Those too that another port took over in this round: they are read until they were switched.
  const taken = spec.sourceRanges === undefined ? [] : round.leaving.filter((row) => row.group === group);
  const restricted = [...group.rows, ...taken].filter((row) => row.restricted);
  switchRows(tables, round, group, spec, served);
  applySourceRanges(tables, round, group, spec, limit.sourceRanges, restricted, shortages);
  setSpread(tables, group, spread === undefined ? 0 : count);

  const [present] = group.layouts;
  if (kept === undefined || kept !== present?.backends || group.strays.length > 0 || group.layouts.length > 1) {
    const inUse = new Set([...indexes, ...waiting]);
    for (const index of backendsOf(group)) if (!inUse.has(index)) retire(tables, round, index, group);
  }
  round.freedRanges.push(...subtract(group.ranges, { first, count }));
  group.layouts = count === 0 ? [] : [{ first, backends }];
  group.ranges = count === 0 ? [] : [{ first, count }];
  group.strays = [...waiting];
  return { group, shortages };
}

/** Nothing is left of the group after this round. */
export function removeGroup(tables: Tables, round: Round, group: Group): void {
  for (const row of group.rows) leave(round, row);
  for (const index of backendsOf(group)) retire(tables, round, index, group);
  round.freedRanges.push(...group.ranges);
  setSpread(tables, group, 0);
  round.freedServices.push(group.serviceId);
  removeSourceRanges(round, group);
  tables.groups.delete(group.serviceId);
}

/** Frontends that no row answers for any more, when the plan after an adoption has claimed what it wants. */
export function dropBroken(tables: Tables, round: Round): void {
  for (const key of tables.broken.values()) round.drops.push({ op: "drop-frontend", key });
  tables.broken.clear();
}

/**
 * Ends a round: its operations in order, with `addressPuts` behind the frontends that come and `addressDrops` behind
 * those that go. What it freed can be taken again by the next round.
 */
export function endRound(
  tables: Tables,
  round: Round,
  addressPuts: readonly Operation[],
  addressDrops: readonly Operation[],
): { operations: Operation[]; freed: boolean } {
  const frees: Operation[] = [];
  for (const row of round.leaving) {
    if (tables.frontends.get(row.text) === row) {
      tables.frontends.delete(row.text);
      round.drops.push({ op: "drop-frontend", key: row.key });
    }
    frees.push({ op: "free-row", index: row.index });
    tables.rows.release(row.index);
  }
  for (const index of round.freedBackends) {
    frees.push({ op: "free-backend", index });
    tables.backends.release(index);
  }
  for (const range of round.freedRanges) {
    frees.push({ op: "free-slots", first: range.first, count: range.count });
    tables.slots.release(range);
  }
  for (const serviceId of round.freedServices) tables.services.release(serviceId);
  for (const drop of endSourceRanges(tables, round)) frees.push(drop);

  const operations: Operation[] = [];
  if (tables.graceFirst && round.puts.length > 0) operations.push({ op: "grace" });
  if (round.puts.length > 0) tables.graceFirst = false;
  for (const part of [
    round.puts,
    round.switches,
    addressPuts,
    round.drops,
    addressDrops,
    round.settles,
    round.retires,
  ]) {
    for (const operation of part) operations.push(operation);
  }
  if (frees.length > 0) operations.push({ op: "grace" });
  for (const operation of frees) operations.push(operation);
  return {
    operations,
    freed: frees.length + round.freedServices.length + round.drops.length + round.freedSourceRanges > 0,
  };
}

/** Gives an index to every candidate that has none (-1 in `indexes`, which is filled in). */
function putBackends(
  tables: Tables,
  round: Round,
  group: Group,
  candidates: readonly Candidate[],
  indexes: number[],
  bits: Uint8Array,
): void {
  const taken: number[] = [];
  const generations: number[] = [];
  const endpoints: Pick<Backend, "address" | "port" | "local" | "windows">[] = [];
  for (let i = 0; i < candidates.length; i++) {
    if (indexes[i] !== -1) continue;
    const { address, port, local } = candidates[i]!;
    const index = tables.backends.take();
    const generation = nextGeneration(tables.backendGenerations[index]!);
    tables.backendGenerations[index] = generation;
    tables.backendAddresses[index] = address;
    tables.backendPorts[index] = port;
    tables.backendLocal[index] = local ? 1 : 0;
    tables.backendWindows[index] = bits[i]!;
    indexes[i] = index;
    taken.push(index);
    generations.push(generation);
    endpoints.push({ address, port, local, windows: bits[i]! });
  }
  round.puts.push({ op: "put-backends", serviceId: group.serviceId, indexes: taken, generations, endpoints });
}

/** `windows`: those that are to show it. It tells of them before they do, and of others until they no longer do. */
function setBackend(tables: Tables, round: Round, index: number, local: boolean, windows: number): void {
  const generation = tables.backendGenerations[index]!;
  const before = tables.backendWindows[index]!;
  const between = before | windows;
  if ((tables.backendLocal[index] === 1) !== local || between !== before) {
    round.switches.push({ op: "set-backend", index, generation, local, windows: between });
  }
  if (windows !== between) round.settles.push({ op: "set-backend", index, generation, local, windows });
  tables.backendLocal[index] = local ? 1 : 0;
  tables.backendWindows[index] = windows;
}

function switchRows(
  tables: Tables,
  round: Round,
  group: Group,
  spec: PortSpec,
  served: readonly { readonly frontend: FrontendSpec; readonly windows: Windows }[],
): void {
  const rows: InstalledRow[] = [];
  const affinity = spec.affinitySeconds;
  for (const { frontend, windows } of served) {
    const restricted = isRestricted(frontend, spec);
    const installed = tables.frontends.get(frontend.text);
    if (installed !== undefined && isOwn(installed, group, frontend)) {
      if (!sameWindows(installed.windows, windows)) {
        round.switches.push({ op: "set-windows", index: installed.index, windows });
        installed.windows = windows;
      }
      if (installed.affinity !== affinity || installed.restricted !== restricted) {
        round.switches.push({ op: "set-row", index: installed.index, kind: installed.kind, affinity, restricted });
        installed.affinity = affinity;
        installed.restricted = restricted;
      }
      rows.push(installed);
      continue;
    }
    const index = tables.rows.take();
    const generation = nextGeneration(tables.rowGenerations[index]!);
    tables.rowGenerations[index] = generation;
    const { key, kind, text } = frontend;
    const row: Row = { key, generation, serviceId: group.serviceId, kind, affinity, restricted, windows };
    round.puts.push({ op: "put-row", index, row });
    round.switches.push({ op: "put-frontend", key, row: index, generation });
    const replacement = { text, index, group, leaving: false, ...row };
    if (installed !== undefined) {
      leave(round, installed);
      if (installed.group !== group) installed.group.rows = installed.group.rows.filter((other) => other !== installed);
    }
    tables.frontends.set(text, replacement);
    tables.broken.delete(text);
    rows.push(replacement);
  }
  const stays = new Set(rows);
  for (const row of group.rows) if (!stays.has(row)) leave(round, row);
  // A copy has no spare room.
  group.rows = rows.slice();
}

function leave(round: Round, row: InstalledRow): void {
  if (row.leaving) return;
  row.leaving = true;
  round.leaving.push(row);
}

function retire(tables: Tables, round: Round, index: number, group: Group): void {
  const generation = nextGeneration(tables.backendGenerations[index]!);
  tables.backendGenerations[index] = generation;
  round.retires.push({ op: "retire-backend", index, generation, udp: group.protocol === "UDP" });
  round.freedBackends.push(index);
}
