// What a node believes of others, by what they answered and when it asked.
import { describe, expect, test } from "vitest";
import { createPeers, type PeerAnswer, ROUND_MS } from "../../src/l2/peers.ts";

const ANSWER: PeerAnswer = { macs: ["02:00:00:00:00:02"], incarnation: 1, ageMs: 100, sound: true, leaving: false };

function bench({ urgent = ["b"], casual = [] as string[], far = [] as string[] } = {}) {
  const peers = createPeers();
  let nowMs = 1_000_000;
  peers.watch(new Set(urgent), new Set(casual), new Set(far));
  return {
    peers,
    /** Rounds at intervals; each asks, and is answered at once or not. */
    rounds(count: number, answer?: Partial<PeerAnswer>, everyMs = ROUND_MS) {
      const asked: string[] = [];
      for (let i = 0; i < count; i++) {
        nowMs += everyMs;
        const now = peers.round(nowMs);
        asked.push(...now);
        if (answer !== undefined) for (const node of now) peers.answered(node, { ...ANSWER, ...answer }, nowMs + 1);
      }
      return asked.length;
    },
    state: (afterMs = 1) => peers.stateOf("b", nowMs + afterMs),
    healthyMs: () => nowMs - peers.healthySinceMs("b", nowMs),
  };
}

describe("a node", () => {
  test("that never answered is unheard, and mute after five seconds", () => {
    const { rounds, state, peers } = bench();
    rounds(10);
    expect([state(), peers.isMute("b", 1_000_000 + 5_000)]).toEqual(["unheard", false]);
    expect(peers.isMute("b", 1_000_000 + ROUND_MS + 5_000)).toBe(true);
  });

  test("that misses two answers is suspect, three gone, and alive with the next", () => {
    const { rounds, state } = bench();
    rounds(2, {});
    expect(state()).toBe("alive");
    // The last of these has been asked just now.
    rounds(2);
    expect(state()).toBe("alive");
    rounds(1);
    expect(state()).toBe("suspect");
    rounds(1);
    expect(state()).toBe("gone");
    rounds(1, {});
    expect(state()).toBe("alive");
  });

  test.each([450, 900])("is not gone by rounds that come %i ms apart: this node was late, not that one", (everyMs) => {
    const { rounds, state } = bench();
    rounds(2, {});
    rounds(20, undefined, everyMs);
    expect(state()).toBe("alive");
  });

  test("that missed two answers before a pause of this node has to miss three after it", () => {
    const { rounds, state } = bench();
    rounds(2, {});
    rounds(3);
    expect(state()).toBe("suspect");
    rounds(1, undefined, 20_000);
    expect(state()).toBe("alive");
    rounds(3);
    expect(state()).toBe("gone");
    // Of who was gone before one more is enough, and nothing less.
    rounds(1, undefined, 20_000);
    expect(state()).toBe("suspect");
    rounds(1);
    expect(state()).toBe("gone");
  });

  test.each<{ name: string; answer: Partial<PeerAnswer>; found: string }>([
    { name: "an agent that renewed a second ago", answer: { ageMs: 1_000 }, found: "alive" },
    { name: "an agent that is away for 3 s", answer: { ageMs: 3_000 }, found: "doubtful" },
    { name: "rows that are about to go silent", answer: { ageMs: 59_700 }, found: "suspect" },
    { name: "rows that are silent", answer: { ageMs: 60_000 }, found: "gone" },
    { name: "a self-check that fails", answer: { sound: false }, found: "doubtful" },
    { name: "a mind to leave", answer: { leaving: true }, found: "gone" },
    { name: "an agent that begins", answer: { ageMs: Number.POSITIVE_INFINITY, sound: false }, found: "alive" },
  ])("with $name is $found", ({ answer, found }) => {
    const { rounds, state } = bench();
    rounds(3, answer);
    expect(state()).toBe(found);
  });

  test("whose agent began five seconds ago and renewed nothing is gone", () => {
    const { rounds, state } = bench();
    rounds(27, { ageMs: Number.POSITIVE_INFINITY });
    expect(state()).toBe("gone");
  });

  test("is not taken for silent by an old answer", () => {
    const { rounds, state } = bench();
    rounds(2, { ageMs: 45_000 });
    expect(state(20_000)).toBe("doubtful");
  });

  test("yields when nobody has renewed its rows for three seconds, as they are not sound", () => {
    const { rounds, peers } = bench();
    rounds(1, { sound: false, ageMs: 1_000 });
    expect(peers.yields("b", 1_000_300)).toBe(false);
    rounds(1, { sound: false, ageMs: 3_100 });
    expect(peers.yields("b", 1_000_500)).toBe(true);
    rounds(1, { ageMs: 3_100 });
    expect(peers.yields("b", 1_000_700)).toBe(false);
  });

  test("that could not be asked missed nothing, and is doubtful when that lasts for five seconds", () => {
    const { rounds, state, peers } = bench();
    rounds(3, {});
    const unasked = (count: number, answer?: PeerAnswer): void => {
      for (let i = 0; i < count; i++) {
        rounds(1);
        const { nowMs } = { nowMs: 1_000_000 + 200 * (4 + i) };
        peers.unasked("b", nowMs);
        if (answer !== undefined) peers.answered("b", answer, nowMs);
      }
    };
    unasked(20);
    expect(state()).toBe("alive");
    unasked(10);
    expect(state()).toBe("doubtful");
    rounds(1, {});
    expect(state()).toBe("alive");
    rounds(4);
    expect(state()).toBe("gone");
  });

  test("is forgotten, and its MACs are anybody's, two minutes after its object is gone, and not before", () => {
    const { rounds, peers } = bench();
    const [mac = ""] = ANSWER.macs;
    rounds(3, {});
    peers.watch(new Set(), new Set(), new Set());
    const forget = (atMs: number, isNode: boolean): string | undefined => {
      peers.forget(() => isNode, atMs);
      return peers.ownerOf(mac);
    };
    expect([2, 3, 4].map((n) => forget(n * 1_000_000, true))).toEqual(["b", "b", "b"]);
    expect([forget(5_000_000, false), forget(5_119_000, false)]).toEqual(["b", "b"]);
    // It was away for a moment only.
    expect([forget(5_119_500, true), forget(5_120_000, false), forget(5_239_000, false)]).toEqual(["b", "b", "b"]);
    expect([forget(5_240_000, false), peers.stateOf("b", 5_240_000)]).toEqual([undefined, "unheard"]);
  });

  test("is healthy since it is alive without a break, in one life of its agent", () => {
    const { rounds, healthyMs } = bench();
    rounds(100, {});
    expect(healthyMs()).toBeGreaterThan(19_000);
    rounds(1, { incarnation: 2 });
    expect(healthyMs()).toBeLessThan(1_000);
    rounds(100, { incarnation: 2 });
    rounds(1, { incarnation: 2, sound: false });
    expect(healthyMs()).toBe(Number.NEGATIVE_INFINITY);
  });

  test("is back when it answers for the first time, or after it was gone or away", () => {
    const { rounds, peers } = bench();
    rounds(1, {});
    expect([...peers.returned()]).toEqual(["b"]);
    rounds(5, {});
    expect([...peers.returned()]).toEqual([]);
    rounds(4);
    rounds(1, {});
    expect([...peers.returned()]).toEqual(["b"]);
    expect([...peers.returned()]).toEqual([]);
  });

  test("has the MACs of its last answer", () => {
    const { rounds, peers } = bench();
    rounds(1, { macs: ["02:00:00:00:00:02", "02:00:00:00:00:03"] });
    rounds(1, { macs: ["02:00:00:00:00:03"] });
    expect([peers.ownerOf("02:00:00:00:00:02"), peers.ownerOf("02:00:00:00:00:03")]).toEqual([undefined, "b"]);
  });
});

