// `make bench-failover`: how long a LoadBalancer address goes unanswered, and how long two speak for it, when something happens to
// the node that announces it; and how many frames that takes. --products LIST, --only REGEX (names of scenarios, or "frames"),
// --runs N, --json FILE: what is in it already is not done again.
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { measureFrames } from "../test/failover/frames.ts";
import { PRODUCTS, type Product } from "../test/failover/product-names.ts";
import { openSite } from "../test/failover/products.ts";
import { emptyResults, type Results, summaryLine } from "../test/failover/results.ts";
import { runScenario } from "../test/failover/run.ts";
import { SCENARIOS, type Scenario } from "../test/failover/scenarios.ts";
import type { Site } from "../test/failover/site.ts";
import { startProber } from "../test/failover/stage.ts";
import { readMachine } from "./machine.ts";

const { values: flags } = parseArgs({
  options: {
    products: { type: "string", default: "millrace,metallb" },
    only: { type: "string", default: "" },
    runs: { type: "string", default: "20" },
    json: { type: "string", default: "build/bench-failover.json" },
  },
});

const ADDRESSES = 1000;
/** Announcements are repeated once a minute. */
const REST_SECONDS = 60;

const progress = (text: string): void => void process.stderr.write(`  BENCH  ${text}\n`);

function readResults(): Results {
  if (!existsSync(flags.json)) return emptyResults();
  return JSON.parse(readFileSync(flags.json, "utf8")) as Results;
}

const results = readResults();

function keep(): void {
  writeFileSync(`${flags.json}.part`, `${JSON.stringify(results, undefined, 2)}\n`);
  renameSync(`${flags.json}.part`, flags.json);
}

function wantedRuns(scenario: Scenario): number {
  return Math.min(Number(flags.runs), scenario.runs ?? Number.POSITIVE_INFINITY);
}

/** Runs of it that are still to do; several in a row that fail are enough. */
async function measure(product: Product, site: Site, scenario: Scenario): Promise<void> {
  const prober = await startProber(site);
  let failures = 0;
  results.runs[product] ??= {};
  results.runs[product][scenario.name] ??= [];
  const outcomes = results.runs[product][scenario.name] ?? [];
  while (outcomes.length < wantedRuns(scenario) && failures < 3) {
    try {
      const outcome = await runScenario(site, prober, scenario, results.next++);
      outcomes.push(outcome);
      const { unresolvedMs, unansweredMs, severalMs, speakers } = outcome;
      progress(
        `${product} ${scenario.name}: no answer to ARP or NDP ${unresolvedMs} ms, to UDP or TCP ${unansweredMs} ms, several speakers ${severalMs} ms; ${speakers.join(" > ")}`,
      );
    } catch (error) {
      failures++;
      progress(`${product} ${scenario.name} failed: ${(error as Error).message}`);
    }
    keep();
  }
  await prober.end();
  process.stdout.write(`${summaryLine(product, scenario, outcomes)}\n`);
}

function isPossible(scenario: Scenario, site: Site): boolean {
  if (scenario.needs === "an API") return site.api !== undefined;
  return scenario.needs !== "an event loop" || site.hasEventLoop;
}

/** Many addresses at once, and what they put on the LAN. */
async function measureTraffic(product: Product, site: Site): Promise<void> {
  const prober = await startProber(site);
  try {
    const figures = await measureFrames(site, prober, results.next++, ADDRESSES, REST_SECONDS);
    results.frames[product] = figures;
    progress(`${product} frames: ${JSON.stringify(figures)}`);
  } catch (error) {
    progress(`${product} frames failed: ${(error as Error).message}`);
  }
  await prober.end();
  keep();
}

let opened: Site | undefined;
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => void Promise.resolve(opened?.[Symbol.asyncDispose]()).finally(() => process.exit(1)));
}

const only = new RegExp(flags.only);
for (const name of flags.products.split(",")) {
  const product = PRODUCTS.find((one) => one === name);
  if (product === undefined) throw new Error(`there is no product ${name}: ${PRODUCTS.join(", ")}`);
  const isDue = (scenario: Scenario): boolean =>
    only.test(scenario.name) && (results.runs[product]?.[scenario.name]?.length ?? 0) < wantedRuns(scenario);
  const due = SCENARIOS.filter(isDue);
  const framesAreDue = only.test("frames") && results.frames[product] === undefined;
  if (due.length === 0 && !framesAreDue) continue;
  progress(`${product}: ${[...due.map((scenario) => scenario.name), ...(framesAreDue ? ["frames"] : [])].join(", ")}`);
  await using site = await openSite(product, progress);
  opened = site;
  const date = new Date().toISOString().slice(0, 10);
  results.measured[product] = { date, machine: readMachine(), version: site.version };
  for (const scenario of due) if (isPossible(scenario, site)) await measure(product, site, scenario);
  if (framesAreDue) await measureTraffic(product, site);
}
