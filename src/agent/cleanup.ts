// `millrace cleanup`: takes everything out of the kernel that an agent left there. Names and allocations in the state directory
// stay, so that a start afterwards gives the same addresses.
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { removeClsactAttachments } from "../datapath/attach.ts";
import { readAnnouncedKey } from "../datapath/layout.gen.ts";
import { lockPinDir, removePins, removeSavedLayouts } from "../datapath/load.ts";
import { solicitedNodeGroup } from "../l2/frames.ts";
import { familyOf } from "../lib/address.ts";
import { openPinnedMap } from "../libbpf/mod.ts";
import { removeForwardRules } from "./forward-rules.ts";
import { readNetwork } from "./network.ts";
import { releasePorts } from "./reserved-ports.ts";

export interface CleanupPlaces {
  readonly pinDir: string;
  readonly stateDir: string;
  readonly cgroup: string;
}

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
      const group = `${solicitedNodeGroup(address)}/128`;
      try {
        execFileSync("ip", ["-6", "addr", "del", group, "dev", device], { stdio: "ignore", timeout: 5_000 });
        removed.push(`group ${group} on ${device}`);
      } catch {
        // It was left before, or never joined.
      }
    }
    map.close();
  }
  return removed;
}

/** Removes links, programs, maps, our clsact qdiscs, group memberships and the reserved ports. Throws Failure "conflict" while an agent runs. */
export async function cleanup(places: CleanupPlaces): Promise<string[]> {
  using _lock = lockPinDir(places.pinDir);
  const { devices } = await readNetwork();
  const removed: string[] = [];
  if (existsSync(places.pinDir)) {
    removed.push(...leaveGroups(places.pinDir, new Map(devices.map(({ ifindex, name }) => [ifindex, name]))));
    removed.push(...removePins(places.pinDir));
  }
  removed.push(
    ...removeClsactAttachments(places.stateDir, new Map(devices.map(({ name, ifindex }) => [name, ifindex]))),
  );
  rmSync(join(places.stateDir, "clsact-qdiscs.json"), { force: true });
  if (existsSync(places.stateDir) && releasePorts(places.stateDir))
    removed.push("ports reserved in net.ipv4.ip_local_reserved_ports");
  removed.push(...(await removeForwardRules()));
  removeSavedLayouts(places.stateDir);
  return removed;
}
