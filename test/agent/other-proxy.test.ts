// Which connections of another proxy's lead through something of ours, and which have lost their backend.
import { describe, expect, it } from "vitest";
import { lookupNotices, sortConnections } from "../../src/agent/other-proxy.ts";
import {
  ADDRESS_ROLE_VALUES,
  FRONTEND,
  FRONTEND_KEY,
  ROW,
  writeFrontend,
  writeFrontendKey,
} from "../../src/datapath/layout.gen.ts";
import { addressBytes, parsePrefix } from "../../src/lib/address.ts";
import type { TranslatedConnection } from "../../src/libbpf/mod.ts";

const UDP = 17;
const TCP = 6;
const SERVICE = 7;
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** Maps that hold 10.96.0.10:53, node port 30053, and the addresses of a node and of a Service. */
function maps() {
  const frontends = new Map<string, Uint8Array>();
  for (const [address, port] of [
    ["10.96.0.10", 53],
    ["0.0.0.0", 30053],
  ] as const) {
    for (const proto of [TCP, UDP]) {
      const key = new Uint8Array(FRONTEND_KEY.size);
      writeFrontendKey(key, 0, { address, port, proto });
      const value = new Uint8Array(FRONTEND.size);
      writeFrontend(value, 0, { row: 3, generation: 5 });
      frontends.set(hex(key), value);
    }
  }
  const row = new Uint8Array(ROW.size);
  new DataView(row.buffer).setUint32(ROW.generation, 5, true);
  new DataView(row.buffer).setUint32(ROW.service, SERVICE, true);
  const role = (value: number): Uint8Array => Uint8Array.of(value, 0, 0, 0);
  const addresses = new Map([
    [hex(addressBytes("192.168.122.11")), role(ADDRESS_ROLE_VALUES.ADDRESS_NODE)],
    [hex(addressBytes("10.96.0.10")), role(ADDRESS_ROLE_VALUES.ADDRESS_REFUSE)],
  ]);
  const rows = new Map([[hex(new Uint8Array(Uint32Array.of(3).buffer)), row]]);
  const all = { frontends, rows, addresses } as Record<string, Map<string, Uint8Array>>;
  return (name: string) => ({ lookup: (key: Uint8Array) => all[name]?.get(hex(key)) });
}

const parts = {
  dataplane: { map: maps() },
  model: {
    serviceById: (id: number) => (id === SERVICE ? { backends: [{ address: "10.244.1.2", port: 5353 }] } : undefined),
  },
  serviceRanges: [parsePrefix("10.96.0.0/16")!],
} as unknown as Parameters<typeof sortConnections>[1];

const connection = (proto: number, to: string, port: number, backend = "10.244.1.2"): TranslatedConnection => ({
  proto,
  client: { address: "192.168.122.51", port: 40000 },
  destination: { address: to, port },
  backend: { address: backend, port: 5353 },
  handle: new Uint8Array(0),
});

describe("connections of another proxy", () => {
  it.each([
    ["to a cluster address", connection(UDP, "10.96.0.10", 53), "ours"],
    ["to a node port of this node's address", connection(UDP, "192.168.122.11", 30053), "ours"],
    ["to a port of the cluster address that is nobody's any more", connection(TCP, "10.96.0.10", 99), "ours"],
    ["to an address of the Service range that is nobody's any more", connection(TCP, "10.96.3.3", 80), "ours"],
    ["of a host port, which a CNI translates", connection(TCP, "192.168.122.11", 8080), "others"],
    ["to somebody else", connection(UDP, "203.0.113.9", 53), "others"],
    ["of UDP whose backend left", connection(UDP, "10.96.0.10", 53, "10.244.1.9"), "stale"],
    ["of UDP at a node port whose backend left", connection(UDP, "192.168.122.11", 30053, "10.244.1.9"), "stale"],
    ["of TCP whose backend left: it ends by itself", connection(TCP, "10.96.0.10", 53, "10.244.1.9"), "ours"],
  ])("%s", async (_, one, expected) => {
    const { ours, stale } = await sortConnections([one], parts);
    expect(ours.length > 0 ? "ours" : stale.length > 0 ? "stale" : "others").toBe(expected);
  });

  it("are looked up in portions, however long one takes: others have their turn in between", async () => {
    const slowly = (name: string) => {
      const until = performance.now() + 1;
      while (performance.now() < until);
      return parts.dataplane.map(name as never);
    };
    let turns = 0;
    let isOver = false;
    const turn = (): void => {
      turns++;
      if (!isOver) setImmediate(turn);
    };
    setImmediate(turn);
    const many = Array.from({ length: 60 }, () => connection(UDP, "10.96.0.10", 53));
    const { ours } = await sortConnections(many, { ...parts, dataplane: { map: slowly as never } });
    isOver = true;
    expect(ours).toHaveLength(60);
    expect(turns).toBeGreaterThan(5);
  });

  it("that nobody can be asked about are told of, while there may be any", () => {
    expect(lookupNotices({ rules: ["nftables"], connections: 3 }, true)).toEqual([]);
    expect(lookupNotices({ rules: [], connections: 0 }, false)).toEqual([]);
    const [notice] = lookupNotices({ rules: ["iptables"], connections: 3 }, false);
    expect(notice).toMatchObject({ reason: "other-connections-unknown", severity: "warning" });
    expect(notice?.message).toMatch(/Linux 5\.18.*\(now 3\)/);
  });
});
