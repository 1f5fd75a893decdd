// What of a port finds room: which of its frontends and endpoints, and where the endpoints lie. With room enough that is all of
// them. It decides only: what changes the tables is plan.ts's.
import type { SlotRange } from "./allocation.ts";
import type { FrontendSpec, PortSpec } from "./compile.ts";
import type { Candidate } from "./endpoints.ts";
import { type NoSpread, type Spread, spreadLayout } from "./spread.ts";
import { backendsOf, type Group, type InstalledRow, type SlotLayout, spreadRoom, type Tables } from "./tables.ts";
import { type Layout, layOut } from "./windows.ts";

/** A table is full, or what this one may have of it is used up (`share`): so many of those that were asked for are served. */
export interface FullTable {
  readonly table: "frontends" | "rows" | "slots" | "backends" | "services" | "source_ranges";
  readonly served: number;
  readonly asked: number;
  readonly share: boolean;
}

/** All that were asked for are served, each by one slot. */
export interface Unspread {
  readonly why: NoSpread;
}

export type Shortage = FullTable | Unspread;

interface Fitted {
  readonly layout: Layout<Candidate>;
  /** Backends in the order of the slots; -1 for one that is still to come. */
  readonly indexes: number[];
  /** How many are still to come. */
  readonly fresh: number;
}

export interface Placed extends Fitted {
  readonly first: number;
  /** The present slots, or a part of them, serve as they lie; undefined: a free range that has been taken. */
  readonly kept: Uint32Array | undefined;
  /** Backends that are in no slot: they wait for some, or are drained. */
  readonly waiting: readonly number[];
  /** How the layout's endpoints lie in the slots; undefined: once each, in its order. */
  readonly spread?: Spread | undefined;
}

/** The frontends for which there are rows and keys: those that stay, then others in their order. */
export function fitFrontends(
  tables: Tables,
  wanted: readonly FrontendSpec[],
  old: Group | undefined,
  shortages: Shortage[],
): readonly FrontendSpec[] {
  let rows = tables.rows.available;
  let keys = tables.capacity.frontends - tables.frontends.size - tables.broken.size;
  if (wanted.length <= Math.min(rows, keys)) return wanted;
  let table: "rows" | "frontends" = "rows";
  const fitting = wanted.filter((frontend) => {
    const installed = tables.frontends.get(frontend.text);
    if (installed !== undefined && isOwn(installed, old, frontend)) return true;
    const isNew = installed === undefined && !tables.broken.has(frontend.text);
    if (isNew && keys <= 0) table = "frontends";
    if (rows <= 0 || (isNew && keys <= 0)) return false;
    rows--;
    if (isNew) keys--;
    return true;
  });
  if (fitting.length < wanted.length)
    shortages.push({ table, served: fitting.length, asked: wanted.length, share: false });
  return fitting;
}

/** The row can go on: nothing of it that is constant has to change. */
export function isOwn(installed: InstalledRow, group: Group | undefined, frontend: FrontendSpec): boolean {
  return installed.group === group && installed.kind === frontend.kind && !installed.leaving;
}

