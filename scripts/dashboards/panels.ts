// Kinds of panels and the frame of a dashboard, as all of ours have them: what is asked for is a title, the question that the panel
// answers, a unit and queries. Grafana's own builders make the JSON.
import type { Builder } from "@grafana/grafana-foundation-sdk/cog";
import * as common from "@grafana/grafana-foundation-sdk/common";
import {
  DashboardBuilder,
  DashboardCursorSync,
  DashboardLinkBuilder,
  DashboardLinkType,
  DatasourceVariableBuilder,
  type Panel as PanelJson,
  QueryVariableBuilder,
  RowBuilder,
  ThresholdsConfigBuilder,
  ThresholdsMode,
  VariableRefresh,
  VariableSort,
} from "@grafana/grafana-foundation-sdk/dashboard";
import { DataqueryBuilder, PromQueryFormat } from "@grafana/grafana-foundation-sdk/prometheus";
import { PanelBuilder as StatBuilder } from "@grafana/grafana-foundation-sdk/stat";
import { PanelBuilder as TableBuilder } from "@grafana/grafana-foundation-sdk/table";
import { PanelBuilder as GraphBuilder } from "@grafana/grafana-foundation-sdk/timeseries";

/** Series of the agents that were chosen above. */
export const CHOSEN = `job=~"$job", instance=~"$instance"`;
/** All series of this metric in the chosen agents; `more`: further matchers. */
export const of = (metric: string, more = ""): string => `${metric}{${CHOSEN}${more === "" ? "" : `, ${more}`}}`;
/** How fast a counter of the chosen agents rises, per second. */
export const rate = (metric: string, more = ""): string => `rate(${of(metric, more)}[$__rate_interval])`;
/** A quantile of a histogram of the chosen agents, over all of them or by labels. */
export const quantile = (part: number, metric: string, by: readonly string[] = [], more = ""): string =>
  `histogram_quantile(${part}, sum by (${["le", ...by].join(", ")}) (${rate(`${metric}_bucket`, more)}))`;

/** A query and the name of its series, in which {{label}} stands for a label's value. */
export type Query = readonly [expr: string, legend: string];

interface Asked {
  readonly title: string;
  /** The question that it answers, and what to do about a bad answer. */
  readonly about: string;
  /** As Grafana names them. @default "short" */
  readonly unit?: string;
  /** Of 24 columns. */
  readonly width: number;
  readonly height?: number;
  /** From which value on it is to be worried about, and when it is bad. */
  readonly warn?: number;
  readonly bad?: number;
}

type AnyPanel = Builder<PanelJson>;

const DATASOURCE = { type: "prometheus", uid: "$datasource" } as const;
const REFS = "ABCDEFGH";

function targets(queries: readonly Query[], shape: (one: DataqueryBuilder) => DataqueryBuilder): DataqueryBuilder[] {
  return queries.map(([expr, legend], at) =>
    shape(new DataqueryBuilder().datasource(DATASOURCE).expr(expr).legendFormat(legend).refId(REFS[at]!)),
  );
}

function thresholds({ warn, bad }: Asked): ThresholdsConfigBuilder {
  const steps = [
    { value: null, color: "green" },
    ...(warn === undefined ? [] : [{ value: warn, color: "orange" }]),
    ...(bad === undefined ? [] : [{ value: bad, color: "red" }]),
  ];
  return new ThresholdsConfigBuilder().mode(ThresholdsMode.Absolute).steps(steps);
}

/** One number, or one of each series, as of now. */
export function stat(asked: Asked, ...queries: readonly Query[]): AnyPanel {
  return new StatBuilder()
    .title(asked.title)
    .description(asked.about)
    .datasource(DATASOURCE)
    .unit(asked.unit ?? "short")
    .span(asked.width)
    .height(asked.height ?? 4)
    .thresholds(thresholds(asked))
    .colorMode(
      asked.warn === undefined && asked.bad === undefined
        ? common.BigValueColorMode.None
        : common.BigValueColorMode.Value,
    )
    .graphMode(common.BigValueGraphMode.None)
    .reduceOptions(new common.ReduceDataOptionsBuilder().calcs(["lastNotNull"]))
    .targets(targets(queries, (one) => one.instant()));
}

