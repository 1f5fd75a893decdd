import { describe, expect, it } from "vitest";
import { didYouMean, nearest } from "../../src/lib/suggest.ts";

describe("the name that was meant", () => {
  it.each([
    ["statu", "status"],
    ["flwos", "flows"],
    ["targetPrt", "targetPort"],
    ["web", undefined],
    ["nope", undefined],
    ["", undefined],
  ])("of '%s' is %s", (name, meant) => {
    expect(nearest(name, ["status", "flows", "backends", "targetPort", "named"])).toBe(meant);
  });

  it("is the nearest, and told as a question", () => {
    expect(didYouMean("backend", ["backends", "backed"])).toBe("; did you mean backends?");
    expect(didYouMean("x", ["backends"])).toBe("");
  });
});
