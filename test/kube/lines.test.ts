// Lines out of chunks: whatever the chunks, the lines are the same.
import { describe, expect, it } from "vitest";
import { ApiProblem } from "../../src/kube/api-problem.ts";
import { createLineSplitter } from "../../src/kube/lines.ts";

const TEXT = 'first\n{"name":"ünïcode 漢字 🎉"}\r\n\n\nlast but one\nlast\n';
const LINES = ["first", '{"name":"ünïcode 漢字 🎉"}\r', "last but one", "last"];

function split(bytes: Uint8Array, size: number): string[] {
  const splitter = createLineSplitter();
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += size) lines.push(...splitter.push(bytes.subarray(at, at + size)));
  expect(splitter.pending()).toBe(0);
  return lines;
}

describe("lines", () => {
  const bytes = new TextEncoder().encode(TEXT);

  it.each([1, 2, 3, 5, 7, 64, 1000])("are the same from chunks of %i bytes, within characters too", (size) => {
    expect(split(bytes, size)).toEqual(LINES);
  });

  it("are held back until their end came", () => {
    const splitter = createLineSplitter();
    expect([...splitter.push(Buffer.from("whole\nha"))]).toEqual(["whole"]);
    expect(splitter.pending()).toBe(2);
    expect([...splitter.push(Buffer.from("lf\n"))]).toEqual(["half"]);
    expect(splitter.pending()).toBe(0);
  });

  it("over the limit are an error by name, also when they never end", () => {
    const splitter = createLineSplitter(10);
    expect([...splitter.push(Buffer.from("0123456789\n01234"))]).toEqual(["0123456789"]);
    expect(() => [...splitter.push(Buffer.from("567890"))]).toThrow(
      expect.objectContaining({ name: ApiProblem.name, reason: "too-long" }),
    );
  });

  it("of many megabytes take time in proportion to their length", () => {
    const splitter = createLineSplitter();
    const chunk = Buffer.alloc(4096, "x");
    let lines = 0;
    for (let i = 0; i < 8192; i++) for (const _ of splitter.push(chunk)) lines++;
    expect(splitter.pending()).toBe(32 * 1024 * 1024);
    const [line] = [...splitter.push(Buffer.from("\n"))];
    expect(lines).toBe(0);
    expect(line).toHaveLength(32 * 1024 * 1024);
  });
});
