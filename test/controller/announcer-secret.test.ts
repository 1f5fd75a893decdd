// Which change of the announcers' keys is due.
import { expect, test } from "vitest";
import {
  CHANGED_ANNOTATION,
  ROTATE_ANNOTATION,
  SETTLE_MS,
  type SecretState,
  secretStep,
} from "../../src/controller/announcer-secret.ts";

const NOW = Date.parse("2026-06-01T00:00:00Z");
const HOUR = 3_600_000;
const KEY = (letter: string): string => letter.repeat(32);
const FRESH = KEY("f");

function secret(
  keys: Readonly<Record<string, string>>,
  ageMs: number,
  more: Readonly<Record<string, string>> = {},
): SecretState {
  return { keys, annotations: { [CHANGED_ANNOTATION]: new Date(NOW - ageMs).toISOString(), ...more } };
}

const asked = { [ROTATE_ANNOTATION]: "now" };
const [a, b] = [KEY("a"), KEY("b")];

test.each<[string, SecretState | undefined, object | undefined]>([
  ["there is none", undefined, { current: FRESH }],
  ["its key is none", secret({ current: "zz" }, HOUR), { current: FRESH }],
  ["it is young", secret({ current: a }, 23 * HOUR), undefined],
  ["it is of age", secret({ current: a }, 24 * HOUR), { next: FRESH }],
  ["somebody asked for it", secret({ current: a }, HOUR, asked), { next: FRESH }],
  ["the next key is on its way", secret({ current: a, next: b }, SETTLE_MS - 1), undefined],
  ["the next key has arrived", secret({ current: a, next: b }, SETTLE_MS), { current: b, previous: a, next: null }],
  ["the next key is none", secret({ current: a, next: "x" }, SETTLE_MS), { next: null }],
  ["the previous key is still in use", secret({ current: b, previous: a }, SETTLE_MS - 1), undefined],
  ["the previous key is out of use", secret({ current: b, previous: a }, SETTLE_MS), { previous: null }],
  ["it was asked for in the midst of it", secret({ current: b, previous: a }, 0, asked), undefined],
  ["the clock was set back", secret({ current: a, next: b }, -1_000), undefined],
])("when %s", (_, state, keys) => {
  expect(secretStep(state, 24 * HOUR, NOW, () => FRESH)?.keys).toEqual(keys);
});

test("at every step some key is accepted on both sides of it", () => {
  let state = secret({ current: a }, 0, asked);
  const seen: string[][] = [];
  for (let nowMs = NOW; seen.length < 4 && nowMs < NOW + HOUR; nowMs += 20_000) {
    const change = secretStep(state, 0, nowMs, () => FRESH);
    if (change === undefined) continue;
    const keys = Object.fromEntries(
      Object.entries({ ...state.keys, ...change.keys }).filter(([, key]) => key !== null),
    ) as Record<string, string>;
    const annotations = Object.fromEntries(
      Object.entries({ ...state.annotations, ...change.annotations }).filter(([, text]) => text !== null),
    ) as Record<string, string>;
    // Of two nodes one has the state before and one that after: each accepts what the other sends with.
    expect(Object.values(keys)).toContain(state.keys["current"]);
    expect(Object.values(state.keys)).toContain(keys["current"]);
    state = { keys, annotations };
    seen.push(Object.keys(keys).sort());
  }
  expect(seen).toEqual([["current", "next"], ["current", "previous"], ["current"]]);
  expect(state.keys).toEqual({ current: FRESH });
});
