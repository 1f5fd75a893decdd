// Keeps one HTTP server listening on an address: when it is taken, says so and tries again until closed. A server that
// cannot listen never stops the agent.
import type { Server } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import type { BindAddress } from "../lib/bind-address.ts";
import type { Notice } from "../model/objects.ts";

const RETRY_MS = 5000;
/** Who has a port is asked again so often: that looks through all processes. */
const ASK_HOLDER_MS = 60_000;
const HOLDER_MS = 300;
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
  /** Which process listens on a port, "" when that cannot be told. */
  readonly holderOf?: (port: number) => Promise<string>;
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
  const { server, address, subject, onNotice, retryMs = RETRY_MS, holderOf = askHolder } = options;
  let retry: NodeJS.Timeout | undefined;
  let closed = false;
  const holder = { name: "", askedMs: Number.NEGATIVE_INFINITY };
  limitConnections(server);

  async function attempt(): Promise<void> {
    try {
      await listenOnce(server, address);
      onNotice(undefined);
    } catch (cause) {
      if (closed) return;
      const taken = (cause as NodeJS.ErrnoException).code === "EADDRINUSE";
      const reason = taken ? `${(await nameHolder()) || "another process"} has this port` : (cause as Error).message;
      if (closed) return;
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

  /** "" while it is not known: the search may take longer than a notice may wait, and is there for the next attempt. */
  async function nameHolder(): Promise<string> {
    if (performance.now() - holder.askedMs >= ASK_HOLDER_MS) {
      holder.askedMs = performance.now();
      const asked = holderOf(address.port).then(
        (name) => {
          holder.name = name;
        },
        () => undefined,
      );
      await Promise.race([asked, sleep(HOLDER_MS, undefined, { ref: false })]);
    }
    return holder.name;
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

/** What asks the kernel is loaded when somebody has a port. */
async function askHolder(port: number): Promise<string> {
  const { portHolder } = await import("../agent/port-holder.ts");
  return portHolder(port);
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

/** Every address of this machine is that of IPv4 alone where the kernel has no IPv6. */
async function listenOnce(server: Server, address: BindAddress): Promise<void> {
  try {
    await listenAt(server, address);
  } catch (error) {
    const { code = "" } = error as NodeJS.ErrnoException;
    if (address.host !== "::" || !NO_IPV6.has(code)) throw error;
    await listenAt(server, { ...address, host: "0.0.0.0" });
  }
}

const NO_IPV6: ReadonlySet<string> = new Set(["EAFNOSUPPORT", "EADDRNOTAVAIL"]);

function listenAt(server: Server, { host, port }: BindAddress): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const failed = (error: Error): void => {
    server.off("listening", listening);
    reject(error);
  };
  const listening = (): void => {
    server.off("error", failed);
    resolve();
  };
  server.once("error", failed).once("listening", listening);
  server.listen(host === "" ? { port } : { port, host });
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
