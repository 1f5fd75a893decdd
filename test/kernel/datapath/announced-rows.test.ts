// Rows of `announced`: renewed in place, listening, and what is heard about their addresses by ARP and neighbour discovery.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type AnnouncedRow, type AnnouncedRows, createAnnouncedRows } from "../../../src/datapath/announced-rows.ts";
import { probeFrame } from "../../../src/l2/frames.ts";
import type { Address } from "../../../src/lib/address.ts";
import { clockBoottimeNs } from "../../../src/libbpf/mod.ts";
import { describeKernel } from "../require-kernel.ts";
import { FAMILIES, type Family, V4, V6 } from "./conversation.ts";
import { macBytes, type PacketBuilder, packet } from "./packet.ts";
import { sendFrame } from "./raw-sockets.ts";
import { ACTION, createTestNode, macOf, type TestNode } from "./test-node.ts";
import { createWires, type Wires } from "./wires.ts";

const lan = (last: number): string => macOf("lan", last);
const BROADCAST = "ff:ff:ff:ff:ff:ff";
const ALL_NODES = "33:33:00:00:00:01";
const GROUP = "33:33:ff:00:01:11";
const SOLICITED = "ff02::1:ff00:111";
const A = "02:66:00:00:00:0a";
const B = "02:66:00:00:00:0b";
const C = "02:66:00:00:00:0c";
const SECOND = 1_000_000_000n;

const arp = (
  operation: "request" | "reply",
  mac: string,
  sender: Address,
  target: Address,
  to = BROADCAST,
): Uint8Array => packet().eth(mac, to).arp({ operation, senderMac: mac, sender, target }).bytes();
const ndp = (from: string, to: string, source: Address, destination: Address, ttl = 255): PacketBuilder =>
  packet().eth(from, to).ip(source, destination, { ttl });

/** Frames of `mac` that say that it has the LoadBalancer address. */
const claims = (family: Family, mac: string): Readonly<Record<string, Uint8Array>> =>
  family === V4
    ? {
        "a gratuitous request": arp("request", mac, V4.lb, V4.lb),
        "a gratuitous reply": arp("reply", mac, V4.lb, V4.lb),
        "a reply to a probe, to this MAC alone": arp("reply", mac, V4.lb, "0.0.0.0", lan(11)),
        "a reply to somebody else": arp("reply", mac, V4.lb, V4.client, lan(51)),
        "a request from it": arp("request", mac, V4.lb, V4.client),
      }
    : {
        "an advertisement to all nodes": ndp(mac, ALL_NODES, V6.lb, "ff02::1").neighbour(136, V6.lb, mac).bytes(),
        "one to this node": ndp(mac, lan(11), V6.lb, V6.node).neighbour(136, V6.lb, mac).bytes(),
        "one without a MAC": ndp(mac, lan(11), "fe80::1", V6.node).neighbour(136, V6.lb).bytes(),
        "one of a router by proxy, which names another MAC than its own": ndp(C, lan(11), "fe80::1", V6.node)
          .neighbour(136, V6.lb, mac)
          .bytes(),
        "a solicitation from it": ndp(mac, GROUP, V6.lb, "ff02::1:ff00:51").neighbour(135, V6.client, mac).bytes(),
      };

const probe = (family: Family, mac: string): Uint8Array => probeFrame(family.lb, macBytes(mac));

