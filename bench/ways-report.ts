// The page that `make bench-ways` prints: ratios of each way with their intervals, what our programs cost there, and the goals.
import { median } from "./measure.ts";
import { table } from "./report.ts";
import type { Cost } from "./ways-cost.ts";
import { isDecided, type Ratio } from "./ways-interval.ts";
import type { Kind } from "./ways-site.ts";

/** What is measured in turn, each in the cluster that it names; "empty": in the one without a proxy, with empty programs attached. */
export const SERIES = [
  "millrace direct",
  "none direct",
  "empty direct",
  "millrace service",
  "nftables service",
] as const;
export type Series = (typeof SERIES)[number];

export interface SeriesSummary {
  /** Medians. */
  readonly perSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
  /** Sum. */
  readonly errors: number;
}

export interface WayResult {
  readonly way: string;
  readonly kind: Kind;
  readonly series: Readonly<Record<Series, SeriesSummary>>;
  readonly ratios: {
    /** Direct connections: Millrace to no proxy. */
    readonly direct: Ratio;
    /** Direct connections: Millrace to empty programs. */
    readonly overEmpty: Ratio;
    /** Service connections: Millrace to kube-proxy. */
    readonly service: Ratio;
    /** Direct connections without a proxy to Service connections by kube-proxy: what no proxy is above of. */
    readonly ceiling: Ratio;
  };
  readonly cost: {
    readonly direct: Cost;
    readonly service: Cost;
    /** One run of the empty program as the kernel counts it, and how many there were. */
    readonly emptyNs: number;
    readonly emptyRunsPerRequest: number;
  };
}

const figure = (value: number): string => value.toFixed(2);

function cell(ratio: Ratio): string {
  const interval = `${figure(ratio.low)}-${figure(ratio.high)}`;
  return isDecided(ratio) ? `${figure(ratio.value)} (${interval})` : `undecided (${interval})`;
}

export function ratioLines(results: readonly WayResult[]): string[] {
  return table([
    ["way", "kind", "direct / none", "direct / empty", "Service / nftables", "ceiling"],
    ...results.map(({ way, kind, ratios: { direct, overEmpty, service, ceiling } }) => [
      way,
      kind,
      ...[direct, overEmpty, service, ceiling].map(cell),
    ]),
  ]);
}

export function rateLines(results: readonly WayResult[]): string[] {
  return table([
    ["requests a second", "kind", ...SERIES, "errors"],
    ...results.map(({ way, kind, series }) => [
      way,
      kind,
      ...SERIES.map((name) => series[name].perSecond.toFixed(0)),
      String(SERIES.reduce((sum, name) => sum + series[name].errors, 0)),
    ]),
  ]);
}

export function costLines(results: readonly WayResult[]): string[] {
  return table([
    [
      "our programs over empty ones",
      "kind",
      "direct, ns a request",
      "runs",
      "Service, ns a request",
      "runs",
      "empty, ns a run",
    ],
    ...results.map(({ way, kind, cost: { direct, service, emptyNs } }) => [
      way,
      kind,
      direct.nsPerRequest.toFixed(0),
      direct.runsPerRequest.toFixed(1),
      service.nsPerRequest.toFixed(0),
      service.runsPerRequest.toFixed(1),
      emptyNs.toFixed(0),
    ]),
  ]);
}

export type GoalState = "ok" | "below" | "undecided";

export interface WaysGoal {
  readonly text: string;
  /** Median over the ways. */
  readonly value: number;
  /** The goal, or the ceiling's median over the same ways when that is lower. */
  readonly limit: number;
  readonly state: GoalState;
  readonly undecided: number;
  readonly ways: number;
}

/** A way that is undecided may be anywhere in its interval: the goal is decided when that makes no difference. */
function goalOf(text: string, goal: number, ratios: readonly Ratio[], ceilings: readonly Ratio[]): WaysGoal {
  const limit = ceilings.length === 0 ? goal : Math.min(goal, median(ceilings.map(({ value }) => value)));
  const medianOf = (end: "low" | "high"): number =>
    median(ratios.map((ratio) => (isDecided(ratio) ? ratio.value : ratio[end])));
  const state = medianOf("low") >= limit ? "ok" : medianOf("high") < limit ? "below" : "undecided";
  return {
    text,
    value: median(ratios.map(({ value }) => value)),
    limit,
    state,
    undecided: ratios.filter((ratio) => !isDecided(ratio)).length,
    ways: ratios.length,
  };
}

/** Those of the goals that the results say something of. */
export function waysGoals(results: readonly WayResult[]): WaysGoal[] {
  const ceilings = results.map(({ ratios }) => ratios.ceiling);
  const services = results.map(({ ratios }) => ratios.service);
  const directs = results.map(({ ratios }) => ratios.direct);
  const goals = [
    goalOf("direct, Millrace / no proxy", 0.97, directs, []),
    goalOf("Service, Millrace / nftables", 1, services, ceilings),
  ];
  const far = results.filter(({ way }) => way === "outside, backend elsewhere").map(({ ratios }) => ratios);
  if (far.length > 0) {
    const farCeilings = far.map(({ ceiling }) => ceiling);
    goals.push(
      goalOf(
        "Service, outside to a backend elsewhere",
        1.1,
        far.map(({ service }) => service),
        farCeilings,
      ),
    );
  }
  return goals;
}

export function goalLines(goals: readonly WaysGoal[]): string[] {
  return table([
    ["goal: median over ways", "is", "at least", "undecided ways", ""],
    ...goals.map(({ text, value, limit, state, undecided, ways }) => [
      text,
      value.toFixed(3),
      figure(limit),
      `${undecided} of ${ways}`,
      state,
    ]),
  ]);
}
