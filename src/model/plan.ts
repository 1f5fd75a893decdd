// From what a port asks for and what the kernel has to operations, in an order in which every prefix is safe:
// put -> switch -> drop -> retire -> grace -> free. It changes the tables as if every operation succeeded.
import type { OwnerKey } from "./address-claims.ts";
import { nextGeneration, type Range, subtract } from "./allocation.ts";
import type { FrontendSpec, PortSpec } from "./compile.ts";
import type { Candidate } from "./endpoints.ts";
import type { Operation, Row } from "./operations.ts";
import { backendsOf, type Group, type InstalledRow, type SlotLayout, type Tables } from "./tables.ts";
import { type Layout, layOut, sameWindows, windowsOf } from "./windows.ts";

/** The operations of changes that share one grace. */
export interface Round {
  readonly puts: Operation[];
  readonly switches: Operation[];
  readonly drops: Operation[];
  readonly retires: Operation[];
  readonly leaving: InstalledRow[];
  readonly freedBackends: number[];
  readonly freedRanges: Range[];
  readonly freedServices: number[];
}

export function beginRound(): Round {
  return {
    puts: [],
    switches: [],
    drops: [],
    retires: [],
    leaving: [],
    freedBackends: [],
    freedRanges: [],
    freedServices: [],
  };
}

export type FullTable = "frontends" | "rows" | "slots" | "backends" | "services";

/**
 * Brings `old` (undefined: there is none yet) to what `spec` asks for. When a table is too full for that, its name is
 * returned, nothing was changed and `old` goes on as it is.
 */
export function applyPort(
  tables: Tables,
  round: Round,
  owner: OwnerKey,
  spec: PortSpec,
  old: Group | undefined,
): Group | FullTable {
  const withLocal = spec.frontends.some((f) => (f.kind === "cluster-ip" ? spec.internal : spec.external) === "Local");
  const layout = layOut(spec.candidates, withLocal);
  const known = old === undefined ? undefined : knownBackends(tables, old);
  const indexes: number[] = [];
  let fresh = 0;
  for (const candidate of layout.slots) {
    const index = known?.get(backendText(candidate.address, candidate.port)) ?? -1;
    if (index === -1) fresh++;
    indexes.push(index);
  }
  const kept = fresh === 0 ? old?.layouts.find((present) => fits(present.backends, indexes, layout)) : undefined;
  const full = firstFull(tables, spec.frontends, old, fresh);
  if (full !== undefined) return full;
  const total = indexes.length;
  const first = kept?.first ?? (total === 0 ? 0 : tables.slots.take(total));
  if (first === undefined) return "slots";

  const group = old ?? newGroup(tables, spec);
  group.owner = owner;
  group.key = spec.key;
  group.family = spec.family;
  group.portName = spec.portName;
  group.port = spec.port;
  group.nodePort = spec.nodePort;

  if (fresh > 0) putBackends(tables, round, group, layout.slots, indexes);
  if (fresh < total) {
    for (let i = 0; i < total; i++) setLocal(tables, round, indexes[i]!, layout.slots[i]!.local);
  }
  const backends = kept?.backends ?? Uint32Array.from(indexes);
  if (kept === undefined && total > 0) {
    const generations = backends.map((index) => tables.backendGenerations[index]!);
    round.puts.push({ op: "put-slots", first, backends, generations });
  }
  switchRows(tables, round, group, spec, layout, first);

  if (kept === undefined || group.strays.length > 0 || group.layouts.length > 1) {
    const inUse = new Set(indexes);
    for (const index of backendsOf(group)) if (!inUse.has(index)) retire(tables, round, index, group);
  }
  const present: SlotLayout[] = total === 0 ? [] : [kept ?? { first, backends }];
  round.freedRanges.push(...subtract(group.ranges, { first, count: total }));
  group.layouts = present;
  group.ranges = total === 0 ? [] : [{ first, count: total }];
  group.strays = [];
  return group;
}

/** Nothing is left of the group after this round. */
export function removeGroup(tables: Tables, round: Round, group: Group): void {
  for (const row of group.rows) leave(round, row);
  for (const index of backendsOf(group)) retire(tables, round, index, group);
  round.freedRanges.push(...group.ranges);
  round.freedServices.push(group.serviceId);
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

  const operations: Operation[] = [];
  if (tables.graceFirst && round.puts.length > 0) operations.push({ op: "grace" });
  if (round.puts.length > 0) tables.graceFirst = false;
  for (const part of [round.puts, round.switches, addressPuts, round.drops, addressDrops, round.retires]) {
    for (const operation of part) operations.push(operation);
  }
  if (frees.length > 0) operations.push({ op: "grace" });
  for (const operation of frees) operations.push(operation);
  return { operations, freed: frees.length + round.freedServices.length + round.drops.length > 0 };
}

