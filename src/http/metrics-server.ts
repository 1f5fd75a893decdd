// /metrics in the Prometheus text format, made at scrape from what the agent counted.
import { Readable } from "node:stream";
import { createApp } from "./app.ts";
import { type HttpServer, listening, type ServerOptions } from "./health-server.ts";
import { createMetricsRegistry } from "./metrics.ts";
import type { ProbeCounts } from "./probe-counts.ts";

export interface MetricsServerOptions extends ServerOptions {
  readonly probes?: ProbeCounts;
}

/** GET /metrics: everything of docs/metrics.md. GET /proxyMode: what proxy this is; /healthz: it answers: kube-proxy has both here too. */
export function createMetricsServer(options: MetricsServerOptions): HttpServer {
  const registry = createMetricsRegistry(options.probes);
  const app = createApp(options.log);
  app.get("/metrics", async (_request, reply) => {
    const text = await registry.render(options.view);
    return reply.type(registry.contentType).send(Readable.from(text));
  });
  app.get("/proxyMode", async (_request, reply) => reply.type("text/plain; charset=utf-8").send("millrace"));
  app.get("/healthz", async (_request, reply) => reply.type("text/plain; charset=utf-8").send("ok"));
  return listening(app, options, "--metrics-bind-address", "/metrics and /proxyMode");
}
