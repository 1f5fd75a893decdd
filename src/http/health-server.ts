// /healthz and /livez, as load balancers and kubelets ask kube-proxy for them. Says nothing about single Services.
import type { FastifyInstance, FastifyReply } from "fastify";
import type { AgentView } from "../agent/view.ts";
import { parseBindAddress } from "../lib/bind-address.ts";
import { ipFamilies } from "../lib/ip-families.ts";
import type { Log } from "../lib/log.ts";
import type { Notice } from "../model/objects.ts";
import { createApp } from "./app.ts";
import { createListener, type Listener } from "./listener.ts";
import { createProbeCounts, type Probe, type ProbeCounts } from "./probe-counts.ts";

export interface ServerOptions {
  readonly view: AgentView;
  /** ADDRESS:PORT, [ADDRESS]:PORT or :PORT; checked before. */
  readonly address: string;
  readonly log: Log;
  readonly onNotice: (notice: Notice | undefined) => void;
}

export interface HealthServerOptions extends ServerOptions {
  /** Where its answers are counted. */
  readonly probes?: ProbeCounts;
}

export interface HttpServer extends Listener {
  readonly app: FastifyInstance;
}

/**
 * GET /healthz: 200 when the agent keeps the kernel's rows up to date and its node is not about to go (KEP-3836), else 503, with
 * the reasons. GET /livez: 503 when a change waits for a minute, else 200. Both answer from memory, with kube-proxy's fields and headers.
 */
export function createHealthServer(options: HealthServerOptions): HttpServer {
  const { view, probes = createProbeCounts() } = options;
  const app = createApp(options.log, { head: true });
  app.get("/healthz", async (_request, reply) => {
    const { healthy, reasons, nodeEligible, lastApplyMs } = view.health();
    const good = healthy && nodeEligible;
    return answer(reply, "healthz", good, { ...proxyHealth(healthy, good, lastApplyMs), nodeEligible, reasons });
  });
  app.get("/livez", async (_request, reply) => {
    const { live, lastApplyMs } = view.health();
    return answer(reply, "livez", live, proxyHealth(live, live, lastApplyMs));
  });

  function answer(reply: FastifyReply, probe: Probe, good: boolean, body: object): FastifyReply {
    const status = good ? 200 : 503;
    probes.count(probe, status);
    return reply.code(status).header("content-type", "application/json").serializer(JSON.stringify).send(body);
  }
  return listening(app, options, "--healthz-bind-address", "/healthz and /livez");
}

/** `lastUpdated` is the time of the answer while all is well: that is what kube-proxy's own means. */
function proxyHealth(healthy: boolean, good: boolean, lastApplyMs: number): object {
  const nowMs = Date.now();
  const family = { lastUpdated: timestamp(lastApplyMs), healthy };
  return {
    lastUpdated: timestamp(good ? nowMs : lastApplyMs),
    currentTime: timestamp(nowMs),
    healthy,
    status: Object.fromEntries(ipFamilies().map((name) => [name, family])),
  };
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
