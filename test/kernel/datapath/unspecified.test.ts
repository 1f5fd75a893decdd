// The unspecified address is loopback to whoever connects to it, and nobody's address in a packet. Node and host ports stand
// under it in the maps, where nothing may find them by its own name.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { SOCKETS_MODE_VALUES } from "../../../src/datapath/layout.gen.ts";
import { describeKernel } from "../require-kernel.ts";
import { joinCgroup } from "./cgroup.ts";
import { at, FAMILIES, type Family, frame, objects, podFrame, portsOf, send, V4 } from "./conversation.ts";
import { createNamespace, type Namespace } from "./namespace.ts";
import { openSocket, type Socket } from "./raw-sockets.ts";
import { createTestNode, type TestNode, XDP_ACTION } from "./test-node.ts";

const UNSPECIFIED = { IPv4: "0.0.0.0", IPv6: "::" } as const;
const LOOPBACK = { IPv4: "127.0.0.1", IPv6: "::1" } as const;

/** By the family of the address, and that of the socket. */
const KINDS = [
  ["IPv4", V4, "IPv4", "0.0.0.0", "127.0.0.1"],
  ["IPv6", FAMILIES[1], "IPv6", "::", "::1"],
  ["IPv4 by an IPv6 socket", V4, "IPv6", "0.0.0.0", "127.0.0.1"],
] as const;

describeKernel("the unspecified address", () => {
  let node: TestNode;
  let pod: Namespace;
  let cgroup: Disposable;
  const opened: Socket[] = [];
  beforeAll(() => {
    node = createTestNode(1);
    pod = createNamespace();
    for (const range of ["10.244.0.0/16", "10.96.0.0/12"]) pod.ip(`route add local ${range} dev lo`);
    pod.sysctl("net.ipv6.ip_nonlocal_bind", 1);
    for (const range of ["fd00:10:244::/48", "fd00:10:96::/112"]) pod.ip(`-6 route add local ${range} dev lo`);
    cgroup = joinCgroup(node.dataplane);
  });
  afterAll(() => {
    cgroup?.[Symbol.dispose]();
    pod?.[Symbol.dispose]();
    node?.[Symbol.dispose]();
  });
  beforeEach(() => {
    node.clearFlows();
    node.settings({ sockets: SOCKETS_MODE_VALUES.SOCKETS_ALL });
  });
  afterEach(() => {
    for (const socket of opened.splice(0)) socket.close();
  });
  const open = (namespace: Namespace, ...given: Parameters<typeof openSocket>): Socket => {
    const socket = namespace.inside(() => openSocket(...given));
    opened.push(socket);
    return socket;
  };

  describe("of a pod's sockets", () => {
    it.each(KINDS)(
      "UDP without connect, %s: its own server gets the datagram, and its answer is taken",
      async (_, family, kind, address, loopback) => {
        await node.feed(objects(["here"]));
        const server = open(pod, "UDP", family.name, 200);
        server.bind({ address: loopback, port: 30053 });
        const backend = open(pod, "UDP", family.name, 100);
        backend.bind({ address: family.here, port: 5353 });
        const client = open(pod, "UDP", kind);
        pod.inside(() => {
          expect(client.send("ask", { address, port: 30053 })).toBe("");
          const asked = server.receive();
          expect(asked?.data).toBe("ask");
          expect(server.send("told", asked!.from)).toBe("");
          expect(client.receive()?.data).toBe("told");
          expect(backend.receive()).toBeUndefined();
        });
      },
    );

    it.each(KINDS)("UDP with connect, %s: it is pointed at nothing", async (_, family, kind, address) => {
      await node.feed(objects(["here"]));
      const client = open(pod, "UDP", kind);
      pod.inside(() => client.connect({ address, port: 30053 }));
      expect(pod.inside(() => client.realPeer()?.port)).toBe(30053);
      expect(pod.inside(() => client.realPeer()?.address)).not.toBe(family.here);
    });

    it.each(KINDS)(
      "TCP, %s: it is pointed at nothing, nor refused for a Service without endpoint",
      async (_, family, kind, address, loopback) => {
        const server = open(pod, "TCP", family.name);
        server.bind({ address: loopback, port: 30080 });
        for (const names of [["here"], []] as const) {
          await node.feed(objects(names));
          const client = open(pod, "TCP", kind);
          // Nobody listens: the stack's own refusal comes after the connect, which did not wait for it.
          const verdicts = node.verdicts().get("CONNECT VERDICT_REFUSE");
          pod.inside(() => client.connect({ address, port: 30080 }));
          expect(node.verdicts().get("CONNECT VERDICT_REFUSE")).toBe(verdicts);
          expect(pod.inside(() => client.realPeer()?.address)).not.toBe(family.here);
        }
      },
    );
  });

  it.each(KINDS)(
    "of the host's sockets, %s: it is served as loopback is",
    async (_, family, kind, address, loopback) => {
      await node.feed(objects(["here"]));
      const host = node.namespace;
      const peer = (asked: string): string | undefined => {
        const client = open(host, "UDP", kind);
        return host.inside(() => {
          client.connect({ address: asked, port: 30053 });
          const end = client.realPeer();
          return end === undefined ? undefined : at(end.address, end.port);
        });
      };
      const served = at(family.here, 5353);
      expect(peer(address) === served).toBe(peer(loopback) === served);
      if (family === V4) expect(peer(address)).toBe(served);
    },
  );

  for (const family of FAMILIES) {
    for (const transport of ["TCP", "UDP"] as const) {
      it.each(["here", "there"] as const)(
        `${family.name} ${transport}: a packet to it is nobody's, with a backend %s`,
        async (backend) => {
          const { nodePort } = portsOf(transport);
          for (const names of [[backend], []] as const) {
            await node.feed(objects(names));
            const to = { address: UNSPECIFIED[family.name], port: nodePort };
            const asked = (start: ReturnType<typeof frame>, address: string): Uint8Array =>
              send(start, transport, { address, port: 40000 }, to);
            const outside = asked(frame(), family.client);
            expect(node.run("tc_uplink_ingress", outside)).toMatchObject({ verdict: "VERDICT_NEXT", packet: outside });
            expect(node.run("xdp_uplink", outside)).toMatchObject({ action: XDP_ACTION.pass, packet: outside });
            const ofPod = asked(podFrame(), family.pod);
            expect(node.run("tc_pod_ingress", ofPod)).toMatchObject({ verdict: "VERDICT_NEXT", packet: ofPod });
            const ofHost = asked(frame(), family.node);
            expect(node.run("tc_uplink_egress", ofHost)).toMatchObject({ verdict: "VERDICT_NEXT", packet: ofHost });
          }
          expect(node.flows()).toEqual([]);
        },
      );
    }

    it(`${family.name}: a packet to loopback is nobody's either`, async () => {
      await node.feed(objects(["here"]));
      const to = { address: LOOPBACK[family.name as Family["name"]], port: 30080 };
      const asked = send(frame(), "TCP", { address: family.client, port: 40000 }, to);
      expect(node.run("tc_uplink_ingress", asked)).toMatchObject({ verdict: "VERDICT_NEXT", packet: asked });
    });
  }
});
