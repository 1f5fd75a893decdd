// How fast jiffies count, told from readings of the kernel's clocks alone.
import { describe, expect, it } from "vitest";
import type { Dataplane } from "../../src/datapath/dataplane.ts";
import { hzOf, readHz } from "../../src/datapath/flow-table.ts";

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