/** Lines over time. With `stacked` areas, one upon the other. */
export function graph(
  asked: Asked & { readonly stacked?: boolean; readonly max?: number },
  ...queries: readonly Query[]
): AnyPanel {
  const hasLimits = asked.warn !== undefined || asked.bad !== undefined;
  const panel = new GraphBuilder()
    .title(asked.title)
    .description(asked.about)
    .datasource(DATASOURCE)
    .unit(asked.unit ?? "short")
    .span(asked.width)
    .height(asked.height ?? 8)
    .min(0)
    .lineWidth(1)
    .fillOpacity(asked.stacked ? 30 : 5)
    .showPoints(common.VisibilityMode.Never)
    .legend(
      new common.VizLegendOptionsBuilder()
        .showLegend(true)
        .displayMode(common.LegendDisplayMode.Table)
        .placement(common.LegendPlacement.Bottom)
        .calcs(["lastNotNull", "max"]),
    )
    .tooltip(
      new common.VizTooltipOptionsBuilder().mode(common.TooltipDisplayMode.Multi).sort(common.SortOrder.Descending),
    )
    .thresholds(thresholds(asked))
    .thresholdsStyle(
      new common.GraphThresholdsStyleConfigBuilder().mode(
        hasLimits ? common.GraphThresholdsStyleMode.Dashed : common.GraphThresholdsStyleMode.Off,
      ),
    )
    .targets(targets(queries, (one) => one.range()));
  if (asked.stacked) panel.stacking(new common.StackingConfigBuilder().mode(common.StackingMode.Normal));
  return asked.max === undefined ? panel : panel.max(asked.max);
}

/** A row for each series as of now, with its labels as columns; `hidden`: those that say nothing. */
export function table(
  asked: Asked & { readonly value: string; readonly hidden?: readonly string[] },
  query: string,
): AnyPanel {
  const hidden = Object.fromEntries(["Time", ...(asked.hidden ?? [])].map((name) => [name, true]));
  return new TableBuilder()
    .title(asked.title)
    .description(asked.about)
    .datasource(DATASOURCE)
    .unit(asked.unit ?? "short")
    .span(asked.width)
    .height(asked.height ?? 8)
    .filterable(true)
    .thresholds(thresholds(asked))
    .noValue("0")
    .transformations([
      { id: "organize", options: { excludeByName: hidden, indexByName: {}, renameByName: { Value: asked.value } } },
    ])
    .targets(targets([[query, ""]], (one) => one.instant().format(PromQueryFormat.Table)));
}

export interface Section {
  readonly title: string;
  readonly panels: readonly AnyPanel[];
}

export interface Variable {
  readonly name: string;
  readonly label: string;
  readonly query: string;
  /** Several may be chosen, and all are at first. */
  readonly multi: boolean;
}

/** The jobs and the nodes' agents: every dashboard has them. */
const AGENTS: readonly Variable[] = [
  { name: "job", label: "Job", query: "label_values(millrace_build_info, job)", multi: true },
  {
    name: "instance",
    label: "Agent",
    query: `label_values(millrace_build_info{job=~"$job"}, instance)`,
    multi: true,
  },
];

function variable({ name, label, query, multi }: Variable): QueryVariableBuilder {
  const made = new QueryVariableBuilder(name)
    .label(label)
    .datasource(DATASOURCE)
    .query(query)
    .refresh(VariableRefresh.OnTimeRangeChanged)
    .sort(VariableSort.AlphabeticalAsc)
    .multi(multi)
    .includeAll(multi);
  return multi ? made.allValue(".+").current({ selected: true, text: ["All"], value: ["$__all"] }) : made;
}

/** All of ours are found by the tag "millrace", and lead to each other. */
export function dashboard(
  uid: string,
  title: string,
  about: string,
  sections: readonly Section[],
  variables: readonly Variable[] = [],
): unknown {
  const made = new DashboardBuilder(title)
    .uid(uid)
    .description(about)
    .tags(["millrace", "kubernetes"])
    .timezone("browser")
    .refresh("30s")
    .time({ from: "now-1h", to: "now" })
    .tooltip(DashboardCursorSync.Crosshair)
    .link(
      new DashboardLinkBuilder("Millrace")
        .type(DashboardLinkType.Dashboards)
        .tags(["millrace"])
        .asDropdown(true)
        .includeVars(true)
        .keepTime(true),
    )
    .withVariable(new DatasourceVariableBuilder("datasource").label("Data source").type("prometheus"));
  for (const one of [...AGENTS, ...variables]) made.withVariable(variable(one));
  for (const { title: row, panels } of sections) {
    made.withRow(new RowBuilder(row));
    for (const panel of panels) made.withPanel(panel);
  }
  const json = made.build();
  // Links to a single panel need numbers that stay.
  for (const [at, panel] of (json.panels ?? []).entries()) panel.id = at + 1;
  return json;
}
