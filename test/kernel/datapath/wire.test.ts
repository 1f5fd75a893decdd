// Checksums on the wire. A test run's packet has none of the states that a sender's offload leaves in it, so here real
// programs on real devices carry real connections, with offload on, off at the senders, and off behind the programs.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { readNetwork } from "../../../src/agent/network.ts";
import { DEVICE, writeDevice } from "../../../src/datapath/layout.gen.ts";
import { tunnelOfRoutes } from "../../../src/decide/device-roles.ts";
import { describeKernel } from "../require-kernel.ts";
import { joinCgroup } from "./cgroup.ts";
import { FAMILIES, objects, V4 } from "./conversation.ts";
import type { Namespace } from "./namespace.ts";
import { macBytes } from "./packet.ts";
import { openSocket } from "./raw-sockets.ts";
import {
  askPairs,
  attachXdpTo,
  attempt,
  BULK,
  bulk,
  checksumErrors,
  createWires,
  echo,
  serve,
  type Wires,
} from "./wires.ts";

/** How many pairs of questions each asker has of each family; 10,000 by `make flood`. */
const QUERIES = Number(process.env["MILLRACE_QUERIES"] ?? 200);

const MODES = [
  { name: "offload on", senders: "on", behind: "on" },
  { name: "offload off behind the programs", senders: "on", behind: "off" },
  { name: "offload off at the senders", senders: "off", behind: "on" },
] as const;

