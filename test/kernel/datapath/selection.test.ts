// Whom programs choose: by the hash of the tuple as it is reckoned here, evenly, by weight and by Maglev's table.
import { afterAll, beforeAll, expect, it } from "vitest";
import { addressBytes } from "../../../src/lib/address.ts";
import { maglevTable, tableSizeFor } from "../../../src/model/spread.ts";
import { endpoint, service, slice } from "../../flows/builders.ts";
import { createRandom } from "../../model/random.ts";
import { IS_THIN, tellLeftOut } from "../kernel-lacks.ts";
import { describeKernel } from "../require-kernel.ts";
import { frame, V4 } from "./conversation.ts";
import { createTestNode, type TestNode } from "./test-node.ts";

const FACTORS = {
  one: 0x9e3779b97f4a7c15n,
  two: 0xc2b2ae3d27d4eb4fn,
  three: 0x165667b19e3779f9n,
  four: 0xd6e8feb86659fd93n,
  five: 0xff51afd7ed558ccdn,
};
const U64 = (1n << 64n) - 1n;

/** tuple_hash() of bpf/select.h: of addresses as their bytes lie in memory, ports in network order, and the protocol. */
function tupleHash(source: string, sourcePort: number, destination: string, destinationPort: number, proto: number) {
  const half = (address: string, at: number): bigint => {
    const bytes = addressBytes(address);
    return new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(at, true);
  };
  const swapped = (port: number): bigint => BigInt(((port & 0xff) << 8) | (port >> 8));
  const ports = swapped(sourcePort) | (swapped(destinationPort) << 16n) | (BigInt(proto) << 32n);
  const { one, two, three, four, five } = FACTORS;
  let h =
    (half(source, 0) ^ two) * one +
    (half(source, 8) ^ three) * two +
    (half(destination, 0) ^ four) * three +
    (half(destination, 8) ^ one) * four +
    (ports ^ five) * five;
  h &= U64;
  h ^= h >> 29n;
  h ^= h >> 32n;
  return Number(((h * four) & U64) >> 32n);
}

const addresses = Array.from({ length: 10 }, (_, i) => `10.244.1.${i + 10}`);
const endpoints = addresses.map((address) => endpoint(address));
const USUAL = 100_000;
const FLOWS = IS_THIN ? USUAL / 5 : USUAL;
const SOURCE = 26;
const DESTINATION = 30;
const SOURCE_PORT = 34;

describeKernel("the choice of a backend", () => {
  let node: TestNode;
  beforeAll(() => {
    node = createTestNode(1, { openings: 16_384 });
  });
  afterAll(() => node?.[Symbol.dispose]());

  /** Of each of so many flows, the same for the same seed: which of `addresses` it reached, and its hash. */
  function chosen(flows: number, seed: number, keep = false): { readonly backend: number; readonly hash: number }[] {
    if (!keep) node.clearFlows();
    const random = createRandom(seed);
    const data = frame().ip(V4.client, V4.vip).payload(0).tcp(1, 80, { flags: "S" }).bytes();
    const context = new Uint8Array(192);
    new DataView(context.buffer).setUint32(40, node.ifindex("up0"), true);
    const program = node.dataplane.program("tc_uplink_ingress");
    return node.namespace.inside(() =>
      Array.from({ length: flows }, () => {
        const source = random.below(2 ** 24);
        const port = 1024 + random.below(60_000);
        data.set([11, source >>> 16, (source >>> 8) & 255, source & 255], SOURCE);
        data.set([port >> 8, port & 255], SOURCE_PORT);
        const out = program.testRun({ data, context }).data;
        const backend = out[DESTINATION + 3]! - 10;
        const text = `11.${source >>> 16}.${(source >>> 8) & 255}.${source & 255}`;
        return { backend, hash: tupleHash(text, port, V4.vip, 80, 6) };
      }),
    );
  }

  function countsOf(flows: readonly { readonly backend: number }[]): number[] {
    const counts = addresses.map(() => 0);
    for (const { backend } of flows) counts[backend]!++;
    return counts;
  }

  tellLeftOut(USUAL - FLOWS, "flows that are hashed");
  it(`is even over 10 backends and ${FLOWS.toLocaleString("en")} flows, and the reference hash's`, async () => {
    await node.feed({ services: [service()], slices: [slice({ endpoints })] });
    const flows = chosen(FLOWS, 1);
    // Three standard deviations: 3 % of 10,000.
    const most = 3 * Math.sqrt(FLOWS / 10);
    for (const count of countsOf(flows)) expect(Math.abs(count - FLOWS / 10)).toBeLessThanOrEqual(most);
    expect(flows.filter(({ backend, hash }) => backend !== Math.floor((hash * 10) / 2 ** 32))).toEqual([]);
  });

  it("by Maglev is that of the table of the backends' addresses", async () => {
    await node.feed({ services: [service({ loadBalancing: "maglev" })], slices: [slice({ endpoints })] });
    const table = maglevTable(
      addresses.map((address) => ({ address, port: 8080 })),
      tableSizeFor(10, 251)!,
    );
    const flows = chosen(10_000, 2);
    expect(flows.filter(({ backend, hash }) => backend !== table[Math.floor((hash * table.length) / 2 ** 32)])).toEqual(
      [],
    );
    for (const count of countsOf(flows)) expect(Math.abs(count - 1000)).toBeLessThan(100);
  });

  it("by weight gives each its part, and what is drained keeps the flows that it has", async () => {
    const given = { services: [service()], slices: [slice({ endpoints: endpoints.slice(0, 3) })] };
    await node.feed(given);
    const before = chosen(300, 3);
    const [drained, ...others] = addresses;
    const weights = `${drained}=0,${others[0]}=1,${others[1]}=3`;
    await node.feed({ ...given, slices: [slice({ endpoints: endpoints.slice(0, 3), weights })] });
    expect(chosen(300, 3, true)).toEqual(before);
    expect(before.some(({ backend }) => backend === 0)).toBe(true);
    const counts = countsOf(chosen(8000, 4));
    expect(counts[0]).toBe(0);
    expect(Math.abs(counts[1]! - 2000)).toBeLessThan(150);
    expect(Math.abs(counts[2]! - 6000)).toBeLessThan(150);
  });
});
