// What is tested on kind, cluster by cluster.
import { resolve } from "node:path";
import { runSeeds } from "../../src/lab/seed-checks.ts";
import { CheckedKind } from "./checked-kind.ts";
import { install } from "./install.ts";
import type { KindCluster, ProxyMode } from "./kind-cluster.ts";
import type { Report } from "./report.ts";
import { Ways } from "./ways.ts";

const EXAMPLES = resolve(import.meta.dirname, "../../deploy/examples");

export interface Scenario {
  /** Of the cluster, too. */
  readonly name: string;
  readonly title: string;
  readonly proxy: ProxyMode;
  readonly nodes: number;
  readonly run: (report: Report, cluster: KindCluster) => Promise<void>;
}

async function examples(report: Report, checked: CheckedKind): Promise<void> {
  await report.step("every example manifest, both families", async () => {
    await runSeeds({
      cluster: checked,
      examples: EXAMPLES,
      dualStack: true,
      progress: () => {},
      verdict: ({ seed, failure }) =>
        failure === "" ? report.pass(`example ${seed}`) : report.fail(`example ${seed}`, failure),
    });
  });
}

async function withoutKubeProxy(report: Report, cluster: KindCluster): Promise<void> {
  // The fourth node joins later.
  await cluster.leave(cluster.nodeNames[3]!);
  await report.step("install", () => install(cluster));
  const checked = new CheckedKind(cluster);
  const ways = new Ways(cluster, checked, EXAMPLES);
  await report.step("pods and Services for the checks", () => ways.prepare({ loadBalancing: true }));
  await report.step("every way to a Service", () => ways.run(report, { loadBalancing: true }));
  await ways.remove();
  await examples(report, checked);
}

export const SCENARIOS: readonly Scenario[] = [
  { name: "mr", title: "without kube-proxy", proxy: "none", nodes: 4, run: withoutKubeProxy },
];
