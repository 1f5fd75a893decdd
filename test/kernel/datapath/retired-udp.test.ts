// What connected UDP sockets send to a backend that is gone, where it is more than a datagram: in pieces, of clients that the
// Service lets in no more; and the questions for its link-layer address, of several pods at once.
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import type { Service } from "../../../src/model/objects.ts";
import { describeKernel } from "../require-kernel.ts";
import { joinCgroup } from "./cgroup.ts";
import { at, FAMILIES, type Family, objects, portsOf, V4, V6 } from "./conversation.ts";
import { packet } from "./packet.ts";
import { type Device, HZ, macOf } from "./test-node.ts";
import { createUdpClients, type Udp } from "./udp-clients.ts";
import { createWires, type Wires } from "./wires.ts";

const { port, target } = portsOf("UDP");
const families = FAMILIES.map((family) => [family.name, family] as const);
/** In three pieces. */
const LARGE = "0123456789".repeat(400);
const ELSEWHERE = ["198.51.100.0/24", "2001:db8::/32"];

describeKernel("datagrams to a backend that is gone", () => {
  let wires: Wires;
  let cgroup: Disposable;
  const { open, closeAll } = createUdpClients(target);
  beforeAll(() => {
    wires = createWires();
    cgroup = joinCgroup(wires.node.dataplane);
  });
  afterAll(() => {
    cgroup?.[Symbol.dispose]();
    wires?.[Symbol.dispose]();
  });
  beforeEach(() => wires.node.clearFlows());
  afterEach(closeAll);

  const here = (family: Family): Udp => open(wires.backend, family.name, family.here);
  const there = (family: Family): Udp => open(wires.remote, family.name, family.there);
  const answered = (text: string, address: string): string => `re ${text} from ${at(address, port)}`;
  const counted = (name: string): number => wires.node.verdicts().get(name) ?? 0;
  const connected = (family: Family, address = family.vip): Udp => {
    const client = open(wires.pod, family.name);
    expect(client.connect(address, port)).toBe("");
    client.socket.allowFragments();
    return client;
  };

  for (const [where, gone, rest] of [
    ["on the pod's bridge", "here", "there"],
    ["on another node", "there", "here"],
  ] as const) {
    it.each(families)(`%s: in pieces, to one ${where}: all of them go on to a living backend`, async (_, family) => {
      const { node } = wires;
      const servers = { here: here(family), there: there(family) };
      await node.feed(objects([gone]));
      const client = connected(family);
      expect(client.ask(servers[gone], LARGE)).toBe(answered(LARGE, family.vip));
      await node.feed(objects([rest]));
      expect(client.ask(servers[rest], LARGE)).toBe(answered(LARGE, family.vip));
      expect(client.ask(servers[rest], LARGE)).toBe(answered(LARGE, family.vip));
      expect(servers[gone].receiveError()).toBe("EAGAIN");
    });

    it.each(families)(
      `%s: in pieces, to one ${where}, with no backend left: none of them passes`,
      async (_, family) => {
        const { node } = wires;
        const stranger = gone === "here" ? here(family) : there(family);
        await node.feed(objects([gone]));
        const client = connected(family);
        await node.feed(objects([]));
        const before = counted("POD_INGRESS DROP_PORT_UNKNOWN");
        expect(client.ask(stranger, LARGE)).toBe("nothing arrived, ECONNREFUSED");
        expect(counted("POD_INGRESS DROP_PORT_UNKNOWN") - before).toBe(2);
      },
    );
  }

  it.each(families)(
    "%s: source ranges that change later meet the flow of a socket that asked the address that they guard, and no other",
    async (_, family) => {
      const { node } = wires;
      const feed = (names: Parameters<typeof objects>[0], sourceRanges: readonly string[]): Promise<void> =>
        node.feed(objects(names, { sourceRanges } as Partial<Service>));
      await feed(["there"], []);
      const [guarded, free] = [connected(family, family.lb), connected(family)];
      await feed(["here"], []);
      const server = here(family);
      for (let i = 0; i < 3; i++) {
        expect(guarded.ask(server, "in")).toBe(answered("in", family.lb));
        expect(free.ask(server, "in")).toBe(answered("in", family.vip));
      }
      await feed(["here"], ELSEWHERE);
      const before = counted("POD_INGRESS DROP_SOURCE_RANGE");
      for (let i = 0; i < 2; i++) expect(guarded.ask(server, "out", undefined, 1)).toBe("nothing arrived");
      expect(counted("POD_INGRESS DROP_SOURCE_RANGE") - before).toBe(2);
      expect(free.ask(server, "in")).toBe(answered("in", family.vip));
      await feed(["here"], [`${family.pod}/${family === V4 ? 32 : 128}`]);
      expect(guarded.ask(server, "again")).toBe(answered("again", family.lb));
    },
  );

  /** A second passes between two questions of one pod. */
  function aSecondPasses(): void {
    const map = wires.node.dataplane.map("neighbour_questions");
    for (const [key, value] of map.entries()) {
      const view = new DataView(value.buffer, value.byteOffset);
      const asked = view.getBigUint64(0, true);
      if (asked === 0n) continue;
      view.setBigUint64(0, asked - BigInt(HZ), true);
      map.update(key, value);
    }
  }

  const questions = [
    [
      "ARP",
      V4,
      (sender: string) =>
        packet()
          .eth(macOf("pod", 99), "ff:ff:ff:ff:ff:ff")
          .arp({ operation: "request", senderMac: macOf("pod", 99), sender, target: V4.here })
          .bytes(),
    ],
    [
      "a neighbour solicitation",
      V6,
      (sender: string) =>
        packet()
          .eth(macOf("pod", 99), "33:33:ff:00:00:02")
          .ip(sender, "ff02::1:ff00:2", { ttl: 255 })
          .neighbour(135, V6.here, macOf("pod", 99))
          .bytes(),
    ],
  ] as const;
  const [NEXT, ANSWERED] = ["VERDICT_NEXT", "VERDICT_NEIGHBOUR"];

  it.each(questions)("%s is answered to each of two pods that ask in turns", async (_, family, ask) => {
    const { node } = wires;
    await node.feed(objects(["here"]));
    await node.feed(objects(["there"]));
    const verdict = (device: Device): string =>
      node.run("tc_pod_ingress", ask(device === "pod99" ? family.pod : family.hereToo), { device }).verdict;
    const rounds = [0, 1, 2].map(() => {
      const found = [verdict("pod99"), verdict("pod3")];
      aSecondPasses();
      return found;
    });
    expect(rounds).toEqual([
      [NEXT, NEXT],
      [ANSWERED, ANSWERED],
      // Once answered, the next one is a first one: who has the address by then answers it.
      [NEXT, NEXT],
    ]);
  });

  it.each(questions)("%s of one that wants the address for itself is never answered", async (_, family, ask) => {
    const { node } = wires;
    await node.feed(objects(["here"]));
    await node.feed(objects(["there"]));
    for (let i = 0; i < 3; i++) {
      const asked = ask(family === V4 ? "0.0.0.0" : "::");
      expect(node.run("tc_pod_ingress", asked, { device: "pod99" }).verdict).toBe(NEXT);
      aSecondPasses();
    }
  });
});
