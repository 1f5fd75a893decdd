import { describe, expect, it } from "vitest";
import { announcementFrames, probeFrame, solicitedNodeGroup } from "../../src/l2/frames.ts";

const MAC = Uint8Array.of(2, 0, 0, 0, 0, 9);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

describe("announcementFrames", () => {
  it("sends IPv4 as a broadcast request and a broadcast reply that name the address as sender and target", () => {
    const [request, reply] = announcementFrames("192.168.122.111", MAC).map(hex);
    const ethernet = "ffffffffffff" + "020000000009" + "0806";
    expect(request).toBe(
      `${ethernet}0001080006040001${"020000000009c0a87a6f"}${"000000000000c0a87a6f"}`.padEnd(120, "0"),
    );
    expect(reply).toBe(
      `${ethernet}0001080006040002${"020000000009c0a87a6f"}${"020000000009c0a87a6f"}`.padEnd(120, "0"),
    );
  });
  it("sends IPv6 as an unsolicited advertisement to all nodes with a right checksum", () => {
    const [frame] = announcementFrames("fd00:192:168:122::111", MAC);
    const bytes = frame!;
    expect(hex(bytes.subarray(0, 14))).toBe("33330000000102000000000986dd");
    expect(hex(bytes.subarray(14 + 40, 14 + 44)).slice(0, 4)).toBe("8800");
    expect(bytes[14 + 7]).toBe(255);
    const message = bytes.subarray(54, 86);
    const words = [...bytes.subarray(22, 54), 0, 0, 0, 32, 0, 0, 0, 58, ...message];
    let sum = 0;
    for (let i = 0; i < words.length; i += 2) sum += (words[i]! << 8) | words[i + 1]!;
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
    expect(sum).toBe(0xffff);
    expect(message[4]! & 0x60).toBe(0x20);
    expect(hex(message.subarray(24))).toBe("0201020000000009");
  });
});

describe("probeFrame", () => {
  it("asks for an IPv4 address as a broadcast that claims no address", () => {
    expect(hex(probeFrame("192.168.122.111", MAC))).toBe(
      `${"ffffffffffff0200000000090806"}0001080006040001${"02000000000900000000"}${"000000000000c0a87a6f"}`.padEnd(
        120,
        "0",
      ),
    );
  });
  it("asks for an IPv6 address from none, at its solicited-node group, without a MAC and with a right checksum", () => {
    const bytes = probeFrame("fd00:192:168:122::111", MAC);
    expect(hex(bytes.subarray(0, 14))).toBe("3333ff00011102000000000986dd");
    expect(hex(bytes.subarray(14, 22))).toBe("60000000" + "0018" + "3aff");
    expect(hex(bytes.subarray(22, 54))).toBe(`${"00".repeat(16)}ff0200000000000000000001ff000111`);
    const message = bytes.subarray(54);
    expect(message).toHaveLength(24);
    expect(hex(message.subarray(0, 2))).toBe("8700");
    expect(hex(message.subarray(4))).toBe("00000000fd000192016801220000000000000111");
    const words = [...bytes.subarray(22, 54), 0, 0, 0, 24, 0, 0, 0, 58, ...message];
    let sum = 0;
    for (let i = 0; i < words.length; i += 2) sum += (words[i]! << 8) | words[i + 1]!;
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
    expect(sum).toBe(0xffff);
  });
});

describe("solicitedNodeGroup", () => {
  it.each([
    ["fd00:192:168:122::111", "ff02::1:ff00:111"],
    ["fd00::12:3456", "ff02::1:ff12:3456"],
  ])("of %s is %s", (address, group) => {
    expect(solicitedNodeGroup(address)).toBe(group);
  });
});
