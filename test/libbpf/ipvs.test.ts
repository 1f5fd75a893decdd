// Questions about virtual servers and sets, and their answers, of a kernel that the test makes up. A real one is met in
// test/kernel/agent/kube-proxy-cleanup.test.ts.
import os from "node:os";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { attribute } from "../../src/libbpf/netlink.ts";

const FAMILY = 29;
const asked: { type: number; payload: Uint8Array }[] = [];
let answers: DataView[] = [];
let errno = 0;

vi.mock("../../src/libbpf/network.ts", async (original) => ({
  ...(await original<typeof import("../../src/libbpf/network.ts")>()),
  genericFamily: () => FAMILY,
}));
vi.mock("../../src/libbpf/native.ts", () => ({ lastErrno: () => 0, native: () => ({ strerror: () => "an error" }) }));
vi.mock("../../src/libbpf/netlink.ts", async (original) => ({
  ...(await original<typeof import("../../src/libbpf/netlink.ts")>()),
  askNetlink: (_protocol: number, type: number, payload: Uint8Array) => {
    asked.push({ type, payload });
    return { errno, messages: [] };
  },
  NetlinkDump: class {
    async ask<T>(question: { type: number; payload: Uint8Array }, read: (payload: DataView) => T | undefined) {
      asked.push(question);
      return answers.map(read).filter((one) => one !== undefined);
    }
    [Symbol.dispose](): void {}
  },
}));

const { destroySet, removeVirtualServer, virtualServers } = await import("../../src/libbpf/ipvs.ts");

/** An answer of struct genlmsghdr and the attribute IPVS_CMD_ATTR_SERVICE. */
function answer(...attributes: readonly Uint8Array[]): DataView {
  const bytes = Uint8Array.from([1, 1, 0, 0, ...attribute(1, Buffer.concat(attributes))]);
  return new DataView(bytes.buffer);
}
/** Bytes of the kernel's own order: little-endian on every architecture of ours. */
const u16 = (value: number): Uint8Array => Uint8Array.of(value & 255, value >> 8);
const be16 = (value: number): Uint8Array => Uint8Array.of(value >> 8, value & 255);
const padded = (...bytes: readonly number[]): Uint8Array => Uint8Array.from({ length: 16 }, (_, i) => bytes[i] ?? 0);
const SCHEDULER = attribute(6, Buffer.from("rr\0"));

const IPV4 = [
  ...[attribute(1, u16(2)), attribute(2, u16(6))],
  ...[attribute(3, padded(10, 96, 0, 10)), attribute(4, be16(443))],
];
const IPV6 = [
  ...[attribute(1, u16(10)), attribute(2, u16(17))],
  ...[attribute(3, padded(0xfd, 0, 0, 0x10, 0, 0x96)), attribute(4, be16(53))],
];
const MARKED = [attribute(1, u16(2)), attribute(5, Uint8Array.of(9, 0, 0, 0))];

beforeEach(() => {
  asked.length = 0;
  errno = 0;
});

describe("virtual servers", () => {
  it("are listed with address, protocol and port; those of firewall marks are not", async () => {
    answers = [answer(...IPV4, SCHEDULER), answer(...MARKED, SCHEDULER), answer(...IPV6, SCHEDULER)];
    expect(await virtualServers()).toMatchObject([
      { proto: 6, address: "10.96.0.10", port: 443 },
      { proto: 17, address: "fd00:10:96::", port: 53 },
    ]);
    // IPVS_CMD_GET_SERVICE.
    expect(asked).toMatchObject([{ type: FAMILY, payload: Uint8Array.of(4, 1, 0, 0) }]);
  });

  it("are removed by what the kernel knows them by, and one that is gone is no error", async () => {
    answers = [answer(...IPV4, SCHEDULER)];
    const [server] = await virtualServers();
    asked.length = 0;
    expect(removeVirtualServer(server!)).toBe(true);
    // IPVS_CMD_DEL_SERVICE.
    const payload = Uint8Array.from([3, 1, 0, 0, ...attribute(1, Buffer.concat(IPV4))]);
    expect(asked).toEqual([{ type: FAMILY, payload }]);
    // ESRCH.
    errno = 3;
    expect(removeVirtualServer(server!)).toBe(false);
    errno = 1;
    expect(() => removeVirtualServer(server!)).toThrow("the virtual server 10.96.0.10:443");
  });
});

it("a set that something names is busy, by an errno as of anything else", () => {
  // IPSET_ERR_BUSY.
  errno = 4100;
  expect(destroySet("KUBE-LOOP-BACK")).toBe(os.constants.errno.EBUSY);
  errno = os.constants.errno.ENOENT;
  expect(destroySet("KUBE-LOOP-BACK")).toBe(os.constants.errno.ENOENT);
});
