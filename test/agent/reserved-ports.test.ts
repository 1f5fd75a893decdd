import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parsePorts, releasePorts, reservePorts } from "../../src/agent/reserved-ports.ts";
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

describe("reserving in a sysctl", () => {
  const RANGE = { first: 49152, last: 65535 };
  let directory = "";
  let sysctl = "";
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "ports-"));
    sysctl = join(directory, "ip_local_reserved_ports");
    writeFileSync(sysctl, "8080\n");
  });
  afterEach(() => rmSync(directory, { recursive: true }));
  const held = (): string => readFileSync(sysctl, "utf8").trim();

  it("adds the range to what others reserved, and gives back only that", () => {
    reservePorts(RANGE, directory, sysctl);
    expect(held()).toBe("8080,49152-65535");
    expect(releasePorts(directory, sysctl)).toBe(true);
    expect([held(), releasePorts(directory, sysctl)]).toEqual(["8080", false]);
  });

  it.each(["", '{"before"', "null", '{"before":7,"added":[]}', '{"before":"","added":"all"}'])(
    "goes on when what was saved is %j",
    (content) => {
      writeFileSync(join(directory, "reserved-ports.json"), content);
      reservePorts(RANGE, directory, sysctl);
      expect(held()).toBe("8080,49152-65535");
      expect(releasePorts(directory, sysctl)).toBe(true);
      expect(held()).toBe("8080");
    },
  );

  it("goes on where nothing can be saved", () => {
    reservePorts(RANGE, join(sysctl, "no-directory"), sysctl);
    expect(held()).toBe("8080,49152-65535");
  });
});
