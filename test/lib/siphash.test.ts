// SipHash-2-4 by the vectors of its reference implementation: the key is 00 01 .. 0f, the data 00 01 .. n-1.
import { describe, expect, test } from "vitest";
import { sipHash, sipHashKeyId } from "../../src/lib/siphash.ts";

const counting = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i);
const KEY = counting(16);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

describe("sipHash", () => {
  test.each([
    [0, "310e0edd47db6f72"],
    [1, "fd67dc93c539f874"],
    [2, "5a4fa9d909806c0d"],
    [3, "2d7efbd796666785"],
    [4, "b7877127e09427cf"],
    [5, "8da699cd64557618"],
    [6, "cee3fe586e46c9cb"],
    [7, "37d1018bf50002ab"],
    [8, "6224939a79f5f593"],
    [9, "b0e4a90bdf82009e"],
    [15, "e545be4961ca29a1"],
    [63, "724506eb4c328a95"],
  ])("of %i bytes is that of the reference", (length, tag) => {
    expect(hex(sipHash(KEY, counting(length)))).toBe(tag);
  });

  test("takes views into larger buffers as they are", () => {
    const data = counting(32)
      .subarray(8, 23)
      .map((byte) => byte - 8);
    expect(hex(sipHash(KEY, data))).toBe("e545be4961ca29a1");
    const wide = new Uint8Array(40);
    wide.set(KEY, 5);
    expect(hex(sipHash(wide.subarray(5, 21), counting(8)))).toBe("6224939a79f5f593");
  });
});

test("the id of a key is the first byte of its tag of nothing", () => {
  expect(sipHashKeyId(KEY)).toBe(0x31);
});
