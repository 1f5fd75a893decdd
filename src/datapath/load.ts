// Loads the BPF objects over the pinned maps. Pins lie under the layout's fingerprint:
//
//   <pin dir>/maps-<fingerprint>/<map>     what this build's programs read
//   <pin dir>/new-<fingerprint>/<map>      the same while they are filled: a start that was cut short leaves no half of them
//   <pin dir>/links/<name>                 attach.ts
//
// Maps of another layout are left where they are until the links were switched. What is in them is copied over before; flows
// that come meanwhile are caught up with, as often as asked.
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmdirSync, rmSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { setImmediate as othersTurn } from "node:timers/promises";
import { Failure } from "../lib/errors.ts";
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
import { BPFFS, bpffsRefusal, readMountFacts } from "./bpffs-mount.ts";
import { createLayoutCopy, type OldLayout } from "./copy-layout.ts";
import { createDataplane, type Dataplane } from "./dataplane.ts";
import { FINGERPRINT, HOOK_VALUES, LAYOUT, VERDICT_VALUES } from "./layout.gen.ts";
import { describeLayout, fingerprintOf, type Layout } from "./layout.ts";
import { OBJECTS, type ObjectName, objectPath, SHARED_ENUMS } from "./objects.ts";
import { isLayoutKnown, MAPS_PREFIX, readLayout, STAGING_PREFIX, saveLayout } from "./saved-layouts.ts";

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
  /** Of the tc programs these alone, and none of the others, over maps that are there. @default all */
  readonly only?: readonly string[];
  /** Maps whose layout is not known are left behind, with their flows, instead of refused. */
  readonly leaveUnknown?: boolean;
}

export interface Loaded {
  readonly dataplane: Dataplane;
  /** Maps were pinned by an agent before. */
  readonly adopted: boolean;
  /** Flows that were copied from maps of another layout. */
  readonly copiedFlows: number;
  /** Pinned maps whose size is not the one asked for: they keep theirs until `cleanup`. */
  readonly keptSizes: readonly string[];
  /** Fingerprints of layouts that were left behind. */
  readonly leftBehind: readonly string[];
  /** There are maps of another layout, whose programs are attached. */
  readonly replacesLayout: boolean;
  /** Copies what came to the maps of other layouts since the last time. Cheap: call it around whatever is switched. */
  catchUp(): void;
  /** The programs of other layouts open no flow any more, and go on with those that they know. */
  stopOpening(): void;
  /** Catches up and takes the maps of other layouts away, once: call it when every link runs this build's programs. */
  removeOldLayouts(): void;
  /** Loads the programs for devices without a link header when they were left out, in a thread of its own. */
  loadL3(): Promise<void>;
  /**
   * Loads the tc programs once more, in a thread of its own: what this kernel can do has changed. Resolves to those before, for the
   * caller to close when others are attached in their places.
   */
  reloadTc(): Promise<readonly BpfProgram[]>;
  close(): void;
}

const L3_PROGRAMS: ReadonlySet<string> = new Set(["tc_uplink_in_l3", "tc_uplink_out_l3"]);
/**
 * Makes the directory of pins; mounts a bpffs over its parents when there is none. @throws Failure "machine" when it would be seen by
 * this process alone
 */
export function preparePinDir(pinDir: string): void {
  let parent = pinDir;
  while (!existsSync(parent)) parent = dirname(parent);
  if (!isBpffs(parent)) {
    if (!pinDir.startsWith(`${BPFFS}/`)) {
      throw new Failure(
        "machine",
        pinDir,
        `could not pin to ${pinDir}: it is on no bpffs; mount one there, or use a directory below ${BPFFS}`,
      );
    }
    const refusal = bpffsRefusal(readMountFacts());
    if (refusal !== "") throw new Failure("machine", BPFFS, `could not mount a bpffs at ${BPFFS}: ${refusal}`);
    mountBpffs(BPFFS);
  }
  mkdirSync(pinDir, { recursive: true, mode: 0o700 });
}

