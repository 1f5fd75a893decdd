// The pinned maps and the loaded programs of one node, and what the model asks of them. Content is written while nothing
// points to it; what is live changes by one aligned 64-bit store. Never decides anything about Services.
import { endianness } from "node:os";
import { type Address, familyOf, readAddress, writeAddress } from "../lib/address.ts";
import { Failure, KernelError } from "../lib/errors.ts";
import { Multimap } from "../lib/multimap.ts";
import { type BpfMap, type BpfProgram, membarrierGlobalAsync } from "../libbpf/mod.ts";
import type {
  AddressRoles,
  Backend,
  Capacity,
  FrontendKey,
  FrontendKind,
  KernelState,
  Operation,
  PrefixRange,
  Row,
  RowProtocol,
  Slot,
  Window,
} from "../model/operations.ts";
import {
  ADDRESS_ROLE_VALUES,
  BACKEND,
  BACKEND_STATE_VALUES,
  EMPTY_WINDOW_VALUES,
  FRONTEND,
  FRONTEND_KEY,
  FRONTEND_KIND_VALUES,
  RANGE_KIND_VALUES,
  RETIRED_BACKEND,
  ROW,
  readFrontend,
  readFrontendKey,
  readRow,
  readSettings,
  SERVICE_RANGE,
  SETTINGS,
  type Settings,
  writeFrontend,
  writeFrontendKey,
  writeRetiredBackend,
  writeRow,
  writeSettings,
} from "./layout.gen.ts";

const PROTOCOLS: Readonly<Record<RowProtocol, number>> = { TCP: 6, UDP: 17 };

const KINDS: Readonly<Record<FrontendKind, number>> = {
  "cluster-ip": FRONTEND_KIND_VALUES.KIND_CLUSTER_IP,
  "node-port": FRONTEND_KIND_VALUES.KIND_NODE_PORT,
  "load-balancer": FRONTEND_KIND_VALUES.KIND_LOAD_BALANCER,
  "host-port": FRONTEND_KIND_VALUES.KIND_HOST_PORT,
};
const KIND_NAMES = new Map(Object.entries(KINDS).map(([name, value]) => [value, name as FrontendKind]));

const WORD = 8;
const ADDRESS_BYTES = 16;
const ROLES_BYTES = 4;
/** Which half of a slot's word is which, on a machine of this byte order. */
const SLOT_BACKEND = endianness() === "LE" ? 0 : 1;
const SLOT_GENERATION = 1 - SLOT_BACKEND;
const E2BIG = 7;
const WINDOWS = ["external", "internal", "cluster"] as const;

export function protocolName(number: number): RowProtocol | undefined {
  return number === PROTOCOLS.TCP ? "TCP" : number === PROTOCOLS.UDP ? "UDP" : undefined;
}

function windowWord(window: Window): bigint {
  if (window.count > 0) return (BigInt(window.count) << 32n) | BigInt(window.first);
  return BigInt(window.whenEmpty === "drop" ? EMPTY_WINDOW_VALUES.EMPTY_DROP : EMPTY_WINDOW_VALUES.EMPTY_REFUSE);
}

function windowOf(word: bigint): Window {
  const count = Number(word >> 32n);
  const first = Number(word & 0xffffffffn);
  if (count > 0) return { first, count, whenEmpty: "refuse" };
  return { first: 0, count: 0, whenEmpty: first === EMPTY_WINDOW_VALUES.EMPTY_DROP ? "drop" : "refuse" };
}

const backendWord = (state: number, generation: number): bigint => (BigInt(state) << 32n) | BigInt(generation);

/** `::` stands for the node's addresses of IPv6, `0.0.0.0` for those of IPv4; the mapped form keeps them apart. */
function frontendKeyBytes(key: FrontendKey, bytes = new Uint8Array(FRONTEND_KEY.size), at = 0): Uint8Array {
  writeFrontendKey(bytes, at, { address: key.address, port: key.port, proto: PROTOCOLS[key.protocol] });
  return bytes;
}

