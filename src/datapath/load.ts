// Loads the BPF objects over the pinned maps. Pins lie under the layout's fingerprint:
//
//   <pin dir>/maps-<fingerprint>/<map>     what this build's programs read
//   <pin dir>/new-<fingerprint>/<map>      the same while they are filled: a start that was cut short leaves no half of them
//   <pin dir>/links/<name>                 attach.ts
//
// Maps of another layout are left where they are until the links were switched. What is in them is copied over before; flows
// that come meanwhile are caught up with, as often as asked.
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { Failure } from "../lib/errors.ts";
import { replaceFile } from "../lib/state-store.ts";
import { VERSION } from "../lib/version.ts";
import {
  type BpfMap,
  type BpfObject,
  type BpfProgram,
  type FeatureName,
  type FileLock,
  hasFeature,
  isBpffs,
  lockFile,
  mountBpffs,
  openObject,
  openPinnedMap,
  releaseFreeMemory,
  unpin,
} from "../libbpf/mod.ts";
import { createDataplane, type Dataplane } from "./dataplane.ts";
import { readClocks } from "./flow-table.ts";
import { FINGERPRINT, FLOW, FLOW_STATE_VALUES, HOOK_VALUES, LAYOUT, VERDICT_VALUES } from "./layout.gen.ts";
import { converter, describeLayout, fingerprintOf, type Layout } from "./layout.ts";
import { OBJECTS, type ObjectName, objectPath, SHARED_ENUMS } from "./objects.ts";

export interface LoadOptions {
  readonly pinDir: string;
  readonly stateDir: string;
  readonly mapSizes: {
    readonly services: number;
    readonly frontends: number;
    readonly backends: number;
    readonly slots: number;
    readonly flows: number;
    readonly openings: number;
  };
  /** Programs for devices without a link header are loaded too. */
  readonly l3: boolean;
  readonly xdp: boolean;
}

export interface Loaded {
  readonly dataplane: Dataplane;
  /** Maps were pinned by an agent before. */
  readonly adopted: boolean;
  /** Flows that were copied from maps of another layout. */
  readonly copiedFlows: number;
  /** Pinned maps whose size is not the one asked for: they keep theirs until `cleanup`. */
  readonly keptSizes: readonly string[];
  /** There are maps of another layout, whose programs are attached. */
  readonly replacesLayout: boolean;
  /** Copies what came to the maps of other layouts since the last time. Cheap: call it around whatever is switched. */
  catchUp(): void;
  /** Catches up and takes the maps of other layouts away: call it when every link runs this build's programs. */
  removeOldLayouts(): void;
  /** Loads the programs for devices without a link header when they were left out, in a thread of its own. */
  loadL3(): Promise<void>;
  close(): void;
}

const L3_PROGRAMS: ReadonlySet<string> = new Set(["tc_uplink_in_l3", "tc_uplink_out_l3"]);
/** In this order: a flow that is established while they are copied is found in one of them at least. */
const FLOW_MAPS = ["openings", "tcp_flows", "udp_flows", "socket_peers", "retired", "announced"] as const;
const FLOW_VALUE = "flow";
const MAPS_PREFIX = "maps-";
const STAGING_PREFIX = "new-";
const NOEXIST = 1;
const EXIST = 2;
/** Raised when a newer build's state cannot be taken over by this one. */
const FORMAT = 1;

interface SavedLayout {
  readonly format: number;
  readonly version: string;
  readonly layout: Layout;
}

function layoutFile(stateDir: string, fingerprint: string): string {
  return join(stateDir, "layouts", `${fingerprint}.json`);
}

function saveLayout(stateDir: string): void {
  const path = layoutFile(stateDir, FINGERPRINT);
  if (existsSync(path)) return;
  const saved: SavedLayout = { format: FORMAT, version: VERSION, layout: LAYOUT };
  replaceFile(path, JSON.stringify(saved));
}

