// What each example must show, group by group, on a cluster of three nodes: the table behind `make demo`, the lab's tests and
// those of a real cluster.
// A group is taken away before the next comes; an example's verdict is given when the last group that holds it is over.
import type { CheckedCluster } from "./checked-cluster.ts";
import { loadBalancer, replicationController } from "./load-balancer-checks.ts";
import { hostPorts, pods } from "./pod-checks.ts";
import { type Check, type Group, SEEDS, type Seed } from "./seed-group.ts";
import { CheckFailure, SeedStory } from "./seed-story.ts";
import { services } from "./service-checks.ts";
import { daemonSet, hostNetwork, jobs } from "./workload-checks.ts";

export interface SeedVerdict {
  readonly seed: Seed;
  /** "" when everything held, else what did not. */
  readonly failure: string;
}

export interface SeedRun {
  /** A cluster of three nodes, up. */
  readonly cluster: CheckedCluster;
  /** Directory of the examples. */
  readonly examples: string;
  readonly dualStack: boolean;
  readonly progress: (text: string) => void;
  readonly verdict: (verdict: SeedVerdict) => void;
  /** Looks at the cluster after each check; what it throws counts against the check's example. */
  readonly inspect?: () => Promise<void>;
}

const GROUPS: readonly Group[] = [
  ...[pods, hostPorts, replicationController, services],
  ...[loadBalancer, jobs, daemonSet, hostNetwork],
];

/**
 * Runs every group, and gives each example's verdict once; one of which this cluster can show nothing is "not checked".
 * Resolves with all of them, in the examples' order. Never rejects for a check.
 */
export async function runSeeds(run: SeedRun): Promise<readonly SeedVerdict[]> {
  const story = new SeedStory(run.cluster, run.examples, run.dualStack);
  const failures = new Map<Seed, string>();
  const fail = (seed: Seed, reason: string) => {
    if (!failures.has(seed)) failures.set(seed, reason.replace(/\s+/g, " ").trim());
  };
  const verdicts = new Map<Seed, SeedVerdict>();
  const checked = new Set<Seed>();
  let broken = "";
  await story.addClients().catch((error: Error) => {
    broken = `the demo's own pods did not start: ${error.message}`;
  });
  for (const [index, group] of GROUPS.entries()) {
    const check: Check = async (seed, what, body) => {
      run.progress(`${seed}: ${what}`);
      checked.add(seed);
      try {
        await body();
        await run.inspect?.();
      } catch (error) {
        fail(seed, `${what}: ${error instanceof Error ? error.message : String(error)}`);
      }
    };
    try {
      if (broken !== "") throw new CheckFailure(broken);
      await group.run(story, check);
      await run.inspect?.();
    } catch (error) {
      for (const seed of group.seeds) fail(seed, error instanceof Error ? error.message : String(error));
    }
    for (const seed of group.seeds) {
      if (GROUPS.slice(index + 1).some((later) => later.seeds.includes(seed))) continue;
      const verdict = { seed, failure: failures.get(seed) ?? (checked.has(seed) ? "" : "it was not checked") };
      verdicts.set(seed, verdict);
      run.verdict(verdict);
    }
  }
  return SEEDS.map((seed) => verdicts.get(seed)!);
}

/** The line of a verdict; with a mark and colour for a terminal. */
export function verdictLine({ seed, failure }: SeedVerdict, onTerminal: boolean): string {
  const text = failure === "" ? `example ${seed}: ok` : `example ${seed}: FAILED: ${failure}`;
  if (!onTerminal) return text;
  return failure === "" ? `\u001b[32m✓\u001b[0m ${text}` : `\u001b[31m✗\u001b[0m ${text}`;
}
