// Which full lists are believed at once.
import { describe, expect, it } from "vitest";
import { judgeList, type Loss, lostTotal } from "../../src/kube/relist-guard.ts";

/** Objects a0, a1 … of one frontend each. */
function losing(count: number, before: number, from = 0): Loss {
  return { before, lost: new Map(Array.from({ length: count }, (_, i) => [`default/a${from + i}`, 1])) };
}

describe("a full list", () => {
  it.each([
    { name: "that takes nothing away is applied", loss: losing(0, 0), held: undefined, expected: "apply" },
    {
      name: "that takes 50 of 50 away is applied: it is few",
      loss: losing(50, 50),
      held: undefined,
      expected: "apply",
    },
    { name: "that takes 51 of 51 away is held", loss: losing(51, 51), held: undefined, expected: "hold" },
    { name: "that takes exactly half away is applied", loss: losing(500, 1000), held: undefined, expected: "apply" },
    { name: "that takes more than half away is held", loss: losing(501, 1000), held: undefined, expected: "hold" },
    {
      name: "that takes away what one before it would have is applied",
      loss: losing(600, 1000),
      held: losing(600, 1000),
      expected: "apply",
    },
    {
      name: "that takes away less than one before it is applied",
      loss: losing(600, 1000),
      held: losing(900, 1000),
      expected: "apply",
    },
    {
      name: "that takes a little more away than one before it is applied",
      loss: losing(620, 1000),
      held: losing(600, 1000),
      expected: "apply",
    },
    {
      name: "that takes other things away than one before it is held",
      loss: losing(600, 1100, 500),
      held: losing(501, 1000),
      expected: "hold",
    },
  ])("$name", ({ loss, held, expected }) => {
    expect(judgeList("Service", loss, held)).toBe(expected);
  });

  it.each([
    { name: "that takes the only one away is held", lost: 1, before: 1, expected: "hold" },
    { name: "that takes one of two away is applied", lost: 1, before: 2, expected: "apply" },
    { name: "that takes two of three away is held", lost: 2, before: 3, expected: "hold" },
    { name: "that takes none away is applied", lost: 0, before: 0, expected: "apply" },
  ])("of Nodes $name", ({ lost, before, expected }) => {
    expect(judgeList("Node", losing(lost, before), undefined)).toBe(expected);
  });

  it("is judged by frontends, not by objects", () => {
    const loss: Loss = { before: 200, lost: new Map([["default/large", 150]]) };
    expect(lostTotal(loss)).toBe(150);
    expect(judgeList("Service", loss, undefined)).toBe("hold");
    expect(judgeList("Service", loss, { before: 200, lost: new Map([["default/large", 20]]) })).toBe("hold");
  });
});
