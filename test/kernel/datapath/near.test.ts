// The filter over the maps themselves: what is applied is near, what went is so until a sweep, and a sweep clears nothing that can
// still be found, flows of what is gone among it.
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { sweepFlows } from "../../../src/datapath/flow-sweep.ts";
import { NEAR_FLAG_VALUES, readFrontendKey } from "../../../src/datapath/layout.gen.ts";
import { backendSum, nearMix, nearSum } from "../../../src/datapath/near.ts";
import { addressBytes, readAddress } from "../../../src/lib/address.ts";
import { describeKernel } from "../require-kernel.ts";
import { frame, objects, portsOf, send, V4, V6 } from "./conversation.ts";
import { createTestNode, type TestNode } from "./test-node.ts";

const HZ = 1000;
const { NEAR_FRONTEND, NEAR_NODE, NEAR_BACKEND } = NEAR_FLAG_VALUES;
/** Port 8080 as it lies in memory, read as a little-endian number. */
const RAW_8080 = 0x901f;
const NOTHING = { services: [], slices: [] };

describeKernel("the filter of what is near", () => {
  let node: TestNode;
  beforeAll(() => {
    node = createTestNode(1);
  });
  afterAll(() => node?.[Symbol.dispose]());
  afterEach(() => node.clearFlows());

  const words = (): BigUint64Array => new BigUint64Array(node.dataplane.map("near").mmap(true));
  /** Of the address, and whether a backend is at its port 8080. */
  const flagsOf = (address: string): number => {
    const bits = words();
    const sum = nearSum(new DataView(addressBytes(address).buffer), 0);
    const flags = (of: number): number => {
      const bucket = nearMix(of) >>> 13;
      return Number((bits[bucket >> 4]! >> BigInt((bucket & 15) * 4)) & 15n);
    };
    return (flags(sum) & ~NEAR_BACKEND) | (flags(backendSum(sum, RAW_8080)) & NEAR_BACKEND);
  };
  const has = (address: string, flag: number): boolean => (flagsOf(address) & flag) !== 0;
  const hasPort = (port: number, udp: boolean): boolean =>
    ((words()[32_768 + (udp ? 1024 : 0) + (port >> 6)]! >> BigInt(port & 63)) & 1n) === 1n;
  const sweep = () => sweepFlows(node.dataplane, HZ);
  const copy = (): bigint[] => [...words()];

  /** Whatever a program could find by a lookup. */
  function expectAllNear(): void {
    let frontends = 0;
    for (const [key] of node.dataplane.map("frontends").entries()) {
      const { address, port, proto } = readFrontendKey(key);
      frontends++;
      if (address === "0.0.0.0" || address === "::") expect(hasPort(port, proto === 17), `port ${port}`).toBe(true);
      else expect(has(address, NEAR_FRONTEND), address).toBe(true);
    }
    expect(frontends).toBe(node.dataplane.readState().frontends.length);
    for (const [key, value] of node.dataplane.map("addresses").entries()) {
      const address = readAddress(key);
      if (value[0]! & 1) expect(has(address, NEAR_NODE), address).toBe(true);
      if (value[0]! & 2) expect(has(address, NEAR_FRONTEND), address).toBe(true);
    }
    for (const { address } of node.dataplane.readState().backends.values())
      expect(has(address, NEAR_BACKEND), address).toBe(true);
    for (const [key] of node.dataplane.map("retired").entries())
      expect(has(readFrontendKey(key).address, NEAR_FRONTEND)).toBe(true);
  }

  it("has what is applied, and nothing else after a sweep", async () => {
    await node.feed(objects(["here", "there"]));
    expectAllNear();
    const applied = copy();
    await sweep();
    expect(copy()).toEqual(applied);
    expectAllNear();
    for (const { vip, node: address, here, there } of [V4, V6]) {
      expect(flagsOf(vip)).toBe(NEAR_FRONTEND);
      expect(flagsOf(address)).toBe(NEAR_NODE);
      expect([flagsOf(here), flagsOf(there)]).toEqual([NEAR_BACKEND, NEAR_BACKEND]);
    }
    expect([hasPort(30_080, false), hasPort(30_053, true), hasPort(30_080, true), hasPort(80, false)]).toEqual([
      true,
      true,
      false,
      false,
    ]);
  });

  it("makes a retired UDP backend near, and a backend no more", async () => {
    await node.feed(objects(["here"]));
    expect(flagsOf(V4.there)).toBe(NEAR_BACKEND | NEAR_FRONTEND);
    await sweep();
    expectAllNear();
    expect(flagsOf(V4.there)).toBe(NEAR_FRONTEND);
    for (const [key] of node.dataplane.map("retired").entries()) node.dataplane.map("retired").delete(key);
    await node.feed(objects(["here", "hereToo"]));
    await node.feed(objects(["here"]));
    await sweep();
    expect(flagsOf(V4.there)).toBe(0);
    expect(flagsOf(V4.hereToo)).toBe(NEAR_FRONTEND);
  });

  it("has what is gone until the next sweep, which leaves no bit behind", async () => {
    await node.feed(NOTHING);
    expect(flagsOf(V4.vip)).toBe(NEAR_FRONTEND);
    for (const [key] of node.dataplane.map("retired").entries()) node.dataplane.map("retired").delete(key);
    await sweep();
    expect([flagsOf(V4.vip), flagsOf(V4.lb), flagsOf(V4.here), flagsOf(V6.here)]).toEqual([0, 0, 0, 0]);
    expect(hasPort(30_080, false)).toBe(false);
    expectAllNear();
    await node.feed(objects(["here"]));
    expectAllNear();
  });

  it.each([
    ["a Service", { address: V4.vip, port: 80 }, () => has(V4.vip, NEAR_FRONTEND)],
    ["a node port", { address: V4.node, port: portsOf("TCP").nodePort }, () => hasPort(30_080, false)],
  ] as const)("keeps what flows of %s that is gone need", async (_, to, isNear) => {
    await node.feed(objects(["here"]));
    const first = send(frame(), "TCP", { address: V4.client, port: 40_000 }, to);
    node.run("tc_uplink_ingress", first);
    expect(node.flows().length).toBeGreaterThan(0);
    await node.feed(NOTHING);
    await sweep();
    expect(isNear()).toBe(true);
    expect(has(V4.here, NEAR_BACKEND)).toBe(true);
    node.clearFlows();
    await node.feed(objects(["here"]));
    await node.feed(NOTHING);
    node.clearFlows();
    await sweep();
    expect(isNear()).toBe(false);
    expect(has(V4.here, NEAR_BACKEND)).toBe(false);
  });

  it("is complete whatever is applied while a sweep goes on", async () => {
    const sets = [["here"], ["there", "hereToo"], ["far"], []] as const;
    for (let round = 0; round < 12; round++) {
      const sweeping = sweep();
      await node.feed(round % 5 === 4 ? NOTHING : objects([...sets[round % sets.length]!]));
      expectAllNear();
      await sweeping;
      expectAllNear();
    }
  });
});