function readLayout(stateDir: string, fingerprint: string, pinDir: string): Layout {
  const remedy = `run 'millrace cleanup --pin-dir ${pinDir}' to start anew`;
  let saved: SavedLayout;
  try {
    saved = JSON.parse(readFileSync(layoutFile(stateDir, fingerprint), "utf8")) as SavedLayout;
  } catch (cause) {
    throw new Failure(
      "conflict",
      pinDir,
      `could not take over the maps in ${pinDir}: their layout ${fingerprint} is not known here, perhaps of a newer build; ${remedy}`,
      { cause },
    );
  }
  if (saved.format > FORMAT) {
    throw new Failure(
      "conflict",
      pinDir,
      `could not take over the maps in ${pinDir}: they were made by the newer version ${saved.version}; start that version, or ${remedy}`,
    );
  }
  return saved.layout;
}

/** Makes the directory of pins; mounts a bpffs over its parents when there is none. */
export function preparePinDir(pinDir: string): void {
  let parent = pinDir;
  while (!existsSync(parent)) parent = dirname(parent);
  if (!isBpffs(parent)) {
    if (!pinDir.startsWith("/sys/fs/bpf/")) {
      throw new Failure(
        "machine",
        pinDir,
        `could not pin to ${pinDir}: it is on no bpffs; mount one there, or use a directory below /sys/fs/bpf`,
      );
    }
    mountBpffs("/sys/fs/bpf");
  }
  mkdirSync(pinDir, { recursive: true, mode: 0o700 });
}

/** One agent at a time per pin directory. Throws Failure "conflict". */
export function lockPinDir(pinDir: string): FileLock {
  const directory = "/run/millrace/locks";
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const lock = lockFile(join(directory, `${pinDir.replaceAll("/", "_")}.lock`));
  if (lock === undefined) {
    throw new Failure(
      "conflict",
      pinDir,
      `could not start: another agent uses ${pinDir}; stop it, or give this one another --pin-dir`,
    );
  }
  return lock;
}

function sizesOf(options: LoadOptions): Readonly<Record<string, number>> {
  const { mapSizes } = options;
  return {
    frontends: mapSizes.frontends,
    rows: mapSizes.frontends,
    slots: mapSizes.slots,
    backends: mapSizes.backends,
    tcp_flows: mapSizes.flows,
    udp_flows: Math.max(1024, mapSizes.flows >> 1),
    openings: mapSizes.openings,
    addresses: mapSizes.frontends,
    service_stats: mapSizes.services,
    verdicts: HOOK_VALUES.HOOK_MAX * VERDICT_VALUES.VERDICT_MAX,
  };
}

function openForLoad(name: ObjectName): BpfObject {
  return openObject(objectPath(name));
}

/** Tells the programs what the kernel can do: `has` for each feature that they have a fallback for. */
export function configure(object: BpfObject, has: (name: FeatureName) => boolean = hasFeature): void {
  const variables = new Set(
    object
      .btf()
      .datasec(".rodata")
      ?.variables.map((variable) => variable.name) ?? [],
  );
  const values: Record<string, number> = {
    config_csum_ipv6: has("csum_ipv6") ? 1 : 0,
    config_fib_mtu: has("fib_mtu") ? 1 : 0,
    config_set_retval: has("set_retval") ? 1 : 0,
    config_netns_cookie: has("netns_cookie") ? 1 : 0,
  };
  object.setReadOnly(Object.fromEntries(Object.entries(values).filter(([name]) => variables.has(name))));
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
  const offset = (field: string): number | undefined =>
    old.structs[FLOW_VALUE]?.fields.find((one) => one.name === field && one.kind === "u32")?.offset;
  return { from, to, key, value, isFlow, seen: offset("seen"), state: offset("state") };
}

/** A flow that is copied on its way from SYN to ACK misses what the old programs see of that: any answer and request will do. */
function relaxOpening(values: Uint8Array, at: number): void {
  const view = new DataView(values.buffer, values.byteOffset + at);
  const state = view.getUint32(FLOW.state, true);
  view.setUint32(FLOW.state, state | FLOW_STATE_VALUES.STATE_MIDSTREAM, true);
}

