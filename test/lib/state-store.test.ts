// State files survive a crash whole, and those that only spare work never stop anybody.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { recall, remember, replaceFile, stateTroubles, writeStateFile } from "../../src/lib/state-store.ts";

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "state-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

describe("what only spares work", () => {
  it("is recalled as it was remembered, by its owner alone", () => {
    const path = join(directory, "made", "one.json");
    expect(remember(path, { some: ["thing"] })).toBe(true);
    expect(recall(path)).toEqual({ some: ["thing"] });
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it.each([
    ["absent", undefined],
    ["empty, as a power cut leaves it", ""],
    ["cut short", '{"own": ["10.0'],
    ["not JSON", "\0\0\0\0"],
  ])("is unknown when the file is %s", (_what, content) => {
    const path = join(directory, "one.json");
    if (content !== undefined) writeFileSync(path, content);
    expect(recall(path)).toBeUndefined();
  });

  it("is unknown when the name is a directory's", () => {
    mkdirSync(join(directory, "one.json"));
    expect(recall(join(directory, "one.json"))).toBeUndefined();
  });

  it("that cannot be kept throws nothing, is told, and no longer once it can", () => {
    const path = join(directory, "file", "one.json");
    writeFileSync(join(directory, "file"), "in the way");
    expect(remember(path, 1)).toBe(false);
    expect(stateTroubles().get(path)).toMatch(/could not write .*one\.json: /);
    rmSync(join(directory, "file"));
    expect(remember(path, 1)).toBe(true);
    expect(stateTroubles().has(path)).toBe(false);
  });
});

describe.each([
  ["at once", async (path: string, text: string) => replaceFile(path, text)],
  ["in pieces", (path: string, text: string) => writeStateFile(path, [text.slice(0, 3), text.slice(3)])],
])("a file that is written %s", (_how, write) => {
  it("replaces the one before and leaves nothing beside it", async () => {
    const path = join(directory, "state.json");
    await write(path, "before");
    await write(path, "after!");
    expect(readFileSync(path, "utf8")).toBe("after!");
    expect([".tmp", ".new"].filter((end) => existsSync(path + end))).toEqual([]);
  });

  it("keeps the one before when it cannot be written, and says which", async () => {
    const path = join(directory, "state.json");
    await write(path, "before");
    for (const end of [".tmp", ".new"]) mkdirSync(path + end);
    await expect(write(path, "after!")).rejects.toMatchObject({ code: "machine", subject: path });
    expect(readFileSync(path, "utf8")).toBe("before");
  });
});
