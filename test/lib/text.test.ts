import { describe, expect, it } from "vitest";
import { age, bytes, portList, printable } from "../../src/lib/text.ts";

describe("the small words", () => {
  it.each([
    [0, "0s"],
    [119_000, "119s"],
    [120_000, "2m"],
    [200_000, "3m20s"],
    [3_600_000 * 2, "120m"],
    [3_600_000 * 5 + 600_000, "5h10m"],
    [3_600_000 * 30, "30h"],
    [86_400_000 * 3 + 3_600_000, "3d1h"],
    [86_400_000 * 100, "100d"],
    [86_400_000 * 800, "2y70d"],
    [86_400_000 * 4000, "10y"],
    [-5, "0s"],
  ])("age of %i ms is %s", (ms, expected) => {
    expect(age(ms)).toBe(expected);
  });

  it("ports, sizes and control characters", () => {
    expect(portList([])).toBe("<none>");
    expect([bytes(512), bytes(1536), bytes(20 * 1024 * 1024)]).toEqual(["512 B", "1.5 KiB", "20 MiB"]);
    expect(printable("a\u001b[31mb\nc")).toBe("a?[31mb?c");
  });
});
