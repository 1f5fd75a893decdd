// Runs every flow case on the model of the datapath, and checks that the table covers what it claims to.
import { describe, expect, test } from "vitest";
import { familyOf } from "../../src/lib/address.ts";
import { FLOW_CASES, FLOW_VARIANTS } from "./cases.ts";
import { expected } from "./expected.ts";
import { type FlowCase, modelOptions, type Served, type Verdict } from "./flow-case.ts";
import { mapsOf, type Outcome, trace } from "./reference.ts";
import { emptyCells, needlessGaps } from "./semantics-page.ts";

/** Enough that of up to four backends each is chosen. */
const FLOWS = 128;

function outcomesOf({ given, from, to, packet }: FlowCase): Outcome[] {
  const { maps } = mapsOf(given);
  const more = {
    ...(packet && { packet }),
    clusterIPsInside: given.clusterIPsInside ?? false,
    loopbackWithoutNodePorts: !modelOptions(given).nodePortAddresses.localhost,
  };
  return Array.from({ length: FLOWS }, (_, i) =>
    trace(maps, { client: from, clientPort: 20000 + i, destination: to, ...more }),
  );
}

/** The outcomes in the form of an expectation. */
function summary(outcomes: readonly Outcome[]): Served | { verdict: Verdict } {
  const [first] = outcomes;
  if (first?.verdict !== undefined && outcomes.every(({ verdict }) => verdict === first.verdict)) {
    return { verdict: first.verdict };
  }
  const backends = (source: string): string[] =>
    [...new Set(outcomes.filter((one) => one.source === source).map(({ backend }) => backend ?? ""))].sort();
  const [kept, translated] = [backends("kept"), backends("translated")];
  return { ...(kept.length > 0 ? { kept } : {}), ...(translated.length > 0 ? { translated } : {}) };
}

describe("the model of the datapath", () => {
  test.each([...FLOW_CASES, ...FLOW_VARIANTS])("$name", (flowCase) => {
    const outcomes = outcomesOf(flowCase);
    const found = summary(outcomes);
    expect(found, outcomes[0]?.steps.join("; ")).toEqual(expected(flowCase, found));
  });
});

describe("the table", () => {
  test("has unique names", () => {
    const names = FLOW_CASES.map(({ name }) => name);
    expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([]);
  });

  test("has flows of every kind of frontend, for every client, protocol and family", () => {
    const seen = new Set<string>();
    for (const { given, from, to } of [...FLOW_CASES, ...FLOW_VARIANTS]) {
      const { maps } = mapsOf(given);
      const [step] = trace(maps, { client: from, clientPort: 20000, destination: to }).steps.filter((one) =>
        one.startsWith("frontend"),
      );
      const kind = /: (\S+),/.exec(step ?? "")?.[1];
      if (kind === undefined) continue;
      seen.add(`${kind} from ${from.kind}`);
      seen.add(`${kind} over ${to.protocol}`);
      seen.add(`${kind} over ${familyOf(to.address)}`);
    }
    const wanted = ["cluster-ip", "node-port", "load-balancer", "external-ip", "host-port"].flatMap((kind) => [
      ...["outside", "pod", "host"].map((client) => `${kind} from ${client}`),
      ...["TCP", "UDP", "SCTP"].map((protocol) => `${kind} over ${protocol}`),
      ...["IPv4", "IPv6"].map((family) => `${kind} over ${family}`),
    ]);
    expect(wanted.filter((one) => !seen.has(one))).toEqual([]);
  });

  test("has no cell of docs/semantics.md empty without a reason", () => {
    expect(emptyCells()).toEqual([]);
  });

  test("has no reason for a cell that has cases, nor one that fits no cell", () => {
    expect(needlessGaps()).toEqual([]);
  });

  test("has every verdict from every client", () => {
    const seen = new Set(
      FLOW_CASES.flatMap(({ expect: wanted, from }) => ("verdict" in wanted ? [`${wanted.verdict} ${from.kind}`] : [])),
    );
    const wanted = ["refuse", "drop", "pass", "echo"].flatMap((verdict) =>
      ["outside", "pod", "host"].map((client) => `${verdict} ${client}`),
    );
    expect(wanted.filter((one) => !seen.has(one))).toEqual([]);
  });
});
