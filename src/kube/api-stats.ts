// What the thread counts, in the form in which metrics and status want it.
import type { ApiStats } from "../model/source.ts";
import { RESOURCES } from "./resources.ts";
import type { ThreadStats } from "./worker-messages.ts";

export function apiStatsOf({ resources, transport }: ThreadStats): ApiStats {
  return {
    requests: transport.requests,
    durations: transport.durations,
    resources: RESOURCES.map(({ name }) => {
      const { resourceVersion: _, ...counted } = resources[name];
      return { resource: name, ...counted };
    }),
    server: transport.server,
    certificateExpiresAt: transport.certificateExpiresAt,
    execPluginCalls: transport.execPluginCalls,
    reloads: transport.reloads,
  };
}