function keyOf(bytes: Uint8Array, at: number): FrontendKey | undefined {
  const { address, port, proto } = readFrontendKey(bytes, at);
  const protocol = protocolName(proto);
  return protocol === undefined ? undefined : { address, port, protocol };
}

/** The arrays of the maps that user space changes in place. */
class MappedArray {
  readonly bytes: Uint8Array;
  readonly words: BigUint64Array;
  readonly #stride: number;
  readonly length: number;

  constructor(map: BpfMap) {
    const buffer = map.mmap(true);
    this.bytes = new Uint8Array(buffer);
    this.words = new BigUint64Array(buffer);
    this.#stride = map.stride;
    this.length = map.maxEntries;
  }

  at(index: number): number {
    if (!(index >= 0 && index < this.length))
      throw new Failure("internal", "map", `index ${index} is outside of ${this.length}`);
    return index * this.#stride;
  }

  word(index: number, offset: number): number {
    return (this.at(index) + offset) / WORD;
  }
}

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
  /** Everything but `bypass`, which is a command's to write. */
  writeSettings(settings: Settings): void;
  /** Nothing is translated. */
  readBypass(): boolean;
  setBypass(on: boolean): void;
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
  const addresses = map("addresses");
  const retired = map("retired");
  const serviceStats = map("service_stats");

  /** Rows in use by service id: where a retired backend's conversations find its Service again. */
  const rowsOfService = new Multimap<number, number>();
  /** Addresses and ports in `retired`, as text. */
  const retiredKeys = new Map<string, FrontendKey>();
  const textOf = ({ address, port }: { readonly address: Address; readonly port: number }): string =>
    `${address} ${port}`;
  const noCounters = new Uint8Array(serviceStats.valueBytes);
  const indexBytes = new Uint8Array(4);
  const index32 = (index: number): Uint8Array => {
    new DataView(indexBytes.buffer).setUint32(0, index, true);
    return indexBytes;
  };

  /** Service ids up to this one may have been counted for another Service: all of them, unless the maps are new. */
  let lastCounted = options.areNew ? 0 : serviceStats.maxEntries;
  const countAnew = (serviceId: number): void => {
    if (serviceId <= lastCounted) serviceStats.update(index32(serviceId), noCounters);
    else lastCounted = serviceId;
  };
  const rowView = new DataView(rows.bytes.buffer);
  const backendView = new DataView(backends.bytes.buffer);

  const rowService = (index: number): number => rowView.getUint32(rows.at(index) + ROW.service, true);

  function putRow(index: number, row: Row): void {
    const at = rows.at(index);
    if (!rowsOfService.has(row.serviceId)) countAnew(row.serviceId);
    writeRow(rows.bytes, at, {
      key: { address: row.key.address, port: row.key.port, proto: PROTOCOLS[row.key.protocol] },
      generation: row.generation,
      service: row.serviceId,
      kind: KINDS[row.kind],
      window: WINDOWS.map((name) => windowWord(row.windows[name])),
    });
    rowsOfService.add(row.serviceId, index);
  }

  function putBackend(index: number, backend: Backend): void {
    const at = backends.at(index);
    writeAddress(backend.address, backends.bytes, at + BACKEND.address);
    backendView.setUint16(at + BACKEND.port, backend.port, false);
    backendView.setUint32(at + BACKEND.service, backend.serviceId, true);
    const state = backend.local ? BACKEND_STATE_VALUES.BACKEND_LOCAL : BACKEND_STATE_VALUES.BACKEND_REMOTE;
    Atomics.store(backends.words, backends.word(index, BACKEND.word), backendWord(state, backend.generation));
    if (retiredKeys.size === 0) return;
    const text = textOf(backend);
    const key = retiredKeys.get(text);
    if (key !== undefined) {
      retired.delete(frontendKeyBytes(key));
      retiredKeys.delete(text);
    }
  }

  const backendPort = (index: number): number => backendView.getUint16(backends.at(index) + BACKEND.port, false);
  const backendService = (index: number): number => backendView.getUint32(backends.at(index) + BACKEND.service, true);
  const backendKey = (index: number): FrontendKey => ({
    address: readAddress(backends.bytes, backends.at(index) + BACKEND.address),
    port: backendPort(index),
    protocol: "UDP",
  });
  const backendIsInUse = (index: number): boolean => {
    // The word's upper half.
    const state = backendView.getUint32(backends.at(index) + BACKEND.word + 4, true);
    return state === BACKEND_STATE_VALUES.BACKEND_LOCAL || state === BACKEND_STATE_VALUES.BACKEND_REMOTE;
  };
  const servesUdp = (serviceId: number): boolean =>
    rowsOfService.get(serviceId).some((row) => readRow(rows.bytes, rows.at(row)).key.proto === PROTOCOLS.UDP);

  /** Of UDP backends that are to be retired, those that another Service goes on using, as the text of their keys. */
  function sharedWithOthers(leaving: ReadonlySet<number>): ReadonlySet<string> {
    const shared = new Set<string>();
    if (leaving.size === 0) return shared;
    const ports = new Set([...leaving].map(backendPort));
    const texts = new Set([...leaving].map((index) => textOf(backendKey(index))));
    for (let index = 0; index < backends.length; index++) {
      if (!backendIsInUse(index) || !ports.has(backendPort(index)) || leaving.has(index)) continue;
      const text = textOf(backendKey(index));
      if (texts.has(text) && servesUdp(backendService(index))) shared.add(text);
    }
    return shared;
  }

  /**
   * Sockets that were pointed at a UDP backend send there without knowing better: `retired` leads their packets to another one of
   * the Service. Not so where the address still serves somebody: nobody can tell whose socket a packet is of.
   */
  function retireBackends(retires: readonly OperationOf<"retire-backend">[]): void {
    const shared = sharedWithOthers(new Set(retires.flatMap(({ index, udp }) => (udp ? [index] : []))));
    for (const { index, generation, udp } of retires) {
      const row = udp ? rowsOfService.get(backendService(index))[0] : undefined;
      const key = backendKey(index);
      if (row !== undefined && !shared.has(textOf(key))) rememberRetired(key, row);
      Atomics.store(
        backends.words,
        backends.word(index, BACKEND.word),
        backendWord(BACKEND_STATE_VALUES.BACKEND_RETIRED, generation),
      );
    }
  }

  function rememberRetired(key: FrontendKey, row: number): void {
    const value = new Uint8Array(RETIRED_BACKEND.size);
    writeRetiredBackend(value, 0, {
      row,
      generation: rowView.getUint32(rows.at(row) + ROW.generation, true),
      seen: jiffiesNow(),
    });
    retired.update(frontendKeyBytes(key), value);
    retiredKeys.set(textOf(key), key);
  }

  const clocks = new Uint8Array(64);
  /** The kernel's jiffies, low 32 bits. */
  function jiffiesNow(): number {
    const { data } = program("tc_clocks").testRun({ data: clocks });
    return new DataView(data.buffer, data.byteOffset).getUint32(0, true);
  }

  function setRanges(list: readonly PrefixRange[]): void {
    for (let i = 0; i < ranges.length; i++) {
      const at = ranges.at(i);
      const used = ranges.word(i, SERVICE_RANGE.kind);
      const range = list[i];
      const fresh = new Uint8Array(SERVICE_RANGE.kind);
      if (range !== undefined) {
        const mapped = familyOf(range.address) === "IPv4" ? 96 + range.length : range.length;
        writeAddress(range.address, fresh, SERVICE_RANGE.address);
        for (let byte = 0; byte < 16; byte++) {
          const bits = Math.max(0, Math.min(8, mapped - byte * 8));
          fresh[SERVICE_RANGE.mask + byte] = (0xff00 >> bits) & 0xff;
        }
      }
      const kinds = RANGE_KIND_VALUES;
      const isUsed = BigInt(
        range === undefined ? kinds.RANGE_END : range.exempt ? kinds.RANGE_EXEMPT : kinds.RANGE_SERVICES,
      );
      const before = ranges.bytes.subarray(at, at + SERVICE_RANGE.kind);
      if (ranges.words[used] === isUsed && (isUsed === 0n || Buffer.compare(before, fresh) === 0)) continue;
      Atomics.store(ranges.words, used, 0n);
      ranges.bytes.set(fresh, at);
      Atomics.store(ranges.words, used, isUsed);
    }
  }

  const addressBytes = new Uint8Array(ADDRESS_BYTES);

  /** Operations of one kind from `from` on. */
  function run<K extends Operation["op"]>(operations: readonly Operation[], from: number, op: K): OperationOf<K>[] {
    const found: OperationOf<K>[] = [];
    for (let i = from; operations[i]?.op === op; i++) found.push(operations[i] as OperationOf<K>);
    return found;
  }

  /** Addresses that come together go in one batch. */
  function putAddresses(puts: readonly OperationOf<"put-address">[]): void {
    const keys = new Uint8Array(puts.length * ADDRESS_BYTES);
    const values = new Uint8Array(puts.length * ROLES_BYTES);
    for (const [i, { address, roles }] of puts.entries()) {
      writeAddress(address, keys, i * ADDRESS_BYTES);
      values[i * ROLES_BYTES] =
        (roles.node ? ADDRESS_ROLE_VALUES.ADDRESS_NODE : 0) |
        (roles.refuse ? ADDRESS_ROLE_VALUES.ADDRESS_REFUSE : 0) |
        (roles.peer ? ADDRESS_ROLE_VALUES.ADDRESS_PEER : 0);
    }
    if (puts.length === 1) addresses.update(keys, values);
    else addresses.updateBatch(keys, values, puts.length);
  }

  /** Frontends that come together go in one batch. */
  function putFrontends(puts: readonly OperationOf<"put-frontend">[]): void {
    const count = puts.length;
    const keys = new Uint8Array(count * FRONTEND_KEY.size);
    const values = new Uint8Array(count * FRONTEND.size);
    for (const [i, { key, row, generation }] of puts.entries()) {
      frontendKeyBytes(key, keys, i * FRONTEND_KEY.size);
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
          const { address, port, local } = endpoints[i]!;
          putBackend(indexes[i]!, { address, port, local, serviceId, generation: generations[i]! });
        }
        return;
      }
      case "set-backend-local": {
        const state = operation.local ? BACKEND_STATE_VALUES.BACKEND_LOCAL : BACKEND_STATE_VALUES.BACKEND_REMOTE;
        Atomics.store(
          backends.words,
          backends.word(operation.index, BACKEND.word),
          backendWord(state, operation.generation),
        );
        return;
      }
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
      case "drop-frontend":
        frontends.delete(frontendKeyBytes(operation.key));
        return;
      case "drop-address":
        writeAddress(operation.address, addressBytes);
        addresses.delete(addressBytes);
        return;
      case "set-service-ranges":
        setRanges(operation.ranges);
        return;
      case "free-backend": {
        const word = backends.word(operation.index, BACKEND.word);
        const generation = Number(backends.words[word]! & 0xffffffffn);
        Atomics.store(backends.words, word, backendWord(BACKEND_STATE_VALUES.BACKEND_FREE, generation));
        return;
      }
      case "free-row": {
        rowsOfService.delete(rowService(operation.index), operation.index);
        rowView.setUint32(rows.at(operation.index) + ROW.kind, FRONTEND_KIND_VALUES.KIND_NONE, true);
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

  async function apply(operations: readonly Operation[], inForce?: () => void): Promise<void> {
    let told = false;
    const tell = (): void => {
      if (!told) inForce?.();
      told = true;
    };
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
        putAddresses(puts);
        i += puts.length;
        continue;
      }
      if (operation.op === "retire-backend") {
        const retires = run(operations, i, "retire-backend");
        retireBackends(retires);
        i += retires.length;
        continue;
      }
      if (operation.op === "grace") {
        tell();
        await membarrierGlobalAsync();
      } else applyOne(operation);
      i++;
    }
    tell();
  }

  function readState(): KernelState {
    rowsOfService.clear();
    retiredKeys.clear();
    const foundRows = new Map<number, Row>();
    const rowGenerations = new Map<number, number>();
    const foundFrontends: { key: FrontendKey; row: number; generation: number }[] = [];
    const entries = frontends.readAll();
    for (let i = 0; i < entries.count; i++) {
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
        windows: { external: external!, internal: internal!, cluster: cluster! },
      });
      rowsOfService.add(content.service, row);
    }
    for (let index = 0; index < rows.length; index++) {
      const generation = rowView.getUint32(rows.at(index) + ROW.generation, true);
      if (generation !== 0) rowGenerations.set(index, generation);
    }
    const foundBackends = new Map<number, Backend>();
    const backendGenerations = new Map<number, number>();
    for (let index = 0; index < backends.length; index++) {
      const word = backends.words[backends.word(index, BACKEND.word)]!;
      if (word === 0n) continue;
      const generation = Number(word & 0xffffffffn);
      const state = Number(word >> 32n);
      backendGenerations.set(index, generation);
      if (state !== BACKEND_STATE_VALUES.BACKEND_LOCAL && state !== BACKEND_STATE_VALUES.BACKEND_REMOTE) continue;
      const at = backends.at(index);
      foundBackends.set(index, {
        address: readAddress(backends.bytes, at + BACKEND.address),
        port: backendView.getUint16(at + BACKEND.port, false),
        serviceId: backendView.getUint32(at + BACKEND.service, true),
        generation,
        local: state === BACKEND_STATE_VALUES.BACKEND_LOCAL,
      });
    }
    for (const [key] of retired.entries()) {
      const found = keyOf(key, 0);
      if (found !== undefined) retiredKeys.set(textOf(found), found);
    }
    const roles = new Map<Address, AddressRoles>();
    for (const [key, value] of addresses.entries()) {
      roles.set(readAddress(key), {
        node: (value[0]! & ADDRESS_ROLE_VALUES.ADDRESS_NODE) !== 0,
        refuse: (value[0]! & ADDRESS_ROLE_VALUES.ADDRESS_REFUSE) !== 0,
        peer: (value[0]! & ADDRESS_ROLE_VALUES.ADDRESS_PEER) !== 0,
      });
    }
    const slot = (index: number): Slot => {
      const word = slots.words[slots.word(index, 0)]!;
      return { backend: Number(word & 0xffffffffn), generation: Number(word >> 32n) };
    };
    return {
      frontends: foundFrontends,
      rows: foundRows,
      backends: foundBackends,
      rowGenerations,
      backendGenerations,
      slot,
      addresses: roles,
    };
  }

  return {
    capacity: {
      frontends: frontends.maxEntries,
      rows: rows.length,
      slots: slots.length,
      backends: backends.length,
      services: serviceStats.maxEntries,
      serviceRanges: ranges.length,
    },
    map,
    program,
    readState,
    apply,
    readSettings: () => readSettingsOf(settings.bytes),
    writeSettings: (value) => {
      // Programs read it all the time: only words that differ are stored, each whole.
      const fresh = new BigUint64Array(SETTINGS.size / WORD);
      writeSettings(new Uint8Array(fresh.buffer), 0, value);
      fresh.forEach((word, i) => {
        if (i !== SETTINGS.bypass / WORD && settings.words[i] !== word) Atomics.store(settings.words, i, word);
      });
    },
    readBypass: () => settings.words[SETTINGS.bypass / WORD] !== 0n,
    setBypass: (on) => {
      Atomics.store(settings.words, SETTINGS.bypass / WORD, on ? 1n : 0n);
    },
    close() {
      for (const one of programs.values()) one.close();
      for (const opened of maps.values()) opened.close();
    },
  };
}

function readSettingsOf(bytes: Uint8Array): Settings {
  return readSettings(bytes.subarray(0, SETTINGS.size), 0);
}