/** Copies every row of one map into its successor, field by field. Returns how many. */
function copyMap({ from, to, key, value }: Copier, name: string): number {
  let copied = 0;
  for (const chunk of from.batches(4096)) {
    const keys = new Uint8Array(chunk.count * to.keySize);
    const values = new Uint8Array(chunk.count * to.valueSize);
    for (let i = 0; i < chunk.count; i++) {
      key(chunk.keys, i * from.keySize, keys, i * to.keySize);
      value(chunk.values, i * from.valueSize, values, i * to.valueSize);
      if (name === "openings") relaxOpening(values, i * to.valueSize);
    }
    to.updateBatch(keys, values, chunk.count);
    copied += chunk.count;
  }
  return copied;
}

/**
 * Copies rows that the successor lacks. Of flows only those that were seen since `since` (jiffies; undefined: all), and that
 * a flow ended is told to the successor's entry, which goes on to be this build's.
 */
function catchUpMap(
  { from, to, key, value, isFlow, seen, state }: Copier,
  name: string,
  since: number | undefined,
): void {
  const ends = FLOW_STATE_VALUES.STATE_FIN_CLIENT | FLOW_STATE_VALUES.STATE_FIN_BACKEND | FLOW_STATE_VALUES.STATE_RESET;
  const keyBytes = new Uint8Array(to.keySize);
  const valueBytes = new Uint8Array(to.valueSize);
  const there = new Uint8Array(to.valueSize);
  const thereView = new DataView(there.buffer);
  for (const chunk of from.batches(4096)) {
    const view = new DataView(chunk.values.buffer, chunk.values.byteOffset, chunk.values.byteLength);
    for (let i = 0; i < chunk.count; i++) {
      const at = i * from.valueSize;
      const ended = isFlow && state !== undefined ? view.getUint32(at + state, true) & ends : 0;
      // Modular: the low 32 bits of jiffies wrap.
      const isOld =
        isFlow && since !== undefined && seen !== undefined && ((view.getUint32(at + seen, true) - since) | 0) < 0;
      if (isOld && ended === 0) continue;
      key(chunk.keys, i * from.keySize, keyBytes, 0);
      valueBytes.fill(0);
      value(chunk.values, at, valueBytes, 0);
      if (name === "openings") relaxOpening(valueBytes, 0);
      if (to.tryUpdate(keyBytes, valueBytes, NOEXIST) === 0 || ended === 0) continue;
      if (!to.lookupInto(keyBytes, there)) continue;
      const known = thereView.getUint32(FLOW.state, true);
      if ((known | ended) === known) continue;
      thereView.setUint32(FLOW.state, known | ended, true);
      to.tryUpdate(keyBytes, there, EXIST);
    }
  }
}

/** Rows, slots, backends and the hashes that lead to them: copied whole when their layout did not change. */
const STATE_MAPS = [
  "slots",
  "backends",
  "rows",
  "frontends",
  "met_backends",
  "addresses",
  "service_ranges",
  "settings",
  "devices",
  "service_stats",
];

function copyArray(from: BpfMap, to: BpfMap, old: Layout, name: string): void {
  const convert = converter(old, LAYOUT, LAYOUT.maps[name]!.value);
  if (convert === undefined || from.type !== "array") return;
  const source = new Uint8Array(from.mmap(false));
  const target = new Uint8Array(to.mmap(true));
  const count = Math.min(from.maxEntries, to.maxEntries);
  for (let i = 0; i < count; i++) convert(source, i * from.stride, target, i * to.stride);
}

interface OldLayout {
  readonly directory: string;
  readonly layout: Layout;
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
  const from = openPinnedMap(path, name);
  try {
    use(from, to);
  } finally {
    from.close();
  }
}

function copyLayout(old: OldLayout, maps: ReadonlyMap<string, BpfMap>): number {
  let flows = 0;
  for (const name of [...STATE_MAPS, ...FLOW_MAPS]) {
    withOldMap(old, maps, name, (from, to) => {
      if (from.type === "array") return copyArray(from, to, old.layout, name);
      const copier = from.isPerCpu ? undefined : copierOf(from, to, old.layout, name);
      if (copier === undefined) return;
      const copied = copyMap(copier, name);
      if (copier.isFlow) flows += copied;
    });
  }
  return flows;
}

