// The short form of `make bench-failover` (docs/failover.md): what a client outside notices when something happens to the node that
// announces an address. Bounds are ten times what is aimed at, as the machine may be busy elsewhere.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { labPaths, nodeDir } from "../../src/lab/lab-paths.ts";
import { labSite } from "../failover/lab-site.ts";
import { PERIOD_MS } from "../failover/probe-words.ts";
import { runScenario } from "../failover/run.ts";
import { SCENARIOS } from "../failover/scenarios.ts";
import type { Site } from "../failover/site.ts";
import { type Outcome, startProber } from "../failover/stage.ts";
import { labName } from "./lab-fixture.ts";
import { type Program, TestLab } from "./traffic/test-lab.ts";

const GOAL_MS = 1000;
const BOUND_MS = 10 * GOAL_MS;
/** Questions that a busy machine has answered too late. */
const NOISE_MS = 400;

describe("an announced address, seen from outside", () => {
  const lab = new TestLab(labName("failover"));
  let site: Site | undefined;
  let prober: Program | undefined;
  let index = 0;

  beforeAll(async () => {
    site = await labSite(lab);
    prober = await startProber(site);
  });
  afterAll(async () => {
    await prober?.end();
    await site?.[Symbol.asyncDispose]();
  });

  async function play(name: string): Promise<Outcome> {
    const scenario = SCENARIOS.find((one) => one.name === name);
    if (scenario === undefined || site === undefined || prober === undefined) throw new Error(`cannot play ${name}`);
    const outcome = await runScenario(site, prober, scenario, index++);
    process.stdout.write(`${name}: ${JSON.stringify(outcome)}\n`);
    if (outcome.severalMs > 0) tellWhatAgentsDid(site.announcers);
    return outcome;
  }

  function tellWhatAgentsDid(nodes: readonly string[]): void {
    for (const node of nodes) {
      const log = readFileSync(join(nodeDir(labPaths(lab.name), node), "agent.log"), "utf8");
      process.stdout.write(`${node}:\n${log.split("\n").slice(-12).join("\n")}\n`);
    }
  }

  // Whoever comes back claims only what nobody answers for. What it hears may be late, on a machine that is busy elsewhere: then two
  // answer until the better one is heard.
  it.each([
    ["power-cut", 0],
    ["link-down", NOISE_MS],
  ])("is answered by another node soon after %s", async (name, mostSeveralMs) => {
    const { unresolvedMs, unansweredMs, severalMs, isOpen, speakers } = await play(name);
    expect(isOpen).toBe(false);
    expect(severalMs).toBeLessThanOrEqual(mostSeveralMs);
    expect(Math.max(unresolvedMs, unansweredMs)).toBeLessThan(BOUND_MS);
    // Whoever answered before is cut off until the next one answers; its last answer may be from before the prober looked.
    expect(unresolvedMs).toBeGreaterThan(NOISE_MS / 4);
    expect(new Set(speakers.flatMap((names) => names.split("+"))).size).toBeLessThanOrEqual(2);
  });

  it("is answered all the while when the agent is killed and started again", async () => {
    const { unresolvedMs, unansweredMs, lost, severalMs, speakers } = await play("agent-killed-1s");
    // Frames and connections are answered by kernels alone; datagrams by a process too, which waits for its turn on a busy machine.
    expect(unresolvedMs).toBeLessThan(NOISE_MS);
    expect(lost?.connections).toBeLessThan(NOISE_MS / PERIOD_MS);
    expect(unansweredMs).toBeLessThan(BOUND_MS);
    expect({ severalMs, speakers: speakers.length }).toEqual({ severalMs: 0, speakers: 1 });
  });

  it("has one speaker again soon after a split is healed", async () => {
    const { unansweredMs, severalMs, isOpen } = await play("split");
    expect(isOpen).toBe(false);
    expect(unansweredMs).toBeLessThan(BOUND_MS);
    expect(severalMs).toBeLessThan(BOUND_MS);
  });

  it("is left to a host outside that has it already", async () => {
    const { severalMs, speakers } = await play("foreign-host");
    expect({ severalMs, speakers }).toEqual({ severalMs: 0, speakers: ["a stranger"] });
  });
});
