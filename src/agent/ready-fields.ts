// What the log says when an agent is ready: version, node, devices, Services, and where to look. Pure.
import type { AgentOptions } from "./options.ts";
import type { AgentStatus } from "./view.ts";

export function readyFields(
  { version, node, devices }: Pick<AgentStatus, "version" | "node" | "devices">,
  { metricsBindAddress, healthzBindAddress }: Pick<AgentOptions, "metricsBindAddress" | "healthzBindAddress">,
  services: number,
  sinceStartMs: number,
): Readonly<Record<string, unknown>> {
  const uplinks = devices.filter(({ role }) => role === "uplink").map(({ name }) => name);
  return {
    version,
    node,
    uplinks: uplinks.length === 0 ? "none" : uplinks,
    podDevices: devices.length - uplinks.length,
    services,
    metrics: metricsBindAddress === "" ? "off" : `http://${metricsBindAddress}/metrics`,
    health: healthzBindAddress === "" ? "off" : `http://${healthzBindAddress}/healthz`,
    ms: Math.round(sinceStartMs),
  };
}
