// What is read of a row that the kernel was writing at that moment, and rows of a kernel that refuses.
import { describe, expect, test } from "vitest";
import { createAnnouncedRows } from "../../src/datapath/announced-rows.ts";
import { ANNOUNCED_KEY, ANNOUNCEMENT, writeAnnouncedKey, writeAnnouncement } from "../../src/datapath/layout.gen.ts";
import { KernelError } from "../../src/lib/errors.ts";

const MAC = 0x0b_00_00_00_66_02n;
const AT = 0x1234_5678_9abcn;
const sealed = (mac: bigint, at: bigint): bigint => mac | (((at >> 20n) & 0xffn) << 56n);
const NOTHING = { renewed: 10n, stale: 20n, silent: 30n, conflict: 0n, prober: 0n, probed: 0n };

function rowsOf(value: Parameters<typeof writeAnnouncement>[2]) {
  const key = new Uint8Array(ANNOUNCED_KEY.size);
  writeAnnouncedKey(key, 0, { address: "192.0.2.1", ifindex: 2 });
  const bytes = new Uint8Array(ANNOUNCEMENT.size);
  writeAnnouncement(bytes, 0, value);
  const map = { maxEntries: 1, entries: () => [[key, bytes]] };
  return createAnnouncedRows({ map: () => map, program: () => map } as never).read();
}

describe("a row that is read", () => {
  test("has what was heard, by MAC and time", () => {
    const claimant = [sealed(MAC, AT), sealed(MAC + 1n, 1n)];
    expect(rowsOf({ ...NOTHING, claimant, claimed: [AT, 1n], prober: sealed(MAC, AT), probed: AT })[0]?.heard).toEqual([
      { mac: "02:66:00:00:00:0b", kind: "claim", at: AT },
      { mac: "03:66:00:00:00:0b", kind: "claim", at: 1n },
      { mac: "02:66:00:00:00:0b", kind: "probe", at: AT },
    ]);
  });

  test("does not believe a MAC beside the time of another one", () => {
    const later = AT + (5n << 20n);
    const torn = { claimant: [sealed(MAC, AT), 0n], claimed: [later, 0n], prober: sealed(MAC, later), probed: AT };
    expect(rowsOf({ ...NOTHING, ...torn })[0]?.heard).toEqual([]);
  });

  test("was given up only when that was after its last renewal", () => {
    const quiet = { claimant: [0n, 0n], claimed: [0n, 0n] };
    expect(rowsOf({ ...NOTHING, ...quiet, conflict: 9n })[0]?.conflict).toBe(0n);
    expect(rowsOf({ ...NOTHING, ...quiet, conflict: 11n })[0]?.conflict).toBe(11n);
  });
});

test("what the kernel refuses is the answer for each place, and no exception", () => {
  const refuse = (): never => {
    throw new KernelError("run", "tc_renew", 12, "ENOMEM");
  };
  const rows = createAnnouncedRows({
    map: () => ({ maxEntries: 1, update: refuse }),
    program: () => ({ testRun: refuse }),
  } as never);
  const places = Array.from({ length: 33 }, (_, i) => ({ address: `192.0.2.${i}`, ifindex: 2 }));
  const refusals = rows.put(places, { renewed: 1n, stale: 2n, silent: 3n });
  expect(refusals).toHaveLength(33);
  for (const one of refusals) expect(one).toContain("tc_renew");
});
