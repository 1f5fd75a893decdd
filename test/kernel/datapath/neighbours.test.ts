// Neighbours of redirected packets, on the wire: one that changes its MAC is found again, as the kernel finds those of its own
// packets; one behind a next hop of the other family is asked for in that family.
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { describeKernel } from "../require-kernel.ts";
import { FAMILIES, type Family, objects, V4 } from "./conversation.ts";
import type { Namespace } from "./namespace.ts";
import { openSocket } from "./raw-sockets.ts";
import { macOf } from "./test-node.ts";
import { attachXdpTo, attempt, completeChecksums, createWires, serve, type Wires } from "./wires.ts";

/** Enough for the kernel's own times, five seconds of delay and three of asking the old MAC, which are shorter here. */
const HEALED_MS = 15_000;

describeKernel("neighbours of redirected packets", () => {
  let wires: Wires;
  let servers: AsyncDisposable[];
  let macs = 0;
  beforeAll(async () => {
    wires = createWires();
    completeChecksums(wires);
    for (const version of ["ipv4", "ipv6"]) {
      wires.node.namespace.sysctl(`net.${version}.neigh.up0.delay_first_probe_time`, 1);
      wires.node.namespace.sysctl(`net.${version}.neigh.up0.ucast_solicit`, 1);
    }
    // What one test left half open must not make the node's own stack answer, and so look for the neighbour, in the next.
    wires.remote.sysctl("net.ipv4.tcp_synack_retries", 0);
    servers = [await serve(wires.remote, "there", { udp: false })];
    await wires.node.feed(objects(["there"]));
  });
  afterAll(async () => {
    for (const server of servers ?? []) await server[Symbol.asyncDispose]();
    wires?.[Symbol.dispose]();
  });
  beforeEach(() => wires.node.clearFlows());
  afterEach(() => {
    for (const last of [12, 51]) permanent(last, last === 12 ? wires.remote : wires.client);
  });

  const of = (family: Family, last: number): string =>
    family === V4 ? `192.168.122.${last}` : `fd00:192:168:122::${last}`;
  const nodeNeighbour = (words: string): string => wires.node.namespace.ip(`neigh ${words}`);

  /** Everybody knows everybody, for good. */
  function permanent(last: number, namespace: Namespace): void {
    namespace.ip(`link set eth0 address ${macOf("lan", last)}`);
    for (const family of FAMILIES)
      nodeNeighbour(`replace ${of(family, last)} lladdr ${macOf("lan", last)} dev up0 nud permanent`);
  }

  /**
   * The neighbour gets another MAC, of which it tells nobody, and knows the node already: only the node can find out, and by
   * asking. Returns the new MAC.
   */
  function replaceMac(family: Family, last: number, namespace: Namespace): string {
    const mac = `02:55:00:00:00:${(++macs).toString(16).padStart(2, "0")}`;
    nodeNeighbour(`replace ${of(family, last)} lladdr ${macOf("lan", last)} dev up0 nud stale`);
    namespace.sysctl("net.ipv4.conf.eth0.arp_notify", 0);
    namespace.ip(`link set eth0 address ${mac}`);
    // That forgot every neighbour, also the permanent ones.
    for (const one of FAMILIES)
      namespace.ip(`neigh replace ${one.node} lladdr ${macOf("lan", 11)} dev eth0 nud permanent`);
    return mac;
  }

  async function connectsWithin(family: Family, ms: number): Promise<void> {
    const until = performance.now() + ms;
    let error = "";
    while (error !== "connected" && performance.now() < until)
      ({ error } = await attempt(wires.client, family.node, 30080));
    expect(error).toBe("connected");
  }

  for (const family of FAMILIES) {
    for (const [who, last, namespace] of [
      ["a client", 51, () => wires.client],
      ["a backend's node", 12, () => wires.remote],
    ] as const) {
      for (const by of ["tc", "XDP"] as const) {
        it(`${family.name} by ${by}: ${who} that changed its MAC is served again within ${HEALED_MS / 1000} seconds`, {
          timeout: 60_000,
        }, async () => {
          using _xdp = by === "XDP" ? attachXdpTo(wires) : undefined;
          await connectsWithin(family, 5000);
          const mac = replaceMac(family, last, namespace());
          await connectsWithin(family, HEALED_MS);
          expect(nodeNeighbour(`show ${of(family, last)} dev up0`)).toContain(mac);
        });
      }
    }

    it(`${family.name}: a conversation that is under way survives its client's new MAC`, { timeout: 60_000 }, () => {
      const { client, remote } = wires;
      using server = remote.inside(() => openSocket("UDP", family.name, 300));
      using socket = client.inside(() => openSocket("UDP", family.name, 300));
      remote.inside(() => server.bind({ address: family.there, port: 5353 }));
      const exchange = (): boolean => {
        client.inside(() => socket.send("x", { address: family.node, port: 30053 }));
        const got = remote.inside(() => server.receive());
        if (got === undefined) return false;
        remote.inside(() => server.send("y", got.from));
        return client.inside(() => socket.receive())?.data === "y";
      };
      for (let i = 0; i < 3; i++) expect(exchange()).toBe(true);
      replaceMac(family, 51, client);
      const until = performance.now() + HEALED_MS;
      let ok = false;
      while (!ok && performance.now() < until) ok = exchange();
      expect(ok).toBe(true);
    });
  }

  it("IPv4 by an IPv6 next hop: a neighbour that is not known yet is asked for by its IPv6 address", async () => {
    const { node, remote } = wires;
    remote.ip("addr add fe80::12/64 dev eth0 nodad");
    node.namespace.ip("route replace 10.244.2.0/24 via inet6 fe80::12 dev up0");
    try {
      for (const words of ["del fe80::12 dev up0", "flush fe80::12 dev up0"]) {
        try {
          nodeNeighbour(words);
        } catch {
          // It was not there.
        }
      }
      expect((await attempt(wires.client, V4.node, 30080)).error).toBe("connected");
      // And known, or stale, it is used.
      expect((await attempt(wires.client, V4.node, 30080)).error).toBe("connected");
      expect(nodeNeighbour("show fe80::12 dev up0")).toContain(macOf("lan", 12));
      expect(nodeNeighbour("show dev up0")).not.toContain("254.128.0.0");
    } finally {
      node.namespace.ip(`route replace 10.244.2.0/24 via ${V4.otherNode}`);
    }
  });
});
