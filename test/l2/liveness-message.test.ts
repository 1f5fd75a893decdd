import { describe, expect, test } from "vitest";
import {
  decodeMessage,
  encodeMessage,
  type LivenessMessage,
  MESSAGE_BYTES,
  nodeIdOf,
  question,
} from "../../src/l2/liveness-message.ts";

const KEY = Uint8Array.from({ length: 16 }, (_, i) => i);
const OTHER = Uint8Array.from({ length: 16 }, (_, i) => 255 - i);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

const ANSWER: LivenessMessage = {
  kind: "answer",
  nonce: "0123456789abcdef",
  nodeId: "fedcba9876543210",
  incarnation: 0x1_9000_0001,
  ageMs: 1234,
  isSound: true,
  isLeaving: false,
  macs: ["02:00:00:00:00:01", "02:00:00:00:00:02"],
};

describe("a message", () => {
  test("stands in network order, field by field, with its tag behind", () => {
    const bytes = encodeMessage(ANSWER, KEY);
    expect(hex(bytes.subarray(0, 64))).toBe(
      [
        ...["4d4c4c56", "01", "02", "31", "01"],
        ...["0123456789abcdef", "fedcba9876543210", "0000000190000001", "000004d2"],
        ...["020000000001", "020000000002", "000000000000", "000000000000", "00000000"],
      ].join(""),
    );
    expect(bytes).toHaveLength(MESSAGE_BYTES);
  });

  test.each([
    ["an answer", ANSWER],
    ["a question", question("00000000000000ff", nodeIdOf("node1"))],
    ["one of a node that never renewed", { ...ANSWER, ageMs: Number.POSITIVE_INFINITY }],
    ["one of a node that leaves", { ...ANSWER, isSound: false, isLeaving: true, macs: [] }],
  ])("%s reads as it was written", (_, message) => {
    expect(decodeMessage(encodeMessage(message, KEY), [KEY])).toEqual(message);
  });

  test("is believed by any of several keys, and by no other", () => {
    const bytes = encodeMessage(ANSWER, OTHER);
    expect(decodeMessage(bytes, [KEY, OTHER])).toEqual(ANSWER);
    expect(decodeMessage(bytes, [KEY])).toBeUndefined();
    expect(decodeMessage(bytes, [])).toBeUndefined();
  });

  test("of which any bit was changed is none", () => {
    const bytes = encodeMessage(ANSWER, KEY);
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const changed = bytes.slice();
      changed[bit >> 3]! ^= 1 << (bit & 7);
      expect(decodeMessage(changed, [KEY]), `bit ${bit}`).toBeUndefined();
    }
  });

  test("of another length, version or magic is none, whoever made it", () => {
    const bytes = encodeMessage(ANSWER, KEY);
    expect(decodeMessage(bytes.subarray(0, 71), [KEY])).toBeUndefined();
    expect(decodeMessage(Buffer.concat([bytes, Uint8Array.of(0)]), [KEY])).toBeUndefined();
    expect(decodeMessage(new Uint8Array(0), [KEY])).toBeUndefined();
  });

  test("tells four MACs at most", () => {
    const macs = [1, 2, 3, 4, 5].map((last) => `02:00:00:00:00:0${last}`);
    expect(decodeMessage(encodeMessage({ ...ANSWER, macs }, KEY), [KEY])?.macs).toEqual(macs.slice(0, 4));
  });
});

test("a Node's name has an id of 16 hex digits, another name another one", () => {
  expect(nodeIdOf("node1")).toMatch(/^[0-9a-f]{16}$/);
  expect(nodeIdOf("node1")).not.toBe(nodeIdOf("node2"));
});
