// A LAN of real devices in namespaces for tests on the wire: a client, the node with programs attached, another node, pods. With
// servers at the backends and clients that check what comes back.
import { createHash } from "node:crypto";
import dgram from "node:dgram";
import { once } from "node:events";
import fs from "node:fs";
import net from "node:net";
import { setImmediate } from "node:timers/promises";
import { expect } from "vitest";
import { type Attachments, createAttachments } from "../../../src/datapath/attach.ts";
import { attachXdp, openObject } from "../../../src/libbpf/mod.ts";
import { FAMILIES, type Family, V4, V6 } from "./conversation.ts";
import { createNamespace, type Namespace } from "./namespace.ts";
import { openSocket } from "./raw-sockets.ts";
import { createTestNode, macOf, PASS_OBJECT, type TestNode, type TestNodeOptions } from "./test-node.ts";

export const BULK = 2 * 1024 * 1024;
const PATTERN = Buffer.alloc(
  BULK,
  Uint8Array.from({ length: 65521 }, (_, i) => i & 0xff),
);
const DIGEST = createHash("sha256").update(PATTERN).digest("hex");

/** A LAN with a client, the node and another one; two pods on the node, of which one serves, and one without a bridge, which does too. */
export interface Wires extends Disposable {
  readonly node: TestNode;
  readonly attachments: Attachments;
  readonly lan: Namespace;
  readonly client: Namespace;
  readonly remote: Namespace;
  readonly pod: Namespace;
  readonly backend: Namespace;
  readonly ptp: Namespace;
  /** Who sends, and what lies behind the programs, as "namespace device". */
  readonly senders: readonly (readonly [Namespace, string])[];
  readonly behind: readonly (readonly [Namespace, string])[];
}

/** `loadAll`: as of TestNodeOptions. */
export function createWires({ loadAll = false }: Pick<TestNodeOptions, "loadAll"> = {}): Wires {
  const undo: (() => void)[] = [];
  const dispose = (): void => {
    for (const step of undo.splice(0).reverse()) step();
  };
  const made = (): Namespace => {
    const namespace = createNamespace();
    undo.push(() => namespace[Symbol.dispose]());
    namespace.sysctl("net.ipv6.conf.default.accept_dad", 0);
    // Nobody looks for routers meanwhile: attached programs would count that too, beside what a test runs.
    namespace.sysctl("net.ipv6.conf.default.router_solicitations", 0);
    return namespace;
  };
  try {
    const node = createTestNode(1, { xdpRuns: false, loadAll });
    undo.push(() => node[Symbol.dispose]());
    const [lan, client, remote, pod, backend, ptp] = [made(), made(), made(), made(), made(), made()];
    lan.ip("link add br0 type bridge", "link set br0 up");
    node.namespace.ip(`link set lan0 netns ${lan.name}`);
    const host = (namespace: Namespace, port: string, last: number): void => {
      lan.ip(`link add ${port} type veth peer name eth0 address ${macOf("lan", last)} netns ${namespace.name}`);
      namespace.ip(
        "link set eth0 up",
        `addr add 192.168.122.${last}/24 dev eth0`,
        `addr add fd00:192:168:122::${last}/64 dev eth0 nodad`,
      );
    };
    host(client, "port51", 51);
    host(remote, "port12", 12);
    lan.ip(...["lan0", "port51", "port12"].flatMap((port) => [`link set ${port} master br0`, `link set ${port} up`]));
    remote.ip("addr add 10.244.2.2/32 dev lo", "addr add fd00:10:244:2::2/128 dev lo nodad");
    client.ip("route add 10.96.0.0/12 via 192.168.122.11", "route add fd00:10:96::/112 via fd00:192:168:122::11");
    const inPod = (namespace: Namespace, number: number): void => {
      node.namespace.ip(`link set in${number} netns ${namespace.name} name eth0 address ${macOf("pod", number)}`);
      namespace.ip(
        "link set eth0 up",
        `addr add 10.244.1.${number}/24 dev eth0`,
        `addr add fd00:10:244:1::${number}/64 dev eth0 nodad`,
        "route add default via 10.244.1.1",
        "route add default via fd00:10:244:1::1",
      );
    };
    inPod(backend, 2);
    inPod(pod, 99);
    node.namespace.ip(`link set in5 netns ${ptp.name} name eth0 address ${macOf("pod", 5)}`);
    const p5 = node.mac("p5");
    ptp.ip(
      "link set eth0 up",
      `addr add ${V4.ptp}/32 dev eth0`,
      `addr add ${V6.ptp}/128 dev eth0 nodad`,
      ...FAMILIES.flatMap(({ bridge }) => [
        `route add ${bridge} dev eth0`,
        `route add default via ${bridge}`,
        `neigh replace ${bridge} lladdr ${p5} dev eth0 nud permanent`,
      ]),
    );
    for (const [namespace, via] of [
      [remote, 11],
      [client, 11],
    ] as const) {
      namespace.ip(
        `route add 10.244.1.0/24 via 192.168.122.${via}`,
        `route add fd00:10:244:1::/64 via fd00:192:168:122::${via}`,
      );
    }

    const attachments = node.namespace.inside(() =>
      createAttachments({ pinDir: node.pinDir, stateDir: node.stateDir }),
    );
    undo.push(() => attachments.close());
    const { dataplane } = node;
    node.namespace.inside(() => {
      attachments.attachDevice("up0", node.ifindex("up0"), {
        ingress: dataplane.program("tc_uplink_ingress"),
        egress: dataplane.program("tc_uplink_egress"),
      });
      for (const device of ["pod2", "pod99", "p5"] as const) {
        attachments.attachDevice(device, node.ifindex(device), {
          ingress: dataplane.program("tc_pod_ingress"),
          egress: dataplane.program("tc_pod_egress"),
        });
      }
    });
    // Links that just came up lose their first frames: not what is tested here.
    for (const namespace of [client, remote]) namespace.run("ping", "-c", "1", "-w", "5", V4.node);
    for (const namespace of [pod, backend]) namespace.run("ping", "-c", "1", "-w", "5", V4.bridge);
    return {
      node,
      attachments,
      lan,
      client,
      remote,
      pod,
      backend,
      ptp,
      senders: [client, remote, pod, backend, ptp].map((namespace) => [namespace, "eth0"] as const),
      behind: (["up0", "pod2", "pod99", "p5", "cni0"] as const).map((device) => [node.namespace, device] as const),
      [Symbol.dispose]: dispose,
    };
  } catch (error) {
    dispose();
    throw error;
  }
}

