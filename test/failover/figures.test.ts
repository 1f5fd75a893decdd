import { describe, expect, it } from "vitest";
import { medianOf, outageOf, severalSpeakersMs, speakersInOrder } from "./figures.ts";

const attempts = (text: string) => [...text].map((sign, i) => ({ atMs: i * 20, isAnswered: sign === "+" }));

describe("how long nobody answered", () => {
  const cases = [
    { name: "every question is answered", attempts: "+++++", longestMs: 0, unanswered: 0, isOpen: false },
    { name: "one is lost", attempts: "++-++", longestMs: 20, unanswered: 1, isOpen: false },
    { name: "the longer of two rows counts", attempts: "+--+---+", longestMs: 60, unanswered: 5, isOpen: false },
    { name: "an outage is not over", attempts: "+-+--", longestMs: 140, unanswered: 3, isOpen: true },
    { name: "nothing was asked", attempts: "", longestMs: 0, unanswered: 0, isOpen: false },
  ];
  it.each(cases)("$name", ({ attempts: text, name: _, ...expected }) => {
    expect(outageOf(attempts(text), 200)).toEqual(expected);
  });
});

describe("who answered", () => {
  const asked = [["a"], ["a"], [], ["b", "a"], ["a", "b"], ["b"], ["a"]].map((macs, i) => ({ atMs: i * 20, macs }));
  it("several speakers are counted by the requests that they both answered", () => {
    expect(severalSpeakersMs(asked, 20)).toBe(40);
  });
  it("speakers come one after the other, silence between them is passed over", () => {
    expect(speakersInOrder(asked)).toEqual(["a", "a+b", "b", "a"]);
  });
});

describe("the median", () => {
  it("is the middle value, the lower of two, and NaN of none", () => {
    expect([medianOf([3, 1, 2]), medianOf([4, 1, 2, 3]), medianOf([])]).toEqual([2, 2, Number.NaN]);
  });
});
