// Every example with real pods on a cluster without kube-proxy, by the same table of flows as in the lab, in both families.
// On the way in only images, commands and imagePullPolicy change, and Services ask for both families. Nobody gives LoadBalancer
// addresses here, so 13 shows nothing, and 14 its other addresses; of 15 the second Job is of an API group that is gone.
import { resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runSeeds, SEEDS, type Seed, type SeedVerdict } from "../../src/lab/seed-checks.ts";
import { SeedStory } from "../../src/lab/seed-story.ts";
import type { Cluster } from "./cluster.ts";
import { disagreements, serviceEntries } from "./examples/agent-claims.ts";
import { RealCluster } from "./examples/real-cluster.ts";
import { startCluster } from "./start-cluster.ts";

const EXAMPLES = resolve(import.meta.dirname, "../../deploy/examples");
const LEFT_OUT: readonly Seed[] = ["13-lb-pool"];

type Entries = Readonly<Record<string, number>>;

describe("the examples on a cluster of Kubernetes' own parts", () => {
  const verdicts = new Map<Seed, SeedVerdict>();
  const differing: string[] = [];
  let cluster: Cluster;
  let before: readonly Entries[];
  let after: readonly Entries[];

  const entries = () => Promise.all(cluster.nodes.map(({ name }) => serviceEntries(cluster, name)));

  beforeAll(async () => {
    cluster = await startCluster({ name: "examples", proxy: "millrace", replace: true });
    const real = new RealCluster(cluster);
    await real.settle();
    before = await entries();
    await runSeeds({
      cluster: real,
      examples: EXAMPLES,
      dualStack: true,
      progress: () => {},
      verdict: (verdict) => verdicts.set(verdict.seed, verdict),
      inspect: async () => {
        differing.push(...(await disagreements(cluster)));
      },
    });
    await new SeedStory(real, EXAMPLES, true).removeClients();
    after = await entries();
  }, 400_000);

  afterAll(() => cluster?.down());

  it.each(SEEDS.filter((seed) => !LEFT_OUT.includes(seed)))("%s shows what it must show", (seed) => {
    expect(verdicts.get(seed)).toEqual({ seed, failure: "" });
  });

  it.each(LEFT_OUT)("%s is not checked", (seed) => {
    expect(verdicts.get(seed)).toEqual({ seed, failure: "it was not checked" });
  });

  it("are told by every agent, after each check, as kubectl tells them", () => {
    expect(differing).toEqual([]);
  });

  it("leave nothing in any node's maps", () => {
    expect(after).toEqual(before);
  });
});