/** Segments and datagrams that were thrown away for their checksum, by protocol, in a namespace. */
export function checksumErrors(namespace: Namespace): string[] {
  return namespace.inside(() => {
    const found: string[] = [];
    const lines = fs.readFileSync("/proc/thread-self/net/snmp", "utf8").trim().split("\n");
    for (let i = 0; i + 1 < lines.length; i += 2) {
      const names = lines[i]!.split(" ");
      const values = lines[i + 1]!.split(" ");
      names.forEach((name, at) => {
        if (name === "InCsumErrors" && values[at] !== "0") found.push(`${names[0]} ${values[at]}`);
      });
    }
    for (const line of fs.readFileSync("/proc/thread-self/net/snmp6", "utf8").trim().split("\n")) {
      const [name = "", value] = line.split(/\s+/);
      if (name.endsWith("InCsumErrors") && value !== "0") found.push(`${name} ${value}`);
    }
    return found;
  });
}

/** Serves TCP bulk and, unless that is somebody else's, UDP echo at a backend's addresses until disposed. */
export async function serve(
  namespace: Namespace,
  where: "here" | "there" | "ptp",
  { udp: withUdp = true }: { readonly udp?: boolean } = {},
): Promise<AsyncDisposable> {
  const tcp = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => {});
    const hash = createHash("sha256");
    socket.on("data", (data) => hash.update(data));
    socket.on("end", () => socket.end(hash.digest("hex")));
    socket.write(PATTERN);
  });
  await namespace.inside(() => once(tcp.listen(8080, "::"), "listening"));
  const sockets: dgram.Socket[] = [];
  for (const family of withUdp ? FAMILIES : []) {
    const udp = dgram.createSocket(family === V4 ? "udp4" : "udp6");
    udp.on("message", (message, from) => udp.send(message, from.port, from.address));
    // Not to every address: answers would leave from the one that the kernel prefers.
    await namespace.inside(() => once(udp.bind(5353, family[where]), "listening"));
    sockets.push(udp);
  }
  return {
    async [Symbol.asyncDispose]() {
      for (const udp of sockets) udp.close();
      await new Promise<void>((resolve) => tcp.close(() => resolve()));
    },
  };
}

