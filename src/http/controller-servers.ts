// The controller's HTTP servers: health, metrics, and what it knows, as JSON.
import { createNoticeLog } from "../agent/notice-log.ts";
import type { ControllerView } from "../controller/controller.ts";
import type { ControllerOptions } from "../controller/options.ts";
import { createLog } from "../lib/log.ts";
import type { Notice } from "../model/objects.ts";
import { createApp } from "./app.ts";
import { controllerMetricsText } from "./controller-metrics.ts";
import { type HttpServer, listening } from "./health-server.ts";
import { createMetricsRegistry } from "./metrics.ts";

type BindAddresses = Pick<ControllerOptions, "healthzBindAddress" | "metricsBindAddress">;

/** Why a controller does not do what it is there for; empty: it does. One that does not lead, or waits for MetalLB to go, is well. */
export function controllerTroubles({ leads, holder, term, waitsFor, problems }: ControllerView): readonly string[] {
  if (!leads && holder === "") return ["no controller is known to lead", ...problems];
  if (waitsFor.length > 0) return [];
  return leads && !term?.synced ? ["not everything was listed yet", ...problems] : [];
}

/**
 * GET /healthz: 200, or 503 with the reasons; /livez: 200 whenever the loop can answer; /status: everything, by name; /metrics.
 * Ports that are taken are tried again.
 */
export async function createControllerServers(
  options: BindAddresses,
  view: () => ControllerView,
): Promise<{ close(): Promise<void>; ports(): readonly (number | undefined)[] }> {
  const log = createLog("http");
  const troubles = new Map<string, Notice>();
  const noticeLog = createNoticeLog(log);
  const servers: HttpServer[] = [];

  async function serve(
    address: string,
    flag: string,
    what: string,
    routes: (app: HttpServer["app"]) => void,
  ): Promise<void> {
    if (address === "") return;
    const app = createApp(log);
    routes(app);
    const onNotice = (notice: Notice | undefined): void => {
      if (notice === undefined) troubles.delete(flag);
      else troubles.set(flag, notice);
      noticeLog.note([...troubles.values()]);
    };
    const server = listening(app, { address, log, onNotice }, flag, what);
    servers.push(server);
    await server.listen();
  }

  await serve(options.healthzBindAddress, "--healthz-bind-address", "/healthz, /livez and /status", (app) => {
    app.get("/healthz", async (_, reply) => {
      const reasons = controllerTroubles(view());
      return reply.code(reasons.length === 0 ? 200 : 503).send({ healthy: reasons.length === 0, reasons });
    });
    app.get("/livez", async () => ({ currentTime: new Date().toISOString() }));
    app.get("/status", async () => view());
  });
  const registry = createMetricsRegistry();
  await serve(options.metricsBindAddress, "--metrics-bind-address", "/metrics", (app) => {
    app.get("/metrics", async (_, reply) => {
      const text = `${controllerMetricsText(view())}${await registry.processText()}`;
      return reply.type(registry.contentType).send(text);
    });
  });
  return {
    ports: () => servers.map((server) => server.port()),
    async close() {
      for (const server of servers) await server.close();
    },
  };
}
