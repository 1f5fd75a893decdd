// `make bench-ways`: the ways to one server side by side, in three clusters at once: Millrace's, kube-proxy's (nftables) and one
// without a proxy, where an empty program is attached in turn. Prints ratios pair by pair with 95 % intervals, what our programs
// cost a request, and the goals. --pairs N, --ms MILLISECONDS of each measurement, --only WORDS of "way, kind", --json FILE.
// Needs root. Takes its clusters away at its end, however it ends; those of one that was killed, when it is started again.
import fs from "node:fs";
import os from "node:os";
import { parseArgs } from "node:util";
import type { Cluster } from "../test/cluster/cluster.ts";
import { clusterPaths, STATE_ROOT } from "../test/cluster/paths.ts";
import type { ServiceProxy } from "../test/cluster/proxy.ts";
import { startCluster } from "../test/cluster/start-cluster.ts";
import { tearDown } from "../test/cluster/teardown.ts";
import { countRuns } from "../test/kernel/libbpf/run-statistics.ts";
import { readMachine } from "./machine.ts";
import { median } from "./measure.ts";
import { machineLines } from "./report.ts";
import { agentPrograms, type Cost, type Counts, costOf, EmptyProgram, type Programs } from "./ways-cost.ts";
import { LEAST_PAIRS, ratioOf } from "./ways-interval.ts";
import {
  costLines,
  goalLines,
  rateLines,
  ratioLines,
  SERIES,
  type Series,
  type SeriesSummary,
  type WayResult,
  waysGoals,
} from "./ways-report.ts";
import { KINDS, type Kind, type Means, type Sample, Site, WAYS, type Way } from "./ways-site.ts";

const { values: flags } = parseArgs({
  options: {
    pairs: { type: "string", default: "30" },
    ms: { type: "string", default: "250" },
    only: { type: "string", default: "" },
    json: { type: "string" },
  },
});
const pairs = Number(flags.pairs);
const milliseconds = Number(flags.ms);
if (!Number.isInteger(pairs) || pairs < LEAST_PAIRS || !(milliseconds >= 50 && milliseconds <= 10_000)) {
  process.stderr.write(`bench-ways: --pairs takes ${LEAST_PAIRS} or more, --ms 50 to 10000\n`);
  process.exit(2);
}
if (process.getuid?.() !== 0) {
  process.stderr.write("could not measure: it needs root, for namespaces and BPF programs\n");
  process.exit(3);
}

const WARM_UP_MS = 100;
/** Measurements of each series while runs are counted, which slows programs down: they are apart. */
const COUNTED = 5;
const say = (lines: readonly string[]): void => void process.stdout.write(`${lines.join("\n")}\n\n`);
const progress = (text: string): void => void process.stderr.write(`  BENCH  ${text}\n`);

type SiteName = "millrace" | "nftables" | "none";
type Sites = Readonly<Record<SiteName, Site>>;

const clusterName = (proxy: SiteName): string => `ways-${process.pid}-${proxy}`;

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Takes away the clusters of a bench that was killed. */
async function removeLeftovers(): Promise<void> {
  if (!fs.existsSync(STATE_ROOT)) return;
  for (const name of fs.readdirSync(STATE_ROOT)) {
    const pid = /^ways-(\d+)-[a-z]+$/.exec(name)?.[1];
    if (pid !== undefined && !isAlive(Number(pid))) await tearDown(clusterPaths(name));
  }
}

/** A cluster that ends with `stack`, also when that ends while it starts. */
async function startIn(stack: AsyncDisposableStack, proxy: SiteName & ServiceProxy): Promise<Cluster> {
  progress(`a cluster, ${proxy === "none" ? "no proxy" : proxy}`);
  const starting = startCluster({ name: clusterName(proxy), proxy, replace: true });
  stack.defer(async () => {
    const cluster = await starting.catch(() => undefined);
    await cluster?.down();
  });
  return starting;
}

interface Bench {
  readonly sites: Sites;
  readonly empty: EmptyProgram;
  readonly emptyPrograms: Programs;
  readonly ourPrograms: Programs;
}

async function measureOnce({ sites, empty }: Bench, way: Way, kind: Kind, series: Series, ms: number): Promise<Sample> {
  const [name, means] = series.split(" ") as [SiteName | "empty", Means];
  if (name === "empty") empty.attach();
  try {
    const sample = await sites[name === "empty" ? "none" : name].ask(way, means, kind, ms);
    if (sample.requests === 0) throw new Error(`nothing was answered: ${way.name}, ${kind}, ${series}`);
    return sample;
  } finally {
    if (name === "empty") empty.detach();
  }
}

