// The examples, and how what they must show is written: in groups, each of checks.
import type { SeedStory } from "./seed-story.ts";

/** The examples, in their order. */
export const SEEDS = [
  "01-pods",
  "02-two-containers-hostport",
  "03-replication-controller",
  "04-rc-exposed",
  "05-deployment",
  "06-clusterip",
  "07-clusterip-fixed",
  "08-headless",
  "09-nodeport-auto",
  "10-nodeport-30001",
  "11-no-selector",
  "12-external-name",
  "13-lb-pool",
  "14-loadbalancer",
  "15-job",
  "16-daemonset",
  "17-host-network",
] as const;

export type Seed = (typeof SEEDS)[number];

/** One check of one example. */
export type Check = (seed: Seed, what: string, body: () => Promise<void>) => Promise<void>;

/** Examples that are shown together. It takes away what it has applied. */
export interface Group {
  readonly seeds: readonly Seed[];
  readonly run: (story: SeedStory, check: Check) => Promise<void>;
}