describeKernel("rows of announced", () => {
  let node: TestNode;
  let rows: AnnouncedRows;
  beforeAll(() => {
    node = createTestNode(1);
    rows = createAnnouncedRows(node.dataplane);
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => {
    for (const place of rows.read()) rows.remove(place);
    node.dataplane.liveness.setMacs([]);
  });

  const place = (address: Address, device: "up0" | "up1" = "up0") => ({ address, ifindex: node.ifindex(device) });
  const put = (family: Family, given: "fresh" | "stale" | "listening" | "silent"): void => {
    const renewed = clockBoottimeNs();
    const times = {
      fresh: { renewed, stale: renewed + 30n * SECOND, silent: renewed + 60n * SECOND },
      stale: { renewed, stale: renewed, silent: renewed + 60n * SECOND },
      listening: { renewed, stale: 0n, silent: 0n },
      silent: { renewed, stale: renewed - 57n * SECOND, silent: renewed - SECOND },
    };
    expect(rows.put([place(family.lb)], times[given])).toEqual([""]);
  };
  const row = (): AnnouncedRow => rows.read()[0]!;
  const heard = (): string[] => row().heard.map(({ mac, kind }) => `${kind} ${mac}`);
  const run = (frame: Uint8Array) => node.run("tc_uplink_ingress", frame);
  const asksFor = (family: Family): Uint8Array =>
    family === V4
      ? arp("request", lan(51), V4.client, V4.lb)
      : ndp(lan(51), GROUP, V6.client, SOLICITED).neighbour(135, V6.lb, lan(51)).bytes();

  for (const family of FAMILIES) {
    describe(family.name, () => {
      it.each(Object.entries(claims(family, A)))(
        "a claim in %s is heard at any age, with its time, and goes by",
        (_, frame) => {
          for (const state of ["listening", "fresh", "silent"] as const) {
            for (const one of rows.read()) rows.remove(one);
            put(family, state);
            const before = clockBoottimeNs();
            expect(run(frame)).toMatchObject({ action: ACTION.next, packet: frame });
            expect(heard(), state).toEqual([`claim ${A}`]);
            const { at } = row().heard[0]!;
            expect(at).toBeGreaterThanOrEqual(before);
            expect(at).toBeLessThanOrEqual(clockBoottimeNs());
            expect(row().conflict).toBe(0n);
          }
        },
      );

      it("a stale row gives up at a claim, not at a probe, and has heard both", () => {
        put(family, "stale");
        run(probe(family, B));
        expect([row().conflict, heard()]).toEqual([0n, [`probe ${B}`]]);
        expect(run(asksFor(family)).verdict).toBe("VERDICT_NEIGHBOUR");
        run(Object.values(claims(family, A))[0]!);
        expect(row().conflict).toBeGreaterThan(0n);
        expect(heard()).toEqual([`claim ${A}`, `probe ${B}`]);
        expect(run(asksFor(family)).verdict).toBe("VERDICT_NEXT");
        // Renewed it is in force again, and still knows.
        put(family, "fresh");
        expect([row().conflict, heard()]).toEqual([0n, [`claim ${A}`, `probe ${B}`]]);
        expect(run(asksFor(family)).verdict).toBe("VERDICT_NEIGHBOUR");
      });

      it("a probe is answered by a row in force, heard by one that listens, and no claim", () => {
        put(family, "fresh");
        expect(run(probe(family, B)).verdict).toBe("VERDICT_NEIGHBOUR");
        expect(heard()).toEqual([`probe ${B}`]);
        put(family, "listening");
        expect(run(probe(family, C))).toMatchObject({ action: ACTION.next, packet: probe(family, C) });
        expect(heard()).toEqual([`probe ${C}`]);
      });

      it("a row that listens answers nobody", () => {
        put(family, "listening");
        expect(run(asksFor(family))).toMatchObject({ action: ACTION.next, packet: asksFor(family) });
        expect(heard()).toEqual([]);
      });

      it("the last two that claim are kept, newest first, and one that goes on claiming takes one place", () => {
        put(family, "listening");
        const frameOf = (mac: string): Uint8Array => Object.values(claims(family, mac))[0]!;
        for (const mac of [A, B]) run(frameOf(mac));
        expect(heard()).toEqual([`claim ${B}`, `claim ${A}`]);
        for (let i = 0; i < 3; i++) run(frameOf(B));
        expect(heard()).toEqual([`claim ${B}`, `claim ${A}`]);
        run(frameOf(C));
        expect(heard()).toEqual([`claim ${C}`, `claim ${B}`]);
      });

      it("this node's own frames, of any of its devices, are never another machine's", () => {
        put(family, "listening");
        const all = (mac: string): Uint8Array[] => [
          ...Object.values(claims(family, mac)).slice(0, 2),
          probe(family, mac),
        ];
        for (const frame of all(lan(11))) run(frame);
        expect(heard()).toEqual([]);
        // Two NICs in one network, or a bridge that reflects.
        const second = "02:66:00:00:00:22";
        node.dataplane.liveness.setMacs([lan(11), second]);
        for (const frame of all(second)) run(frame);
        expect(heard()).toEqual([]);
        // The eighth is known too.
        const eight = [1, 2, 3, 4, 5, 6, 7, 8].map((last) => `02:66:00:00:01:0${last}`);
        node.dataplane.liveness.setMacs(eight);
        for (const frame of all(eight[7]!)) run(frame);
        expect(heard()).toEqual([]);
        run(all(second)[0]!);
        expect(heard()).toEqual([`claim ${second}`]);
      });

      it("nothing is heard of groups' or empty MACs, other addresses, other devices, or at other hooks", () => {
        put(family, "listening");
        for (const mac of ["00:00:00:00:00:00", "01:00:5e:00:00:01", BROADCAST])
          for (const frame of [...Object.values(claims(family, mac)), probe(family, mac)]) run(frame);
        const frame = Object.values(claims(family, A))[0]!;
        for (const program of ["tc_pod_ingress", "tc_uplink_egress"] as const) node.run(program, frame);
        node.run("tc_uplink_ingress", frame, { device: "up1" });
        run(
          family === V4
            ? arp("request", A, V4.client, V4.client)
            : ndp(A, ALL_NODES, V6.client, "ff02::1").neighbour(136, V6.client, A).bytes(),
        );
        expect(heard()).toEqual([]);
      });
    });
  }

  it("of IPv6 nothing counts that came through a router", () => {
    put(V6, "listening");
    for (const ttl of [1, 64, 254]) {
      run(ndp(A, ALL_NODES, V6.lb, "ff02::1", ttl).neighbour(136, V6.lb, A).bytes());
      run(ndp(A, GROUP, "::", SOLICITED, ttl).neighbour(135, V6.lb).bytes());
    }
    expect(heard()).toEqual([]);
  });

  it("a hundred rows are made and renewed in place, and what was heard stays", () => {
    const places = Array.from({ length: 100 }, (_, i) => place(`192.168.122.${100 + i}`));
    const times = { renewed: 1n, stale: 2n, silent: 0n };
    expect(rows.put(places.slice(0, 50), times)).toEqual(places.slice(0, 50).map(() => ""));
    run(arp("reply", A, "192.168.122.140", "0.0.0.0", lan(11)));
    const later = { renewed: 5n, stale: 6n, silent: 7n };
    expect(rows.put(places, later)).toEqual(places.map(() => ""));
    const found = rows.read();
    expect(found).toHaveLength(100);
    for (const one of found) expect(one).toMatchObject(later);
    expect(found.filter(({ heard: one }) => one.length > 0).map(({ address }) => address)).toEqual(["192.168.122.140"]);
    rows.remove(places[3]!);
    expect(rows.read()).toHaveLength(99);
  });

  it("a row that finds no place is refused by reason, and the others are made", () => {
    const places = Array.from({ length: rows.capacity + 3 }, (_, i) => place(`10.9.${i >> 8}.${i & 255}`));
    const refusals = rows.put(places, { renewed: 1n, stale: 2n, silent: 3n });
    expect(refusals.filter((one) => one === "")).toHaveLength(rows.capacity);
    expect(refusals.at(-1)).toContain("announced");
  });
});

describeKernel("a question on the wire whether anybody has an address", () => {
  let wires: Wires;
  let rows: AnnouncedRows;
  beforeAll(() => {
    wires = createWires();
    rows = createAnnouncedRows(wires.node.dataplane);
  });
  afterAll(() => wires?.[Symbol.dispose]());

  for (const family of FAMILIES) {
    it(`${family.name}: is answered to a row that listens, by a host that has it, within its 200 ms`, async () => {
      const { node, remote } = wires;
      const taken = family === V4 ? "192.168.122.77" : "fd00:192:168:122::77";
      const free = family === V4 ? "192.168.122.78" : "fd00:192:168:122::78";
      const ifindex = node.ifindex("up0");
      remote.ip(`addr add ${taken}/${family === V4 ? "24 dev eth0" : "64 dev eth0 nodad"}`);
      for (const address of [taken, free]) rows.put([{ address, ifindex }], { renewed: 1n, stale: 0n, silent: 0n });
      const probe = (address: Address): void => {
        const frame = probeFrame(address, macBytes(node.mac("up0")));
        node.namespace.inside(() => sendFrame(ifindex, frame));
      };
      for (let i = 0; i < 3; i++) {
        for (const address of [taken, free]) probe(address);
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
      const heard = new Map(
        rows.read().map((row) => [row.address, row.heard.map(({ mac, kind }) => `${kind} ${mac}`)]),
      );
      expect(heard.get(taken)).toEqual([`claim ${macOf("lan", 12)}`]);
      expect(heard.get(free)).toEqual([]);
      for (const address of [taken, free]) rows.remove({ address, ifindex });
    });
  }
});
