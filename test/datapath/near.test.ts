// The filter of what may be ours: its arithmetic, by vectors that a C program reckoned with the formulas of bpf/near.h, and that no
// bit is missing whatever comes and goes while it is rebuilt.
import { beforeEach, describe, expect, it } from "vitest";
import { sealFlow } from "../../src/datapath/flow-check.ts";
import {
  BACKEND,
  FLOW,
  FLOW_PATH_VALUES,
  HOOK_VALUES,
  NEAR_FLAG_VALUES,
  TUPLE,
  writeFlow,
  writeFrontendKey,
  writeTuple,
} from "../../src/datapath/layout.gen.ts";
import { backendOfFlow, createNearFilter, metIndex, type NearFilter, nearSum } from "../../src/datapath/near.ts";
import { addressBytes } from "../../src/lib/address.ts";
import { NO_HOP } from "./no-hop.ts";

const { NEAR_FRONTEND, NEAR_NODE, NEAR_BACKEND } = NEAR_FLAG_VALUES;
/** NEAR_ADDRESS_WORDS and NEAR_PORT_WORDS of bpf/maps.h. */
const ADDRESS_WORDS = 32_768;
const PORT_WORDS = 1024;
const PROTO = { TCP: 6, UDP: 17 } as const;
type Protocol = keyof typeof PROTO;