/** One agent at a time per pin directory. Throws Failure "conflict": what `refusal` says, given " (process 123)" where that is known. */
export function lockPinDir(
  pinDir: string,
  refusal = (holder: string): string =>
    `could not start: another agent${holder} uses ${pinDir}; stop it, or give this one another --pin-dir`,
): FileLock {
  const directory = "/run/millrace/locks";
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const path = join(directory, `${pinDir.replaceAll("/", "_")}.lock`);
  const lock = lockFile(path);
  if (lock === undefined) throw new Failure("conflict", pinDir, refusal(holderOf(path)));
  return lock;
}

/** proc_locks(5): "1: FLOCK ADVISORY WRITE 123 00:1a:5678 0 EOF". */
function holderOf(path: string): string {
  const { ino } = statSync(path);
  const lines = readFileSync("/proc/locks", "utf8").split("\n");
  const held = lines.find((line) => line.includes(" FLOCK ") && line.includes(`:${ino} `));
  const pid = Number(held?.trim().split(/\s+/)[4]);
  return pid > 0 ? ` (process ${pid})` : "";
}

/** Entries of each map that is sized by the options. */
export function sizesOf(options: Pick<LoadOptions, "mapSizes">): Readonly<Record<string, number>> {
  const { mapSizes } = options;
  return {
    frontends: mapSizes.frontends,
    rows: mapSizes.frontends,
    slots: mapSizes.slots,
    backends: mapSizes.backends,
    tcp_flows: mapSizes.flows,
    udp_flows: Math.max(1024, mapSizes.flows >> 1),
    openings: mapSizes.openings,
    affinity: Math.max(1024, mapSizes.flows >> 2),
    source_ranges: mapSizes.frontends,
    service_policies: mapSizes.services,
    addresses: mapSizes.frontends,
    service_stats: mapSizes.services,
    service_refusals: mapSizes.services,
    verdicts: HOOK_VALUES.HOOK_MAX * VERDICT_VALUES.VERDICT_MAX,
  };
}

/** Where a program may ask conntrack, the tc programs are those that do. */
export function openForLoad(name: ObjectName): BpfObject {
  return openObject(objectPath(name === "tc" && hasFeature("ct_lookup") ? "tc_conntrack" : name));
}

