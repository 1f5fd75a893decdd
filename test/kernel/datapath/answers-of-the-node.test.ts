// Answers to this node's own connections are no requests, though they come to a port of a Service: a SYN-ACK never opens a flow,
// and what belongs to a connected socket of the node is the socket's.
import dgram from "node:dgram";
import { once } from "node:events";
import net from "node:net";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { FLOW_PATH_VALUES } from "../../../src/datapath/layout.gen.ts";
import { describeKernel } from "../require-kernel.ts";
import { FAMILIES, type Family, frame, objects, podFrame, portsOf, send } from "./conversation.ts";
import type { Namespace } from "./namespace.ts";
import { ACTION, createTestNode, macOf, type TestNode, XDP_ACTION } from "./test-node.ts";
import { attachXdpTo, attempt, completeChecksums, createWires, type Wires } from "./wires.ts";

describeKernel("SYN-ACKs", () => {
  let node: TestNode;
  beforeAll(() => {
    node = createTestNode(1);
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => node.clearFlows());

  for (const family of FAMILIES) {
    for (const names of [["here"], ["there"], []] as const) {
      const backend = names[0] === undefined ? "no backend" : `backend ${names[0]}`;
      it(`${family.name}, ${backend}: to a node port one goes on as it came, and opens nothing at any hook`, async () => {
        await node.feed(objects(names));
        const to = { address: family.node, port: portsOf("TCP").nodePort };
        const from = { address: family.client, port: 443 };
        for (const flags of ["SA", "SAE"]) {
          const outside = send(frame(), "TCP", from, to, { flags, ack: 5 });
          expect(node.run("tc_uplink_ingress", outside)).toMatchObject({ verdict: "VERDICT_NEXT", packet: outside });
          expect(node.run("xdp_uplink", outside)).toMatchObject({ action: XDP_ACTION.pass, packet: outside });
          const pod = { address: family.pod, port: 443 };
          const ofPod = send(podFrame(), "TCP", pod, to, { flags, ack: 5 });
          expect(node.run("tc_pod_ingress", ofPod)).toMatchObject({ verdict: "VERDICT_NEXT", packet: ofPod });
        }
        expect(node.flows()).toEqual([]);
      });

      it(`${family.name}, ${backend}: to an address of a Service one opens nothing at any hook`, async () => {
        await node.feed(objects(names));
        const host = { address: family.node, port: 443 };
        const runs = [
          node.run(
            "tc_uplink_ingress",
            send(frame(), "TCP", { address: family.client, port: 443 }, vip(family), SYN_ACK),
          ),
          node.run("tc_pod_ingress", send(podFrame(), "TCP", { address: family.pod, port: 443 }, vip(family), SYN_ACK)),
          node.run(
            "tc_uplink_egress",
            send(frame(macOf("lan", 11), macOf("lan", 1)), "TCP", host, vip(family), SYN_ACK),
          ),
        ];
        for (const { verdict, action } of runs) {
          expect(verdict).not.toMatch(/VERDICT_(PASS|FORWARD)/);
          expect([ACTION.next, ACTION.shot, ACTION.redirect]).toContain(action);
        }
        expect(node.flows()).toEqual([]);
      });
    }
  }
});

const SYN_ACK = { flags: "SA", ack: 5 } as const;
const vip = (family: Family) => ({ address: family.vip, port: 80 });

describeKernel("connections of the node from a port of a Service", () => {
  let wires: Wires;
  beforeAll(() => {
    wires = createWires();
    completeChecksums(wires);
  });
  afterAll(() => wires?.[Symbol.dispose]());
  beforeEach(() => wires.node.clearFlows());

  /** Servers that echo, at a host that is no backend. */
  async function echoAt(namespace: Namespace, family: Family, address: string): Promise<AsyncDisposable> {
    const tcp = net.createServer((socket) => void socket.on("error", () => {}).pipe(socket));
    await namespace.inside(() => once(tcp.listen(7777, address), "listening"));
    const udp = dgram.createSocket(family.name === "IPv4" ? "udp4" : "udp6");
    udp.on("message", (message, from) => udp.send(message, from.port, from.address));
    await namespace.inside(() => once(udp.bind(7777, address), "listening"));
    return {
      async [Symbol.asyncDispose]() {
        udp.close();
        await new Promise<void>((resolve) => tcp.close(() => resolve()));
      },
    };
  }

  /** What a TCP socket of the node bound to a node port gets back of a word, three times. */
  async function tcpEcho(from: Namespace, family: Family, localPort: number, host: string): Promise<string> {
    return from.inside(
      () =>
        new Promise((resolve) => {
          const socket = net.connect({ host, port: 7777, localAddress: family.node, localPort });
          let got = "";
          socket.setTimeout(2500, () => socket.destroy(new Error("timeout")));
          socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
          socket.on("connect", () => socket.write("a"));
          socket.on("data", (data) => {
            got += data;
            if (got.length < 3) socket.write("b");
            // A reset leaves nothing behind that holds the port.
            else socket.resetAndDestroy();
          });
          socket.once("close", () => resolve(got));
        }),
    );
  }

  async function udpEcho(from: Namespace, family: Family, localPort: number, host: string): Promise<string> {
    const socket = dgram.createSocket({ type: family.name === "IPv4" ? "udp4" : "udp6", reuseAddr: true });
    try {
      return await from.inside(
        () =>
          new Promise<string>((resolve, reject) => {
            let got = "";
            const timer = setTimeout(() => resolve(`timeout after "${got}"`), 2500);
            socket.once("error", reject);
            socket.on("message", (message) => {
              got += message;
              if (got.length < 3) socket.send("b");
              else {
                clearTimeout(timer);
                resolve(got);
              }
            });
            socket.bind(localPort, family.node, () => socket.connect(7777, host, () => socket.send("a")));
          }),
      );
    } finally {
      socket.close();
    }
  }

  for (const family of FAMILIES) {
    for (const by of ["tc", "XDP"] as const) {
      for (const names of [["here"], ["there"]] as const) {
        it(`${family.name} by ${by}, backend ${names[0]}: their answers from outside are theirs, TCP and UDP`, async () => {
          const { node, client } = wires;
          await node.feed(objects(names));
          await using _echo = await echoAt(client, family, family.client);
          using _xdp = by === "XDP" ? attachXdpTo(wires) : undefined;
          expect(await tcpEcho(node.namespace, family, portsOf("TCP").nodePort, family.client)).toBe("abb");
          expect(await udpEcho(node.namespace, family, portsOf("UDP").nodePort, family.client)).toBe("abb");
          // Claims of its own ports, and nothing that is translated.
          expect(node.flows().filter(({ flow }) => flow.path !== FLOW_PATH_VALUES.PATH_PORT_CHANGE)).toEqual([]);
        });
      }
    }

    for (const [kind, address, namespace] of [
      ["on a bridge", family.here, () => wires.backend],
      ["without bridge", family.ptp, () => wires.ptp],
    ] as const) {
      it(`${family.name}: their answers from a pod ${kind} are theirs, TCP and UDP`, async () => {
        const { node } = wires;
        await node.feed(objects(["there"]));
        await using _echo = await echoAt(namespace(), family, address);
        expect(await tcpEcho(node.namespace, family, portsOf("TCP").nodePort, address)).toBe("abb");
        expect(await udpEcho(node.namespace, family, portsOf("UDP").nodePort, address)).toBe("abb");
        expect(node.flows()).toEqual([]);
      });
    }

    it(`${family.name}: whoever else asks that port is served meanwhile`, async () => {
      const { node, client, backend } = wires;
      await node.feed(objects(["here"]));
      await using _echo = await echoAt(client, family, family.client);
      const server = net.createServer((socket) => void socket.on("error", () => {}).end("served"));
      await backend.inside(() => once(server.listen(8080, family.here), "listening"));
      try {
        const own = await node.namespace.inside(
          () =>
            new Promise<net.Socket>((resolve, reject) => {
              const localPort = portsOf("TCP").nodePort;
              const socket = net.connect({ host: family.client, port: 7777, localAddress: family.node, localPort });
              socket.setTimeout(2500, () => socket.destroy(new Error("timeout")));
              socket.once("error", reject);
              socket.once("connect", () => resolve(socket));
            }),
        );
        const { error } = await attempt(client, family.node, portsOf("TCP").nodePort);
        own.resetAndDestroy();
        expect(error).toBe("connected");
      } finally {
        server.close();
      }
    });
  }
});
