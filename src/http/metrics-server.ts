// /metrics in the Prometheus text format, made at scrape from what the agent counted.
import { Readable } from "node:stream";
import { createApp } from "./app.ts";
import { type HttpServer, listening, type ServerOptions } from "./health-server.ts";
import { createMetricsRegistry } from "./metrics.ts";

/** GET /metrics: everything of docs/metrics.md. */
export function createMetricsServer(options: ServerOptions): HttpServer {
  const registry = createMetricsRegistry();
  const app = createApp(options.log);
  app.get("/metrics", async (_request, reply) => {
    const text = await registry.render(options.view);
    return reply.type(registry.contentType).send(Readable.from(text));
  });
  return listening(app, options, "--metrics-bind-address", "/metrics");
}
