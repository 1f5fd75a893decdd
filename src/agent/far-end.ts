// Whether the other end of a veth hands over frames with whole checksums, wherever that end is. Asks ethtool there; changes nothing.
import { execFileSync } from "node:child_process";
import { statSync } from "node:fs";
import type { Device } from "../decide/network.ts";
import { entriesOf } from "../lib/entries.ts";
import { deviceNameIn, netnsId } from "../libbpf/mod.ts";

/** partial: frames may leave it whose checksum is for a later device to complete. */
export type Checksums = "whole" | "partial" | "unknown";

/** How the world is asked: the namespaces there are, the number of each, and a command's output in one ("": this one). */
export interface FarEndWorld {
  /** Paths of files that stand for network namespaces, each namespace once. */
  namespaces(): Iterable<string>;
  numberOf(path: string): number | undefined;
  /** Name of a device in the namespace of this number; undefined when it is not there. */
  deviceName(netns: number, ifindex: number): string | undefined;
  /** Throws when it cannot be run there. */
  run(namespace: string, command: string, ...args: string[]): string;
}

export function farEndChecksums(
  device: Pick<Device, "farEnd">,
  devices: readonly Pick<Device, "ifindex" | "name">[],
  world: FarEndWorld = MACHINE,
): Checksums {
  const { farEnd } = device;
  if (farEnd === undefined) return "unknown";
  try {
    const namespace = farEnd.netns === undefined ? "" : namespaceOf(farEnd.netns, world);
    if (namespace === undefined) return "unknown";
    const name =
      farEnd.netns === undefined
        ? devices.find(({ ifindex }) => ifindex === farEnd.ifindex)?.name
        : world.deviceName(farEnd.netns, farEnd.ifindex);
    if (name === undefined) return "unknown";
    const said = /^tx-checksumming:\s*(on|off)\b/m.exec(world.run(namespace, "ethtool", "-k", name))?.[1];
    return said === undefined ? "unknown" : said === "off" ? "whole" : "partial";
  } catch {
    return "unknown";
  }
}

function namespaceOf(number: number, world: FarEndWorld): string | undefined {
  for (const path of world.namespaces()) if (world.numberOf(path) === number) return path;
  return undefined;
}

/** More processes than this are not looked at: a machine has thousands, in few namespaces. */
const MOST_PATHS = 4096;

const MACHINE: FarEndWorld = {
  *namespaces() {
    const seen = new Set<number>();
    const named = entriesOf("/run/netns").map((name) => `/run/netns/${name}`);
    const ofProcesses = entriesOf("/proc")
      .filter((name) => /^\d+$/.test(name))
      .map((pid) => `/proc/${pid}/ns/net`);
    for (const path of [...named, ...ofProcesses].slice(0, MOST_PATHS)) {
      const inode = statSync(path, { throwIfNoEntry: false })?.ino;
      if (inode === undefined || seen.has(inode)) continue;
      seen.add(inode);
      yield path;
    }
  },
  numberOf: netnsId,
  deviceName: deviceNameIn,
  run(namespace, command, ...args) {
    const [file, ...rest] = namespace === "" ? [command, ...args] : ["nsenter", `--net=${namespace}`, command, ...args];
    return execFileSync(file as string, rest, {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
      timeout: 3_000,
      maxBuffer: 16 << 20,
    });
  },
};
