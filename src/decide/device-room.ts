// Which devices are known to the programs where their map has no room for all of this node's: uplinks, then those of pods, then
// bridges of either, then the rest, each in the network's order. Pure.
import type { Notice } from "../model/objects.ts";
import type { DesiredDevice } from "./decide.ts";
import { machineNotice } from "./machine-notice.ts";

/** So many at most, in the order of `list`. Who is left out has no programs. */
export function fitDevices(list: readonly DesiredDevice[], most: number): readonly DesiredDevice[] {
  if (list.length <= most) return list;
  const bridges = new Set(list.flatMap(({ role, bridge }) => (role === undefined ? [] : [bridge])));
  const rankOf = ({ device, role, keep }: DesiredDevice): number =>
    role === "uplink" ? 0 : role !== undefined || keep ? 1 : bridges.has(device.ifindex) ? 2 : 3;
  const chosen = new Set(list.toSorted((a, b) => rankOf(a) - rankOf(b)).slice(0, most));
  return list.filter((one) => chosen.has(one));
}

export function roomNotices(asked: number, served: number): readonly Notice[] {
  if (served === asked) return [];
  const message = `could serve only ${served} of ${asked} devices of this node: map "devices" is full; packets of pods behind the others are not translated, their sockets are`;
  return [machineNotice("Devices", "table-full", message, "error")];
}
