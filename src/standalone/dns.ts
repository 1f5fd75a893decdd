// The cluster's DNS server: UDP and TCP on the given addresses, answers from memory. It resolves nothing elsewhere, and no
// packet or connection of anybody can make it fail.
import { createSocket, type Socket as DatagramSocket } from "node:dgram";
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { type Address, familyOf } from "../lib/address.ts";
import { Failure } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { ObjectEvent } from "../model/objects.ts";
import { createDnsClients } from "./dns-clients.ts";
import { NO_RECORDS, replyTo } from "./dns-message.ts";
import { createDnsRecords } from "./dns-records.ts";

export interface DnsServerOptions {
  readonly addresses: readonly Address[];
  /** 0 takes a free port, the same for all addresses and both protocols. */
  readonly port: number;
  readonly clusterDomain: string;
  /** Only nodes, pods and this machine are answered: see dns-clients.ts. @default false */
  readonly onlyCluster?: boolean;
  /** For tests: in place of that. */
  readonly mayAsk?: (address: string) => boolean;
  readonly log?: Pick<Log, "warn"> | undefined;
  /** A connection without a query for so long is closed. @default 10000 */
  readonly idleMs?: number;
}

export interface DnsServer {
  readonly addresses: readonly Address[];
  readonly port: number;
  /** Services, EndpointSlices and Nodes count, other objects are ignored. Later questions are answered from them. */
  update(events: readonly ObjectEvent[]): void;
  stop(): Promise<void>;
}

const MAX_CONNECTIONS = 512;
const MAX_UNSENT_BYTES = 256 * 1024;
const PORT_ATTEMPTS = 20;

type Listener = { readonly datagrams: DatagramSocket; readonly server: Server };

/** Listens when it returns. Throws a Failure when an address or the port cannot be had. */
export async function createDnsServer(options: DnsServerOptions): Promise<DnsServer> {
  const { addresses, clusterDomain, log, idleMs = 10_000 } = options;
  if (addresses.length === 0)
    throw new Failure("usage", "dns", "could not start the DNS server: it has no address to listen on");
  const records = createDnsRecords(clusterDomain);
  const clients = createDnsClients({ listening: addresses, isEndpoint: records.isEndpoint });
  const { mayAsk = options.onlyCluster === true ? clients.mayAsk : () => true } = options;
  const connections = new Set<Socket>();

  function onConnection(socket: Socket): void {
    if (!mayAsk(socket.remoteAddress ?? "")) {
      socket.destroy();
      return;
    }
    connections.add(socket);
    let buffered = Buffer.alloc(0);
    socket.setTimeout(idleMs, () => socket.destroy());
    socket.on("error", () => socket.destroy());
    socket.on("close", () => connections.delete(socket));
    const work = (): void => {
      while (buffered.length >= 2 && !socket.destroyed) {
        const length = buffered.readUInt16BE(0);
        if (buffered.length < 2 + length) return;
        // Whoever asks without reading the answers waits until it does.
        if (socket.writableLength > MAX_UNSENT_BYTES) {
          socket.pause();
          socket.once("drain", () => {
            socket.resume();
            work();
          });
          return;
        }
        const reply = replyTo(buffered.subarray(2, 2 + length), records, "tcp");
        buffered = buffered.subarray(2 + length);
        if (reply === undefined) {
          socket.destroy();
          return;
        }
        const frame = Buffer.alloc(2 + reply.length);
        frame.writeUInt16BE(reply.length, 0);
        reply.copy(frame, 2);
        socket.write(frame);
      }
    };
    socket.on("data", (data) => {
      buffered = buffered.length === 0 ? Buffer.from(data) : Buffer.concat([buffered, data]);
      work();
    });
    socket.on("end", () => socket.end());
  }

  async function listen(on: Address, port: number): Promise<Listener & { readonly port: number }> {
    const isSix = familyOf(on) === "IPv6";
    const datagrams = createSocket({ type: isSix ? "udp6" : "udp4", ipv6Only: isSix });
    const server = createServer({ allowHalfOpen: true }, onConnection);
    server.maxConnections = MAX_CONNECTIONS;
    try {
      datagrams.bind({ address: on, port, exclusive: true });
      await once(datagrams, "listening");
      const bound = datagrams.address().port;
      server.listen({ host: on, port: bound, exclusive: true, ipv6Only: isSix });
      await once(server, "listening");
      datagrams.on("message", (message, peer) => {
        const reply = replyTo(message, mayAsk(peer.address) ? records : NO_RECORDS, "udp");
        if (reply !== undefined && peer.port !== 0) datagrams.send(reply, peer.port, peer.address, () => {});
      });
      datagrams.on("error", (error) => log?.warn({ address: on }, `DNS over UDP: ${error.message}`));
      server.on("error", (error) => log?.warn({ address: on }, `DNS over TCP: ${error.message}`));
      return { datagrams, server, port: bound };
    } catch (error) {
      await close({ datagrams, server });
      throw error;
    }
  }

  async function listenAll(port: number): Promise<{ readonly port: number; readonly listeners: readonly Listener[] }> {
    const listeners: Listener[] = [];
    let taken = port;
    try {
      for (const one of addresses) {
        const listener = await listen(one, taken);
        taken = listener.port;
        listeners.push(listener);
      }
      return { port: taken, listeners };
    } catch (error) {
      await Promise.all(listeners.map(close));
      throw error;
    }
  }

  // A port that is free for UDP on one address need not be free for TCP or on another.
  for (let attempt = 1; ; attempt++) {
    try {
      const { port, listeners } = await listenAll(options.port);
      return {
        addresses,
        port,
        update(events) {
          records.update(events);
          clients.update(events);
        },
        async stop() {
          for (const socket of connections) socket.destroy();
          await Promise.all(listeners.map(close));
        },
      };
    } catch (cause) {
      const { code, message } = cause as NodeJS.ErrnoException;
      if (options.port === 0 && code === "EADDRINUSE" && attempt < PORT_ATTEMPTS) continue;
      const what = `${addresses.join(", ")} port ${options.port}`;
      throw new Failure(
        code === "EADDRINUSE" ? "conflict" : "machine",
        what,
        `could not listen for DNS on ${what}: ${code ?? message}`,
        { cause },
      );
    }
  }
}

async function close({ datagrams, server }: Listener): Promise<void> {
  await new Promise<void>((resolve) => {
    try {
      datagrams.close(() => resolve());
    } catch {
      resolve();
    }
  });
  if (server.listening) await new Promise<void>((resolve) => server.close(() => resolve()));
}