test("who comes before this node is asked five times a second, others once, and nobody is asked when nobody is watched", () => {
  expect(bench().rounds(50, {})).toBe(50);
  expect(bench({ urgent: [], casual: ["c"] }).rounds(50, {})).toBe(10);
  expect(bench({ urgent: ["b"], casual: ["c"] }).rounds(50, {})).toBe(60);
  expect(bench({ urgent: [] }).peers.nextMs()).toBe(Number.POSITIVE_INFINITY);
});

test("those of lines that this node is not in are asked once in five seconds, never all in one round, and are gone all the same", () => {
  const names = Array.from({ length: 1_000 }, (_, i) => `node${i}`);
  const { peers, rounds } = bench({ urgent: [], far: names });
  let most = 0;
  for (let i = 0; i < 100; i++) most = Math.max(most, rounds(1, {}));
  expect(most).toBe(64);
  expect(rounds(100, {})).toBe(4_000);
  expect(peers.views(1_040_001).filter(({ state }) => state !== "alive")).toEqual([]);
  // Unanswered from now on: the fourth question counts the third as missed.
  rounds(101);
  expect(new Set(peers.views(1_060_201).map(({ state }) => state))).toEqual(new Set(["gone"]));
});

test("an inquiry asks every node once, in parts", () => {
  const { rounds, peers } = bench({ urgent: [] });
  peers.inquire(Array.from({ length: 600 }, (_, i) => `node${i}`));
  expect([rounds(1), rounds(1), peers.isInquiring(), rounds(1), peers.isInquiring(), rounds(1)]).toEqual([
    256,
    256,
    true,
    88,
    false,
    0,
  ]);
});
