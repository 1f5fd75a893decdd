// Reserves the source ports of SNAT in net.ipv4.ip_local_reserved_ports, so that no process of this node gets one by itself,
// and gives them back. What was there before is kept in the state directory.
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Failure } from "../lib/errors.ts";
import { type Range, subtractRange } from "../lib/range.ts";
import { recall, remember } from "../lib/state-store.ts";

const SYSCTL = "/proc/sys/net/ipv4/ip_local_reserved_ports";
const FILE = "reserved-ports.json";

interface Saved {
  /** What the sysctl held before us. */
  readonly before: string;
  /** What we added, in the order of adding. */
  readonly added: string;
}

/** Ranges of the sysctl's text ("1-2,5"). */
export function parsePorts(text: string): Range[] {
  return text
    .trim()
    .split(",")
    .filter((part) => part !== "")
    .map((part) => {
      const [first, last] = part.split("-").map(Number);
      return { first: first!, last: last ?? first! };
    });
}

export const formatPorts = (ranges: readonly Range[]): string =>
  ranges.map(({ first, last }) => (first === last ? `${first}` : `${first}-${last}`)).join(",");

const contains = (ranges: readonly Range[], { first, last }: Range): boolean =>
  ranges.some((range) => range.first <= first && range.last >= last);

/** What was saved; undefined when nothing was, or it is damaged: then nothing of ours can be told from what others reserved. */
function readSaved(path: string): Saved | undefined {
  const found = recall(path) as Partial<Saved> | null | undefined;
  const isPorts = (text: unknown): boolean => typeof text === "string" && /^(\d+(-\d+)?(,\d+(-\d+)?)*)?$/.test(text);
  return isPorts(found?.before) && isPorts(found?.added) ? (found as Saved) : undefined;
}

/** Adds `range`. Throws Failure "machine" when the sysctl cannot be written. */
export function reservePorts(range: Range, stateDir: string, sysctl: string = SYSCTL): void {
  const before = readFileSync(sysctl, "utf8").trim();
  const ranges = parsePorts(before);
  if (contains(ranges, range)) return;
  const path = join(stateDir, FILE);
  const known = readSaved(path);
  const added = parsePorts(known?.added ?? "");
  if (!contains(added, range)) {
    const saved: Saved = { before: known?.before ?? before, added: formatPorts([...added, range]) };
    remember(path, saved);
  }
  try {
    writeFileSync(sysctl, formatPorts([...ranges, range]));
  } catch (cause) {
    throw new Failure(
      "machine",
      "ip_local_reserved_ports",
      `could not reserve ports ${formatPorts([range])} in net.ipv4.ip_local_reserved_ports: connections of this node may collide with translated ones; make it writable`,
      { cause },
    );
  }
}

/** Takes out what reservePorts added; other people's changes since stay. True when there was something. */
export function releasePorts(stateDir: string, sysctl: string = SYSCTL): boolean {
  const path = join(stateDir, FILE);
  const saved = readSaved(path);
  if (saved === undefined) return false;
  const before = parsePorts(saved.before);
  let left = parsePorts(readFileSync(sysctl, "utf8"));
  for (const added of parsePorts(saved.added)) {
    left = subtractRange(left, added);
    // Ports of ours that somebody had reserved before us are theirs.
    for (const range of before) {
      if (range.last < added.first || range.first > added.last || contains(left, range)) continue;
      left = [...subtractRange(left, range), range];
    }
  }
  writeFileSync(sysctl, left.length === 0 ? "\n" : formatPorts(left.sort((a, b) => a.first - b.first)));
  rmSync(path);
  return true;
}
