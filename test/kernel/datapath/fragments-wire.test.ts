// Datagrams that do not fit the way, on the wire: cut by their senders, by their senders after they were told, or by routers.
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { describeKernel } from "../require-kernel.ts";
import { FAMILIES, type Family, objects, V4 } from "./conversation.ts";
import type { Namespace } from "./namespace.ts";
import { type End, openSocket, type Socket } from "./raw-sockets.ts";
import { checksumErrors, createWires, type Wires } from "./wires.ts";

const ROUNDS = 8;

describeKernel("datagrams in pieces, on the wire", () => {
  let wires: Wires;
  beforeAll(() => {
    wires = createWires();
  });
  afterAll(() => wires?.[Symbol.dispose]());
  beforeEach(() => wires.node.clearFlows());

  /** How many of `rounds` datagrams of so many bytes a client got back whole from the backend, by the name that it asked for. */
  function answered(from: Namespace, to: End, at: Namespace, backend: End, family: Family, size: number): number {
    const server: Socket = at.inside(() => openSocket("UDP", family.name, 300));
    const client: Socket = from.inside(() => openSocket("UDP", family.name, 300));
    try {
      at.inside(() => server.bind(backend));
      client.allowFragments();
      server.allowFragments();
      let whole = 0;
      for (let round = 0; round < ROUNDS; round++) {
        const data = String(round).repeat(size);
        from.inside(() => client.send(data, to));
        const got = at.inside(() => server.receive());
        if (got?.data !== data) continue;
        at.inside(() => server.send(data, got.from));
        const back = from.inside(() => client.receive());
        if (back?.data === data && back.from.address === to.address && back.from.port === to.port) whole++;
      }
      return whole;
    } finally {
      client.close();
      server.close();
    }
  }

  for (const family of FAMILIES) {
    const ways = [
      ["outside, backend on this node", () => wires.client, "node", () => wires.backend, "here"],
      ["outside, backend on another node", () => wires.client, "node", () => wires.remote, "there"],
      ["a pod, backend behind the same bridge", () => wires.pod, "vip", () => wires.backend, "here"],
      ["a pod, backend on another node", () => wires.pod, "vip", () => wires.remote, "there"],
      ["a pod without bridge, backend on another node", () => wires.ptp, "vip", () => wires.remote, "there"],
      ["a pod that is its own backend", () => wires.backend, "vip", () => wires.backend, "here"],
      ["the host, backend on this node", () => wires.node.namespace, "vip", () => wires.backend, "here"],
      ["the host, backend on another node", () => wires.node.namespace, "vip", () => wires.remote, "there"],
    ] as const;
    it.each(ways)(
      `${family.name}, %s: datagrams of 4,000 bytes arrive, and so do their answers`,
      async (_, from, name, at, backend) => {
        await wires.node.feed(objects([backend]));
        const to = { address: family[name], port: name === "node" ? 30053 : 53 };
        expect(answered(from(), to, at(), { address: family[backend], port: 5353 }, family, 4000)).toBe(ROUNDS);
        expect([wires.client, wires.remote, wires.pod, wires.backend, wires.ptp].flatMap(checksumErrors)).toEqual([]);
      },
    );

    it(`${family.name}: of datagrams that do not fit the way to the backend only the first is lost`, async () => {
      const { node, client, remote } = wires;
      const network = family === V4 ? "10.244.2.0/24" : "fd00:10:244:2::/64";
      node.namespace.ip(`route replace ${network} via ${family.otherNode} mtu lock 1300`);
      try {
        await node.feed(objects(["there"]));
        const to = { address: family.node, port: 30053 };
        const backend = { address: family.there, port: 5353 };
        expect(answered(client, to, remote, backend, family, 1400)).toBeGreaterThanOrEqual(ROUNDS - 1);
      } finally {
        node.namespace.ip(`route replace ${network} via ${family.otherNode}`);
        client.ip(family === V4 ? "route flush cache" : "-6 route flush cache");
      }
    });
  }
});
