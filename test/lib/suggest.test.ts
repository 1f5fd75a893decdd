import { describe, expect, it } from "vitest";
import { closest, didYouMean } from "../../src/lib/suggest.ts";

const FIELDS = ["name", "port", "protocol", "targetPort", "nodePort", "appProtocol"];

describe("the word that was meant", () => {
  it.each([
    ["targetPrt", "a letter that is missing", "targetPort"],
    ["targetport", "another case", "targetPort"],
    ["target-port", "another way to part words", "targetPort"],
    ["prot", "two letters swapped", "port"],
    ["ports", "a letter too many", "port"],
    ["NodePort", "a capital", "nodePort"],
    ["selector", "nothing near", undefined],
    ["x", "too short to tell", undefined],
    ["p".repeat(10_000), "far too long", undefined],
  ])("%s: %s", (word, _what, meant) => {
    expect(closest(word, FIELDS)).toBe(meant);
  });

  it("is offered in brackets, or not at all", () => {
    expect(didYouMean("manifest", ["manifests", "metrics"])).toBe(" (did you mean manifests?)");
    expect(didYouMean("zzz", ["manifests"])).toBe("");
  });
});
