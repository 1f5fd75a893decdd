// How often an address may change hands.
import { describe, expect, test } from "vitest";
import { changeAllowedMs, createDamping, noteChange, takeBackChange } from "../../src/l2/damping.ts";

describe("a change that is taken back", () => {
  test("does not delay the next, once a minute", () => {
    const damping = createDamping();
    noteChange(damping, 1_000);
    takeBackChange(damping, 1_500);
    expect(changeAllowedMs(damping)).toBe(1_000);
    noteChange(damping, 2_000);
    takeBackChange(damping, 2_500);
    expect(changeAllowedMs(damping)).toBe(12_000);
  });

  test("where none was counted leaves that for the next that is", () => {
    const damping = createDamping();
    takeBackChange(damping, 1_000);
    noteChange(damping, 2_000);
    takeBackChange(damping, 2_500);
    expect(changeAllowedMs(damping)).toBe(2_000);
  });
});
