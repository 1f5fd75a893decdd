// All HTTP servers of an agent as one thing that starts and ends with it. Trouble of a listener appears among the
// agent's own notices: on the log, in `status`, in the metrics.
import type { AgentOptions } from "../agent/options.ts";
import type { AgentCounters, AgentView } from "../agent/view.ts";
import { createLog } from "../lib/log.ts";
import type { Notice } from "../model/objects.ts";
import { createApiServer } from "./api-server.ts";
import { createHealthServer } from "./health-server.ts";
import { createMetricsServer } from "./metrics-server.ts";
import { createServiceHealthServers, type ServiceHealth } from "./service-health-servers.ts";

export interface Servers {
  close(): Promise<void>;
  /** The Services that want a health check node port, and whether this proxy is healthy, whenever they change. */
  health(list: readonly ServiceHealth[], proxyHealthy: boolean): void;
}

/** Starts what `options` asks for. Ports that are taken are tried again. @throws Failure "conflict" when another agent has the API socket */
export async function createServers(options: AgentOptions, agent: AgentView): Promise<Servers> {
  const log = createLog("http");
  const troubles = new Map<string, Notice>();
  const serviceHealth = createServiceHealthServers(log);
  const notices = () => [...troubles.values(), ...serviceHealth.notices()];
  const view = withNotices(agent, notices);

  const reporter = (name: string) => (notice: Notice | undefined) => {
    if (notice === undefined) troubles.delete(name);
    else {
      if (!troubles.has(name)) log.warn({ object: notice.object, reason: notice.reason }, notice.message);
      troubles.set(name, notice);
    }
  };
  const api = createApiServer({
    view,
    socketPath: options.apiSocket,
    tcpAddress: options.apiAddress,
    log,
    onNotice: reporter("api"),
  });
  const started: { close(): Promise<void> }[] = [serviceHealth];
  const close = async () => {
    for (const server of started.reverse()) await server.close();
  };
  try {
    await api.listen();
    started.push(api);
    for (const [name, address, create] of [
      ["healthz", options.healthzBindAddress, createHealthServer],
      ["metrics", options.metricsBindAddress, createMetricsServer],
    ] as const) {
      if (address === "") continue;
      const server = create({ view, address, log, onNotice: reporter(name) });
      started.push(server);
      await server.listen();
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { close, health: serviceHealth.update };
}

/** The agent's view with the listeners' notices among its own. */
export function withNotices(view: AgentView, notices: () => readonly Notice[]): AgentView {
  return {
    health: () => view.health(),
    services: () => view.services(),
    backends: (service) => view.backends(service),
    flows: (filter) => view.flows(filter),
    serviceCounters: () => view.serviceCounters(),
    status() {
      const status = view.status();
      return { ...status, notices: [...status.notices, ...notices()] };
    },
    counters() {
      const counters = view.counters();
      return { ...counters, notices: countNotices(counters.notices, notices()) };
    },
  };
}

function countNotices(known: AgentCounters["notices"], more: readonly Notice[]): AgentCounters["notices"] {
  const counts = new Map(known.map(({ reason, count }) => [reason, count]));
  for (const { reason } of more) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  return [...counts].map(([reason, count]) => ({ reason, count }));
}
