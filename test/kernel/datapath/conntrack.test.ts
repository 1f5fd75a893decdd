// Answers that nothing but conntrack knows: of connections of the node, or of a pod that is masqueraded, that were opened from the
// number of a node port and sent nothing since these programs are there.
import dgram from "node:dgram";
import { type EventEmitter, once as onceFor } from "node:events";
import net from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createKernelEffects } from "../../../src/agent/kernel-effects.ts";
import { isConntrackLoaded, resetFeatures } from "../../../src/libbpf/mod.ts";
import { lackOf } from "../kernel-lacks.ts";
import { describeKernel } from "../require-kernel.ts";
import { FAMILIES, type Family, frame, objects, portsOf, send, type Transport, V4 } from "./conversation.ts";
import type { Namespace } from "./namespace.ts";
import { ACTION, type Run } from "./test-node.ts";
import { createWires, type Wires } from "./wires.ts";

/** Of the host outside: what pods ask, what the node asks, and what it asks the node from itself. */
const PEER = { ofPods: 7777, ofNode: 7778, asking: 7779 } as const;
const TRANSPORTS = ["TCP", "UDP"] as const;

/** As CNIs masquerade; the source port stays when it is free. */
const MASQUERADE = `table inet pods { chain post { type nat hook postrouting priority srcnat;
  ip saddr 10.244.0.0/16 oifname "up0" masquerade; ip6 saddr fd00:10:244::/48 oifname "up0" masquerade; }; }`;

const type = (family: Family): "udp4" | "udp6" => (family === V4 ? "udp4" : "udp6");

const once = (emitter: EventEmitter, event: string): Promise<unknown[]> =>
  onceFor(emitter, event, { signal: AbortSignal.timeout(5000) });

async function udpSocket(where: Namespace, family: Family, address: string, port: number): Promise<dgram.Socket> {
  const socket = dgram.createSocket({ type: type(family), reuseAddr: true });
  socket.on("error", () => {});
  await where.inside(() => once(socket.bind(port, address), "listening"));
  return socket;
}

/** A TCP connection of a pod to a host outside, from the number of a node port, with both of its ends. */
async function tcpOfPod({ pod, client }: Wires, family: Family): Promise<{ own: net.Socket; peer: net.Socket }> {
  const server = net.createServer();
  await client.inside(() => once(server.listen(PEER.ofPods, family.client), "listening"));
  const accepted = once(server, "connection") as Promise<[net.Socket]>;
  const localPort = portsOf("TCP").nodePort;
  const own = await pod.inside(async () => {
    const socket = net.connect({ host: family.client, port: PEER.ofPods, localAddress: family.pod, localPort });
    socket.setTimeout(5000, () => socket.destroy(new Error("timeout")));
    await once(socket, "connect");
    socket.setTimeout(0);
    return socket;
  });
  const [peer] = await accepted;
  server.close();
  return { own, peer };
}

