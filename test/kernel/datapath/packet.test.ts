// The packet builder and parser that the datapath's tests trust: known packets by their bytes, and wrong ones called wrong.
import { describe, expect, it } from "vitest";
import { describePacket, packet, parsePacket } from "./packet.ts";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const A = "02:00:00:00:00:01";
const B = "02:00:00:00:00:02";

describe("the builder", () => {
  it("writes the header of RFC 1071's arithmetic", () => {
    // The example header that textbooks check sums with: its checksum is b861.
    const bytes = packet()
      .ip("192.168.0.1", "192.168.0.199", { id: 0, dontFragment: true })
      .udp(1, 2)
      .payload(87)
      .bytes();
    expect(hex(bytes.subarray(0, 20))).toBe("45000073000040004011b861c0a80001c0a800c7");
  });

  it("writes a TCP SYN with its checksum", () => {
    const bytes = packet().eth(A, B).ip("10.0.0.1", "10.0.0.2").tcp(1, 80, { seq: 1, window: 0x2000 }).bytes();
    expect(hex(bytes.subarray(0, 14))).toBe("0200000000020200000000010800");
    expect(parsePacket(bytes).problems).toEqual([]);
    // 0a00+0001+0a00+0002+0006+0014 + 0001+0050+0000+0001+0000+0000+5002+2000+0000 = 8471, inverted.
    expect(parsePacket(bytes).checksum).toBe(0x7b8e);
  });

  it("writes UDP without checksum as zero, and a sum of zero as all ones", () => {
    expect(
      parsePacket(packet().ip("10.0.0.1", "10.0.0.2").udp(1, 2, { checksum: false }).bytes(), { link: false }).checksum,
    ).toBe(0);
    // Ports, lengths and addresses add up to 2 * 9 + 17 + 0x1403 + x: the payload brings the sum to ffff.
    const rest = 0xffff - (0x0a00 + 1 + 0x0a00 + 2 + 17 + 10 + 1 + 2 + 10);
    const bytes = packet()
      .ip("10.0.0.1", "10.0.0.2")
      .udp(1, 2)
      .payload(Uint8Array.of(rest >> 8, rest & 255))
      .bytes();
    expect(parsePacket(bytes, { link: false })).toMatchObject({ checksum: 0xffff, problems: [] });
  });

  it.each([
    ["10.0.0.1", "10.0.0.2"],
    ["fd00::1", "fd00::2"],
  ])("reads back what it wrote, %s", (from, to) => {
    const start = packet().eth(A, B).ip(from, to, { ttl: 7 });
    for (const size of [0, 1, 3, 7, 100, 1400]) {
      expect(parsePacket(start.tcp(5, 6, { flags: "PA", seq: 9, ack: 8 }).payload(size).bytes())).toMatchObject({
        eth: { source: A, destination: B },
        source: from,
        destination: to,
        ttl: 7,
        sourcePort: 5,
        destinationPort: 6,
        flags: "PA",
        seq: 9,
        ack: 8,
        problems: [],
      });
      expect(parsePacket(start.udp(5, 6).payload(size).bytes())).toMatchObject({ protocol: 17, problems: [] });
      expect(parsePacket(start.udp(5, 6).payload(size).bytes()).payload).toHaveLength(size);
    }
    const inner = packet().ip(to, from).udp(6, 5).payload(40).bytes();
    const error = start
      .icmp(from.includes(":") ? 1 : 3, 3, 0)
      .payload(inner)
      .bytes();
    expect(parsePacket(error)).toMatchObject({ problems: [], quoted: { sourcePort: 6, destinationPort: 5 } });
  });

  it("writes extension headers, options and fragments that it can read", () => {
    const six = packet().ip("fd00::1", "fd00::2", { extension: true }).tcp(1, 2).bytes();
    expect(describePacket(six, { link: false })).toBe("[fd00::1]:1 > [fd00::2]:2 tcp S");
    const four = packet()
      .ip("10.0.0.1", "10.0.0.2", { options: Uint8Array.of(1, 1, 1, 0) })
      .tcp(1, 2)
      .bytes();
    expect(describePacket(four, { link: false })).toBe("10.0.0.1:1 > 10.0.0.2:2 tcp S");
  });
});

describe("the parser", () => {
  const good = packet().eth(A, B).ip("10.0.0.1", "10.0.0.2").tcp(1, 2).payload(10).bytes();
  it.each([
    ["the IP checksum", 24, "IP checksum"],
    ["a port", 35, "TCP checksum"],
    ["the payload", 60, "TCP checksum"],
  ])("sees a wrong bit in %s", (_, at, problem) => {
    const bad = good.slice();
    bad[at]! ^= 4;
    expect(parsePacket(bad).problems).toContain(problem);
  });

  it("sees a packet that is cut", () => {
    expect(parsePacket(good.subarray(0, -1)).problems).toEqual(["length: 49, header says 50"]);
  });

  it("refuses what is no IP packet", () => {
    expect(() =>
      parsePacket(
        packet().eth(A, B).arp({ operation: "request", senderMac: A, sender: "10.0.0.1", target: "10.0.0.2" }).bytes(),
      ),
    ).toThrow("no IP packet");
  });
});
