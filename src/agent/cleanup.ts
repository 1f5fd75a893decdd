// `millrace cleanup`: takes everything out of the kernel that an agent left there, and says what stays: names and allocations in the
// state directory, so that a start afterwards gives the same addresses, and what only a state directory that is not here could undo.
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { removeClsactAttachments } from "../datapath/attach.ts";
import { FINGERPRINT, readAnnouncedKey, readSettings } from "../datapath/layout.gen.ts";
import { lockPinDir, removePins, removeSavedLayouts } from "../datapath/load.ts";
import { MAPS_PREFIX } from "../datapath/saved-layouts.ts";
import { solicitedNodeGroup } from "../l2/frames.ts";
import { familyOf } from "../lib/address.ts";
import { type Range, subtractRange } from "../lib/range.ts";
import { type FileLock, leaveGroup, openPinnedMap } from "../libbpf/mod.ts";
import { removeForwardRules } from "./forward-rules.ts";
import { releaseNatHooks } from "./nat-hooks.ts";
import { readNetwork } from "./network.ts";
import type { AgentOptions } from "./options.ts";
import { formatPorts, parsePorts, releasePorts } from "./reserved-ports.ts";

/** Multicast groups that were joined for announced IPv6 addresses. */
function leaveGroups(pinDir: string, devices: ReadonlyMap<number, string>): string[] {
  const removed: string[] = [];
  for (const directory of readdirSync(pinDir).filter((name) => name.startsWith("maps-"))) {
    const path = join(pinDir, directory, "announced");
    if (!existsSync(path)) continue;
    const map = openPinnedMap(path);
    for (const [key] of map.entries()) {
      const { address, ifindex } = readAnnouncedKey(key);
      const device = devices.get(ifindex);
      if (device === undefined || familyOf(address) !== "IPv6") continue;
      const group = solicitedNodeGroup(address);
      try {
        if (leaveGroup(ifindex, group)) removed.push(`group ${group} on ${device}`);
      } catch {
        // The rest can be removed all the same.
      }
    }
    map.close();
  }
  return removed;
}

export interface CleanupResult {
  readonly removed: readonly string[];
  /** What was left on purpose, or for want of knowledge: sentences that say what to do about it. */
  readonly left: readonly string[];
}

type Places = Pick<AgentOptions, "pinDir" | "stateDir">;

/** Held while things are removed. Throws Failure "conflict" while an agent runs. */
export function lockForCleanup({ pinDir }: Places): FileLock {
  return lockPinDir(pinDir, (holder) => `could not clean up: an agent${holder} uses ${pinDir}; stop it first`);
}

/** Removes links, programs, maps, our clsact qdiscs, group memberships and the reserved ports. Throws Failure "conflict" while an agent runs. */
export async function cleanup(places: Places): Promise<CleanupResult> {
  using _lock = lockForCleanup(places);
  return await removeAll(places);
}

/** The same while whoever calls holds the lock. */
export async function removeAll(places: Places): Promise<CleanupResult> {
  const { devices } = await readNetwork();
  const removed: string[] = [];
  const left: string[] = [];
  const snat = snatPorts(places.pinDir);
  if (existsSync(places.pinDir)) {
    removed.push(...leaveGroups(places.pinDir, new Map(devices.map(({ ifindex, name }) => [ifindex, name]))));
    removed.push(...removePins(places.pinDir));
  }
  removed.push(
    ...removeClsactAttachments(places.stateDir, new Map(devices.map(({ name, ifindex }) => [name, ifindex]))),
  );
  rmSync(join(places.stateDir, "clsact-qdiscs.json"), { force: true });
  const ports = releaseReserved(
    () => existsSync(places.stateDir) && releasePorts(places.stateDir),
    () => portsLeft(snat, readFileSync(RESERVED_PORTS, "utf8"), places.stateDir),
  );
  removed.push(...ports.removed);
  left.push(...ports.left);
  removed.push(...(await removeForwardRules()), ...(await releaseNatHooks()));
  removeSavedLayouts(places.stateDir);
  left.push(...filesLeft(places.stateDir));
  return { removed, left };
}

const RESERVED_PORTS = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/** In a container /proc/sys may be read-only: the ports stay reserved then, and the record of who reserved them. */
export function releaseReserved(release: () => boolean, told: () => string[]): CleanupResult {
  try {
    return release()
      ? { removed: ["ports reserved in net.ipv4.ip_local_reserved_ports"], left: [] }
      : { removed: [], left: told() };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "EROFS" && code !== "EACCES" && code !== "EPERM") throw error;
    const where = "run millrace cleanup once more where /proc/sys can be written";
    return { removed: [], left: [`ports reserved in net.ipv4.ip_local_reserved_ports (${code}): ${where}`] };
  }
}

/** The ports that an agent with these pins wanted reserved, undefined when none of this layout is pinned. */
function snatPorts(pinDir: string): Range | undefined {
  const path = join(pinDir, MAPS_PREFIX + FINGERPRINT, "settings");
  if (!existsSync(path)) return undefined;
  using map = openPinnedMap(path, "settings");
  const { snatFirst, snatCount } = readSettings(new Uint8Array(map.mmap(false)));
  return snatCount === 0 ? undefined : { first: snatFirst, last: snatFirst + snatCount - 1 };
}

/** Reserved ports of which no record tells who reserved them: they are not ours to give up, and not to be passed over. */
export function portsLeft(snat: Range | undefined, reserved: string, stateDir: string): string[] {
  const ranges = parsePorts(reserved);
  if (snat === undefined || !ranges.some(({ first, last }) => first <= snat.first && last >= snat.last)) return [];
  const rest = formatPorts(subtractRange(ranges, snat));
  return [
    `ports ${formatPorts([snat])} in net.ipv4.ip_local_reserved_ports: ${stateDir} has no record that Millrace reserved them; name the agent's --state-dir, or: sysctl -w net.ipv4.ip_local_reserved_ports=${rest === "" ? "''" : rest}`,
  ];
}

function filesLeft(stateDir: string): string[] {
  const files = existsSync(stateDir) ? readdirSync(stateDir).sort() : [];
  return files.length === 0
    ? []
    : [
        `${files.join(", ")} in ${stateDir}: a later start gives the same addresses by them; rm -r ${stateDir} forgets them`,
      ];
}
