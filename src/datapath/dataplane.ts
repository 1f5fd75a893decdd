// The pinned maps and the loaded programs of one node, and what the model asks of them. Content is written while nothing
// points to it; what is live changes by one aligned 64-bit store. Never decides anything about Services.
import { endianness } from "node:os";
import { Failure, KernelError } from "../lib/errors.ts";
import { Multimap } from "../lib/multimap.ts";
import { type BpfMap, type BpfProgram, membarrierGlobalAsync } from "../libbpf/mod.ts";
import {
  type Capacity,
  type FrontendKey,
  type KernelState,
  type Operation,
  type Row,
  type Slot,
  WINDOWS,
} from "../model/operations.ts";
import { createAddressRows } from "./address-rows.ts";
import { createBackendRows } from "./backend-rows.ts";
import { capacityOf } from "./capacity.ts";
import {
  FRONTEND,
  FRONTEND_KEY,
  ROW,
  ROW_FLAG_VALUES,
  readFrontend,
  readRow,
  readSettings,
  SETTINGS,
  type Settings,
  writeFrontend,
  writeRow,
  writeSettings,
} from "./layout.gen.ts";
import { createLivenessRow, type LivenessRow } from "./liveness-row.ts";
import { MappedArray, WORD } from "./mapped-array.ts";
import { createNearFilter, NEAR_STEP, type NearBits, type NearFilter } from "./near.ts";
import {
  frontendKeyBytes,
  KIND_NAMES,
  KINDS,
  keyOf,
  PROTOCOLS,
  rowWord,
  viewOf,
  windowOf,
  windowWord,
} from "./row-codec.ts";
import { createServiceCounts } from "./service-counts.ts";
import { writeServiceRanges } from "./service-ranges.ts";
import { createSourceRanges } from "./source-ranges.ts";

/** Which half of a slot's word is which, on a machine of this byte order. */
const SLOT_BACKEND = endianness() === "LE" ? 0 : 1;
const SLOT_GENERATION = 1 - SLOT_BACKEND;
const E2BIG = 7;
const BYPASS = SETTINGS.bypass / WORD;

/** What the agent sets. `bypass` is not its word: it is left as it is. */
export type AgentSettings = Omit<Settings, "bypass"> & { readonly bypass?: bigint };

export interface Dataplane {
  readonly capacity: Capacity;
  map(name: string): BpfMap;
  /** A loaded program; undefined when it was left out. */
  program(name: string): BpfProgram;
  readState(): KernelState;
  /**
   * Applies operations in their order. Resolves when all are done, after the grace periods among them. `inForce` is called when
   * everything before the first grace period is done: what was asked is in force then. Throws KernelError when a hash refused
   * a key; the operations after it were not applied.
   */
  apply(operations: readonly Operation[], inForce?: () => void): Promise<void>;
  readSettings(): Settings;
  /** Stores the words that differ, but for `bypass`, which outlives every agent. */
  writeSettings(settings: AgentSettings): void;
  /** Is all translation off? */
  readBypass(): boolean;
  setBypass(on: boolean): void;
  /** The backend at this index has this generation still, and serves. */
  isBackendAlive(index: number, generation: number): boolean;
  readonly near: NearFilter;
  readonly liveness: LivenessRow;
  /** A list of operations is applied in part. */
  isApplying(): boolean;
  /** The words of `met_backends`. */
  readonly metBackends: BigUint64Array;
  /** Tells `needs` of every address and the port of `liveness`, then of all else that can be found but flows; yields where others may have their turn. */
  nearAddresses(needs: NearBits): Generator<void>;
  nearRows(needs: NearBits): Generator<void>;
  close(): void;
}

type OperationOf<K extends Operation["op"]> = Extract<Operation, { op: K }>;

