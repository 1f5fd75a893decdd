import ipaddr from "ipaddr.js";
import { describe, expect, it } from "vitest";
import {
  addressBytes,
  canonicalAddress,
  parseRange,
  rangeContains,
  readAddress,
  socketAddress,
  unusableReason,
} from "../../src/lib/address.ts";

/** A small generator (mulberry32); MILLRACE_SEED repeats a run. */
function randomBytes(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) & 0xff;
  };
}

describe("canonicalAddress", () => {
  it.each([
    ["10.0.0.1", "10.0.0.1"],
    ["fd00:0:0:0::1", "fd00::1"],
    ["FD00::A", "fd00::a"],
    ["::", "::"],
    ["010.0.0.1", undefined],
    ["10.0.0.256", undefined],
    ["10.0.0", undefined],
    ["fe80::1%eth0", undefined],
    ["::ffff:10.0.0.1", undefined],
    ["../../x", undefined],
    ["", undefined],
  ])("of %j is %j", (text, address) => {
    expect(canonicalAddress(text)).toBe(address);
  });
});

it("socketAddress takes IPv4 out of IPv6's notation", () => {
  expect(["::ffff:10.0.0.1", "10.0.0.1", "fd00::1", "::1"].map(socketAddress)).toEqual([
    "10.0.0.1",
    "10.0.0.1",
    "fd00::1",
    "::1",
  ]);
});

describe("addressBytes and readAddress", () => {
  it("hold IPv4 as IPv4-mapped, and keep the unspecified addresses apart", () => {
    expect([...addressBytes("10.1.2.3")]).toEqual([...Array(10).fill(0), 0xff, 0xff, 10, 1, 2, 3]);
    expect(readAddress(addressBytes("0.0.0.0"))).toBe("0.0.0.0");
    expect(readAddress(addressBytes("::"))).toBe("::");
  });
  it("agree with ipaddr.js on addresses with runs of zeros anywhere", () => {
    const seed = Number(process.env["MILLRACE_SEED"] ?? 20_261);
    const next = randomBytes(seed);
    for (let round = 0; round < 20_000; round++) {
      const mask = next();
      const bytes = Uint8Array.from({ length: 16 }, (_, i) => ((mask >> (i >> 1)) & 1 ? next() : 0));
      const expected = (ipaddr.fromByteArray([...bytes]) as ipaddr.IPv6).toRFC5952String();
      const text = readAddress(bytes);
      if (text !== expected || Buffer.compare(addressBytes(text), bytes) !== 0) {
        throw new Error(`seed ${seed}: ${Buffer.from(bytes).toString("hex")} reads as ${text}, expected ${expected}`);
      }
    }
  });
  it("write over what was there", () => {
    const target = new Uint8Array(32).fill(0xaa);
    target.set(addressBytes("fd00::1"), 8);
    expect(readAddress(target, 8)).toBe("fd00::1");
    expect(target[7]).toBe(0xaa);
    expect(target[24]).toBe(0xaa);
  });
});

describe("parseRange", () => {
  it.each([
    ["192.168.122.110-192.168.122.119", "192.168.122.119", true],
    ["192.168.122.110-192.168.122.119", "192.168.122.120", false],
    ["10.96.0.0/12", "10.111.255.255", true],
    ["10.96.0.0/12", "10.112.0.0", false],
    ["fd00:10:96::/112", "fd00:10:96::ffff", true],
    ["fd00:10:96::/112", "10.0.0.1", false],
  ])("%s and %s: %s", (text, address, inside) => {
    expect(rangeContains(parseRange(text)!, address)).toBe(inside);
  });
  it.each(["10.0.0.9-10.0.0.1", "10.0.0.1-fd00::1", "10.0.0.0/33", "10.0.0.0/x", "10.0.0.1", ""])(
    "%j is none",
    (text) => {
      expect(parseRange(text)).toBeUndefined();
    },
  );
});

describe("unusableReason", () => {
  it.each([
    ["127.0.0.1", "loopback"],
    ["::1", "loopback"],
    ["169.254.1.1", "link-local"],
    ["fe80::1", "link-local"],
    ["224.0.0.1", "multicast"],
    ["ff02::1", "multicast"],
    ["255.255.255.255", "multicast"],
    ["0.0.0.0", "unspecified"],
    ["::", "unspecified"],
    ["10.244.1.2", undefined],
    ["fd00::1", undefined],
  ])("of %s is %s", (address, reason) => {
    expect(unusableReason(address)).toBe(reason);
  });
});