/** Lays out the port's endpoints, `most` of them, as far as there are backends and slots; takes a range of slots if it needs one. */
export function fitEndpoints(
  tables: Tables,
  spec: PortSpec,
  frontends: readonly FrontendSpec[],
  old: Group | undefined,
  most: number,
  shortages: Shortage[],
): Placed {
  const withLocal = frontends.some((f) => (f.kind === "cluster-ip" ? spec.internal : spec.external) === "Local");
  const find = finder(tables, old);
  const candidates = spec.candidates.filter(({ weight }) => weight !== 0);
  const wanted = layFor(candidates, withLocal, find);
  const asked = wanted.indexes.length;
  const available = tables.backends.available;
  let table: "backends" | "slots" =
    asked > most && tables.capacity.slots < tables.capacity.backends ? "slots" : "backends";
  let fitted = wanted;
  if (asked > most || wanted.fresh > available) {
    fitted = layFor(choose(wanted, candidates, find, most, available), withLocal, find);
  }
  let placed = placeSpread(tables, old, fitted, spec.tableSize, shortages) ?? place(tables, old, fitted);
  if (placed === undefined) {
    table = "slots";
    const part = old === undefined ? undefined : partOfPresent(tables, old, fitted, withLocal);
    if (part !== undefined) placed = part;
    else {
      const fewer = choose(fitted, candidates, find, tables.slots.longest, available);
      placed = place(tables, old, layFor(fewer, withLocal, find))!;
    }
    const shown = new Set(placed.indexes);
    placed = { ...placed, waiting: fitted.indexes.filter((index) => index !== -1 && !shown.has(index)) };
  }
  if (candidates.length < spec.candidates.length) {
    // What is drained opens no flow, and serves those that it has.
    const drained = spec.candidates.filter(({ weight }) => weight === 0).map(find);
    placed = { ...placed, waiting: [...placed.waiting, ...drained.filter((index) => index !== -1)] };
  }
  if (placed.layout === wanted.layout) return placed;
  const ready = new Set(wanted.layout.slots);
  const served = placed.layout.slots.filter((endpoint) => ready.has(endpoint)).length;
  if (served < asked) shortages.push({ table, served, asked, share: served >= most });
  return placed;
}

/** The backend that an endpoint has, -1 when it has none. */
type Find = (candidate: Candidate) => number;

function finder(tables: Tables, old: Group | undefined): Find {
  if (old === undefined) return () => -1;
  const known = knownBackends(tables, old);
  return ({ address, port }) => known.get(backendText(address, port)) ?? -1;
}

function layFor(candidates: readonly Candidate[], withLocal: boolean, find: Find): Fitted {
  const layout = layOut(candidates, withLocal);
  const indexes: number[] = [];
  let fresh = 0;
  for (const candidate of layout.slots) {
    const index = find(candidate);
    if (index === -1) fresh++;
    indexes.push(index);
  }
  return { layout, indexes, fresh };
}

/** So many of the endpoints: those that have a backend, others in their order, then terminating ones that have one. */
function choose(
  { layout: { slots }, indexes }: Fitted,
  candidates: readonly Candidate[],
  find: Find,
  most: number,
  fresh: number,
): Candidate[] {
  const chosen = new Set<Candidate>();
  for (let i = 0; i < slots.length && chosen.size < most; i++) if (indexes[i] !== -1) chosen.add(slots[i]!);
  const all = Math.min(most, chosen.size + fresh);
  for (let i = 0; i < slots.length && chosen.size < all; i++) if (indexes[i] === -1) chosen.add(slots[i]!);
  for (let i = 0; i < candidates.length && chosen.size < most; i++) {
    if (!chosen.has(candidates[i]!) && find(candidates[i]!) !== -1) chosen.add(candidates[i]!);
  }
  return candidates.filter((candidate) => chosen.has(candidate));
}

/**
 * Where its endpoints are to stand in more slots than one each: the present slots when they are just so, else a free range. undefined:
 * they stand once each, be it for want of room.
 */
function placeSpread(
  tables: Tables,
  old: Group | undefined,
  fitted: Fitted,
  tableSize: number,
  shortages: Shortage[],
): Placed | undefined {
  const spread = spreadLayout(fitted.layout, tableSize, spreadRoom(tables) + (old?.spread ?? 0));
  if (spread === undefined) return undefined;
  const lacks = (why: NoSpread): undefined => {
    shortages.push({ why });
  };
  if (!("positions" in spread)) return lacks(spread);
  const { positions } = spread;
  const isSame = ({ backends }: SlotLayout): boolean =>
    backends.length === positions.length && backends.every((one, i) => one === fitted.indexes[positions[i]!]);
  const kept = fitted.fresh > 0 ? undefined : old?.layouts.find(isSame);
  if (kept !== undefined) return { ...fitted, first: kept.first, kept: kept.backends, waiting: [], spread };
  const first = tables.slots.take(positions.length);
  return first === undefined
    ? lacks({ slots: positions.length, least: positions.length })
    : { ...fitted, first, kept: undefined, waiting: [], spread };
}