const VECTORS: readonly (readonly [string, number, number, number, number, Protocol, number])[] = [
  ["10.96.0.1", 0x1aff3cf2, 9340, 52, 80, "TCP", 267297],
  ["10.96.0.2", 0x42d42821, 4950, 28, 443, "UDP", 475320],
  ["192.168.122.11", 0xb09cd2c8, 18398, 32, 65535, "TCP", 418958],
  ["255.255.255.255", 0xc3b56694, 7010, 56, 1, "UDP", 210750],
  ["1.2.3.4", 0x0efd8b7f, 12438, 0, 53, "TCP", 411770],
  ["fd00:10:96::1", 0x9a06863f, 25384, 16, 80, "UDP", 520163],
  ["2001:db8:1:2:3:4:5:6", 0x95774534, 21713, 20, 443, "TCP", 328616],
  ["ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 0xf155226c, 32147, 12, 65535, "UDP", 424295],
  ["::1", 0x27d4eb2f, 5917, 44, 1, "TCP", 345337],
];

const viewOf = (address: string): DataView => new DataView(addressBytes(address).buffer);
/** A struct backend at port 8080. */
const backendView = (address: string): DataView => {
  const bytes = new Uint8Array(BACKEND.size);
  bytes.set(addressBytes(address), BACKEND.address);
  const view = new DataView(bytes.buffer);
  view.setUint16(BACKEND.port, 8080);
  return view;
};
const key = (address: string, port: number, protocol: Protocol): DataView => {
  const bytes = new Uint8Array(24);
  writeFrontendKey(bytes, 0, { address, port, proto: PROTO[protocol] });
  return new DataView(bytes.buffer);
};
const roles = (node: boolean, refuse: boolean) => ({ node, refuse });

/** Both entries of a flow. */
function entries(
  path: number,
  client: string,
  frontend: readonly [string, number],
  backend: readonly [string, number],
  protocol: Protocol = "TCP",
) {
  const proto = PROTO[protocol];
  const tuple = (source: readonly [string, number], destination: readonly [string, number]) => ({
    source: source[0],
    sourcePort: source[1],
    destination: destination[0],
    destinationPort: destination[1],
    proto,
    hook: 0,
  });
  const from = [client, 40_000] as const;
  return [false, true].map((answer) => {
    const keyBytes = new Uint8Array(TUPLE.size);
    const flowBytes = new Uint8Array(FLOW.size);
    writeTuple(keyBytes, 0, answer ? tuple(backend, from) : tuple(from, frontend));
    writeFlow(flowBytes, 0, {
      write: answer ? tuple(frontend, from) : tuple(from, backend),
      backend: 1,
      generation: 1,
      service: 1,
      check: 0,
      seen: 0,
      state: 0,
      number: 0,
      path,
      answer: answer ? 1 : 0,
      hop: NO_HOP,
      hopCheck: 0,
      policy: 0,
    });
    const view = { key: new DataView(keyBytes.buffer), flow: new DataView(flowBytes.buffer) };
    sealFlow(view.key, 0, view.flow, 0);
    return view;
  });
}

describe("the arithmetic", () => {
  it.each(VECTORS)("%s", (address, sum, word, shift, port, protocol, met) => {
    expect(nearSum(viewOf(address), 0)).toBe(sum);
    const raw = ((port & 0xff) << 8) | (port >> 8);
    expect(metIndex(sum, raw, PROTO[protocol], HOOK_VALUES.HOOK_UPLINK_EGRESS)).toBe(met);
    const words = new BigUint64Array(ADDRESS_WORDS + 2 * PORT_WORDS);
    createNearFilter(words.buffer).comes.frontend(key(address, port, protocol), 0);
    expect([...words.entries()].filter(([, value]) => value !== 0n)).toEqual([[word, 1n << BigInt(shift)]]);
  });

  it.each([
    ["0.0.0.0", 30_080, "TCP", ADDRESS_WORDS + 470, 0],
    ["::", 30_081, "TCP", ADDRESS_WORDS + 470, 1],
    ["0.0.0.0", 63, "UDP", ADDRESS_WORDS + PORT_WORDS, 63],
    ["::", 65_535, "UDP", ADDRESS_WORDS + 2 * PORT_WORDS - 1, 63],
  ] as const)("a port of the node: %s, %d, %s", (address, port, protocol, word, bit) => {
    const words = new BigUint64Array(ADDRESS_WORDS + 2 * PORT_WORDS);
    createNearFilter(words.buffer).comes.frontend(key(address, port, protocol), 0);
    expect([...words.entries()].filter(([, value]) => value !== 0n)).toEqual([[word, 1n << BigInt(bit)]]);
  });

  it("takes a flow's backend from either entry, with the same mark", () => {
    const [request, answers] = entries(FLOW_PATH_VALUES.PATH_POD, "10.244.1.9", ["10.96.0.1", 80], ["1.2.3.4", 53]);
    const expected = { sum: 0xf275307f, met: 191126 };
    expect(backendOfFlow(request!.key, 0, request!.flow, 0)).toEqual(expected);
    expect(backendOfFlow(answers!.key, 0, answers!.flow, 0)).toEqual(expected);
  });
});

describe("the filter", () => {
  let words: BigUint64Array;
  let near: NearFilter;
  beforeEach(() => {
    words = new BigUint64Array(ADDRESS_WORDS + 2 * PORT_WORDS);
    near = createNearFilter(words.buffer as ArrayBuffer);
  });

  const flagsOf = (address: string): number => {
    const sum = nearSum(viewOf(address), 0);
    const flags = (of: number): number => {
      const bucket = (Math.imul(of ^ (of >>> 15), 0x2c1b3c6d) >>> 0) >>> 13;
      return Number((words[bucket >> 4]! >> BigInt((bucket & 15) * 4)) & 15n);
    };
    // A backend's bucket is of its port too, 8080 here.
    return (flags(sum) & ~NEAR_BACKEND) | (flags((sum + Math.imul(0x901f, 0x165667b1)) >>> 0) & NEAR_BACKEND);
  };
  const hasPort = (port: number, protocol: Protocol): boolean =>
    ((words[ADDRESS_WORDS + (protocol === "TCP" ? 0 : PORT_WORDS) + (port >> 6)]! >> BigInt(port & 63)) & 1n) === 1n;
  /** What a program looks closer at. */
  const isNear = (address: string, port: number, protocol: Protocol = "TCP"): boolean => {
    const flags = flagsOf(address);
    return (flags & NEAR_FRONTEND) !== 0 || ((flags & NEAR_NODE) !== 0 && hasPort(port, protocol));
  };
  const rebuild = (tell: (needs: NearFilter["comes"]) => void): void => {
    const one = near.rebuild();
    tell(one.needs);
    one.finish();
  };

  it("has a flag for each role of an address", () => {
    near.comes.address(viewOf("10.0.0.1"), 0, roles(true, false));
    near.comes.address(viewOf("10.0.0.2"), 0, roles(false, true));
    near.comes.address(viewOf("10.0.0.3"), 0, roles(false, false));
    near.comes.backend(backendView("10.0.0.4"), 0);
    near.comes.backend(backendView("10.0.0.1"), 0);
    expect(["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"].map(flagsOf)).toEqual([
      NEAR_NODE | NEAR_BACKEND,
      NEAR_FRONTEND,
      0,
      NEAR_BACKEND,
    ]);
  });

  it("keeps what goes until a rebuild that was not told of it", () => {
    near.comes.frontend(key("10.96.0.1", 80, "TCP"), 0);
    near.comes.frontend(key("10.96.0.2", 80, "TCP"), 0);
    rebuild((needs) => needs.frontend(key("10.96.0.1", 80, "TCP"), 0));
    expect(near.isStale()).toBe(false);
    near.comes.frontend(key("10.96.0.2", 80, "TCP"), 0);
    near.goes.frontend(key("10.96.0.2", 80, "TCP"), 0);
    expect(near.isStale()).toBe(true);
    expect(flagsOf("10.96.0.2")).toBe(NEAR_FRONTEND);
    rebuild((needs) => needs.frontend(key("10.96.0.1", 80, "TCP"), 0));
    expect([flagsOf("10.96.0.1"), flagsOf("10.96.0.2")]).toEqual([NEAR_FRONTEND, 0]);
    expect(near.isStale()).toBe(false);
  });

  it("nobody knows of an agent before whether it left bits for nothing", () => {
    expect(near.isStale()).toBe(true);
  });

  it("keeps what comes or goes while it is rebuilt, and then there is something to clear again", () => {
    near.comes.frontend(key("10.96.0.1", 80, "TCP"), 0);
    const one = near.rebuild();
    near.comes.frontend(key("10.96.0.2", 80, "TCP"), 0);
    near.comes.backend(backendView("10.0.0.4"), 0);
    near.goes.frontend(key("10.96.0.1", 80, "TCP"), 0);
    one.finish();
    expect(["10.96.0.1", "10.96.0.2", "10.0.0.4"].map(flagsOf)).toEqual([NEAR_FRONTEND, NEAR_FRONTEND, NEAR_BACKEND]);
    expect(near.isStale()).toBe(true);
  });

  it("a rebuild whose place another one took changes nothing", () => {
    near.comes.frontend(key("10.96.0.1", 80, "TCP"), 0);
    const first = near.rebuild();
    const second = near.rebuild();
    second.needs.frontend(key("10.96.0.1", 80, "TCP"), 0);
    first.finish();
    expect(flagsOf("10.96.0.1")).toBe(NEAR_FRONTEND);
    second.finish();
    expect(flagsOf("10.96.0.1")).toBe(NEAR_FRONTEND);
  });

  const { PATH_OUTSIDE_REMOTE, PATH_PORT_CHANGE } = FLOW_PATH_VALUES;

  it.each([0, 1])("a flow keeps its frontend and its backend near when both are gone (entry %d)", (which) => {
    const one = entries(PATH_OUTSIDE_REMOTE, "203.0.113.7", ["10.96.0.1", 80], ["10.0.0.4", 8080])[which]!;
    rebuild((needs) => needs.flow(one.key, 0, one.flow, 0, backendOfFlow(one.key, 0, one.flow, 0).sum));
    expect(isNear("10.96.0.1", 80)).toBe(true);
    expect(flagsOf("10.0.0.4")).toBe(NEAR_BACKEND);
  });

  it.each([0, 1])("a flow of a node port keeps the port near, and no other port of the node (entry %d)", (which) => {
    const one = entries(PATH_OUTSIDE_REMOTE, "203.0.113.7", ["192.168.122.11", 30_080], ["10.0.0.4", 8080], "UDP")[
      which
    ]!;
    rebuild((needs) => {
      needs.address(viewOf("192.168.122.11"), 0, roles(true, false));
      needs.flow(one.key, 0, one.flow, 0, backendOfFlow(one.key, 0, one.flow, 0).sum);
    });
    expect(isNear("192.168.122.11", 30_080, "UDP")).toBe(true);
    expect(isNear("192.168.122.11", 30_081, "UDP")).toBe(false);
    expect(isNear("192.168.122.11", 30_080, "TCP")).toBe(false);
  });

  it("a flow of a node port whose address left the node is still near", () => {
    const [one] = entries(PATH_OUTSIDE_REMOTE, "203.0.113.7", ["192.168.122.11", 30_080], ["10.0.0.4", 8080]);
    rebuild((needs) => needs.flow(one!.key, 0, one!.flow, 0, backendOfFlow(one!.key, 0, one!.flow, 0).sum));
    expect(isNear("192.168.122.11", 30_080)).toBe(true);
  });

  it("a connection of the node itself makes a backend near, and no frontend of it", () => {
    const [one] = entries(PATH_PORT_CHANGE, "192.168.122.11", ["10.0.0.4", 8080], ["10.0.0.4", 8080]);
    rebuild((needs) => needs.flow(one!.key, 0, one!.flow, 0, backendOfFlow(one!.key, 0, one!.flow, 0).sum));
    expect(flagsOf("10.0.0.4")).toBe(NEAR_BACKEND);
  });

  it("whatever comes and goes in whatever order, nothing that can be found is missing", () => {
    let seed = 4711;
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return (seed >>> 8) % below;
    };
    const there = new Set<number>();
    const addressOf = (index: number): string => `10.96.${index >> 8}.${index & 255}`;
    const keyOf = (index: number): DataView => key(addressOf(index), 80, "TCP");
    let open: ReturnType<NearFilter["rebuild"]> | undefined;
    let unread: number[] = [];
    for (let step = 0; step < 20_000; step++) {
      const index = random(2000);
      const what = random(10);
      if (what < 4) {
        near.comes.frontend(keyOf(index), 0);
        there.add(index);
      } else if (what < 8) {
        if (there.delete(index)) near.goes.frontend(keyOf(index), 0);
      } else if (open === undefined) {
        if (random(20) > 0) continue;
        open = near.rebuild();
        unread = Array.from({ length: 2000 }, (_, one) => one);
      } else if (unread.length > 0) {
        // A slice of what is there at this moment.
        for (const one of unread.splice(0, 200)) if (there.has(one)) open.needs.frontend(keyOf(one), 0);
      } else {
        open.finish();
        open = undefined;
        const missing = [...there].filter((one) => (flagsOf(addressOf(one)) & NEAR_FRONTEND) === 0);
        expect(missing).toEqual([]);
      }
    }
    rebuild((needs) => {
      for (const one of there) needs.frontend(keyOf(one), 0);
    });
    const far = Array.from({ length: 2000 }, (_, one) => one).filter((one) => !there.has(one));
    expect(far.filter((one) => flagsOf(addressOf(one)) === 0).length).toBeGreaterThan(far.length * 0.95);
  });
});
