// What is wrong with the choice of uplinks: a name in --devices that no device has, or no uplink at all. Pure.
import { didYouMean } from "../lib/suggest.ts";
import type { Notice } from "../model/objects.ts";
import type { DeviceRole } from "./device-roles.ts";
import type { Links } from "./network.ts";

const MAX_NAMES = 8;

/** `named`: what --devices says, empty when uplinks are found by themselves. */
export function uplinkNotices(
  network: Pick<Links, "devices">,
  named: readonly string[],
  roles: ReadonlyMap<number, DeviceRole>,
): Notice[] {
  const names = network.devices
    .filter(({ linkType, ifindex }) => linkType !== "loopback" && roles.get(ifindex) !== "pod")
    .map(({ name }) => name);
  const there = names.length === 0 ? "there is none but loopback" : `there are ${shortList(names)}`;
  const error = (object: string, field: string, reason: string, message: string): Notice => ({
    object,
    file: "",
    field,
    reason,
    message,
    severity: "error",
  });
  const notices = named
    .filter((name) => !network.devices.some((device) => device.name === name))
    .map((name) => {
      const message = `no device is called ${name}; ${there}${didYouMean(name, names)}`;
      return error(`Device ${name}`, "--devices", "no-such-device", message);
    });
  if ([...roles.values()].includes("uplink")) return notices;
  const cure =
    named.length > 0
      ? "correct --devices, or leave it out"
      : "give one an address of this node or a default route, or name it with --devices";
  const message = `no device is an uplink, so nothing from outside this node is served: ${cure}; ${there}`;
  return [...notices, error("Devices", "--devices", "no-uplink", message)];
}

function shortList(names: readonly string[]): string {
  const more = names.length - MAX_NAMES;
  return `${names.slice(0, MAX_NAMES).join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}
