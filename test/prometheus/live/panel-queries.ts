// Every query of every panel of the dashboards, with the variables of which it is made filled in, asked of a Prometheus.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { DASHBOARDS } from "../../../scripts/dashboards.ts";
import { filledIn, readExpression } from "../promql.ts";
import { ROOT } from "../rules-file.ts";
import type { Prometheus, Sample } from "./prometheus.ts";

export interface PanelQuery {
  /** Of its dashboard, panel and place. */
  readonly name: string;
  readonly expr: string;
  readonly isInstant: boolean;
  readonly metrics: readonly string[];
}

interface Panel {
  readonly title: string;
  readonly targets?: readonly { readonly expr: string; readonly refId: string; readonly instant?: boolean }[];
}

export const PANEL_QUERIES: readonly PanelQuery[] = DASHBOARDS.flatMap((file) => {
  const { title, panels } = JSON.parse(readFileSync(join(ROOT, file), "utf8")) as { title: string; panels: Panel[] };
  return panels.flatMap((panel) =>
    (panel.targets ?? []).map(({ expr, refId, instant = false }) => ({
      name: `${title}, ${panel.title}, ${refId}`,
      expr,
      isInstant: instant,
      metrics: readExpression(filledIn(expr)).selectors.map(({ metric }) => metric),
    })),
  );
});

/** Of the talk with the API, of the control plane's clock, and of a controller: where objects come from manifests there is none. */
export const asksOfCluster = ({ metrics }: PanelQuery): boolean =>
  metrics.some((metric) =>
    /^(rest_client|millrace_api|millrace_controller|millrace_network_programming)_/.test(metric),
  );

const isNumber = ({ values }: Sample): boolean => values.some(([, value]) => Number.isFinite(Number(value)));

/** Names and expressions of those that have no number now, or in the last `seconds`; with what is wrong. */
export async function withoutData(
  prometheus: Prometheus,
  queries: readonly PanelQuery[],
  variables: Readonly<Record<string, string>>,
  seconds: number,
): Promise<string[]> {
  const found: string[] = [];
  for (const { name, expr, isInstant } of queries) {
    const filled = filledIn(expr, variables);
    const samples = await (isInstant ? prometheus.query(filled) : prometheus.queryRange(filled, seconds));
    if (!samples.some(isNumber)) found.push(`${name}: ${filled}`);
  }
  return found;
}
