// Which labels a selector matches.
import { expect, test } from "vitest";
import { matchesSelector } from "../../src/model/label-selector.ts";
import type { LabelSelector } from "../../src/model/objects.ts";

function selector(
  matchLabels: Record<string, string>,
  ...matchExpressions: LabelSelector["matchExpressions"]
): LabelSelector {
  return { matchLabels, matchExpressions };
}

const labels = { a: "1", b: "2" };
test.each<{ name: string; given: LabelSelector; expected: boolean }>([
  { name: "an empty one", given: selector({}), expected: true },
  { name: "equal labels", given: selector({ a: "1" }), expected: true },
  { name: "an unequal label", given: selector({ a: "1", b: "3" }), expected: false },
  { name: "In", given: selector({}, { key: "a", operator: "In", values: ["0", "1"] }), expected: true },
  { name: "In without the label", given: selector({}, { key: "c", operator: "In", values: ["1"] }), expected: false },
  { name: "NotIn", given: selector({}, { key: "a", operator: "NotIn", values: ["1"] }), expected: false },
  {
    name: "NotIn without the label",
    given: selector({}, { key: "c", operator: "NotIn", values: ["1"] }),
    expected: true,
  },
  { name: "Exists", given: selector({}, { key: "b", operator: "Exists", values: [] }), expected: true },
  { name: "DoesNotExist", given: selector({}, { key: "b", operator: "DoesNotExist", values: [] }), expected: false },
  {
    name: "a label named like a method",
    given: selector({}, { key: "toString", operator: "Exists", values: [] }),
    expected: false,
  },
])("$name: $expected", ({ given, expected }) => {
  expect(matchesSelector(given, labels)).toBe(expected);
});