function knownBackends(tables: Tables, group: Group): Map<string, number> {
  const known = new Map<string, number>();
  for (const index of backendsOf(group)) {
    const text = backendText(tables.backendAddresses[index]!, tables.backendPorts[index]!);
    if (!known.has(text)) known.set(text, index);
  }
  return known;
}

function backendText(address: string, port: number): string {
  return `${address} ${port}`;
}

/** The slots serve both windows as they lie: the local one is a prefix and the cluster one a suffix, in whatever order. */
function fits(present: Uint32Array, wanted: readonly number[], layout: Layout<unknown>): boolean {
  if (present.length !== wanted.length) return false;
  if (wanted.every((index, i) => present[i] === index)) return true;
  const local = new Set(wanted.slice(0, layout.localCount));
  const clusterStart = wanted.length - layout.clusterCount;
  const cluster = new Set(wanted.slice(clusterStart));
  return present.every(
    (index, i) => local.has(index) === i < layout.localCount && cluster.has(index) === i >= clusterStart,
  );
}

function firstFull(
  tables: Tables,
  frontends: readonly FrontendSpec[],
  old: Group | undefined,
  freshBackends: number,
): FullTable | undefined {
  let newRows = 0;
  let newKeys = 0;
  for (const frontend of frontends) {
    const installed = tables.frontends.get(frontend.text);
    if (installed === undefined && !tables.broken.has(frontend.text)) newKeys++;
    if (installed === undefined || !isOwn(installed, old, frontend)) newRows++;
  }
  if (newKeys > 0 && tables.frontends.size + tables.broken.size + newKeys > tables.capacity.frontends) {
    return "frontends";
  }
  if (newRows > tables.rows.available) return "rows";
  if (freshBackends > tables.backends.available) return "backends";
  return old === undefined && tables.services.available === 0 ? "services" : undefined;
}

/** The row can go on: nothing of it that is constant has to change. */
function isOwn(installed: InstalledRow, group: Group | undefined, frontend: FrontendSpec): boolean {
  return installed.group === group && installed.kind === frontend.kind && !installed.leaving;
}

function newGroup(tables: Tables, spec: PortSpec): Group {
  const group: Group = {
    serviceId: tables.services.take(),
    protocol: spec.protocol,
    owner: undefined,
    key: spec.key,
    family: spec.family,
    portName: spec.portName,
    port: spec.port,
    nodePort: spec.nodePort,
    rows: [],
    layouts: [],
    ranges: [],
    strays: [],
  };
  tables.groups.set(group.serviceId, group);
  return group;
}

/** Gives an index to every candidate that has none (-1 in `indexes`, which is filled in). */
function putBackends(
  tables: Tables,
  round: Round,
  group: Group,
  candidates: readonly Candidate[],
  indexes: number[],
): void {
  const taken: number[] = [];
  const generations: number[] = [];
  const endpoints: Candidate[] = [];
  for (let i = 0; i < candidates.length; i++) {
    if (indexes[i] !== -1) continue;
    const candidate = candidates[i]!;
    const index = tables.backends.take();
    const generation = nextGeneration(tables.backendGenerations[index]!);
    tables.backendGenerations[index] = generation;
    tables.backendAddresses[index] = candidate.address;
    tables.backendPorts[index] = candidate.port;
    tables.backendLocal[index] = candidate.local ? 1 : 0;
    indexes[i] = index;
    taken.push(index);
    generations.push(generation);
    endpoints.push(candidate);
  }
  round.puts.push({ op: "put-backends", serviceId: group.serviceId, indexes: taken, generations, endpoints });
}

function setLocal(tables: Tables, round: Round, index: number, local: boolean): void {
  if ((tables.backendLocal[index] === 1) === local) return;
  tables.backendLocal[index] = local ? 1 : 0;
  const generation = tables.backendGenerations[index]!;
  round.switches.push({ op: "set-backend-local", index, generation, local });
}

function switchRows(
  tables: Tables,
  round: Round,
  group: Group,
  spec: PortSpec,
  layout: Layout<unknown>,
  first: number,
): void {
  const rows: InstalledRow[] = [];
  for (const frontend of spec.frontends) {
    const windows = windowsOf(frontend.kind, spec, layout, first);
    const installed = tables.frontends.get(frontend.text);
    if (installed !== undefined && isOwn(installed, group, frontend)) {
      if (!sameWindows(installed.windows, windows)) {
        round.switches.push({ op: "set-windows", index: installed.index, windows });
        installed.windows = windows;
      }
      rows.push(installed);
      continue;
    }
    const index = tables.rows.take();
    const generation = nextGeneration(tables.rowGenerations[index]!);
    tables.rowGenerations[index] = generation;
    const { key, kind, text } = frontend;
    const row: Row = { key, generation, serviceId: group.serviceId, kind, windows };
    round.puts.push({ op: "put-row", index, row });
    round.switches.push({ op: "put-frontend", key, row: index, generation });
    const replacement = { text, key, index, generation, kind, group, windows, leaving: false };
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
