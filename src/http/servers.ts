// All HTTP servers of an agent as one thing that starts and ends with it. Trouble of a listener appears among the
// agent's own notices: on the log, in `status`, in the metrics.
import type { Servers } from "../agent/agent.ts";
import { createNoticeLog } from "../agent/notice-log.ts";
import type { AgentOptions } from "../agent/options.ts";
import { type AgentView, countNotices } from "../agent/view.ts";
import { createLog } from "../lib/log.ts";
import type { Notice } from "../model/objects.ts";
import { createApiServer } from "./api-server.ts";
import { createHealthServer } from "./health-server.ts";
import { createMetricsServer } from "./metrics-server.ts";
import { createProbeCounts } from "./probe-counts.ts";
import { createServiceHealthServers } from "./service-health-servers.ts";

/** Starts what `options` asks for. Ports that are taken are tried again. @throws Failure "conflict" when another agent has the API socket */
export async function createServers(options: AgentOptions, agent: AgentView): Promise<Servers> {
  const log = createLog("http");
  const troubles = new Map<string, Notice>();
  const serviceHealth = createServiceHealthServers(log);
  const notices = () => [...troubles.values(), ...serviceHealth.notices()];
  const view = withNotices(agent, notices);

  const noticeLog = createNoticeLog(log);
  const reporter = (name: string) => (notice: Notice | undefined) => {
    if (notice === undefined) troubles.delete(name);
    else troubles.set(name, notice);
    noticeLog.note([...troubles.values()]);
  };
  const api = createApiServer({
    view,
    socketPath: options.apiSocket,
    tcpAddress: options.apiAddress,
    log,
    onNotice: reporter("api"),
  });
  const probes = createProbeCounts();
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
      const server = create({ view, address, log, onNotice: reporter(name), probes });
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
    ...view,
    notices: () => [...view.notices(), ...notices()],
    status() {
      const status = view.status();
      return { ...status, notices: [...status.notices, ...notices()] };
    },
    counters() {
      const counters = view.counters();
      return { ...counters, notices: countNotices([...counters.notices, ...notices()]) };
    },
  };
}
