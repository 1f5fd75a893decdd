// Bypass: nothing is translated, answered or dropped any more, known flows included; sockets that were translated keep what they
// were told.
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { createAnnouncedRows } from "../../../src/datapath/announced-rows.ts";
import { clockBoottimeNs } from "../../../src/libbpf/mod.ts";
import { describeKernel } from "../require-kernel.ts";
import { joinCgroup } from "./cgroup.ts";
import { again, answer, at, FAMILIES, type Family, frame, objects, send, V4, V6 } from "./conversation.ts";
import { cut } from "./fragments.ts";
import { createNamespace, type Namespace } from "./namespace.ts";
import { packet } from "./packet.ts";
import { openSocket } from "./raw-sockets.ts";
import { ACTION, createTestNode, macOf, type Run, type TestNode, XDP_ACTION } from "./test-node.ts";
import { CLIENT_PORT, talkBy, WAYS, wayOf } from "./ways.ts";

const lan = (last: number): string => macOf("lan", last);

describeKernel("bypass", () => {
  let node: TestNode;
  beforeAll(() => {
    node = createTestNode(1);
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => node.clearFlows());
  afterEach(() => bypass(false));

  const bypass = (on: boolean): void => node.dataplane.setBypass(on);
  const passes = (run: Run, asked: Uint8Array): void => {
    expect(run).toMatchObject({ action: ACTION.next, packet: asked, mark: 0 });
    expect(["VERDICT_NEXT", "none"]).toContain(run.verdict);
  };
  const passesXdp = (asked: Uint8Array): void =>
    expect(node.run("xdp_uplink", asked)).toMatchObject({ action: XDP_ACTION.pass, packet: asked });

  for (const family of FAMILIES) {
    for (const transport of ["TCP", "UDP"] as const) {
      it.each(WAYS.map((way) => [way.name, way] as const))(
        `${family.name} ${transport}, %s: everything goes by as it came, new or known, and goes on when it is over`,
        async (_, way) => {
          await node.feed(objects([way.backend]));
          const talk = talkBy(way, node, family, transport);
          const translated = talk.establish();
          const before = node.flowTexts();
          const more = transport === "TCP" ? again(talk.first) : talk.first;
          const reply = answer(translated, { flags: "A" });
          const there = talk.request(more);
          const back = talk.reply(reply);
          bypass(true);
          passes(talk.request(more), more);
          passes(talk.reply(reply), reply);
          const fresh = talkBy(way, node, family, transport, CLIENT_PORT + 1);
          passes(fresh.request(fresh.first), fresh.first);
          for (const piece of cut(send(talk.start, "UDP", talk.client, talk.frontend, { payload: 3000 })))
            passes(talk.request(piece), piece);
          if (way.path === "OUTSIDE_REMOTE") for (const asked of [more, reply, fresh.first]) passesXdp(asked);
          expect(node.flowTexts()).toEqual(before);
          bypass(false);
          expect(talk.request(more)).toEqual(there);
          expect(talk.reply(reply)).toEqual(back);
        },
      );
    }

    it(`${family.name}: nothing is refused, dropped or answered`, async () => {
      await node.feed(objects([]));
      bypass(true);
      const client = { address: family.client, port: CLIENT_PORT };
      const echo = family === V4 ? 8 : 128;
      for (const asked of [
        send(frame(), "TCP", client, { address: family.vip, port: 80 }),
        send(frame(), "TCP", client, { address: family.vip, port: 81 }),
        send(frame(), "UDP", client, { address: family.vip, port: 53 }),
        send(frame(), "TCP", client, { address: family.free, port: 80 }),
        frame().ip(family.client, family.vip).icmp(echo, 0).payload(8).bytes(),
        frame().ip(family.client, family.vip, { fragmentOffset: 1480 }).udp(1, 53).payload(8).bytes(),
      ]) {
        passes(node.run("tc_uplink_ingress", asked), asked);
        passes(node.run("tc_uplink_egress", asked), asked);
        passesXdp(asked);
      }
    });

    it(`${family.name}: an ICMP error about a known flow goes by`, async () => {
      await node.feed(objects(["here"]));
      const talk = talkBy(wayOf("outside, backend on this node"), node, family, "UDP");
      const translated = talk.establish();
      bypass(true);
      const error = frame(lan(11), lan(51))
        .ip(family.here, family.client)
        .icmp(family === V4 ? 3 : 1, family === V4 ? 3 : 4)
        .payload(translated.slice(14))
        .bytes();
      passes(talk.reply(error), error);
    });
  }

  it("a port of SNAT is not changed", async () => {
    await node.feed(objects(["there"]));
    const talk = talkBy(wayOf("outside, backend on another node"), node, V4, "TCP");
    const masqueraded = talk.establish();
    bypass(true);
    passes(node.run("tc_uplink_egress", masqueraded, { ingressIfindex: node.ifindex("cni0") }), masqueraded);
  });

  it("announced addresses are not answered", () => {
    const later = clockBoottimeNs() + 60_000_000_000n;
    const places = FAMILIES.map(({ lb }) => ({ address: lb, ifindex: node.ifindex("up0") }));
    createAnnouncedRows(node.dataplane).put(places, { renewed: 0n, stale: later, silent: later });
    const arp = packet()
      .eth(lan(51), "ff:ff:ff:ff:ff:ff")
      .arp({ operation: "request", senderMac: lan(51), sender: V4.client, target: V4.lb })
      .bytes();
    const ndp = packet()
      .eth(lan(51), "33:33:ff:00:01:11")
      .ip(V6.client, "ff02::1:ff00:111", { ttl: 255 })
      .neighbour(135, V6.lb, lan(51))
      .bytes();
    for (const asked of [arp, ndp]) {
      expect(node.run("tc_uplink_ingress", asked).verdict).toBe("VERDICT_NEIGHBOUR");
      bypass(true);
      passes(node.run("tc_uplink_ingress", asked), asked);
      bypass(false);
    }
  });
});

describeKernel("bypass for sockets", () => {
  let node: TestNode;
  let pod: Namespace;
  let cgroup: Disposable;
  beforeAll(() => {
    node = createTestNode(1, { xdpRuns: false });
    pod = createNamespace();
    for (const range of ["10.244.0.0/16", "192.168.122.0/24", "10.96.0.0/12"])
      pod.ip(`route add local ${range} dev lo`);
    pod.sysctl("net.ipv6.ip_nonlocal_bind", 1);
    for (const range of ["fd00:10:244::/48", "fd00:10:96::/112"]) pod.ip(`-6 route add local ${range} dev lo`);
    cgroup = joinCgroup(node.dataplane);
  });
  afterAll(() => {
    cgroup?.[Symbol.dispose]();
    pod?.[Symbol.dispose]();
    node?.[Symbol.dispose]();
  });
  beforeEach(() => node.clearFlows());
  afterEach(() => node.dataplane.setBypass(false));

  const kinds = FAMILIES.map((family) => [family.name, family] as const);
  const text = (end: { address: string; port: number } | undefined): string | undefined =>
    end === undefined ? undefined : at(end.address, end.port);

  it.each(kinds)("%s: connect() and sendto() are not translated, nor refused", async (_, family: Family) => {
    for (const names of [["here"], []] as const) {
      await node.feed(objects(names));
      node.dataplane.setBypass(true);
      for (const namespace of [pod, node.namespace]) {
        namespace.inside(() => {
          for (const protocol of ["UDP", "TCP"] as const) {
            using socket = openSocket(protocol, family.name, 100);
            const to = { address: family.vip, port: protocol === "UDP" ? 53 : 80 };
            expect(socket.connect(to)).toBe("");
            // In the pod nobody listens there, and loopback says so at once.
            if (namespace === node.namespace || protocol === "UDP")
              expect(text(socket.realPeer())).toBe(at(to.address, to.port));
          }
        });
      }
      pod.inside(() => {
        using plain = openSocket("UDP", family.name, 200);
        plain.bind({ address: family.vip, port: 53 });
        using asking = openSocket("UDP", family.name, 200);
        expect(asking.send("ask", { address: family.vip, port: 53 })).toBe("");
        expect(plain.receive()?.data).toBe("ask");
      });
      node.dataplane.setBypass(false);
    }
  });

  it.each(kinds)("%s: a socket that was translated is told the name it asked for", async (_, family: Family) => {
    await node.feed(objects(["here"]));
    pod.inside(() => {
      using server = openSocket("UDP", family.name, 200);
      server.bind({ address: family.here, port: 5353 });
      using connected = openSocket("UDP", family.name, 200);
      expect(connected.connect({ address: family.vip, port: 53 })).toBe("");
      using free = openSocket("UDP", family.name, 200);
      expect(free.send("ask", { address: family.vip, port: 53 })).toBe("");
      const asked = server.receive();
      node.dataplane.setBypass(true);
      expect(text(connected.peerName())).toBe(at(family.vip, 53));
      expect(server.send("told", asked!.from)).toBe("");
      expect(text(free.receive()?.from)).toBe(at(family.vip, 53));
      expect(connected.send("more")).toBe("");
      const more = server.receive();
      expect(more?.data).toBe("more");
      expect(server.send("told", more!.from)).toBe("");
      expect(text(connected.receive()?.from)).toBe(at(family.vip, 53));
    });
  });
});
