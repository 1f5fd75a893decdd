// Copies what maps of another layout hold into this build's, field by field, before its programs are attached, and catches up with
// what came to them since. Flows get what this build's programs look for: their hooks, their check word, the mark of their backend,
// and bits of the filter before all else.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { type BpfMap, openPinnedMap } from "../libbpf/mod.ts";
import type { Dataplane } from "./dataplane.ts";
import { sealFlow } from "./flow-check.ts";
import { readClocks } from "./flow-table.ts";
import { FLOW, FLOW_STATE_VALUES, LAYOUT, RANGE_KIND_VALUES, ROW, SERVICE_RANGE } from "./layout.gen.ts";
import { converter, type Layout } from "./layout.ts";
import { WORD } from "./mapped-array.ts";
import { backendOfFlow } from "./near.ts";
import { viewOf } from "./row-codec.ts";

/** In this order: a flow that is established while they are copied is found in one of them at least. */
const FLOW_MAPS = ["openings", "tcp_flows", "udp_flows", "socket_peers", "retired", "affinity"] as const;
/**
 * Rows, slots, backends and the hashes that lead to them: copied whole when their layout did not change. `near` and `met_backends`
 * are made anew of what is copied, as their hash is the programs' own; fragments and crowded clients are of the moment.
 */
const STATE_MAPS = [
  "slots",
  "backends",
  "rows",
  "frontends",
  "addresses",
  "service_ranges",
  "source_ranges",
  "service_policies",
  "settings",
  "liveness",
  "devices",
  "service_stats",
];
/** By which programs open flows or answer in a backend's place: without them what they do not know goes to the next program. */
const OPENING_MAPS = ["retired", "addresses", "frontends"] as const;
const FLOW_VALUE = "flow";
const NOEXIST = 1;
const EXIST = 2;

export interface OldLayout {
  readonly directory: string;
  readonly layout: Layout;
}

type Convert = NonNullable<ReturnType<typeof converter>>;

/** Values of a struct by its fields, and plain integers as they are. undefined when the two layouts have nothing in common. */
function convertOf(old: Layout, type: string, size: number): Convert | undefined {
  if (LAYOUT.structs[type] !== undefined || old.structs[type] !== undefined) return converter(old, LAYOUT, type);
  return (source, sourceAt, target, targetAt) => target.set(source.subarray(sourceAt, sourceAt + size), targetAt);
}

interface Copier {
  readonly from: BpfMap;
  readonly to: BpfMap;
  readonly key: Convert;
  readonly value: Convert;
  readonly isFlow: boolean;
  /** Keys of the old layout do not hold their hook. */
  readonly lacksHook: boolean;
  /** Offsets of the old layout's `seen` and `state`. */
  readonly seen: number | undefined;
  readonly state: number | undefined;
}

function copierOf(from: BpfMap, to: BpfMap, old: Layout, name: string): Copier | undefined {
  const before = old.maps[name];
  const now = LAYOUT.maps[name];
  if (before === undefined || now === undefined || before.key !== now.key || before.value !== now.value)
    return undefined;
  const key = convertOf(old, now.key, now.keySize);
  const value = convertOf(old, now.value, now.valueSize);
  if (key === undefined || value === undefined) return undefined;
  const isFlow = now.value === FLOW_VALUE;
  const lacksHook = isFlow && old.structs["tuple"]?.fields.some((one) => one.name === "hook") !== true;
  const offset = (field: string): number | undefined =>
    old.structs[FLOW_VALUE]?.fields.find((one) => one.name === field && one.kind === "u32")?.offset;
  return { from, to, key, value, isFlow, lacksHook, seen: offset("seen"), state: offset("state") };
}

/** A flow that is copied on its way from SYN to ACK misses what the old programs see of that: any answer and request will do. */
function relaxOpening(view: DataView, at: number): void {
  const state = view.getUint32(at + FLOW.state, true);
  view.setUint32(at + FLOW.state, state | FLOW_STATE_VALUES.STATE_MIDSTREAM, true);
}

/** A row's kind was a word of its own, where now it is one byte of a word. */
function keepKinds(source: Uint8Array, from: BpfMap, target: Uint8Array, to: BpfMap, old: Layout, count: number): void {
  const kind = old.structs["row"]?.fields.find((field) => field.name === "kind" && field.size > 1)?.offset;
  if (kind === undefined) return;
  for (let i = 0; i < count; i++) target[i * to.stride + ROW.kind] = source[i * from.stride + kind]!;
}