/** Sends 2 MB and takes 2 MB; both ends compare what came. */
export async function bulk(from: Namespace, address: string, port: number): Promise<void> {
  const socket = await from.inside(
    () =>
      new Promise<net.Socket>((resolve, reject) => {
        const connecting = net.connect({ host: address, port, allowHalfOpen: true });
        connecting.setTimeout(10_000, () => connecting.destroy(new Error("nothing came for ten seconds")));
        connecting.once("error", reject);
        connecting.once("connect", () => resolve(connecting));
      }),
  );
  const chunks: Buffer[] = [];
  await new Promise<void>((resolve, reject) => {
    socket.on("error", reject);
    socket.on("data", (data: Buffer) => chunks.push(data));
    socket.on("end", resolve);
    socket.end(PATTERN);
  });
  const all = Buffer.concat(chunks);
  expect(all.subarray(BULK).toString()).toBe(DIGEST);
  expect(createHash("sha256").update(all.subarray(0, BULK)).digest("hex")).toBe(DIGEST);
}

export async function echo(from: Namespace, family: Family, address: string, port: number): Promise<void> {
  for (const size of [0, 1, 3, 7, 100, 1400]) {
    const socket = dgram.createSocket(family === V4 ? "udp4" : "udp6");
    try {
      const answer = await from.inside(
        () =>
          new Promise<Buffer>((resolve, reject) => {
            const timer = setTimeout(() => reject(new Error(`no answer to ${size} bytes`)), 5000);
            socket.once("error", reject);
            socket.once("message", (message) => {
              clearTimeout(timer);
              resolve(message);
            });
            socket.connect(port, address, () => socket.send(PATTERN.subarray(0, size)));
          }),
      );
      expect(answer.length).toBe(size);
    } finally {
      socket.close();
    }
  }
}

const AT_ONCE = 32;

/**
 * Asks two questions at once from one socket, a fresh one each time, as resolvers ask for A and AAAA: every second socket is connected,
 * as glibc's are, the others name the server with each question, as musl's do. Returns what answers were missing after two seconds.
 */
export async function askPairs(
  from: Namespace,
  family: Family,
  address: string,
  port: number,
  count: number,
): Promise<string[]> {
  const lost: string[] = [];
  for (let asked = 0; asked < count; asked += AT_ONCE) {
    using sockets = new DisposableStack();
    const waiting = from.inside(() =>
      Array.from({ length: Math.min(AT_ONCE, count - asked) }, (_, i) => {
        const socket = sockets.use(openSocket("UDP", family.name, 1));
        const missing = new Set([`A ${asked + i}`, `AAAA ${asked + i}`]);
        const to = { address, port };
        const isConnected = i % 2 === 0;
        if (isConnected) socket.connect(to);
        for (const question of missing) {
          const failed = socket.send(question, isConnected ? undefined : to);
          if (failed !== "") lost.push(`${question}: ${failed}`);
        }
        return { socket, missing };
      }),
    );
    const deadline = performance.now() + 2000;
    while (waiting.some(({ missing }) => missing.size > 0) && performance.now() < deadline) {
      // The server is of this process.
      await setImmediate();
      for (const { socket, missing } of waiting) {
        const got = missing.size === 0 ? undefined : socket.receive();
        if (got !== undefined && got.from.address === address && got.from.port === port) missing.delete(got.data);
      }
    }
    for (const { missing } of waiting) lost.push(...missing);
  }
  return lost;
}

/** What a TCP connection attempt ends in, and after how many milliseconds. */
export async function attempt(from: Namespace, address: string, port: number): Promise<{ error: string; ms: number }> {
  const start = performance.now();
  const error = await from.inside(
    () =>
      new Promise<string>((resolve) => {
        const socket = net.connect({ host: address, port });
        socket.setTimeout(3000, () => socket.destroy(new Error("timeout")));
        socket.once("error", (cause: NodeJS.ErrnoException) => resolve(cause.code ?? cause.message));
        socket.once("connect", () => {
          socket.destroy();
          resolve("connected");
        });
      }),
  );
  return { error, ms: performance.now() - start };
}

/** Senders complete their checksums themselves: a veth's XDP frames lose what offload left to do. */
export function completeChecksums({ senders }: Wires): void {
  for (const [namespace, device] of senders) namespace.run("ethtool", "-K", device, "tx", "off");
}

/** XDP on the node's uplink, and one that passes all at its other end, as a veth needs it. */
export function attachXdpTo({ lan, node }: Wires): Disposable {
  using parts = new DisposableStack();
  const passing = parts.use(openObject(PASS_OBJECT));
  passing.load();
  parts.use(lan.inside(() => attachXdp(passing.program("xdp_pass"), lan.ifindex("lan0"))));
  parts.use(node.namespace.inside(() => attachXdp(node.dataplane.program("xdp_uplink"), node.ifindex("up0"))));
  return parts.move();
}
