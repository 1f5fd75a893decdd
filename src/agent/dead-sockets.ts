// Sockets of the host's own processes that were pointed at a backend which left: they are ended, so that their processes learn of it
// at once and open others. Pods' conversations go on at their devices instead.
import type { Dataplane } from "../datapath/dataplane.ts";
import {
  PEER_KIND_VALUES,
  readSocketPeer,
  SOCKET_PEER_KEY,
  type SocketPeerKey,
  writeSocketPeerKey,
} from "../datapath/layout.gen.ts";
import { PROTOCOLS } from "../datapath/row-codec.ts";
import type { Log } from "../lib/log.ts";
import { createPortions } from "../lib/portions.ts";
import { type ConnectedSocket, connectedSockets, destroySocket, hasFeature } from "../libbpf/mod.ts";

export interface DeadSockets {
  /** Backends were retired: looks for their sockets, once more when that is under way. */
  look(): void;
  /** Resolves when nothing is under way. */
  settled(): Promise<void>;
}

export interface DeadSocketsParts {
  readonly dataplane: Pick<Dataplane, "map" | "isBackendAlive" | "readBypass">;
  readonly protocols: readonly ("TCP" | "UDP")[];
  readonly log: Log;
  readonly signal: AbortSignal;
}

export function createDeadSockets({ dataplane, protocols, log, signal }: DeadSocketsParts): DeadSockets {
  const peers = dataplane.map("socket_peers");
  const key = new Uint8Array(SOCKET_PEER_KEY.size);
  let running: Promise<void> | undefined;
  let again = false;

  function isDead({ cookie, address, port, protocol }: ConnectedSocket): boolean {
    const kind = PEER_KIND_VALUES.PEER_FRONTEND;
    writeSocketPeerKey(key, 0, { cookie, address, port, proto: PROTOCOLS[protocol], kind } satisfies SocketPeerKey);
    const found = peers.lookup(key);
    if (found === undefined) return false;
    const { backend, generation } = readSocketPeer(found, 0);
    return !dataplane.isBackendAlive(backend, generation);
  }

  async function end(protocol: "TCP" | "UDP"): Promise<void> {
    let ended = 0;
    const sockets = await connectedSockets(protocol);
    const portions = createPortions();
    for (const socket of sockets) {
      if (portions.isOver()) await portions.next();
      if (signal.aborted) return;
      if (isDead(socket) && destroySocket(socket)) ended++;
    }
    if (ended > 0) log.info({ protocol, sockets: ended }, "ended sockets of the host whose backend left");
  }

  async function run(): Promise<void> {
    while (again && !signal.aborted) {
      again = false;
      for (const protocol of protocols) {
        await end(protocol).catch((error: Error) => {
          if (!signal.aborted)
            log.warn({ err: error, protocol }, "could not end sockets of the host whose backend left");
        });
      }
    }
  }

  return {
    look() {
      // While nothing is translated one that is opened anew reaches nobody.
      if (!hasFeature("sock_destroy") || dataplane.readBypass()) return;
      again = true;
      running ??= run().finally(() => {
        running = undefined;
      });
    },
    settled: async () => await running,
  };
}
