import { describe, expect, it } from "vitest";
import { didYouMean, nearest } from "../../src/lib/suggest.ts";

const FIELDS = ["name", "port", "protocol", "targetPort", "nodePort", "appProtocol"];

describe("the name that was meant", () => {
  it.each([
    ["targetPrt", "a letter is missing", "targetPort"],
    ["targetport", "another case", "targetPort"],
    ["prot", "two letters are swapped", "port"],
    ["ports", "a letter too many", "port"],
    ["selector", "nothing is near", undefined],
    ["x", "too short to tell", undefined],
    ["p".repeat(100_000), "far too long", undefined],
  ])("%s: %s", (word, _what, meant) => {
    expect(nearest(word, FIELDS)).toBe(meant);
  });

  it("is offered, or nothing is said", () => {
    expect(didYouMean("manifest", ["manifests", "metrics"])).toBe("; did you mean manifests?");
    expect(didYouMean("zzz", ["manifests"])).toBe("");
  });
});
