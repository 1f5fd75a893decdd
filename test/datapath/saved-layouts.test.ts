// A build's description of its layout is there for the next build, whatever became of the file.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { FINGERPRINT, LAYOUT } from "../../src/datapath/layout.gen.ts";
import { readLayout, saveLayout } from "../../src/datapath/saved-layouts.ts";
import { stateTroubles } from "../../src/lib/state-store.ts";

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "layouts-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

const file = (): string => join(directory, "layouts", `${FINGERPRINT}.json`);

it.each([
  ["absent", undefined],
  ["empty, as a power cut leaves it", ""],
  ["cut short", '{"format":1,"layo'],
  ["another layout's", JSON.stringify({ format: 1, version: "0", layout: { ...LAYOUT, structs: {} } })],
])("a description that is %s is written anew by the build that it is of", (_what, content) => {
  mkdirSync(join(directory, "layouts"));
  if (content !== undefined) writeFileSync(file(), content);
  saveLayout(directory);
  expect(readLayout(directory, FINGERPRINT, "/pins")).toEqual(LAYOUT);
});

it("one that is right stays as it is", () => {
  saveLayout(directory);
  const text = readFileSync(file(), "utf8").replace('"format":1', '"format": 1');
  writeFileSync(file(), text);
  saveLayout(directory);
  expect(readFileSync(file(), "utf8")).toBe(text);
});

it("where it cannot be written the build goes on, and it is told", () => {
  writeFileSync(join(directory, "layouts"), "in the way");
  saveLayout(directory);
  expect(stateTroubles().has(file())).toBe(true);
});

it("of a newer format it is refused by name, and an unknown one with what to do", () => {
  mkdirSync(join(directory, "layouts"));
  writeFileSync(file(), JSON.stringify({ format: 2, version: "9.1.0", layout: LAYOUT }));
  expect(() => readLayout(directory, FINGERPRINT, "/pins")).toThrow(
    /newer version 9\.1\.0; start that version, or run/,
  );
  expect(() => readLayout(directory, "0123456789abcdef", "/pins")).toThrow(/millrace cleanup --pin-dir \/pins/);
});
