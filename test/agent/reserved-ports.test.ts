import { describe, expect, it } from "vitest";
import { parsePorts } from "../../src/agent/reserved-ports.ts";
import { subtractRange } from "../../src/lib/range.ts";

describe("reserved ports", () => {
  it.each([
    ["", []],
    ["8080\n", [{ first: 8080, last: 8080 }]],
    [
      "1-2,5,9000-9100",
      [
        { first: 1, last: 2 },
        { first: 5, last: 5 },
        { first: 9000, last: 9100 },
      ],
    ],
  ])("reads %j", (text, ranges) => {
    expect(parsePorts(text)).toEqual(ranges);
  });
  it.each([
    ["apart", "1-2", "5-9", "1-2"],
    ["in the middle", "1-20", "5-9", "1-4,10-20"],
    ["over an end", "5-20", "1-9", "10-20"],
    ["over all of it", "5-8", "1-9", ""],
    ["the same", "49152-65535", "49152-65535", ""],
  ])("takes ports out that are %s", (_where, from, taken, left) => {
    const text = subtractRange(parsePorts(from), parsePorts(taken)[0]!)
      .map(({ first, last }) => `${first}-${last}`)
      .join(",");
    expect(text).toBe(left);
  });
});
