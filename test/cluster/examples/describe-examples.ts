// Every example with real pods on a cluster without kube-proxy, by the same table of flows as in the lab. On the way in only
// images, commands and imagePullPolicy change, and for dual stack Services ask for both families. Where agents are programs of the
// test nobody gives LoadBalancer Services addresses, so 13 shows nothing, and 14 its node port and cluster address; through the
// DaemonSet the controller is there too. The second Job of 15 is of an API group that is gone.
import { resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runSeeds, type SeedVerdict } from "../../../src/lab/seed-checks.ts";
import { SEEDS, type Seed } from "../../../src/lab/seed-group.ts";
import { SeedStory } from "../../../src/lab/seed-story.ts";
import { patience } from "../../../src/lib/patience.ts";
import type { Cluster } from "../cluster.ts";
import type { ClusterCni } from "../cni.ts";
import { startController } from "../controller.ts";
import { throughOfEnvironment } from "../node-proxy.ts";
import { startCluster } from "../start-cluster.ts";
import { disagreements, serviceEntries } from "./agent-claims.ts";
import { RealCluster } from "./real-cluster.ts";

const EXAMPLES = resolve(import.meta.dirname, "../../../deploy/examples");

export interface Variant {
  /** Of the cluster. */
  readonly name: string;
  readonly cni: ClusterCni;
  readonly dualStack: boolean;
}

/** Tests of every example on a cluster of its own. */
export function describeExamples(title: string, { name, cni, dualStack }: Variant): void {
  const through = throughOfEnvironment();
  const leftOut: readonly Seed[] = through === "daemonset" ? [] : ["13-lb-pool"];
  describe(`${title}, agents through the ${through}`, () => {
    const verdicts = new Map<Seed, SeedVerdict>();
    const differing: string[] = [];
    let cluster: Cluster;
    let before: readonly Readonly<Record<string, number>>[];
    let after: typeof before;

    const entries = () => Promise.all(cluster.nodes.map((node) => serviceEntries(cluster, node.name)));

    beforeAll(async () => {
      cluster = await startCluster({ name, cni, proxy: "millrace", through, replace: true });
      if (through === "daemonset") await startController(cluster);
      const real = new RealCluster(cluster);
      await real.settle();
      before = await entries();
      await runSeeds({
        cluster: real,
        examples: EXAMPLES,
        dualStack,
        progress: () => {},
        verdict: (verdict) => verdicts.set(verdict.seed, verdict),
        inspect: async () => {
          differing.push(...(await disagreements(cluster)));
        },
      });
      await new SeedStory(real, EXAMPLES, dualStack).removeClients();
      after = await entries();
    }, patience(600_000));

    afterAll(() => cluster?.down());

    it.each(SEEDS.filter((seed) => !leftOut.includes(seed)))("%s shows what it must show", (seed) => {
      expect(verdicts.get(seed)).toEqual({ seed, failure: "" });
    });

    it.each(leftOut)("%s is not checked", (seed) => {
      expect(verdicts.get(seed)).toEqual({ seed, failure: "it was not checked" });
    });

    it("every agent tells Services and backends after each check as kubectl does", () => {
      expect(differing).toEqual([]);
    });

    it("nothing is left in any node's maps", () => {
      expect(after).toEqual(before);
    });
  });
}