function copyArray(from: BpfMap, to: BpfMap, old: Layout, name: string): void {
  const convert = converter(old, LAYOUT, LAYOUT.maps[name]!.value);
  if (convert === undefined || from.type !== "array") return;
  const source = new Uint8Array(from.mmap(false));
  const target = new Uint8Array(to.mmap(true));
  const count = Math.min(from.maxEntries, to.maxEntries);
  for (let i = 0; i < count; i++) convert(source, i * from.stride, target, i * to.stride);
  if (name === "rows") keepKinds(source, from, target, to, old, count);
  if (name !== "service_ranges") return;
  // Ranges had a mark for being in use, where now there is what kind they are.
  const used = old.structs["service_range"]?.fields.find((field) => field.name === "used")?.offset;
  if (used === undefined) return;
  for (let i = 0; i < count; i++) {
    if (source[i * from.stride + used] !== 0)
      target[i * to.stride + SERVICE_RANGE.kind] = RANGE_KIND_VALUES.RANGE_SERVICES;
  }
}

/** Does `use` with a map of another layout and its successor, where there are both. */
function withOldMap(
  { directory, layout }: OldLayout,
  maps: ReadonlyMap<string, BpfMap>,
  name: string,
  use: (from: BpfMap, to: BpfMap) => void,
): void {
  const to = maps.get(name);
  const path = join(directory, name);
  if (to === undefined || !existsSync(path) || layout.maps[name]?.type !== LAYOUT.maps[name]?.type) return;
  using from = openPinnedMap(path, name);
  use(from, to);
}

/** Empties a list that ends before the first entry that is not in use. That word first: a mask of zeros would match everything. */
function cutRanges({ layout }: OldLayout, ranges: BpfMap): void {
  const kind = layout.structs["service_range"]?.fields.find(({ name }) => name === "kind" || name === "used");
  if (kind !== undefined) new Uint8Array(ranges.mmap(true)).fill(0, kind.offset, kind.offset + kind.size);
}

/** Translation that was turned off stays off: in any of the layouts, as one of them was read by the programs. */
function keepBypass(old: readonly OldLayout[], maps: ReadonlyMap<string, BpfMap>, dataplane: Dataplane): void {
  for (const one of old) {
    const field = one.layout.structs["settings"]?.fields.find(({ name }) => name === "bypass");
    if (field?.size !== WORD) continue;
    withOldMap(one, maps, "settings", (from) => {
      const words = new BigUint64Array(from.mmap(false));
      if (words[field.offset / WORD] !== 0n) dataplane.setBypass(true);
    });
  }
}

export interface LayoutCopy {
  /** Copies everything: call it before anything reads the new maps. Returns how many entries of flows there were. */
  copy(): number;
  /** Copies what came to the old maps since the last time. */
  catchUp(): void;
  /** The old programs open no flow any more, refuse nothing and go on with the flows that they know: call it when this build's run behind them. */
  stopOpening(): void;
}

