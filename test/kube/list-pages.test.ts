// The elements of a page, one by one, wherever the page was cut.
import { describe, expect, it } from "vitest";
import type { AnswerProblem } from "../../src/kube/api-problem.ts";
import { createItemSplitter } from "../../src/kube/list-pages.ts";

function take(text: string, size: number): { items: unknown[]; frame: unknown } {
  const bytes = new TextEncoder().encode(text);
  const splitter = createItemSplitter();
  const items: unknown[] = [];
  for (let at = 0; at < bytes.length; at += size) {
    for (const item of splitter.push(bytes.subarray(at, at + size))) items.push(JSON.parse(item));
  }
  return { items, frame: splitter.end() };
}

const NASTY = [
  { metadata: { name: 'a"]},{\\' }, list: [[], [{}], "]"], text: '\\"items":[{' },
  {},
  { metadata: { name: "漢字🎉" }, items: [{ items: [1, 2] }], nothing: null },
];

describe("a page of a list", () => {
  it.each([1, 2, 3, 7, 16, 100_000])("yields the same elements from chunks of %i bytes", (size) => {
    const page = { kind: "ServiceList", metadata: { resourceVersion: "12", continue: "abc" }, items: NASTY };
    for (const text of [JSON.stringify(page), JSON.stringify(page, undefined, 2)]) {
      expect(take(text, size)).toEqual({ items: NASTY, frame: { ...page, items: [] } });
    }
  });

  it("may have its elements before its metadata", () => {
    const text = JSON.stringify({ items: NASTY, metadata: { resourceVersion: "12" }, kind: "List" });
    expect(take(text, 5)).toEqual({
      items: NASTY,
      frame: { items: [], metadata: { resourceVersion: "12" }, kind: "List" },
    });
  });

  it.each([
    ["no elements", '{"metadata":{},"items":[]}\n'],
    ["null for elements", '{"metadata":{},"items":null}'],
    ["lists of other names, and items deeper down", '{"metadata":{"items":[{"a":1}]},"more":[{"b":2}],"items":[]}'],
    ["keys that end like items", '{"metadata":{},"x\\"items":[{"a":1}],"items":[]}'],
  ])("may have %s", (_, text) => {
    expect(take(text, 4)).toEqual({ items: [], frame: JSON.parse(text) });
  });

  it.each<[string, string, AnswerProblem]>([
    ["a page of a proxy", "<!doctype html><title>Sign in</title>", "garbage"],
    ["a list without its frame", "[1]", "garbage"],
    ["elements that are no objects", '{"items":["a"]}', "garbage"],
    ["numbers for elements", '{"items":[1]}', "garbage"],
    ["a text after its end", '{"items":[]}{', "garbage"],
    ["a frame that is no JSON", '{"items":[],}', "garbage"],
    ["an end within an element", '{"items":[{"a":"', "truncated"],
    ["an end between elements", '{"items":[{"a":1},', "truncated"],
    ["nothing at all", "", "truncated"],
  ])("with %s is refused by name", (_, text, reason) => {
    for (const size of [1, 1000]) expect(() => take(text, size)).toThrow(expect.objectContaining({ reason }));
  });

  it("with an element over the limit is refused by name", () => {
    const splitter = createItemSplitter(1000);
    const chunk = Buffer.from(`{"items":[{"a":"${"x".repeat(900)}`);
    expect([...splitter.push(chunk)]).toEqual([]);
    expect(() => [...splitter.push(Buffer.from("y".repeat(200)))]).toThrow(
      expect.objectContaining({ reason: "too-long" }),
    );
  });
});
