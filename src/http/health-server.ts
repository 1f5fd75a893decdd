// /healthz and /livez, as load balancers and kubelets ask kube-proxy for them. Says nothing about single Services.
import type { FastifyInstance } from "fastify";
import type { AgentView } from "../agent/view.ts";
import { parseBindAddress } from "../lib/bind-address.ts";
import type { Log } from "../lib/log.ts";
import type { Notice } from "../model/objects.ts";
import { createApp } from "./app.ts";
import { createListener, type Listener } from "./listener.ts";

export interface ServerOptions {
  readonly view: AgentView;
  /** ADDRESS:PORT, [ADDRESS]:PORT or :PORT; checked before. */
  readonly address: string;
  readonly log: Log;
  readonly onNotice: (notice: Notice | undefined) => void;
}

export interface HttpServer extends Listener {
  readonly app: FastifyInstance;
}

/**
 * GET /healthz: 200 when the agent keeps the kernel's rows up to date and its node is not about to go (KEP-3836), else 503, with
 * the reasons; the body has kube-proxy's fields. GET /livez: 200 whenever the main loop can answer. Both answer from memory.
 */
export function createHealthServer(options: ServerOptions): HttpServer {
  const app = createApp(options.log);
  app.get("/healthz", async (_request, reply) => {
    const { healthy, reasons, nodeEligible, lastApplyMs } = options.view.health();
    return reply.code(healthy && nodeEligible ? 200 : 503).send({
      lastUpdated: timestamp(lastApplyMs),
      currentTime: timestamp(Date.now()),
      nodeEligible,
      healthy,
      reasons,
    });
  });
  app.get("/livez", async () => ({ currentTime: timestamp(Date.now()) }));
  return listening(app, options, "--healthz-bind-address", "/healthz and /livez");
}

/** RFC 3339; the zero time, as Go writes it, for 0. */
function timestamp(ms: number): string {
  return ms === 0 ? "0001-01-01T00:00:00Z" : new Date(ms).toISOString();
}

/** Joins an app with its listener. @throws Error for an address that was not checked before */
export function listening(
  app: FastifyInstance,
  options: Omit<ServerOptions, "view">,
  flag: string,
  what: string,
): HttpServer {
  const address = parseBindAddress(options.address);
  if (address === undefined) throw new Error(`${flag} was not checked: ${options.address}`);
  const listener = createListener({
    server: app.server,
    address,
    subject: { object: `${flag} ${options.address}`, field: "", purpose: `${what} on ${options.address}` },
    onNotice: options.onNotice,
  });
  return {
    app,
    port: listener.port,
    async listen() {
      await app.ready();
      await listener.listen();
    },
    async close() {
      await listener.close();
      await app.close();
    },
  };
}
