import { describe, expect, it } from "vitest";
import { changeAllowedMs, createDamping, isSettled, noteChange, takeBackChange } from "../../src/l2/damping.ts";

describe("how often an address changes hands", () => {
  it("is at once, then after ten seconds, twenty, forty", () => {
    const damping = createDamping();
    expect(changeAllowedMs(damping)).toBeLessThan(0);
    const rests = [1, 2, 3].map(() => {
      const nowMs = Math.max(1000, changeAllowedMs(damping));
      noteChange(damping, nowMs);
      return changeAllowedMs(damping) - nowMs;
    });
    expect(rests).toEqual([10_000, 20_000, 40_000]);
  });

  it("stays as it is after five changes, until they are forgotten", () => {
    const damping = createDamping();
    for (let i = 0; i < 5; i++) noteChange(damping, i);
    expect([isSettled(damping, 1000), isSettled(damping, 400_000)]).toEqual([true, false]);
  });

  it("is at once after a first change that was given up again", () => {
    const damping = createDamping();
    noteChange(damping, 1000);
    takeBackChange(damping, 1500);
    expect(changeAllowedMs(damping)).toBeLessThanOrEqual(1500);
  });

  it("is not at once when changes are given up again and again", () => {
    const damping = createDamping();
    noteChange(damping, 1000);
    takeBackChange(damping, 1500);
    noteChange(damping, 2000);
    takeBackChange(damping, 2500);
    expect(changeAllowedMs(damping)).toBe(12_000);
  });
});
