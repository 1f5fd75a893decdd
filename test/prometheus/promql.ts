// What a PromQL expression asks for: its metrics with the labels that it names. Read by Prometheus' own grammar.
import { parser } from "@prometheus-io/lezer-promql";
import { CONTROLLER_METRICS } from "../../src/http/controller-metrics.ts";
import { createMetricsRegistry, METRICS } from "../../src/http/metrics.ts";

type Node = ReturnType<typeof parser.parse>["topNode"];

export interface Selector {
  readonly metric: string;
  /** Names and values of its matchers. */
  readonly matchers: readonly { readonly label: string; readonly value: string }[];
  /** Under rate(), increase() and their like, but not max_over_time() and its: of a counter then. */
  readonly isRate: boolean;
}

export interface Expression {
  readonly selectors: readonly Selector[];
  /** In `by (…)`, `on (…)`, `group_left (…)`. */
  readonly groupings: readonly string[];
}

/** Grafana's variables as values that may stand where they stand. */
export function filledIn(expr: string, values: Readonly<Record<string, string>> = {}): string {
  return expr.replace(/\$(\w+)/g, (_, name: string) => {
    const given = values[name];
    if (given !== undefined) return given;
    return name.startsWith("__") ? "5m" : ".+";
  });
}

function* descendants(node: Node): Generator<Node> {
  for (let child = node.firstChild; child !== null; child = child.nextSibling) {
    yield child;
    yield* descendants(child);
  }
}

const unquoted = (text: string): string => JSON.parse(text) as string;

/** The name of the function whose argument this is. */
const functionOf = (argument: Node, text: (node: Node) => string): string => {
  const name = argument.parent?.parent?.getChild("FunctionIdentifier");
  return name ? text(name) : "";
};

/** @throws when it is no PromQL */
export function readExpression(expr: string): Expression {
  const tree = parser.parse(expr);
  const nodes = [...descendants(tree.topNode)];
  const wrong = nodes.find(({ type }) => type.isError);
  if (wrong !== undefined) throw new Error(`no PromQL at ${wrong.from}: ${expr}`);
  const text = ({ from, to }: Node): string => expr.slice(from, to);
  const named = (name: string): Node[] => nodes.filter((node) => node.name === name);
  return {
    selectors: named("VectorSelector").map((selector) => ({
      metric: text(selector.getChild("Identifier")!),
      isRate: selector.parent?.name === "MatrixSelector" && !/_over_time$/.test(functionOf(selector.parent, text)),
      matchers: [...descendants(selector)]
        .filter(({ name }) => name === "UnquotedLabelMatcher")
        .map((matcher) => ({
          label: text(matcher.getChild("LabelName")!),
          value: unquoted(text(matcher.getChild("StringLiteral")!)),
        })),
    })),
    groupings: named("GroupingLabels").flatMap((list) => list.getChildren("LabelName").map(text)),
  };
}

interface Known {
  readonly type: "counter" | "gauge" | "histogram";
  readonly labels: readonly string[];
}

/** What a scraper adds to every series. */
const ADDED = ["job", "instance"];

const suffixes = { _bucket: ["le"], _sum: [], _count: [] } as const;

/** Every name that a scrape of an agent or a controller may have, with its labels; `up` too. */
export function knownMetrics(): ReadonlyMap<string, Known> {
  const known = new Map<string, Known>([["up", { type: "gauge", labels: ADDED }]]);
  for (const { name, type, labels } of [...METRICS, ...CONTROLLER_METRICS]) {
    if (type !== "histogram") known.set(name, { type, labels: [...labels, ...ADDED] });
    else
      for (const [suffix, more] of Object.entries(suffixes))
        known.set(`${name}${suffix}`, { type: "counter", labels: [...labels, ...more, ...ADDED] });
  }
  for (const { name } of createMetricsRegistry().processMetrics())
    known.set(name, { type: name.endsWith("_total") ? "counter" : "gauge", labels: ADDED });
  return known;
}

/** What is wrong with an expression that may ask for `known` alone, in words; empty when nothing is. */
export function faultsOf(expr: string, known: ReadonlyMap<string, Known>): string[] {
  const { selectors, groupings } = readExpression(expr);
  const faults: string[] = [];
  const labels = new Set<string>();
  for (const { metric, matchers, isRate } of selectors) {
    const found = known.get(metric);
    if (found === undefined) {
      faults.push(`there is no metric ${metric}`);
      continue;
    }
    for (const label of found.labels) labels.add(label);
    for (const { label } of matchers) if (!found.labels.includes(label)) faults.push(`${metric} has no label ${label}`);
    if (isRate && found.type !== "counter") faults.push(`${metric} is no counter`);
  }
  for (const label of groupings) if (!labels.has(label)) faults.push(`no metric has the label ${label}`);
  return faults;
}
