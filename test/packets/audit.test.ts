// The judge of packets is judged by packets whose checksums are known, and by every change that would make one wrong.
import { describe, expect, it } from "vitest";
import { FAMILIES, type Family, frame, send, TRANSPORTS, type Transport, V4 } from "../kernel/datapath/conversation.ts";
import { concat, packet, withPartialChecksum } from "../kernel/datapath/packet.ts";
import { audit, crc32c, dissect, isPartial, repair, residues } from "./audit.ts";

const ALL: readonly (readonly [string, Transport, Family])[] = FAMILIES.flatMap((family) =>
  [...TRANSPORTS, "SCTP" as const]
    .filter((transport) => family === V4 || transport !== "UDP without checksum")
    .map((transport) => [family.name, transport, family] as const),
);

const from = (family: Family) => ({ address: family.client, port: 40000 });
const to = (family: Family) => ({ address: family.vip, port: 80 });
const built = (family: Family, transport: Transport, payload = 33): Uint8Array =>
  send(frame(), transport, from(family), to(family), { payload, flags: "PA" });
/** As a program would translate it: to a backend's address and port. */
const translated = (family: Family, transport: Transport): Uint8Array =>
  send(frame(), transport, from(family), { address: family.here, port: 8080 }, { payload: 33, flags: "PA" });

describe("the judge of packets", () => {
  it("knows the sums of the standards", () => {
    // RFC 3720 appendix B.4 and the check value of CRC-32C.
    expect(crc32c(new Uint8Array(32), 0, 32)).toBe(0x8a9136aa);
    expect(crc32c(new TextEncoder().encode("123456789"), 0, 9)).toBe(0xe3069283);
    // The header that textbooks check sums with.
    const header = Uint8Array.from(Buffer.from("45000073000040004011b861c0a80001c0a800c7", "hex"));
    expect(residues(header, dissect(header, 0)!)).toEqual({ header: 0, transport: -1 });
  });

  it.each(ALL)(
    "%s %s: finds nothing wrong with what is right, and right what was translated",
    (_, transport, family) => {
      const sent = built(family, transport);
      const layers = dissect(sent, 14)!;
      const { header, transport: sum } = residues(sent, layers);
      expect(header).toBe(family === V4 ? 0 : -1);
      expect(sum).toBe(transport === "UDP without checksum" ? -1 : 0);
      expect(audit(sent, translated(family, transport))).toEqual([]);
    },
  );

  it.each(ALL)("%s %s: sees each wrong bit of a translated packet", (_, transport, family) => {
    const sent = built(family, transport);
    const good = translated(family, transport);
    const seen = new Set<number>();
    for (let at = 14; at < good.length; at++) {
      const bad = good.slice();
      bad[at]! ^= 0x10;
      if (audit(sent, bad).length > 0) seen.add(at);
    }
    const { l4 } = dissect(good, 14)!;
    const blind = Array.from({ length: good.length - 14 }, (_, i) => i + 14).filter((at) => !seen.has(at));
    // IPv6 has no checksum over class, label and hop limit; SCTP's covers no address.
    const isUncovered = (at: number): boolean =>
      transport === "UDP without checksum"
        ? at >= l4
        : family !== V4 && ((at > 13 && at < 18) || at === 21 || (transport === "SCTP" && at > 21 && at < l4));
    expect(blind.filter((at) => !isUncovered(at))).toEqual([]);
  });

  it.each(ALL)("%s %s: takes a wrong one that stays as wrong, and none that turns right", (_, transport, family) => {
    if (transport === "UDP without checksum") return;
    const spoiled = (bytes: Uint8Array): Uint8Array => {
      const bad = bytes.slice();
      bad[bad.length - 1]! ^= 1;
      return bad;
    };
    const sent = spoiled(built(family, transport));
    expect(audit(sent, spoiled(translated(family, transport)))).toEqual([]);
    expect(audit(sent, translated(family, transport))).toHaveLength(1);
  });

  it.each(ALL)("%s %s: wants replies right, whatever they answer", (_, transport, family) => {
    const sent = built(family, transport);
    sent[sent.length - 1]! ^= 1;
    const reply = packet()
      .eth("02:00:00:00:00:01", "02:00:00:00:00:02")
      .ip(family.vip, family.client)
      .icmp(family === V4 ? 3 : 1, 4)
      .payload(sent.slice(14))
      .bytes();
    expect(audit(sent, reply)).toEqual([]);
    reply[reply.length - 3]! ^= 1;
    expect(audit(sent, reply)).toHaveLength(1);
  });

  it("reckons with what a device will complete", () => {
    for (const family of FAMILIES) {
      for (const transport of ["TCP", "UDP"] as const) {
        const sent = withPartialChecksum(built(family, transport));
        expect(isPartial(sent, dissect(sent, 14)!)).toBe(true);
        const whole = built(family, transport).slice(14);
        const about = frame()
          .ip(family.vip, family.client)
          .icmp(family === V4 ? 3 : 1, 3);
        const quotes = about.payload(whole).bytes();
        // The checksum is reckoned over the completed packet, the bytes are still the others.
        const made = concat(quotes.slice(0, quotes.length - whole.length), sent.slice(14));
        expect(audit(sent, made)).toEqual([]);
        expect(audit(sent, about.payload(sent.slice(14)).bytes())).toHaveLength(1);
      }
    }
  });

  it("repairs what it calls wrong", () => {
    for (const [, transport, family] of ALL) {
      const bad = built(family, transport);
      bad[bad.length - 1]! ^= 1;
      repair(bad, 14);
      expect(residues(bad, dissect(bad, 14)!).transport).toBe(0);
    }
  });
});
