// What the flow tables' keeper tells from numbers alone: how fast jiffies count, when a table is full, when to sweep again.
import { describe, expect, it } from "vitest";
import type { Dataplane } from "../../src/datapath/dataplane.ts";
import { fullTables, hzOf, nextSweepMs, readHz } from "../../src/datapath/flow-table.ts";

const RATES = [100, 250, 300, 1000];
const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** All 64 bits of jiffies so long after boot; they start `late` seconds after the clock. */
const jiffiesAt = (seconds: number, hz: number, late = 0): bigint =>
  2n ** 32n - BigInt(300 * hz) + BigInt(Math.floor((seconds - late) * hz));
const ns = (seconds: number): bigint => BigInt(Math.round(seconds * 1e9));

describe("hzOf", () => {
  const uptimes = [
    ["10 s", 10],
    ["4.5 minutes", 4.5 * MINUTE],
    ["5.5 minutes", 5.5 * MINUTE],
    ["8 h", 8 * HOUR],
    // The low 32 bits of 1000 Hz wrapped once more after 49.7 days.
    ["60 days", 60 * DAY],
    ["3 years", 3 * 365 * DAY],
  ] as const;
  const cases = uptimes.flatMap(([name, seconds]) => RATES.map((hz) => [name, hz, seconds] as const));

  it.each(cases)("%s after boot, %d Hz", (_, hz, seconds) => {
    for (const late of [0, 0.004, 0.25, 1]) {
      expect(hzOf(jiffiesAt(seconds, hz, late), ns(seconds)), `${late} s late`).toBe(hz);
    }
  });

  it.each(RATES)("5 minutes after boot, %d Hz: the number is the same for every rate, and none is named", (hz) => {
    expect(jiffiesAt(300, hz)).toBe(2n ** 32n);
    for (const seconds of [295, 300, 300.25, 305])
      expect(hzOf(jiffiesAt(seconds, hz, 0.25), ns(seconds))).toBeUndefined();
  });
});

/** A dataplane whose clocks are read at these moments, one after the other. */
function clocksAt(hz: number, moments: readonly number[]): { readonly dataplane: Dataplane; readings(): number } {
  let readings = 0;
  const testRun = ({ data }: { data: Uint8Array }) => {
    const seconds = moments[readings++];
    if (seconds === undefined) throw new Error("one reading too many");
    const view = new DataView(new ArrayBuffer(data.length));
    view.setBigUint64(0, jiffiesAt(seconds, hz, 0.25), true);
    view.setBigUint64(8, ns(seconds), true);
    return { data: new Uint8Array(view.buffer) };
  };
  return { dataplane: { program: () => ({ testRun }) } as unknown as Dataplane, readings: () => readings };
}

describe("readHz", () => {
  it.each(RATES)("%d Hz: takes one reading, and two where one cannot tell", (hz) => {
    const late = clocksAt(hz, [DAY]);
    expect(readHz(late.dataplane)).toBe(hz);
    const early = clocksAt(hz, [300.25, 300.75]);
    expect(readHz(early.dataplane)).toBe(hz);
    expect(early.readings()).toBe(2);
  });
});

describe("full tables", () => {
  const SIZES: Readonly<Record<string, number>> = { tcp_flows: 1000, udp_flows: 2000, openings: 100 };
  const dataplane = { map: (name: string) => ({ maxEntries: SIZES[name] }) } as unknown as Dataplane;
  const entries = (tcp: number, udp: number, openings = 0) => ({ tcp_flows: tcp, udp_flows: udp, openings });
  const NONE = 0;
  const TCP = 1;
  const UDP = 2;

  it.each([
    [950, 1900, NONE],
    [951, 1900, TCP],
    [950, 1901, UDP],
    [1000, 2000, TCP | UDP],
  ])("TCP %d of 1000, UDP %d of 2000: %d", (tcp, udp, full) => {
    expect(fullTables(dataplane, entries(tcp, udp, 100))).toBe(full);
    const same = { entries: entries(tcp, udp), ms: 1000 };
    expect(fullTables(dataplane, entries(tcp, udp), same), "nothing grew").toBe(full);
  });

  it.each([
    ["grows to just 95 %", entries(800, 0), entries(650, 0), NONE],
    ["grows past 95 %", entries(800, 0), entries(649, 0), TCP],
    ["grows past 95 % from nothing", entries(0, 951), entries(0, 0), UDP],
    ["shrinks, and is still above", entries(951, 1901), entries(1000, 2000), TCP | UDP],
    ["shrinks below", entries(950, 1900), entries(1000, 2000), NONE],
    ["grows as the other does not", entries(800, 1600), entries(800, 1200), UDP],
  ])("a table that %s", (_, now, before, full) => {
    expect(fullTables(dataplane, now, { entries: before, ms: 1000 })).toBe(full);
  });

  it("a table that grows fast, but has room until it is looked at again, is not full", () => {
    expect(fullTables(dataplane, entries(800, 0), { entries: entries(0, 0), ms: 15_000 })).toBe(NONE);
    expect(nextSweepMs(dataplane, entries(500, 0), { entries: entries(450, 0), ms: 1000 })).toBe(1000);
  });

  it.each([
    ["both at 70 %", entries(700, 1400), undefined, 15_000],
    ["TCP above 70 %", entries(701, 0), undefined, 1000],
    ["UDP above 70 %", entries(0, 1401), undefined, 1000],
    ["openings above 70 %", entries(0, 0, 100), undefined, 15_000],
    ["TCP at 50 %, growing", entries(500, 0), entries(50, 0), 15_000],
    ["TCP at 50 %, growing past 95 %", entries(500, 0), entries(49, 0), 1000],
  ])("%s: sweeps again in time", (_, now, before, ms) => {
    expect(nextSweepMs(dataplane, now, before && { entries: before, ms: 15_000 })).toBe(ms);
  });
});
