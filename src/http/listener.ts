// Keeps one HTTP server listening on an address: when it is taken, says so and tries again until closed. A server that
// cannot listen never stops the agent.
import type { Server } from "node:http";
import type { BindAddress } from "../lib/bind-address.ts";
import type { Notice } from "../model/objects.ts";

const RETRY_MS = 5000;
/** Connections at once: of one client address, so that none keeps the others out, and of all. */
const PER_CLIENT = 32;
const IN_ALL = 1024;
/** So long a connection may wait for its next question. */
const IDLE_MS = 5_000;

export interface ListenerOptions {
  readonly server: Server;
  readonly address: BindAddress;
  /** What the notice is about: `object` and `field` as in Notice, `purpose` as in "could not serve <purpose>". */
  readonly subject: { readonly object: string; readonly field: string; readonly purpose: string };
  /** Called with the trouble, and with undefined when it is over. */
  readonly onNotice: (notice: Notice | undefined) => void;
  readonly retryMs?: number;
}

export interface Listener {
  /** Resolves after the first attempt, whether it succeeded or not. */
  listen(): Promise<void>;
  /** The port in use, undefined while not listening. */
  port(): number | undefined;
  /** Ends connections too. */
  close(): Promise<void>;
}

export function createListener(options: ListenerOptions): Listener {
  const { server, address, subject, onNotice, retryMs = RETRY_MS } = options;
  let retry: NodeJS.Timeout | undefined;
  let closed = false;
  limitConnections(server);

  async function attempt(): Promise<void> {
    try {
      await listenOnce(server, address);
      onNotice(undefined);
    } catch (cause) {
      if (closed) return;
      const taken = (cause as NodeJS.ErrnoException).code === "EADDRINUSE";
      const reason = taken ? "another process has this port" : (cause as Error).message;
      onNotice({
        object: subject.object,
        file: "",
        field: subject.field,
        reason: taken ? "port-taken" : "listen-failed",
        message: `could not serve ${subject.purpose}: ${reason}; trying again every ${retryMs / 1000} s`,
        severity: "warning",
      });
      retry = setTimeout(() => void attempt(), retryMs);
    }
  }

  return {
    listen: attempt,
    port() {
      const bound = server.address();
      return bound !== null && typeof bound === "object" ? bound.port : undefined;
    },
    async close() {
      closed = true;
      clearTimeout(retry);
      await closeServer(server);
    },
  };
}

/** A client's connections beyond its share are ended at once. */
function limitConnections(server: Server): void {
  server.maxConnections = IN_ALL;
  server.keepAliveTimeout = IDLE_MS;
  const open = new Map<string, number>();
  server.on("connection", (socket) => {
    const client = socket.remoteAddress ?? "";
    const count = open.get(client) ?? 0;
    if (count >= PER_CLIENT) {
      socket.destroy();
      return;
    }
    open.set(client, count + 1);
    socket.once("close", () => {
      const left = (open.get(client) ?? 1) - 1;
      if (left > 0) open.set(client, left);
      else open.delete(client);
    });
  });
}

function listenOnce(server: Server, { host, port }: BindAddress): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen(host === "" ? { port } : { port, host }, () => {
    server.off("error", reject);
    resolve();
  });
  return promise;
}

/** Stops listening and ends every connection. A server that never listened is left as it is. */
export function closeServer(server: Server): Promise<void> {
  if (!server.listening) return Promise.resolve();
  const { promise, resolve } = Promise.withResolvers<void>();
  server.close(() => resolve());
  server.closeAllConnections();
  return promise;
}
