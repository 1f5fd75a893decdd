// Long conversations over UDP, as WireGuard and QUIC have them, on real devices: of a connected socket, of one whose path changes, and of
// one that names the Service with every datagram, as WireGuard in the kernel does. They go on over every change and every silence.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { sweepFlows } from "../../../src/datapath/flow-sweep.ts";
import { describeKernel } from "../require-kernel.ts";
import { joinCgroup } from "./cgroup.ts";
import { at, FAMILIES, type Family, objects, portsOf } from "./conversation.ts";
import { HZ } from "./test-node.ts";
import { createUdpClients, type Udp } from "./udp-clients.ts";
import { createWires, type Wires } from "./wires.ts";

const { port, target } = portsOf("UDP");
const families = FAMILIES.map((family) => [family.name, family] as const);

describeKernel("long conversations over UDP", () => {
  let wires: Wires;
  const { open, closeAll } = createUdpClients(target);
  beforeAll(() => {
    wires = createWires();
  });
  afterAll(() => wires?.[Symbol.dispose]());
  beforeEach(() => wires.node.clearFlows());
  afterEach(closeAll);

  const here = (family: Family): Udp => open(wires.backend, family.name, family.here);
  const there = (family: Family): Udp => open(wires.remote, family.name, family.there);
  const answered = (text: string, family: Family): string => `re ${text} from ${at(family.vip, port)}`;
  /** All flows are silent for so long, and are looked through then. */
  async function silence(seconds: number): Promise<void> {
    const { node } = wires;
    for (const row of node.flows()) node.putFlow(row, { seen: (row.flow.seen - seconds * HZ) >>> 0 });
    await sweepFlows(node.dataplane, HZ);
  }

  describe("of connected sockets", () => {
    let cgroup: Disposable;
    beforeAll(() => {
      cgroup = joinCgroup(wires.node.dataplane);
    });
    afterAll(() => cgroup?.[Symbol.dispose]());

    it.each(families)(
      "%s: a conversation of hours, in which both sides speak, goes on over every change, and after every silence",
      async (_, family) => {
        const { node } = wires;
        await node.feed(objects(["there"]));
        const servers = { there: there(family), here: here(family) };
        const client = open(wires.pod, family.name);
        client.connect(family.vip, port);
        expect(client.ask(servers.there, "hello")).toBe(answered("hello", family));
        for (let hour = 0; hour < 4; hour++) {
          const name = hour % 2 === 0 ? "here" : "there";
          await node.feed(objects([name]));
          // Silent for longer than any flow is kept, and then for less.
          for (const seconds of [3600, 60]) {
            await silence(seconds);
            expect(client.ask(servers[name], `${hour}`)).toBe(answered(`${hour}`, family));
            // The server speaks first, too, where the conversation is young.
            const from = { ...client.socket.localEnd(), address: family.pod };
            servers[name].send("keep", from);
            expect(client.receive()?.data).toBe("keep");
          }
        }
      },
    );

    it.each(families)(
      "%s: a connection that moves to another path keeps being served on the new one and on the old",
      async (_, family) => {
        const { node } = wires;
        await node.feed(objects(["there"]));
        const [remote, local] = [there(family), here(family)];
        const before = open(wires.pod, family.name);
        before.connect(family.vip, port);
        expect(before.ask(remote, "id 1")).toBe(answered("id 1", family));
        await node.feed(objects(["here"]));
        expect(before.ask(local, "id 1")).toBe(answered("id 1", family));
        // RFC 9000 section 9: the client probes from another port, and goes on there.
        const after = open(wires.pod, family.name);
        after.connect(family.vip, port);
        for (const path of [after, before, after]) expect(path.ask(local, "id 1")).toBe(answered("id 1", family));
        await node.feed(objects(["there"]));
        for (const path of [after, before, after]) expect(path.ask(remote, "id 1")).toBe(answered("id 1", family));
      },
    );
  });

  /** No socket program sees them: nor do they see datagrams of the kernel's own. */
  describe("of sockets by packet that are never connected", () => {
    const askers = FAMILIES.flatMap((family) => [
      [family.name, "a pod", family, () => wires.pod] as const,
      [family.name, "the host", family, () => wires.node.namespace] as const,
    ]);
    it.each(askers)(
      "%s: one of %s goes on with a living backend at once when its own is gone, after every silence, and nobody else hears it",
      async (_, who, family, from) => {
        const { node } = wires;
        const servers = { there: there(family), here: here(family) };
        const client = open(from(), family.name);
        const vip = { address: family.vip, port };
        await node.feed(objects(["there"]));
        expect(client.ask(servers.there, "hello", vip)).toBe(answered("hello", family));
        const used = client.socket.localEnd().port;
        for (let hour = 0; hour < 4; hour++) {
          const [name, gone] = hour % 2 === 0 ? (["here", "there"] as const) : (["there", "here"] as const);
          await node.feed(objects([name]));
          for (const seconds of [0, 60, 3600]) {
            await silence(seconds);
            expect(client.ask(servers[name], `${hour}`, vip)).toBe(answered(`${hour}`, family));
          }
          expect(servers[gone].receiveError()).toBe("EAGAIN");
          // The server speaks first, too, to where it last heard the client, where that is the client's own address.
          if (who === "a pod") {
            servers[name].send("keep", { address: family.pod, port: used });
            expect(client.receive()).toEqual({ data: "keep", from: vip });
          }
        }
        await node.feed(objects([]));
        expect(client.send("nobody", vip)).toBe("");
        for (const server of Object.values(servers)) expect(server.receiveError()).toBe("EAGAIN");
        await node.feed(objects(["here"]));
        expect(client.ask(servers.here, "again", vip)).toBe(answered("again", family));
      },
    );
  });
});
