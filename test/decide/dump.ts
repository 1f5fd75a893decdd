// A decision as sorted text, one line for each thing: what tests compare.
import type { Desired, DesiredDevice } from "../../src/decide/decide.ts";

const mac = (bytes: Uint8Array): string => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
const list = (entries: readonly (readonly [string, string | number | bigint | boolean])[]): string =>
  entries
    .flatMap(([name, value]) =>
      value === "" || value === 0 || value === 0n || value === false ? [] : ` ${name}=${value}`,
    )
    .join("");

function deviceLine({ device, role, keep, xdp, bridge, accepts, sources, pods }: DesiredDevice): string {
  const facts = list([
    ["bridge", bridge],
    ["accepts", accepts.some((byte) => byte !== 0) ? mac(accepts) : ""],
    ["source4", sources.IPv4],
    ["source6", sources.IPv6],
    ["pod4", pods.IPv4],
    ["pod6", pods.IPv6],
  ]);
  return `device ${device.name} ${role ?? (keep ? "as it is" : "none")}${xdp ? " xdp" : ""}${facts}`;
}

export function dump(desired: Desired): string {
  const { devices, settings, health, healthPorts, notices } = desired;
  const { sockets, handover, ...words } = settings;
  const lines = [
    `announcements ${desired.announce ? "of the objects" : "as they are"}`,
    `devices ${devices.isWhole ? "all" : "some"}${devices.needsL3 ? ", without link header too" : ""}`,
    ...devices.list.map(deviceLine),
    ...devices.forwarding.map(({ device, family }) => `forwarding ${family} ${device}`),
    `health ${health.healthy ? "good" : health.details.join("; ")}${health.nodeEligible ? "" : ", going away"}`,
    ...(healthPorts === undefined
      ? ["health ports as they are"]
      : healthPorts.map(
          ({ service, port, localEndpoints }) =>
            `health port ${port} ${service} ${localEndpoints.IPv4} ${localEndpoints.IPv6}`,
        )),
    `maps ${desired.maps ? "of the objects" : "as they are"}`,
    ...notices.map(({ severity, object, reason }) => `notice ${severity} ${object} ${reason}`),
    `programs ${desired.attach ? "attached" : "as they are"}`,
    `settings sockets=${sockets}${list(Object.entries(words))}${handover ? " handover" : ""}`,
  ];
  return `${lines.sort().join("\n")}\n`;
}