export function createLayoutCopy(
  old: readonly OldLayout[],
  maps: ReadonlyMap<string, BpfMap>,
  dataplane: Dataplane,
): LayoutCopy {
  // Low 32 bits of jiffies; undefined: nothing was copied by this process.
  let copiedAt: number | undefined;
  let allJiffies = 0n;

  /** Converts one entry. False: it is none that this build's programs could find. */
  function convertEntry(
    copier: Copier,
    name: string,
    source: { readonly keys: Uint8Array; readonly values: Uint8Array },
    from: number,
    target: {
      readonly keys: Uint8Array;
      readonly values: Uint8Array;
      readonly key: DataView;
      readonly value: DataView;
    },
    to: number,
  ): boolean {
    const keyAt = to * copier.to.keySize;
    const valueAt = to * copier.to.valueSize;
    target.keys.fill(0, keyAt, keyAt + copier.to.keySize);
    target.values.fill(0, valueAt, valueAt + copier.to.valueSize);
    copier.key(source.keys, from * copier.from.keySize, target.keys, keyAt);
    copier.value(source.values, from * copier.from.valueSize, target.values, valueAt);
    if (!copier.isFlow) return true;
    if (name === "openings") relaxOpening(target.value, valueAt);
    if (copier.lacksHook && !sealFlow(target.key, keyAt, target.value, valueAt)) return false;
    // Both before the entry can be found.
    const backend = backendOfFlow(target.key, keyAt, target.value, valueAt);
    dataplane.near.comes.flow(target.key, keyAt, target.value, valueAt, backend.sum);
    Atomics.store(dataplane.metBackends, backend.met, allJiffies);
    return true;
  }

  const targetOf = ({ to }: Copier, count: number) => {
    const keys = new Uint8Array(count * to.keySize);
    const values = new Uint8Array(count * to.valueSize);
    return { keys, values, key: viewOf(keys), value: viewOf(values) };
  };

  /** Copies every row of one map into its successor. Returns how many. */
  function copyMap(copier: Copier, name: string): number {
    let copied = 0;
    for (const chunk of copier.from.batches(4096)) {
      const target = targetOf(copier, chunk.count);
      let count = 0;
      for (let i = 0; i < chunk.count; i++) if (convertEntry(copier, name, chunk, i, target, count)) count++;
      copier.to.updateBatch(target.keys, target.values, count);
      copied += count;
    }
    return copied;
  }

  /**
   * Copies rows that the successor lacks. Of flows only those that were seen since the last time, and that a flow ended is told to
   * the successor's entry, which goes on to be this build's.
   */
  function catchUpMap(copier: Copier, name: string): void {
    const { from, to, isFlow, seen, state } = copier;
    const ends =
      FLOW_STATE_VALUES.STATE_FIN_CLIENT | FLOW_STATE_VALUES.STATE_FIN_BACKEND | FLOW_STATE_VALUES.STATE_RESET;
    const target = targetOf(copier, 1);
    const there = new Uint8Array(to.valueSize);
    const thereView = viewOf(there);
    for (const chunk of from.batches(4096)) {
      const view = viewOf(chunk.values);
      for (let i = 0; i < chunk.count; i++) {
        const at = i * from.valueSize;
        const ended = isFlow && state !== undefined ? view.getUint32(at + state, true) & ends : 0;
        // Modular: the low 32 bits of jiffies wrap.
        const isOld =
          isFlow &&
          copiedAt !== undefined &&
          seen !== undefined &&
          ((view.getUint32(at + seen, true) - copiedAt) | 0) < 0;
        if ((isOld && ended === 0) || !convertEntry(copier, name, chunk, i, target, 0)) continue;
        if (to.tryUpdate(target.keys, target.values, NOEXIST) === 0 || ended === 0) continue;
        if (!to.lookupInto(target.keys, there)) continue;
        const known = thereView.getUint32(FLOW.state, true);
        if ((known | ended) === known) continue;
        thereView.setUint32(FLOW.state, known | ended, true);
        to.tryUpdate(target.keys, there, EXIST);
      }
    }
  }

  /** Reads the clock; returns the moment from which on the next catching up has to look. */
  function begin(): number {
    const clocks = readClocks(dataplane);
    allJiffies = clocks.allJiffies;
    return clocks.jiffies - 1;
  }

  return {
    copy() {
      if (old.length === 0) return 0;
      const began = begin();
      let flows = 0;
      const each = (name: string): void => {
        for (const one of old) {
          withOldMap(one, maps, name, (from, to) => {
            if (from.type === "array") return copyArray(from, to, one.layout, name);
            const copier = from.isPerCpu ? undefined : copierOf(from, to, one.layout, name);
            if (copier === undefined) return;
            const copied = copyMap(copier, name);
            if (copier.isFlow) flows += copied;
          });
        }
      };
      STATE_MAPS.forEach(each);
      keepBypass(old, maps, dataplane);
      // Which tells the filter of it all, addresses too, by which flows are told.
      dataplane.readState();
      FLOW_MAPS.forEach(each);
      // Once: the agent alone adds to it, and a row that this one takes out is not to come back.
      each("announced");
      copiedAt = began;
      return flows;
    },
    catchUp() {
      if (old.length === 0) return;
      const began = begin();
      for (const one of old) {
        for (const name of FLOW_MAPS) {
          withOldMap(one, maps, name, (from, to) => {
            const copier = copierOf(from, to, one.layout, name);
            if (copier !== undefined) catchUpMap(copier, name);
          });
        }
      }
      keepBypass(old, maps, dataplane);
      copiedAt = began;
    },
    stopOpening() {
      for (const one of old) {
        // Ranges before frontends: a free address of a range is dropped.
        withOldMap(one, maps, "service_ranges", (from) => cutRanges(one, from));
        for (const name of OPENING_MAPS) {
          withOldMap(one, maps, name, (from) => {
            const { keys, count } = from.readAll();
            from.deleteBatch(keys, count);
          });
        }
      }
    },
  };
}