describeKernel("on the wire", () => {
  let wires: Wires;
  let servers: AsyncDisposable[];
  beforeAll(async () => {
    wires = createWires();
    servers = [await serve(wires.remote, "there"), await serve(wires.backend, "here"), await serve(wires.ptp, "ptp")];
  });
  afterAll(async () => {
    for (const server of servers ?? []) await server[Symbol.asyncDispose]();
    wires?.[Symbol.dispose]();
  });
  const everyone = (): Namespace[] => [
    wires.client,
    wires.remote,
    wires.pod,
    wires.backend,
    wires.ptp,
    wires.node.namespace,
  ];
  const offload = (devices: Wires["senders"], state: "on" | "off"): void => {
    for (const [namespace, device] of devices) namespace.run("ethtool", "-K", device, "tx", state);
  };
  afterEach(() => {
    expect(everyone().flatMap(checksumErrors)).toEqual([]);
  });

  for (const mode of MODES) {
    describe(mode.name, () => {
      beforeAll(() => {
        offload(wires.senders, mode.senders);
        offload(wires.behind, mode.behind);
      });
      beforeEach(() => wires.node.clearFlows());

      for (const family of FAMILIES) {
        const paths = [
          ["outside, backend on this node", () => wires.client, "here", "node"],
          ["outside, backend on another node", () => wires.client, "there", "node"],
          ["outside by the cluster address", () => wires.client, "there", "vip"],
          ["a pod, backend behind the same bridge", () => wires.pod, "here", "vip"],
          ["a pod, backend on another node", () => wires.pod, "there", "vip"],
          ["a pod that is its own backend", () => wires.backend, "here", "vip"],
          ["a pod without a bridge that is its own backend", () => wires.ptp, "ptp", "vip"],
          ["a pod that is its own backend, by its node's port", () => wires.backend, "here", "node"],
          ["a pod that is its own backend, by a LoadBalancer address", () => wires.backend, "here", "lb"],
          ["a pod without a bridge that is its own backend, by its node's port", () => wires.ptp, "ptp", "node"],
          ["a pod, backend without a bridge", () => wires.pod, "ptp", "vip"],
          ["the host, backend on this node", () => wires.node.namespace, "here", "vip"],
          ["the host, backend on another node", () => wires.node.namespace, "there", "vip"],
        ] as const;
        it.each(paths)(`${family.name}: %s`, async (_, from, where, to) => {
          await wires.node.feed(objects([where]));
          const tcpPort = to === "node" ? 30080 : 80;
          const udpPort = to === "node" ? 30053 : 53;
          await bulk(from(), family[to], tcpPort);
          await echo(from(), family, family[to], udpPort);
        });

        it.each([
          ["outside", () => wires.client, "node"],
          ["a pod", () => wires.pod, "vip"],
          ["the host", () => wires.node.namespace, "vip"],
        ] as const)(`${family.name}: %s is refused at once`, async (_, from, to) => {
          await wires.node.feed(objects([]));
          const { error, ms } = await attempt(from(), family[to], to === "node" ? 30080 : 80);
          expect(error).toBe("ECONNREFUSED");
          expect(ms).toBeLessThan(900);
          const udpPort = to === "node" ? 30053 : 53;
          for (const data of ["", "x", "odd", "x".repeat(1400)]) {
            const refused = from().inside(() => {
              using socket = openSocket("UDP", family.name);
              expect(socket.connect({ address: family[to], port: udpPort })).toBe("");
              expect(socket.send(data)).toBe("");
              return socket.receiveError();
            });
            expect(refused).toBe("ECONNREFUSED");
          }
        });
      }
    });
  }

  describe("a resolver's questions", () => {
    const askers = [
      ["outside", () => wires.client, "node", "packet"],
      ["a pod by packet", () => wires.pod, "vip", "packet"],
      ["a pod by socket", () => wires.pod, "vip", "socket"],
      ["the host by packet", () => wires.node.namespace, "vip", "packet"],
      ["the host by socket", () => wires.node.namespace, "vip", "socket"],
    ] as const;
    // Whom it reaches by socket it asks as the pod that it is: this one is not behind its bridge.
    beforeAll(() => wires.pod.ip(...FAMILIES.map(({ ptp, bridge }) => `route add ${ptp} via ${bridge}`)));
    // The host's ports come back: by packet and by socket the same pair of ends is asked under two names.
    beforeEach(() => wires.node.clearFlows());
    /** Datagrams and connections that the socket programs led to a backend. */
    const led = (): number =>
      ["SENDMSG", "CONNECT"].reduce(
        (sum, hook) => sum + (wires.node.verdicts().get(`${hook} VERDICT_CONNECT`) ?? 0),
        0,
      );
    for (const family of FAMILIES) {
      it.each(askers)(
        `${family.name}: of two at once from one socket of %s, under load, each has its answer`,
        { timeout: 30_000 + 20 * QUERIES },
        async (...row) => {
          const [, from, to, path] = row;
          await wires.node.feed(objects(["here", "there", "ptp"]));
          using _cgroup = path === "socket" ? joinCgroup(wires.node.dataplane) : undefined;
          let isOver = false;
          const load = async (): Promise<void> => {
            while (!isOver) await bulk(from(), family[to], to === "node" ? 30080 : 80);
          };
          const loads = [load(), load()];
          try {
            const [before, ledBefore] = [wires.node.verdicts(), led()];
            const stray = await askPairs(from(), family, family[to], to === "node" ? 30053 : 53, QUERIES);
            const dropped = [...wires.node.verdicts()].filter(
              ([name, n]) => /DROP|REFUSE/.test(name) && n > (before.get(name) ?? 0),
            );
            expect({ stray, dropped: dropped.map(([name]) => name) }).toEqual({ stray: [], dropped: [] });
            // Of two sockets one is connected once, the other one sends twice.
            if (path === "socket") expect(led() - ledBefore).toBeGreaterThan(QUERIES);
            else expect(led()).toBe(ledBefore);
          } finally {
            isOver = true;
            await Promise.all(loads);
          }
        },
      );
    }
  });

  describe("XDP on both ends of the uplink", () => {
    it.each(FAMILIES.map((family) => [family.name, family] as const))("%s: bulk and datagrams", async (_, family) => {
      // A veth's XDP frames have lost what offload left to do: senders complete their checksums themselves.
      offload(wires.senders, "off");
      offload(wires.behind, "on");
      const { node } = wires;
      node.clearFlows();
      await node.feed(objects(["there"]));
      using _xdp = attachXdpTo(wires);
      const before = node.verdicts().get("XDP VERDICT_FORWARD") ?? 0;
      await bulk(wires.client, family.node, 30080);
      await echo(wires.client, family, family.node, 30053);
      expect((node.verdicts().get("XDP VERDICT_FORWARD") ?? 0) - before).toBeGreaterThan(100);
    });
  });

  // Trap C13: a lookup does not say where such a route leads, and redirected with a next hop a packet would leave without its tunnel.
  describe("routes with an encapsulation of their own", () => {
    const MACS = { node: "02:10:00:00:00:01", remote: "02:10:00:00:00:02" };
    const INSIDE = { IPv4: "10.245.1.1", IPv6: "fd00:10:245:1::1" };
    let tunnel: number;

    beforeAll(() => {
      const { node, remote } = wires;
      offload(wires.senders, "on");
      offload(wires.behind, "on");
      const here = node.namespace;
      // With checksums around, those inside are complete when they come in (trap A3).
      here.ip(`link add vx0 address ${MACS.node} mtu 1450 type vxlan external udpcsum dstport 4789`);
      here.ip("link set vx0 up");
      remote.ip(
        `link add vx0 address ${MACS.remote} mtu 1450 type vxlan id 7 remote 192.168.122.11 udpcsum dstport 4789`,
      );
      remote.ip("link set vx0 up");
      here.ip("addr add 10.245.1.1/32 dev vx0");
      here.ip("addr add fd00:10:245:1::1/128 dev vx0 nodad");
      for (const family of FAMILIES) {
        const own = INSIDE[family.name];
        const length = family === V4 ? 32 : 128;
        const encapsulation = "encap ip id 7 dst 192.168.122.12";
        const gateway = family === V4 ? "10.245.1.2" : "fe80::2";
        here.ip(`route add ${family.there}/${length} via ${gateway} ${encapsulation} dev vx0 onlink`);
        here.ip(`neigh replace ${gateway} lladdr ${MACS.remote} dev vx0 nud permanent`);
        remote.ip(`route add ${own}/${length} dev vx0`);
        remote.ip(`neigh replace ${own} lladdr ${MACS.node} dev vx0 nud permanent`);
      }
      tunnel = here.ifindex("vx0");
      const value = new Uint8Array(DEVICE.size);
      const mac = macBytes(MACS.node);
      const addresses = { source4: INSIDE.IPv4, source6: INSIDE.IPv6, pod4: "::", pod6: "::" };
      writeDevice(value, 0, { master: 0, flags: 0, mtu: 1450, mac, accepts: mac, ...addresses });
      node.dataplane.map("devices").update(new Uint8Array(Uint32Array.of(tunnel).buffer), value);
      here.inside(() =>
        wires.attachments.attachDevice("vx0", tunnel, {
          ingress: node.dataplane.program("tc_uplink_ingress"),
          egress: node.dataplane.program("tc_uplink_egress"),
        }),
      );
    });
    beforeEach(() => wires.node.clearFlows());
    /** Bytes that came out of the tunnel. */
    const received = (): number => {
      const [link] = JSON.parse(wires.remote.run("ip", "-j", "-s", "link", "show", "dev", "vx0"));
      return link.stats64.rx.bytes;
    };

    it.each(FAMILIES.map((family) => [family.name, family] as const))(
      "%s: packets go through the tunnel, when all such routes share it",
      async (_name, family) => {
        const { node, client } = wires;
        node.settings({ tunnel });
        await node.feed(objects(["there"]));
        const before = received();
        await bulk(client, family.node, 30080);
        await echo(client, family, family.node, 30053);
        expect(received() - before).toBeGreaterThan(BULK);
        expect(node.flowTexts().filter((text) => text.includes(INSIDE[family.name]))).not.toEqual([]);
      },
    );

    it.each(FAMILIES.map((family) => [family.name, family] as const))(
      "%s: XDP leaves such packets to tc as they came",
      async (_name, family) => {
        offload(wires.senders, "off");
        const { node, client } = wires;
        node.settings({ tunnel });
        await node.feed(objects(["there"]));
        using _xdp = attachXdpTo(wires);
        const [before, forwarded] = [received(), node.verdicts().get("XDP VERDICT_FORWARD") ?? 0];
        await bulk(client, family.node, 30080);
        await echo(client, family, family.node, 30053);
        expect(received() - before).toBeGreaterThan(BULK);
        expect(node.verdicts().get("XDP VERDICT_FORWARD") ?? 0).toBe(forwarded);
      },
    );

    it.each(FAMILIES.map((family) => [family.name, family] as const))(
      "%s: a process of the host past the sockets comes from the tunnel's address, as strict reverse path filters want it",
      async (_name, family) => {
        const { node, remote } = wires;
        node.settings({ tunnel });
        remote.sysctl("net.ipv4.conf.all.rp_filter", 1);
        remote.sysctl("net.ipv4.conf.vx0.rp_filter", 1);
        await node.feed(objects(["there"]));
        const before = received();
        await bulk(node.namespace, family.vip, 80);
        await echo(node.namespace, family, family.vip, 53);
        expect(received() - before).toBeGreaterThan(BULK);
      },
    );

    it("are read with their own destination, and lead to their tunnel", async () => {
      const network = await wires.node.namespace.inside(readNetwork);
      const wrapped = network.routes.filter(({ encapsulation }) => encapsulation !== "");
      expect(wrapped.map(({ address, device, encapsulation }) => [address, device, encapsulation]).sort()).toEqual(
        FAMILIES.map((family) => [family.there, "vx0", "ip"]).sort(),
      );
      expect(tunnelOfRoutes(network)).toEqual({ ifindex: tunnel, problem: "" });
    });

    it("are a drop with a name when no tunnel is known", async () => {
      const { node, client } = wires;
      node.settings({ tunnel: 0 });
      await node.feed(objects(["there"]));
      const before = node.verdicts().get("UPLINK_INGRESS DROP_NO_ROUTE") ?? 0;
      const { error } = await attempt(client, V4.node, 30080);
      expect(error).toBe("timeout");
      expect(node.verdicts().get("UPLINK_INGRESS DROP_NO_ROUTE")).toBeGreaterThan(before);
    });
  });
});