/** A map that is filled from another layout's holds at least what that one did. */
function sizeOverOld(name: string, wanted: number, old: readonly OldLayout[]): number {
  let size = wanted;
  for (const { directory } of old) {
    const path = join(directory, name);
    if (!existsSync(path)) continue;
    const map = openPinnedMap(path, name);
    size = Math.max(size, map.maxEntries);
    map.close();
  }
  return size;
}

/** Loads every object. Throws VerifierError, KernelError, or Failure "conflict" when pins of another build are in the way. */
export function loadDataplane(options: LoadOptions): Loaded {
  const steps = loading(options);
  for (let step = steps.next(); ; step = steps.next()) {
    if (step.done) return step.value;
    try {
      for (const object of step.value) object.load();
    } catch (error) {
      steps.throw(error);
    }
  }
}

/** `loadDataplane` beside the event loop, on as many processors as there are objects. */
export async function loadDataplaneAsync(options: LoadOptions): Promise<Loaded> {
  const steps = loading(options);
  for (let step = steps.next(); ; step = steps.next()) {
    if (step.done) return step.value;
    // None is closed while another one still loads.
    const results = await Promise.allSettled(step.value.map((object) => object.loadAsync()));
    await nextTurn();
    const failed = results.find((result) => result.status === "rejected");
    if (failed !== undefined) steps.throw(failed.reason);
  }
}

