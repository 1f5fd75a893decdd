import { describe, expect, it } from "vitest";
import { failoverPage } from "./page.ts";
import { emptyResults, type Results } from "./results.ts";
import type { Outcome } from "./stage.ts";

const outcome = (fields: Partial<Outcome>): Outcome => ({
  unresolvedMs: 0,
  unansweredMs: 0,
  severalMs: 0,
  speakers: [],
  isOpen: false,
  ...fields,
});

function pageOf(outcomes: readonly Outcome[]): string {
  const results: Results = { ...emptyResults(), runs: { metallb: { "power-cut": [...outcomes] } } };
  return failoverPage(results);
}

describe("the page of failovers", () => {
  it("has the median and the longest of the runs in seconds, and the longest time with two speakers", () => {
    const page = pageOf([
      outcome({ unansweredMs: 500, unresolvedMs: 480 }),
      outcome({ unansweredMs: 900, unresolvedMs: 880, severalMs: 60 }),
      outcome({ unansweredMs: 700, unresolvedMs: 0 }),
    ]);
    expect(page).toContain("| A node's power is cut | 0.70 / 0.90 | 0.48 / 0.88 | 0.06 | 3 |");
  });

  it("says of an outage that was not over that it is longer", () => {
    const page = pageOf([outcome({ unansweredMs: 30_000, unresolvedMs: 12, isOpen: true })]);
    expect(page).toContain("| A node's power is cut | 30.00 / > 30.00 | 0 / 0 | 0 | 1 |");
  });

  it("leaves out products that nobody measured, and names the scenarios that were not played", () => {
    const page = pageOf([outcome({})]);
    expect(page).not.toContain("## Millrace");
    expect(page).toMatch(/^Not measured: .*; The agent is killed, and started 1 s later;/m);
  });
});