/** The present slots when they serve as they lie, else a free range. */
function place(tables: Tables, old: Group | undefined, fitted: Fitted): Placed | undefined {
  const { indexes, fresh, layout } = fitted;
  const kept = fresh === 0 ? old?.layouts.find(({ backends }) => servesAsIs(backends, indexes, layout)) : undefined;
  if (kept !== undefined) return { ...fitted, first: kept.first, kept: kept.backends, waiting: [] };
  const first = indexes.length === 0 ? 0 : tables.slots.take(indexes.length);
  return first === undefined ? undefined : { ...fitted, first, kept: undefined, waiting: [] };
}

/**
 * No free range is long enough: a part of the present slots serves on, such that the next round finds more room beside it than
 * there is elsewhere. It may be empty, for the length of a grace. undefined: nothing is won by that.
 */
function partOfPresent(tables: Tables, old: Group, fitted: Fitted, withLocal: boolean): Placed | undefined {
  const [present] = old.layouts;
  const range = old.ranges.find(
    ({ first, count }) => present && first <= present.first && present.first < first + count,
  );
  if (present === undefined || range === undefined) return undefined;
  const region = tables.slots.around(range);
  const wanted = Math.min(fitted.indexes.length, region.count);
  const run = longestRun(present, new Set(fitted.indexes));
  if (wanted <= tables.slots.longest) return undefined;
  const end = region.first + region.count;
  const beside = [
    run.count >= wanted ? run : { first: 0, count: 0 },
    intersection(run, { first: region.first, count: region.count - wanted }),
    intersection(run, { first: region.first + wanted, count: end - region.first - wanted }),
  ].reduce((best, one) => (one.count > best.count ? one : best));
  const part = layRun(present, beside, fitted, withLocal);
  return part.indexes.length === 0 && tables.slots.longest > 0 ? undefined : part;
}

/** The run's endpoints in place; none when they would have to lie in another order. */
function layRun(present: SlotLayout, run: SlotRange, fitted: Fitted, withLocal: boolean): Placed {
  const kept = present.backends.slice(run.first - present.first, run.first - present.first + run.count);
  const stay = new Set(kept);
  const indexOf = new Map<Candidate, number>();
  for (const [i, index] of fitted.indexes.entries()) if (stay.has(index)) indexOf.set(fitted.layout.slots[i]!, index);
  const layout = layOut([...indexOf.keys()], withLocal);
  const indexes = layout.slots.map((one) => indexOf.get(one)!);
  const serves = run.count > 0 && servesAsIs(kept, indexes, layout);
  if (serves) return { layout, indexes, fresh: 0, first: run.first, kept, waiting: [] };
  const empty = layOut<Candidate>([], withLocal);
  return { layout: empty, indexes: [], fresh: 0, first: 0, kept: undefined, waiting: [] };
}

/** The longest part of the slots whose backends all stay. */
function longestRun({ first, backends }: SlotLayout, stay: ReadonlySet<number>): SlotRange {
  let best: SlotRange = { first, count: 0 };
  let count = 0;
  for (const [i, index] of backends.entries()) {
    count = stay.has(index) ? count + 1 : 0;
    if (count > best.count) best = { first: first + i + 1 - count, count };
  }
  return best;
}

function intersection(a: SlotRange, b: SlotRange): SlotRange {
  const first = Math.max(a.first, b.first);
  return { first, count: Math.max(0, Math.min(a.first + a.count, b.first + b.count) - first) };
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
function servesAsIs(present: Uint32Array, wanted: readonly number[], layout: Layout<unknown>): boolean {
  if (present.length !== wanted.length || new Set(present).size !== present.length) return false;
  if (wanted.every((index, i) => present[i] === index)) return true;
  const local = new Set(wanted.slice(0, layout.localCount));
  const clusterStart = wanted.length - layout.clusterCount;
  const cluster = new Set(wanted.slice(clusterStart));
  return present.every(
    (index, i) => local.has(index) === i < layout.localCount && cluster.has(index) === i >= clusterStart,
  );
}