/** The steps of loading: what is yielded is loaded, in any order, before it goes on; nothing, where others may have their turn. An error is thrown into it. */
function* loading(options: LoadOptions): Generator<readonly BpfObject[], Loaded, void> {
  preparePinDir(options.pinDir);
  for (const name of readdirSync(options.pinDir)) {
    if (name.startsWith(STAGING_PREFIX)) removePins(join(options.pinDir, name));
  }
  const finalDirectory = join(options.pinDir, MAPS_PREFIX + FINGERPRINT);
  const others = readdirSync(options.pinDir).filter(
    (name) => name.startsWith(MAPS_PREFIX) && name !== MAPS_PREFIX + FINGERPRINT,
  );
  // An upgrade that was cut short leaves two: the links tell nothing of which is live, and both hold flows.
  const oldLayouts: readonly OldLayout[] = others.map((name) => ({
    directory: join(options.pinDir, name),
    layout: readLayout(options.stateDir, name.slice(MAPS_PREFIX.length), options.pinDir),
  }));
  const adopted = existsSync(finalDirectory);
  const mapsDirectory = adopted ? finalDirectory : join(options.pinDir, STAGING_PREFIX + FINGERPRINT);
  mkdirSync(mapsDirectory, { recursive: true, mode: 0o700 });
  saveLayout(options.stateDir);

  const names = OBJECTS.filter((name) => options.xdp || name !== "xdp");
  let mapMaker: BpfObject | undefined;
  const objects: BpfObject[] = [];
  const maps = new Map<string, BpfMap>();
  const programs = new Map<string, BpfProgram>();
  const keptSizes: string[] = [];
  const sizes = sizesOf(options);
  const close = (): void => {
    mapMaker?.close();
    for (const object of objects) object.close();
    for (const program of programs.values()) program.close();
    for (const map of maps.values()) map.close();
  };
  /** Gives the object every map that is there already, and to the others the size that they will have. */
  const giveMaps = (object: BpfObject): void => {
    for (const name of object.maps()) {
      if (LAYOUT.maps[name] === undefined) continue;
      const size = sizes[name];
      const path = join(mapsDirectory, name);
      if (!maps.has(name) && existsSync(path)) {
        const pinned = openPinnedMap(path, name);
        maps.set(name, pinned);
        if (size !== undefined && pinned.maxEntries !== size) keptSizes.push(name);
      }
      const known = maps.get(name);
      if (known !== undefined) {
        object.setMaxEntries(name, known.maxEntries);
        object.reuseMap(name, known);
      } else if (size !== undefined) object.setMaxEntries(name, sizeOverOld(name, size, oldLayouts));
    }
  };
  const openMapMaker = (): BpfObject => {
    const object = openForLoad(OBJECTS[0]);
    for (const program of object.programs()) object.setAutoload(program, false);
    giveMaps(object);
    return object;
  };
  try {
    for (const name of names) {
      objects.push(openForLoad(name));
      yield [];
    }
    checkLayout(objects, names.length === OBJECTS.length);
    // Every object names every map: one without programs makes those that are missing, and the verifier can then work on all
    // objects at once.
    mapMaker = openMapMaker();
    try {
      yield [mapMaker];
    } catch (cause) {
      // Beside the event loop nothing is heard of libbpf's words, which name the map: this throws with them.
      using again = openMapMaker();
      again.load();
      throw cause;
    }
    for (const name of mapMaker.maps()) {
      if (LAYOUT.maps[name] === undefined || maps.has(name)) continue;
      const map = mapMaker.map(name).duplicate();
      maps.set(name, map);
      map.pin(join(mapsDirectory, name));
    }
    mapMaker.close();
    for (const object of objects) {
      configure(object);
      for (const program of object.programs()) if (L3_PROGRAMS.has(program)) object.setAutoload(program, options.l3);
      giveMaps(object);
      yield [];
    }
    yield objects;
    // An object holds its file, relocated: only the kernel's programs are needed from here on.
    for (const object of objects) {
      for (const name of object.programs())
        if (object.loads(name)) programs.set(name, object.program(name).duplicate());
      object.close();
    }
    releaseFreeMemory();
    const dataplane = createDataplane(programs, maps, { areNew: !adopted && oldLayouts.length === 0 });
    let copiedFlows = 0;
    // undefined: nothing was copied by this process.
    let copiedAt: number | undefined;
    const now = (): number => readClocks(dataplane).jiffies - 1;
    if (!adopted) {
      const began = now();
      for (const old of oldLayouts) copiedFlows += copyLayout(old, maps);
      copiedAt = began;
      renameSync(mapsDirectory, finalDirectory);
    }
    const catchUp = (): void => {
      if (oldLayouts.length === 0) return;
      const began = now();
      for (const old of oldLayouts) {
        for (const name of FLOW_MAPS) {
          withOldMap(old, maps, name, (from, to) => {
            const copier = copierOf(from, to, old.layout, name);
            if (copier !== undefined) catchUpMap(copier, name, copiedAt);
          });
        }
      }
      copiedAt = began;
    };
    let l3: Promise<void> | undefined;
    const loadL3 = async (): Promise<void> => {
      using object = openForLoad("tc");
      configure(object);
      for (const program of object.programs()) object.setAutoload(program, L3_PROGRAMS.has(program));
      giveMaps(object);
      await object.loadAsync();
      for (const name of L3_PROGRAMS) programs.set(name, object.program(name).duplicate());
    };
    return {
      dataplane,
      adopted: adopted || oldLayouts.length > 0,
      copiedFlows,
      keptSizes,
      replacesLayout: oldLayouts.length > 0,
      catchUp,
      removeOldLayouts() {
        catchUp();
        for (const { directory } of oldLayouts) removePins(directory);
      },
      loadL3() {
        if (options.l3) return Promise.resolve();
        // A failure is tried again by whoever asks next.
        l3 ??= loadL3().catch((error: unknown) => {
          l3 = undefined;
          throw error;
        });
        return l3;
      },
      close: () => dataplane.close(),
    };
  } catch (error) {
    close();
    if (!adopted) removePins(mapsDirectory);
    throw error;
  }
}

function checkLayout(objects: readonly BpfObject[], all: boolean): void {
  if (!all) return;
  const layout = describeLayout(
    objects.map((object) => object.btf()),
    SHARED_ENUMS,
  );
  if (fingerprintOf(layout) !== FINGERPRINT) {
    throw new Failure(
      "internal",
      "bpf objects",
      "could not load the programs: their layout is not the one this build was made for; run 'make build'",
    );
  }
}

/** Removes a directory of pins. Returns what was removed. */
export function removePins(directory: string): string[] {
  if (!existsSync(directory)) return [];
  const removed: string[] = [];
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) removed.push(...removePins(path));
    else {
      unpin(path);
      removed.push(path);
    }
  }
  rmdirSync(directory);
  return removed;
}

export function removeSavedLayouts(stateDir: string): void {
  rmSync(join(stateDir, "layouts"), { recursive: true, force: true });
}
