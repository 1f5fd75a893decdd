// The health check node ports of Services with externalTrafficPolicy Local: a load balancer outside asks each node
// whether it has local endpoints. Answers as kube-proxy does, of the family that it is asked in: a node whose proxy is not healthy
// has none to offer.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createNoticeLog } from "../agent/notice-log.ts";
import { familyOf, socketAddress } from "../lib/address.ts";
import type { Log } from "../lib/log.ts";
import type { HealthCheck } from "../model/model-interface.ts";
import type { Notice } from "../model/objects.ts";
import { createListener, type Listener } from "./listener.ts";

export interface ServiceHealthServers {
  /** Makes the listeners those of `list`: opens what is new, closes what is gone, and answers by it from now on. */
  update(list: readonly HealthCheck[], proxyHealthy: boolean): void;
  /** Ports that could not be opened, now. */
  notices(): readonly Notice[];
  close(): Promise<void>;
}

interface Entry {
  health: HealthCheck;
  readonly listener: Listener;
}

export function createServiceHealthServers(log: Log): ServiceHealthServers {
  const entries = new Map<number, Entry>();
  const troubles = new Map<number, Notice>();
  const closing = new Set<Promise<void>>();
  let healthy = false;
  const noticeLog = createNoticeLog(log);

  function open(health: HealthCheck): void {
    const { port, service } = health;
    const server: Server = createServer((request, response) => {
      const entry = entries.get(port);
      if (entry === undefined) response.destroy();
      else answer(entry.health, healthy, request, response);
    });
    server.requestTimeout = 10_000;
    const listener = createListener({
      server,
      address: { host: "", port },
      subject: {
        object: `Service ${service}`,
        field: "spec.healthCheckNodePort",
        purpose: `the health check of Service ${service} on port ${port}`,
      },
      onNotice(notice) {
        if (notice === undefined) troubles.delete(port);
        else troubles.set(port, notice);
        noticeLog.note([...troubles.values()]);
      },
    });
    entries.set(port, { health, listener });
    // A Service that takes over the port of one that goes: wait for the old listener.
    const opened = Promise.all(closing).then(() =>
      entries.get(port)?.listener === listener ? listener.listen() : undefined,
    );
    opened.catch((error: unknown) => log.error({ err: error }, "a health check port could not be opened"));
  }

  function shut(port: number, { listener }: Entry): void {
    entries.delete(port);
    if (troubles.delete(port)) noticeLog.note([...troubles.values()]);
    const closed = listener.close().finally(() => closing.delete(closed));
    closing.add(closed);
  }

  return {
    update(list, proxyHealthy) {
      healthy = proxyHealthy;
      const wanted = new Map(list.map((health) => [health.port, health]));
      for (const [port, entry] of entries) {
        const health = wanted.get(port);
        if (health === undefined || health.service !== entry.health.service) shut(port, entry);
        else entry.health = health;
      }
      for (const [port, health] of wanted) if (!entries.has(port)) open(health);
    },
    notices: () => [...troubles.values()],
    async close() {
      for (const [port, entry] of entries) shut(port, entry);
      await Promise.all(closing);
    },
  };
}

/** Whatever the method, as kube-proxy does. */
function answer(
  { service, localEndpoints: ofFamilies }: HealthCheck,
  serviceProxyHealthy: boolean,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const localEndpoints = ofFamilies[familyOf(socketAddress(request.socket.localAddress ?? ""))];
  const [namespace, name] = service.split("/");
  const body = `${JSON.stringify({ service: { namespace, name }, localEndpoints, serviceProxyHealthy })}\n`;
  response.writeHead(localEndpoints > 0 && serviceProxyHealthy ? 200 : 503, {
    "content-length": Buffer.byteLength(body),
    "content-type": "application/json",
    "x-content-type-options": "nosniff",
    "x-load-balancing-endpoint-weight": String(localEndpoints),
  });
  response.end(body);
}
