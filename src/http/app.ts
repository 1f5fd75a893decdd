// What the agent's fastify servers share: GET only, and every error as {code, message}.
import { type FastifyInstance, fastify } from "fastify";
import { FAILURES, Failure } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";

export interface ErrorBody {
  readonly code: string;
  readonly message: string;
}

/**
 * A fastify instance without routes. It isn't listening: the caller gives its `server` to a listener. `head`: HEAD is answered too, as GET
 * without a body.
 */
export function createApp(log: Log, { head = false } = {}): FastifyInstance {
  const app = fastify({ logger: false, exposeHeadRoutes: head, forceCloseConnections: true, requestTimeout: 10_000 });
  app.addHook("onRequest", async (request, reply) => {
    reply.header("x-content-type-options", "nosniff").header("cache-control", "no-store");
    if (request.method === "GET" || (head && request.method === "HEAD")) return;
    const message = `could not answer ${request.method}: this is a read-only API, only GET is served`;
    return reply
      .code(405)
      .header("allow", "GET")
      .send({ code: "usage", message } satisfies ErrorBody);
  });
  app.setNotFoundHandler((request, reply) => {
    const message = `could not find ${request.url.split("?", 1)[0]}: there is no such path`;
    return reply.code(404).send({ code: "not_found", message } satisfies ErrorBody);
  });
  app.setErrorHandler((error, _request, reply) => {
    if (error instanceof Failure) {
      return reply
        .code(FAILURES[error.code].http)
        .send({ code: error.code, message: error.message } satisfies ErrorBody);
    }
    const status = (error as { statusCode?: number }).statusCode ?? 500;
    if (status < 500) return reply.code(status).send({ code: "usage", message: (error as Error).message });
    log.error({ err: error }, "a request failed");
    return reply.code(500).send({ code: "internal", message: "the agent failed to answer: see its log" });
  });
  return app;
}
