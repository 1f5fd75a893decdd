// What the runs of a bench came to: kept as JSON, printed as lines, and for the page put side by side. Pure.
import type { Machine } from "../../bench/machine.ts";
import { medianOf } from "./figures.ts";
import type { FrameFigures } from "./frames.ts";
import type { Product } from "./product-names.ts";
import type { Scenario } from "./scenarios.ts";
import type { Outcome } from "./stage.ts";

export interface Measured {
  readonly date: string;
  readonly machine: Machine;
  readonly version: string;
}

export interface Results {
  /** Of the next run: each has an address of its own. */
  next: number;
  readonly measured: { [product in Product]?: Measured };
  /** By product and name of the scenario. */
  readonly runs: { [product in Product]?: Record<string, Outcome[]> };
  readonly frames: { [product in Product]?: FrameFigures };
  /** What is to be said of the figures, by hand. */
  readonly remarks?: { readonly [product in Product]?: string };
}

export const emptyResults = (): Results => ({ next: 0, measured: {}, runs: {}, frames: {} });

export interface Summary {
  readonly runs: number;
  readonly median: number;
  readonly longest: number;
}

export function summaryOf(
  outcomes: readonly Outcome[],
  figure: "unresolvedMs" | "unansweredMs" | "severalMs",
): Summary {
  const values = outcomes.map((outcome) => outcome[figure]);
  return { runs: values.length, median: medianOf(values), longest: Math.max(...values) };
}

const seconds = (ms: number): string => (ms / 1000).toFixed(2);

export function summaryLine(product: Product, { name }: Scenario, outcomes: readonly Outcome[]): string {
  const part = (title: string, figure: Parameters<typeof summaryOf>[1]): string => {
    const { median, longest } = summaryOf(outcomes, figure);
    return `${title} ${seconds(median)} / ${seconds(longest)} s`;
  };
  const parts = [
    part("ARP/NDP", "unresolvedMs"),
    part("UDP/TCP", "unansweredMs"),
    part("several speakers", "severalMs"),
  ];
  return `${product.padEnd(12)} ${name.padEnd(18)} ${parts.join("   ")}   (median / longest of ${outcomes.length})`;
}