/** Lets an object that is not loaded yet use a map that is there in place of one of its own. */
export function giveMap(object: BpfObject, name: string, map: BpfMap): void {
  // What lies with sockets has no size.
  if (map.maxEntries > 0) object.setMaxEntries(name, map.maxEntries);
  object.reuseMap(name, map);
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

/** Where an older layout has the very same map of what lies with sockets: nobody could copy it, so that one stays in use. */
function keptOverLayouts(name: string, old: readonly OldLayout[]): string | undefined {
  const now = LAYOUT.maps[name];
  if (now?.type !== "sk_storage") return undefined;
  const text = (layout: Layout): string => JSON.stringify([layout.maps[name], structsOf(layout, now.value)]);
  const same = old.find(({ directory, layout }) => text(layout) === text(LAYOUT) && existsSync(join(directory, name)));
  return same && join(same.directory, name);
}

/** A struct and those in it. */
function structsOf(layout: Layout, name: string): readonly unknown[] {
  const struct = layout.structs[name];
  const inner = struct?.fields.flatMap((field) => (field.struct === undefined ? [] : structsOf(layout, field.struct)));
  return [struct, ...(inner ?? [])];
}

/**
 * Loads every object beside the event loop, on as many processors as there are objects. Rejects with VerifierError, KernelError, or
 * Failure "conflict" when pins of another build are in the way.
 */
export async function loadDataplaneAsync(options: LoadOptions): Promise<Loaded> {
  const steps = loadSteps(options);
  for (let step = steps.next(); ; step = steps.next()) {
    if (step.done) return step.value;
    // None is closed while another one still loads.
    const results = await Promise.allSettled(step.value.map((object) => object.loadAsync()));
    await othersTurn();
    const failed = results.find((result) => result.status === "rejected");
    if (failed !== undefined) steps.throw(failed.reason);
  }
}

/** The steps of loading: what is yielded is loaded, in any order, before it goes on; nothing, where others may have their turn. An error is thrown into it. */
export function* loadSteps(options: LoadOptions): Generator<readonly BpfObject[], Loaded, void> {
  preparePinDir(options.pinDir);
  for (const name of readdirSync(options.pinDir)) {
    if (name.startsWith(STAGING_PREFIX)) removePins(join(options.pinDir, name));
  }
  const finalDirectory = join(options.pinDir, MAPS_PREFIX + FINGERPRINT);
  const others = readdirSync(options.pinDir).filter(
    (name) => name.startsWith(MAPS_PREFIX) && name !== MAPS_PREFIX + FINGERPRINT,
  );
  // An upgrade that was cut short leaves two: the links tell nothing of which is live, and both hold flows.
  const oldLayouts: OldLayout[] = [];
  const leftBehind: string[] = [];
  for (const name of others) {
    const fingerprint = name.slice(MAPS_PREFIX.length);
    if (options.leaveUnknown === true && !isLayoutKnown(options.stateDir, fingerprint)) leftBehind.push(fingerprint);
    else {
      const layout = readLayout(options.stateDir, fingerprint, options.pinDir);
      oldLayouts.push({ directory: join(options.pinDir, name), layout });
    }
  }
  const adopted = existsSync(finalDirectory);
  const mapsDirectory = adopted ? finalDirectory : join(options.pinDir, STAGING_PREFIX + FINGERPRINT);
  mkdirSync(mapsDirectory, { recursive: true, mode: 0o700 });
  saveLayout(options.stateDir);

  const { only } = options;
  const names = only === undefined ? OBJECTS.filter((name) => options.xdp || name !== "xdp") : (["tc"] as const);
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
      // Later objects get the maps of the first ones, whose directory has another name by then.
      const kept = maps.has(name) || existsSync(path) ? undefined : keptOverLayouts(name, oldLayouts);
      if (kept !== undefined) {
        using old = openPinnedMap(kept, name);
        old.pin(path);
      }
      if (!maps.has(name) && existsSync(path)) {
        const pinned = openPinnedMap(path, name);
        maps.set(name, pinned);
        if (size !== undefined && pinned.maxEntries !== size) keptSizes.push(name);
      }
      const known = maps.get(name);
      if (known !== undefined) giveMap(object, name, known);
      else if (size !== undefined) object.setMaxEntries(name, sizeOverOld(name, size, oldLayouts));
    }
  };
  const openMapMaker = (): BpfObject => {
    const object = openObject(objectPath(OBJECTS[0]));
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
      for (const program of object.programs()) {
        if (only !== undefined) object.setAutoload(program, only.includes(program));
        else if (L3_PROGRAMS.has(program)) object.setAutoload(program, options.l3);
      }
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
    const copy = createLayoutCopy(oldLayouts, maps, dataplane);
    let copiedFlows = 0;
    if (!adopted) {
      copiedFlows = copy.copy();
      renameSync(mapsDirectory, finalDirectory);
    }
    let l3: Promise<void> | undefined;
    /** Those that it takes the place of. */
    const loadTc = async (wanted: (program: string) => boolean): Promise<readonly BpfProgram[]> => {
      using object = openForLoad("tc");
      configure(object);
      for (const program of object.programs()) object.setAutoload(program, wanted(program));
      giveMaps(object);
      await object.loadAsync();
      const names = object.programs().filter((name) => object.loads(name));
      const before = names.flatMap((name) => programs.get(name) ?? []);
      for (const name of names) programs.set(name, object.program(name).duplicate());
      return before;
    };
    return {
      dataplane,
      adopted: adopted || oldLayouts.length > 0,
      copiedFlows,
      keptSizes,
      leftBehind,
      replacesLayout: oldLayouts.length > 0,
      catchUp: copy.catchUp,
      stopOpening: copy.stopOpening,
      removeOldLayouts() {
        if (others.length > 0) copy.catchUp();
        for (const name of others.splice(0)) removePins(join(options.pinDir, name));
      },
      loadL3() {
        if (options.l3) return Promise.resolve();
        // A failure is tried again by whoever asks next.
        l3 ??= loadTc((name) => L3_PROGRAMS.has(name)).then(
          () => {},
          (error: unknown) => {
            l3 = undefined;
            throw error;
          },
        );
        return l3;
      },
      reloadTc: () => loadTc((name) => programs.has(name)),
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
