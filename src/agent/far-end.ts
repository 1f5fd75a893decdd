// Whether the other end of a veth hands over frames with whole checksums, wherever that end is. Asks ethtool there, beside other work;
// changes nothing.
import { statSync } from "node:fs";
import type { Device } from "../decide/network.ts";
import { entriesOf } from "../lib/entries.ts";
import { run } from "../lib/exec.ts";
import { createPortions } from "../lib/portions.ts";
import { deviceNameIn, netnsId } from "../libbpf/mod.ts";

/** partial: frames may leave it whose checksum is for a later device to complete. */
export type Checksums = "whole" | "partial" | "unknown";

/** How the world is asked: the namespaces there are, the number of each, and a command's output in one ("": this one). */
export interface FarEndWorld {
  /** Paths of files that stand for network namespaces, each namespace once. */
  namespaces(): Iterable<string> | AsyncIterable<string>;
  numberOf(path: string): number | undefined;
  /** Name of a device in the namespace of this number; undefined when it is not there. */
  deviceName(netns: number, ifindex: number): string | undefined;
  /** Rejects when it cannot be run there. */
  run(namespace: string, command: string, ...args: string[]): Promise<string>;
}

type Asked = Pick<Device, "ifindex" | "farEnd">;
type Named = Pick<Device, "ifindex" | "name">;

export interface FarEnds {
  /** The last answer about the device's far end, undefined before the first; asks for a newer one when that is old. */
  look(device: Asked, devices: readonly Named[]): Checksums | undefined;
  /** The last answer; asks nobody. */
  known(ifindex: number): Checksums | undefined;
  /** Devices that are there still. */
  keep(ifindexes: ReadonlySet<number>): void;
  /** Called after an answer that is another than the one before. */
  onChange(listener: () => void): void;
}

/** What the far end of a veth does with checksums is asked again after so long: it takes a process. */
const OLD_MS = 10_000;

export function createFarEnds(
  signal: AbortSignal,
  ask: (device: Asked, devices: readonly Named[]) => Promise<Checksums> = (device, devices) =>
    farEndChecksums(device, devices, machine(signal)),
): FarEnds {
  const asked = new Map<number, { atMs: number; answer: Checksums | undefined }>();
  let changed = (): void => {};
  return {
    look(device, devices) {
      const now = performance.now();
      const before = asked.get(device.ifindex);
      if (before !== undefined && now - before.atMs < OLD_MS) return before.answer;
      const entry = { atMs: now, answer: before?.answer };
      asked.set(device.ifindex, entry);
      void ask(device, devices).then((answer) => {
        if (signal.aborted || asked.get(device.ifindex) !== entry || answer === entry.answer) return;
        entry.answer = answer;
        changed();
      });
      return entry.answer;
    },
    known: (ifindex) => asked.get(ifindex)?.answer,
    keep(ifindexes) {
      for (const ifindex of asked.keys()) if (!ifindexes.has(ifindex)) asked.delete(ifindex);
    },
    onChange(listener) {
      changed = listener;
    },
  };
}

/** Never rejects. */
export async function farEndChecksums(
  device: Pick<Device, "farEnd">,
  devices: readonly Named[],
  world: FarEndWorld,
): Promise<Checksums> {
  const { farEnd } = device;
  if (farEnd === undefined) return "unknown";
  try {
    const namespace = farEnd.netns === undefined ? "" : await namespaceOf(farEnd.netns, world);
    if (namespace === undefined) return "unknown";
    const name =
      farEnd.netns === undefined
        ? devices.find(({ ifindex }) => ifindex === farEnd.ifindex)?.name
        : world.deviceName(farEnd.netns, farEnd.ifindex);
    if (name === undefined) return "unknown";
    const text = await world.run(namespace, "ethtool", "-k", name);
    const said = /^tx-checksumming:\s*(on|off)\b/m.exec(text)?.[1];
    return said === undefined ? "unknown" : said === "off" ? "whole" : "partial";
  } catch {
    return "unknown";
  }
}

async function namespaceOf(number: number, world: FarEndWorld): Promise<string | undefined> {
  for await (const path of world.namespaces()) if (world.numberOf(path) === number) return path;
  return undefined;
}

/** More processes than this are not looked at: a machine has thousands, in few namespaces. */
const MOST_PATHS = 4096;

const machine = (signal: AbortSignal): FarEndWorld => ({
  async *namespaces() {
    const seen = new Set<number>();
    const named = entriesOf("/run/netns").map((name) => `/run/netns/${name}`);
    const ofProcesses = entriesOf("/proc")
      .filter((name) => /^\d+$/.test(name))
      .map((pid) => `/proc/${pid}/ns/net`);
    const portions = createPortions();
    for (const path of [...named, ...ofProcesses].slice(0, MOST_PATHS)) {
      if (portions.isOver()) await portions.next();
      const inode = statSync(path, { throwIfNoEntry: false })?.ino;
      if (inode === undefined || seen.has(inode)) continue;
      seen.add(inode);
      yield path;
    }
  },
  numberOf: netnsId,
  deviceName: deviceNameIn,
  async run(namespace, command, ...args) {
    const [file, ...rest] =
      namespace === "" ? ([command, ...args] as const) : (["nsenter", `--net=${namespace}`, command, ...args] as const);
    const { ok, text } = await run(file, rest, { signal, timeoutMs: 3_000 });
    if (!ok) throw new Error(text);
    return text;
  },
});