/** Wraps what `loadDataplane` opened. `areNew`: this process made the maps, and nothing has been in them. */
export function createDataplane(
  programs: ReadonlyMap<string, BpfProgram>,
  maps: ReadonlyMap<string, BpfMap>,
  options: { readonly areNew: boolean },
): Dataplane {
  const map = (name: string): BpfMap => {
    const found = maps.get(name);
    if (found === undefined) throw new Failure("internal", name, `could not find the map ${name}`);
    return found;
  };
  const program = (name: string): BpfProgram => {
    const found = programs.get(name);
    if (found !== undefined) return found;
    throw new Failure("internal", name, `could not find the program ${name}`);
  };
  const rows = new MappedArray(map("rows"));
  const slots = new MappedArray(map("slots"));
  const backends = new MappedArray(map("backends"));
  const ranges = new MappedArray(map("service_ranges"));
  const settings = new MappedArray(map("settings"));
  const frontends = map("frontends");
  const retired = map("retired");
  const serviceStats = map("service_stats");
  const near = createNearFilter(map("near").mmap(true));
  const liveness = createLivenessRow(map("liveness"), near);
  const addressRows = createAddressRows(map("addresses"), near);

  const clocks = new Uint8Array(64);
  const rowsOfService = new Multimap<number, number>();
  const backendRows = createBackendRows({
    backends,
    retired,
    near,
    now: () => viewOf(program("tc_clocks").testRun({ data: clocks }).data).getBigUint64(0, true),
  });
  const sourceRanges = createSourceRanges(map("source_ranges"), new MappedArray(map("service_policies")));
  const counts = createServiceCounts(serviceStats, map("service_refusals"), options.areNew);
  const rowService = (index: number): number => rows.view.getUint32(rows.at(index) + ROW.service, true);

  function putRow(index: number, row: Row): void {
    const at = rows.at(index);
    if (!rowsOfService.has(row.serviceId)) counts.begins(row.serviceId);
    writeRow(rows.bytes, at, {
      key: { address: row.key.address, port: row.key.port, proto: PROTOCOLS[row.key.protocol] },
      generation: row.generation,
      service: row.serviceId,
      kind: KINDS[row.kind],
      flags: row.restricted ? ROW_FLAG_VALUES.ROW_SOURCE_RANGES : 0,
      affinity: row.affinity,
      window: WINDOWS.map((name) => windowWord(row.windows[name])),
    });
    rowsOfService.add(row.serviceId, index);
  }

  /** Operations of one kind from `from` on. */
  function run<K extends Operation["op"]>(operations: readonly Operation[], from: number, op: K): OperationOf<K>[] {
    const found: OperationOf<K>[] = [];
    for (let i = from; operations[i]?.op === op; i++) found.push(operations[i] as OperationOf<K>);
    return found;
  }

  /** Frontends that come together go in one batch. */
  function putFrontends(puts: readonly OperationOf<"put-frontend">[]): void {
    const count = puts.length;
    const keys = new Uint8Array(count * FRONTEND_KEY.size);
    const values = new Uint8Array(count * FRONTEND.size);
    const keyView = viewOf(keys);
    for (const [i, { key, row, generation }] of puts.entries()) {
      frontendKeyBytes(key, keys, i * FRONTEND_KEY.size);
      near.comes.frontend(keyView, i * FRONTEND_KEY.size);
      writeFrontend(values, i * FRONTEND.size, { row, generation });
    }
    try {
      if (count === 1) frontends.update(keys, values);
      else frontends.updateBatch(keys, values, count);
    } catch (cause) {
      if (!(cause instanceof KernelError) || cause.errno !== E2BIG) throw cause;
      throw new Failure(
        "exhausted",
        "frontends",
        `could not add ${count} frontends: the map holds its ${frontends.maxEntries} already; raise --max-frontends`,
        { cause },
      );
    }
  }

  function applyOne(operation: Operation): void {
    switch (operation.op) {
      case "put-backends": {
        const { serviceId, indexes, generations, endpoints } = operation;
        for (let i = 0; i < indexes.length; i++) {
          backendRows.put(indexes[i]!, { ...endpoints[i]!, serviceId, generation: generations[i]! });
        }
        return;
      }
      case "set-backend":
        backendRows.set(operation.index, operation);
        return;
      case "put-slots": {
        const first = slots.word(operation.first, 0);
        const count = operation.backends.length;
        slots.at(operation.first + count - 1);
        // Nothing reads these slots yet: halves of a word may be stored one by one.
        const halves = new Uint32Array(slots.words.buffer, slots.words.byteOffset + first * WORD, count * 2);
        for (let i = 0; i < count; i++) {
          halves[2 * i + SLOT_BACKEND] = operation.backends[i]!;
          halves[2 * i + SLOT_GENERATION] = operation.generations[i]!;
        }
        return;
      }
      case "put-row":
        putRow(operation.index, operation.row);
        return;
      case "set-windows": {
        const first = rows.word(operation.index, ROW.window);
        WINDOWS.forEach((name, i) => {
          const word = windowWord(operation.windows[name]);
          if (rows.words[first + i] !== word) Atomics.store(rows.words, first + i, word);
        });
        return;
      }
      case "set-row":
        Atomics.store(rows.words, rows.word(operation.index, ROW.kind), rowWord(operation));
        return;
      case "put-source-ranges":
        sourceRanges.put(operation.serviceId, operation.ranges);
        return;
      case "free-source-ranges":
        sourceRanges.drop(operation.serviceId, operation.ranges);
        return;
      case "raise-policy":
        sourceRanges.raisePolicy(operation.serviceId);
        return;
      case "drop-frontend": {
        const key = frontendKeyBytes(operation.key);
        frontends.delete(key);
        near.goes.frontend(viewOf(key), 0);
        return;
      }
      case "drop-address":
        addressRows.drop(operation.address);
        return;
      case "set-service-ranges":
        writeServiceRanges(ranges, operation.ranges);
        return;
      case "free-backend":
        backendRows.free(operation.index);
        return;
      case "free-row": {
        const service = rowService(operation.index);
        rowsOfService.delete(service, operation.index);
        if (!rowsOfService.has(service)) counts.ends(service);
        Atomics.store(rows.words, rows.word(operation.index, ROW.kind), 0n);
        return;
      }
      case "put-frontend":
      case "put-address":
      case "retire-backend":
      case "free-slots":
      case "grace":
        return;
    }
  }

  let applying = 0;

  async function apply(operations: readonly Operation[], inForce?: () => void): Promise<void> {
    applying++;
    try {
      await applyAll(operations, inForce);
      counts.sweep();
    } finally {
      applying--;
    }
  }

  async function applyAll(operations: readonly Operation[], inForce?: () => void): Promise<void> {
    let told = false;
    const tell = (): void => {
      if (!told) inForce?.();
      told = true;
    };
    const last = operations.findLastIndex(({ op }) => op !== "grace" && !op.startsWith("free-"));
    for (let i = 0; i < operations.length; ) {
      const operation = operations[i]!;
      if (operation.op === "put-frontend") {
        const puts = run(operations, i, "put-frontend");
        putFrontends(puts);
        i += puts.length;
        continue;
      }
      if (operation.op === "put-address") {
        const puts = run(operations, i, "put-address");
        addressRows.put(puts);
        i += puts.length;
        continue;
      }
      if (operation.op === "retire-backend") {
        const retires = run(operations, i, "retire-backend");
        backendRows.retire(retires);
        i += retires.length;
        continue;
      }
      if (operation.op === "grace") {
        if (i > last) tell();
        await membarrierGlobalAsync();
      } else applyOne(operation);
      i++;
    }
    tell();
  }

  /** Also tells the filter of all that can be found. */
  function readState(): KernelState {
    rowsOfService.clear();
    liveness.needs(near.comes);
    const roles = addressRows.read();
    const foundRows = new Map<number, Row>();
    const rowGenerations = new Map<number, number>();
    const foundFrontends: { key: FrontendKey; row: number; generation: number }[] = [];
    const entries = frontends.readAll();
    const keyView = viewOf(entries.keys);
    for (let i = 0; i < entries.count; i++) {
      near.comes.frontend(keyView, i * FRONTEND_KEY.size);
      const key = keyOf(entries.keys, i * FRONTEND_KEY.size);
      const { row, generation } = readFrontend(entries.values, i * FRONTEND.size);
      if (key === undefined) continue;
      foundFrontends.push({ key, row, generation });
      if (row >= rows.length) continue;
      const content = readRow(rows.bytes, rows.at(row));
      const kind = KIND_NAMES.get(content.kind);
      if (kind === undefined || content.generation !== generation) continue;
      const [external, internal, cluster] = content.window.map(windowOf);
      foundRows.set(row, {
        key,
        generation,
        serviceId: content.service,
        kind,
        affinity: content.affinity,
        restricted: (content.flags & ROW_FLAG_VALUES.ROW_SOURCE_RANGES) !== 0,
        windows: { external: external!, internal: internal!, cluster: cluster! },
      });
      rowsOfService.add(content.service, row);
    }
    for (let index = 0; index < rows.length; index++) {
      const generation = rows.view.getUint32(rows.at(index) + ROW.generation, true);
      if (generation !== 0) rowGenerations.set(index, generation);
    }
    const slot = (index: number): Slot => {
      const word = slots.words[slots.word(index, 0)]!;
      return { backend: Number(word & 0xffffffffn), generation: Number(word >> 32n) };
    };
    const { backends: foundBackends, generations } = backendRows.read();
    return {
      frontends: foundFrontends,
      rows: foundRows,
      backends: foundBackends,
      rowGenerations,
      backendGenerations: generations,
      slot,
      addresses: roles,
      sourceRanges: sourceRanges.read(),
    };
  }

  function* nearAddresses(needs: NearBits): Generator<void> {
    liveness.needs(needs);
    yield* addressRows.near(needs);
  }

  function* nearRows(needs: NearBits): Generator<void> {
    for (const map of [frontends, retired]) {
      for (const { keys, count } of map.batches(NEAR_STEP)) {
        const view = viewOf(keys);
        for (let i = 0; i < count; i++) needs.frontend(view, i * FRONTEND_KEY.size);
        yield;
      }
    }
    for (let index = 0; index < backends.length; ) {
      const end = Math.min(backends.length, index + NEAR_STEP * 4);
      for (; index < end; index++) {
        if (backendRows.serves(index)) needs.backend(backends.view, backends.at(index));
      }
      yield;
    }
  }

  return {
    capacity: capacityOf(map),
    map,
    program,
    readState,
    apply,
    readSettings: () => readSettingsOf(settings.bytes),
    writeSettings: (value) => {
      // Programs read it all the time: only words that differ are stored, each whole.
      const fresh = new BigUint64Array(SETTINGS.size / WORD);
      writeSettings(new Uint8Array(fresh.buffer), 0, { ...value, bypass: 0n });
      fresh.forEach((word, i) => {
        if (i !== BYPASS && settings.words[i] !== word) Atomics.store(settings.words, i, word);
      });
    },
    readBypass: () => Atomics.load(settings.words, BYPASS) !== 0n,
    setBypass: (on) => void Atomics.store(settings.words, BYPASS, on ? 1n : 0n),
    isBackendAlive: backendRows.isAlive,
    near,
    liveness,
    isApplying: () => applying > 0,
    metBackends: new BigUint64Array(map("met_backends").mmap(true)),
    nearAddresses,
    nearRows,
    close() {
      for (const one of programs.values()) one.close();
      for (const opened of maps.values()) opened.close();
    },
  };
}

function readSettingsOf(bytes: Uint8Array): Settings {
  return readSettings(bytes.subarray(0, SETTINGS.size), 0);
}
