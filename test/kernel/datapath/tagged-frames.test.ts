// Frames with an 802.1Q tag, on the wire: one of VLAN 0 has a priority and nothing else (IEEE 802.1Q), and is served as if it had
// no tag, as the kernel does; one of another VLAN is that VLAN's device's. A test run cannot say what the kernel keeps beside
// the packet, so a raw socket sends them.
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { describeKernel } from "../require-kernel.ts";
import { FAMILIES, frame, objects, portsOf, send, type Transport } from "./conversation.ts";
import { concat } from "./packet.ts";
import { openSocket, sendFrame } from "./raw-sockets.ts";
import { attachXdpTo, createWires, type Wires } from "./wires.ts";

/** The frame with a tag of that VLAN and priority behind its MACs. */
function tagged(bytes: Uint8Array, vlan: number, priority = 3): Uint8Array {
  return concat(
    bytes.slice(0, 12),
    Uint8Array.of(0x81, 0, (priority << 5) | (vlan >> 8), vlan & 0xff),
    bytes.slice(12),
  );
}

describeKernel("tagged frames", () => {
  let wires: Wires;
  beforeAll(() => {
    wires = createWires();
    // XDP sees no tag that a device carries beside the frame.
    wires.lan.run("ethtool", "-K", "lan0", "txvlan", "off");
  });
  afterAll(() => wires?.[Symbol.dispose]());
  beforeEach(() => wires.node.clearFlows());

  const put = (bytes: Uint8Array): void => wires.client.inside(() => sendFrame(wires.client.ifindex("eth0"), bytes));
  const isServed = (): Promise<boolean> => eventually(() => wires.node.flows().length > 0);
  /** Within half a second. */
  async function eventually(condition: () => boolean): Promise<boolean> {
    for (const until = performance.now() + 500; performance.now() < until; ) {
      if (condition()) return true;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    return condition();
  }

  for (const family of FAMILIES) {
    for (const transport of ["TCP", "UDP"] as const satisfies readonly Transport[]) {
      const { nodePort } = portsOf(transport);
      const asked = (port: number): Uint8Array =>
        send(frame(), transport, { address: family.client, port }, { address: family.node, port: nodePort });
      for (const by of ["tc", "XDP"] as const) {
        for (const backend of ["here", "there"] as const) {
          it(`${family.name} ${transport} by ${by}, backend ${backend}: without a tag or with one of VLAN 0 they are served, others not`, async () => {
            await wires.node.feed(objects([backend]));
            using _xdp = by === "XDP" ? attachXdpTo(wires) : undefined;
            for (const vlan of [5, 4095]) put(tagged(asked(40_000 + vlan), vlan));
            expect(await isServed(), "of a VLAN").toBe(false);
            put(asked(41_000));
            expect(await isServed(), "without a tag").toBe(true);
            wires.node.clearFlows();
            put(tagged(asked(42_000), 0));
            expect(await isServed(), "with a priority").toBe(true);
          });
        }
      }
    }

    it.each(["here", "there"] as const)(
      `${family.name}: a datagram with a priority reaches the backend, %s`,
      async (where) => {
        const at = where === "here" ? wires.backend : wires.remote;
        await wires.node.feed(objects([where]));
        using server = at.inside(() => openSocket("UDP", family.name, 500));
        at.inside(() => server.bind({ address: family[where], port: 5353 }));
        const from = { address: family.client, port: 43_000 };
        put(tagged(send(frame(), "UDP", from, { address: family.node, port: 30053 }, { payload: 5 }), 0));
        expect(at.inside(() => server.receive())?.data.length).toBe(5);
      },
    );

    it(`${family.name}: an echo request with a priority is answered, one of a VLAN is not`, async () => {
      const { node } = wires;
      await node.feed(objects(["here"]));
      const answered = (): number => node.verdicts().get("UPLINK_INGRESS VERDICT_ECHO") ?? 0;
      const before = answered();
      const echo = frame()
        .ip(family.client, family.vip)
        .icmp(family.header === 20 ? 8 : 128, 0)
        .payload(8)
        .bytes();
      put(tagged(echo, 5));
      expect(await eventually(() => answered() > before)).toBe(false);
      put(tagged(echo, 0));
      expect(await eventually(() => answered() > before)).toBe(true);
    });
  }
});
