// What `make bench-ways` makes of its measurements: intervals, costs, goals.
import { describe, expect, it } from "vitest";
import { costOf } from "../../bench/ways-cost.ts";
import { isDecided, type Ratio, ratioOf } from "../../bench/ways-interval.ts";
import { type WayResult, waysGoals } from "../../bench/ways-report.ts";

describe("the ratio of pairs", () => {
  it("is exact where all pairs agree, whatever the machine's pace", () => {
    const below = [100, 200, 50, 400, 80, 120];
    const ratio = ratioOf(
      below.map((value) => value * 1.1),
      below,
    );
    expect(ratio.value).toBeCloseTo(1.1, 9);
    expect(ratio.high - ratio.low).toBeLessThan(1e-9);
  });

  it("has the interval of a trimmed mean", () => {
    // By hand: logs -2..2 percent; one cut at each end; winsorized -1, -1, 0, 1, 1; t(2) = 4.303.
    const logs = [-0.02, -0.01, 0, 0.01, 0.02];
    const { value, low, high } = ratioOf(
      logs.map((log) => Math.exp(log)),
      logs.map(() => 1),
    );
    const half = 4.302653 * Math.sqrt(0.0004 / 6);
    expect([Math.log(value), Math.log(low), Math.log(high)]).toEqual(
      [0, -half, half].map((expected) => expect.closeTo(expected, 9)),
    );
  });

  it("is not moved by one burst of a neighbour", () => {
    const above = Array.from({ length: 20 }, (_, i) => (i === 7 ? 20 : 100 + (i % 3)));
    const ratio = ratioOf(above, Array.from({ length: 20 }, () => 100) as number[]);
    expect(ratio.value).toBeCloseTo(1.01, 2);
    expect(isDecided(ratio)).toBe(true);
  });

  it("covers the truth nineteen times of twenty", () => {
    let seed = 1;
    const random = (): number => {
      seed = (seed * 48_271) % 2_147_483_647;
      return seed / 2_147_483_647;
    };
    const noise = (): number => Math.exp(0.1 * Math.sqrt(-2 * Math.log(random())) * Math.cos(2 * Math.PI * random()));
    const isCovered = (): boolean => {
      const draw = (): number[] => Array.from({ length: 20 }, noise);
      const { low, high } = ratioOf(draw(), draw());
      return low <= 1 && 1 <= high;
    };
    const covered = Array.from({ length: 2_000 }, isCovered).filter(Boolean).length / 2_000;
    expect(covered).toBeGreaterThan(0.93);
    expect(covered).toBeLessThan(0.97);
  });

  it.each([
    ["too few pairs", [1, 1, 1, 1], [1, 1, 1, 1]],
    ["halves without their other half", [1, 1, 1, 1, 1], [1, 1, 1, 1]],
    ["nothing", [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]],
  ])("is refused for %s", (_, above, below) => {
    expect(() => ratioOf(above, below)).toThrow(RangeError);
  });
});

it("costs are what programs took less what as many empty ones would", () => {
  const before = new Map([["tc_pod_ingress", { runs: 10, ns: 1_000 }]]);
  const after = new Map([
    ["tc_pod_ingress", { runs: 210, ns: 21_000 }],
    ["connect4", { runs: 100, ns: 50_000 }],
    ["idle", { runs: 0, ns: 0 }],
  ]);
  expect(costOf(before, after, 100, 50)).toEqual({
    nsPerRequest: (70_000 - 300 * 50) / 100,
    runsPerRequest: 3,
    programs: [
      { program: "tc_pod_ingress", runsPerRequest: 2, nsPerRun: 100 },
      { program: "connect4", runsPerRequest: 1, nsPerRun: 500 },
    ],
  });
});

describe("the goals", () => {
  const sharp = (value: number): Ratio => ({ value, low: value - 0.02, high: value + 0.02, pairs: 20 });
  const blunt = (low: number, high: number): Ratio => ({ value: (low + high) / 2, low, high, pairs: 20 });
  const result = (direct: Ratio, service = sharp(1.2), ceiling = sharp(1.3), way = "pod"): WayResult =>
    ({ way, kind: "short", ratios: { direct, overEmpty: direct, service, ceiling } }) as unknown as WayResult;
  const states = (results: readonly WayResult[]) => waysGoals(results).map(({ state }) => state);

  it("are judged by the median over ways", () => {
    expect(states([result(sharp(0.8)), result(sharp(0.98)), result(sharp(1))])).toEqual(["ok", "ok"]);
    expect(states([result(sharp(0.8)), result(sharp(0.96)), result(sharp(1))])).toEqual(["below", "ok"]);
  });

  it("are decided in spite of an undecided way that makes no difference", () => {
    expect(states([result(blunt(0.5, 1.5)), result(sharp(0.98)), result(sharp(1))])[0]).toBe("ok");
    expect(states([result(blunt(0.5, 1.5)), result(sharp(0.9)), result(sharp(1))])[0]).toBe("undecided");
    expect(states([result(blunt(0.5, 1.5)), result(sharp(0.9)), result(sharp(0.9))])[0]).toBe("below");
  });

  it("never lie above what no proxy at all reaches", () => {
    const far = result(sharp(1), sharp(1.05), sharp(1.04), "outside, backend elsewhere");
    expect(waysGoals([far])[2]).toMatchObject({ limit: 1.04, state: "ok", ways: 1 });
  });
});
