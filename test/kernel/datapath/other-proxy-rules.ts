// Rules of nftables that translate as kube-proxy's do, in a table of its name, and conversations that go on over them.
import dgram from "node:dgram";
import { type EventEmitter, once as onceFor } from "node:events";
import net from "node:net";
import { FAMILIES, type Family, portsOf, V4 } from "./conversation.ts";
import type { Namespace } from "./namespace.ts";

const MOST_MS = 5000;
const TRANSPORTS = ["TCP", "UDP"] as const;
export type Kind = (typeof TRANSPORTS)[number];

/** Both families' table for the Service of conversation.ts with one backend. What comes to a node port is masqueraded. */
export function kubeProxyTables(where: "ptp" | "there"): string {
  return FAMILIES.map((family) => {
    const [name, word, from, backend] =
      family === V4
        ? (["ip", "ip", "10.244.0.0/16", family[where]] as const)
        : (["ip6", "ip6", "fd00:10:244::/48", `[${family[where]}]`] as const);
    const lines = TRANSPORTS.flatMap((kind) => {
      const { port, nodePort, target } = portsOf(kind);
      const to = `dnat to ${backend}:${target}`;
      const proto = kind.toLowerCase();
      return [
        `${word} daddr { ${family.vip}, ${family.lb} } ${proto} dport ${port} ${word} saddr != ${from} meta mark set mark or 0x4000`,
        `${word} daddr { ${family.vip}, ${family.lb} } ${proto} dport ${port} ${to}`,
        `fib daddr type local ${proto} dport ${nodePort} meta mark set mark or 0x4000 ${to}`,
      ];
    });
    return `table ${name} kube-proxy {
  chain services { ${lines.join("; ")}; }
  chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
  chain nat-output { type nat hook output priority -100; jump services; }
  chain nat-postrouting { type nat hook postrouting priority srcnat; mark and 0x4000 != 0 masquerade; }
}`;
  }).join("\n");
}

export interface Talk extends Disposable {
  /** Says something and waits for it to come back. Rejects when it does not in five seconds. */
  say(text: string): Promise<void>;
}

const once = (emitter: EventEmitter, event: string): Promise<unknown[]> =>
  onceFor(emitter, event, { signal: AbortSignal.timeout(MOST_MS) });

/** A conversation of a process in `from` with an address and port. */
export async function talk(from: Namespace, kind: Kind, family: Family, address: string, port: number): Promise<Talk> {
  return kind === "TCP" ? await tcpTalk(from, address, port) : await udpTalk(from, family, address, port);
}

async function tcpTalk(from: Namespace, host: string, port: number): Promise<Talk> {
  let failed: unknown;
  const socket = await from.inside(async () => {
    const opened = net.connect({ host, port });
    opened.on("error", (error) => {
      failed = error;
    });
    await once(opened, "connect");
    return opened;
  });
  return {
    async say(text) {
      if (failed !== undefined) throw failed;
      const heard = once(socket, "data");
      socket.write(text);
      const [data] = await heard;
      if (String(data) !== text) throw new Error(`said ${text}, heard ${String(data)}`);
    },
    [Symbol.dispose]: () => void socket.destroy(),
  };
}

async function udpTalk(from: Namespace, family: Family, address: string, port: number): Promise<Talk> {
  const socket = dgram.createSocket(family === V4 ? "udp4" : "udp6");
  let isClosed = false;
  await from.inside(async () => {
    socket.connect(port, address);
    await once(socket, "connect");
  });
  return {
    async say(text) {
      const heard = once(socket, "message");
      socket.send(text);
      const [data] = await heard;
      if (String(data) !== text) throw new Error(`said ${text}, heard ${String(data)}`);
    },
    [Symbol.dispose]() {
      if (!isClosed) socket.close();
      isClosed = true;
    },
  };
}

/** Says back what it hears, over TCP and UDP, at the backend's addresses in `where`. */
export async function echoServer(where: Namespace, name: "ptp" | "there"): Promise<AsyncDisposable> {
  const sockets: dgram.Socket[] = [];
  const connections = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    connections.add(socket);
    socket.on("error", () => {});
    socket.pipe(socket);
  });
  await where.inside(() => once(server.listen(portsOf("TCP").target, "::"), "listening"));
  for (const family of FAMILIES) {
    const socket = dgram.createSocket(family === V4 ? "udp4" : "udp6");
    sockets.push(socket);
    socket.on("message", (message, from) => socket.send(message, from.port, from.address));
    await where.inside(() => once(socket.bind(portsOf("UDP").target, family[name]), "listening"));
  }
  return {
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.close();
      for (const socket of connections) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