async function measureCosts(bench: Bench, way: Way, kind: Kind): Promise<WayResult["cost"]> {
  const { ourPrograms, emptyPrograms } = bench;
  /** Before and after each measurement, and its requests. */
  const count = async (programs: Programs, series: Series) => {
    const rounds: (readonly [Counts, Counts, number])[] = [];
    for (let i = 0; i < COUNTED; i++) {
      const before = programs.read();
      const { requests } = await measureOnce(bench, way, kind, series, milliseconds);
      rounds.push([before, programs.read(), requests]);
    }
    return rounds;
  };
  using _ = countRuns();
  const empty = middleOf((await count(emptyPrograms, "empty direct")).map((round) => costOf(...round, 0)));
  const emptyNs = empty.nsPerRequest / empty.runsPerRequest;
  const cost = async (series: Series): Promise<Cost> =>
    middleOf((await count(ourPrograms, series)).map((round) => costOf(...round, emptyNs)));
  return {
    direct: await cost("millrace direct"),
    service: await cost("millrace service"),
    emptyNs,
    emptyRunsPerRequest: empty.runsPerRequest,
  };
}

/** The one in the middle by its sum. Interrupts and preemption are counted with the program that they hit. */
function middleOf(costs: readonly Cost[]): Cost {
  return costs.toSorted((a, b) => a.nsPerRequest - b.nsPerRequest)[costs.length >> 1]!;
}

function summaryOf(samples: readonly Sample[]): SeriesSummary {
  const of = (part: (sample: Sample) => number): number => median(samples.map(part));
  return {
    perSecond: of(({ perSecond }) => perSecond),
    p50Us: of(({ p50Ns }) => p50Ns / 1000),
    p99Us: of(({ p99Ns }) => p99Ns / 1000),
    errors: samples.reduce((sum, { errors }) => sum + errors, 0),
  };
}

async function measureWay(bench: Bench, way: Way, kind: Kind): Promise<WayResult> {
  const samples = Object.fromEntries(SERIES.map((name) => [name, [] as Sample[]])) as Record<Series, Sample[]>;
  for (const series of SERIES) await measureOnce(bench, way, kind, series, WARM_UP_MS);
  for (let pair = 0; pair < pairs; pair++) {
    // There and back again, so that what drifts does not favour anybody.
    for (const series of pair % 2 === 0 ? SERIES : SERIES.toReversed()) {
      samples[series].push(await measureOnce(bench, way, kind, series, milliseconds));
    }
  }
  const rates = (series: Series): number[] => samples[series].map(({ perSecond }) => perSecond);
  const ratio = (above: Series, below: Series) => ratioOf(rates(above), rates(below));
  return {
    way: way.name,
    kind,
    series: Object.fromEntries(SERIES.map((name) => [name, summaryOf(samples[name])])) as WayResult["series"],
    ratios: {
      direct: ratio("millrace direct", "none direct"),
      overEmpty: ratio("millrace direct", "empty direct"),
      service: ratio("millrace service", "nftables service"),
      ceiling: ratio("none direct", "nftables service"),
    },
    cost: await measureCosts(bench, way, kind),
  };
}

async function run(stack: AsyncDisposableStack): Promise<void> {
  const machine = readMachine();
  say(machineLines(machine));
  await removeLeftovers();
  // One after the other: each start is work for all processors.
  const prepare = async (proxy: SiteName): Promise<Site> => Site.prepare(await startIn(stack, proxy), stack);
  const sites: Sites = {
    millrace: await prepare("millrace"),
    nftables: await prepare("nftables"),
    none: await prepare("none"),
  };
  const empty = stack.use(await EmptyProgram.load(sites.none.cluster));
  const ourPrograms = stack.use(agentPrograms(sites.millrace.cluster));
  const bench: Bench = { sites, empty, emptyPrograms: empty.programs, ourPrograms };
  const results: WayResult[] = [];
  for (const way of WAYS) {
    for (const kind of KINDS) {
      if (!`${way.name}, ${kind}`.includes(flags.only)) continue;
      progress(`${way.name}, ${kind}`);
      results.push(await measureWay(bench, way, kind));
    }
  }
  const goals = waysGoals(results);
  const loadAtEnd = os.loadavg()[0] ?? 0;
  say([`${pairs} alternating pairs of ${milliseconds} ms each; load ${loadAtEnd.toFixed(1)} at the end`]);
  for (const lines of [ratioLines, rateLines, costLines]) say(lines(results));
  say(goalLines(goals));
  if (flags.json !== undefined) {
    const all = { machine, loadAtEnd, pairs, milliseconds, ways: results, goals };
    fs.writeFileSync(flags.json, `${JSON.stringify(all, undefined, 2)}\n`);
  }
}

/** Rejects at the first signal that asks for the end. */
function interruption(): Promise<never> {
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  return new Promise((_, reject) => {
    for (const signal of signals) process.on(signal, () => reject(new Error(`interrupted by ${signal}`)));
  });
}

const stack = new AsyncDisposableStack();
const running = run(stack);
try {
  await Promise.race([running, interruption()]);
} catch (error) {
  process.stderr.write(`bench-ways: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
} finally {
  // What goes on meanwhile finds its programs and clusters gone.
  running.catch(() => {});
  progress("taking the clusters away");
  await stack.disposeAsync();
}
process.exit();