describeKernel("conntrack", () => {
  const lack = lackOf(["ct_lookup"]);
  let wires: Wires;
  const undo: (() => void)[] = [];
  const tcp = new Map<Family, { own: net.Socket; peer: net.Socket }>();
  const udp = new Map<Family, { own: dgram.Socket; peer: dgram.Socket }>();

  beforeAll(async () => {
    const without = process.env["MILLRACE_WITHOUT"] ?? "";
    process.env["MILLRACE_WITHOUT"] = `${without},ct_lookup`;
    undo.push(() => {
      process.env["MILLRACE_WITHOUT"] = without.replace("ct_lookup", "");
    });
    wires = createWires({ loadAll: true });
    const { node, client, pod } = wires;
    node.namespace.run("nft", MASQUERADE);
    node.namespace.sysctl("net.netfilter.nf_conntrack_tcp_timeout_close", 300);
    node.namespace.sysctl("net.netfilter.nf_conntrack_udp_timeout", 300);
    await node.feed(objects(["there"]));
    // Whatever goes out now claims nothing: as if it were older than the programs.
    node.settings({ bypass: 1n });
    for (const family of FAMILIES) {
      tcp.set(family, await tcpOfPod(wires, family));
      const { nodePort } = portsOf("UDP");
      const peer = await udpSocket(client, family, family.client, PEER.ofPods);
      const own = await udpSocket(pod, family, family.pod, nodePort);
      udp.set(family, { own, peer });
      own.send("a", PEER.ofPods, family.client);
      const [, from] = (await once(peer, "message")) as [Buffer, dgram.RemoteInfo];
      expect([from.address, from.port]).toEqual([family.node, nodePort]);
      const ofNode = await udpSocket(node.namespace, family, family.node, nodePort);
      await new Promise((resolve) => ofNode.send("a", PEER.ofNode, family.client, resolve));
      ofNode.close();
      // Requests that were there before the Service: of UDP, and of TCP, which got a reset.
      const asking = await udpSocket(client, family, family.client, PEER.asking);
      await new Promise((resolve) => asking.send("a", nodePort, family.node, resolve));
      asking.close();
      await client.inside(
        () =>
          new Promise((resolve) => {
            const to = { host: family.node, port: portsOf("TCP").nodePort };
            net.connect({ ...to, localAddress: family.client, localPort: PEER.asking }).once("error", resolve);
          }),
      );
    }
    node.settings({ bypass: 0n });
  });
  afterAll(() => {
    for (const { own, peer } of tcp.values()) for (const socket of [own, peer]) socket.destroy();
    for (const { own, peer } of udp.values()) for (const socket of [own, peer]) socket.close();
    wires?.[Symbol.dispose]();
    for (const step of undo.splice(0)) step();
    resetFeatures("ct_lookup");
  });
  beforeEach(() => wires.node.clearFlows());

  /** A packet from the host outside to the node port. */
  const toNodePort = (family: Family, transport: Transport, port: number, flags = "PA"): Uint8Array =>
    send(
      frame(),
      transport,
      { address: family.client, port },
      { address: family.node, port: portsOf(transport).nodePort },
      { flags, ack: 5, payload: 10 },
    );
  const arrives = (packet: Uint8Array): Run => wires.node.run("tc_uplink_ingress", packet);

  for (const family of FAMILIES) {
    for (const transport of TRANSPORTS) {
      it(`${family.name} ${transport}: where it is not asked, an answer to a pod that sent nothing since is taken for a request`, () => {
        expect(arrives(toNodePort(family, transport, PEER.ofPods)).verdict).toBe("VERDICT_FORWARD");
      });
    }
  }

  describe.skipIf(lack !== undefined)(`once it is there${lack === undefined ? "" : ` (${lack})`}`, () => {
    it("the agent loads the tc programs anew, says so once, and no packet is lost meanwhile", async () => {
      const { node, attachments, backend, client } = wires;
      await node.feed(objects(["here"]));
      const server = await udpSocket(backend, V4, V4.here, portsOf("UDP").target);
      server.on("message", (message, from) => server.send(message, from.port, from.address));
      const asker = await udpSocket(client, V4, V4.client, 7000);
      let asked = 0;
      let answered = 0;
      asker.on("message", () => answered++);
      const ask = setInterval(() => asker.send(`${asked++}`, portsOf("UDP").nodePort, V4.node), 2);
      const said: string[] = [];
      const program = (name: string) => node.dataplane.program(name);
      const ids = new Set<number>();
      const effects = createKernelEffects({
        options: { snatPortRange: { first: 1, last: 1 }, nodePortAddresses: ["primary", "localhost"] } as never,
        loaded: node.loaded,
        hasL3: true,
        network: {
          apply: () =>
            node.namespace.inside(() => {
              ids.add(program("tc_uplink_ingress").id);
              const uplink = { ingress: program("tc_uplink_ingress"), egress: program("tc_uplink_egress") };
              attachments.attachDevice("up0", node.ifindex("up0"), uplink);
              for (const device of ["pod2", "pod99", "p5"] as const) {
                const pods = { ingress: program("tc_pod_ingress"), egress: program("tc_pod_egress") };
                attachments.attachDevice(device, node.ifindex(device), pods);
              }
            }),
        },
        attachments,
        hz: 1000,
        log: { info: (text: string) => said.push(text) } as never,
      });
      const wanted = { devices: { needsL3: false }, attach: true } as never;
      expect(effects.devices(wanted)).toBeUndefined();
      for (const step of undo.splice(0)) step();
      expect(isConntrackLoaded()).toBe(true);
      await effects.devices(wanted);
      await effects.devices(wanted);
      expect(said).toEqual(["conntrack was loaded: programs ask it now whose an answer is"]);
      expect(ids.size).toBe(2);
      await new Promise((resolve) => setTimeout(resolve, 50));
      clearInterval(ask);
      await expect.poll(() => answered).toBe(asked);
      expect(asked).toBeGreaterThan(20);
      for (const socket of [server, asker]) socket.close();
      await node.feed(objects(["there"]));
    });

    for (const family of FAMILIES) {
      for (const transport of TRANSPORTS) {
        const label = `${family.name} ${transport}`;
        const kinds = transport === "TCP" ? ["SA", "A", "PA", "FA", "R", "RA"] : [""];

        it(`${label}: answers to a masqueraded pod go on to it, whatever they are, and open nothing`, () => {
          for (const flags of kinds) {
            const packet = toNodePort(family, transport, PEER.ofPods, flags);
            expect(arrives(packet)).toMatchObject({ verdict: "VERDICT_NEXT", action: ACTION.next, packet });
          }
          expect(wires.node.flows()).toEqual([]);
        });

        it(`${label}: whoever asks the node port from another port is served`, () => {
          const flags = transport === "TCP" ? "S" : "";
          const request = toNodePort(family, transport, PEER.ofPods + 100, flags);
          expect(arrives(request).verdict).toBe("VERDICT_FORWARD");
        });

        it(`${label}: a request that conntrack knows from before is a request still, in its middle too`, () => {
          for (const flags of transport === "TCP" ? ["A", "PA"] : [""]) {
            wires.node.clearFlows();
            const request = toNodePort(family, transport, PEER.asking, flags);
            expect(arrives(request).verdict).toBe("VERDICT_FORWARD");
          }
        });
      }

      it(`${family.name}: a SYN answers nothing, and is served though a pod has that pair of ports`, () => {
        expect(arrives(toNodePort(family, "TCP", PEER.ofPods, "S")).verdict).toBe("VERDICT_FORWARD");
      });

      it(`${family.name} UDP: an answer to a socket of the node's that is not connected is no request`, () => {
        const packet = toNodePort(family, "UDP", PEER.ofNode);
        expect(arrives(packet)).toMatchObject({ verdict: "VERDICT_NEXT", packet });
      });

      it(`${family.name} TCP: a pod's silent connection goes on when its peer speaks first, and ends with its reset`, async () => {
        const { own, peer } = tcp.get(family)!;
        peer.write("word");
        expect(String((await once(own, "data"))[0])).toBe("word");
        own.write("back");
        expect(String((await once(peer, "data"))[0])).toBe("back");
        const ended = once(own, "error") as Promise<[NodeJS.ErrnoException]>;
        wires.node.clearFlows();
        peer.resetAndDestroy();
        expect((await ended)[0].code).toBe("ECONNRESET");
      });

      it(`${family.name} UDP: a pod gets the answer to what it asked long ago`, async () => {
        const { own, peer } = udp.get(family)!;
        peer.send("word", portsOf("UDP").nodePort, family.node);
        expect(String((await once(own, "message"))[0])).toBe("word");
      });
    }

    it("a connection of the node to a pod is the node's, also where no program sees it leave", async () => {
      const { node, pod } = wires;
      for (const family of FAMILIES) {
        const { nodePort } = portsOf("UDP");
        const peer = await udpSocket(pod, family, family.pod, PEER.ofNode);
        const own = await udpSocket(node.namespace, family, family.node, nodePort);
        own.send("a", PEER.ofNode, family.pod);
        const [, from] = (await once(peer, "message")) as [Buffer, dgram.RemoteInfo];
        peer.send("b", from.port, from.address);
        expect(String((await once(own, "message"))[0])).toBe("b");
        for (const socket of [peer, own]) socket.close();
      }
    });
  });
});
