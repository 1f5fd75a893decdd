// One run of a scenario at a site, from an address that nobody has yet to a site as it was before.
import type { Program } from "../lab/traffic/test-lab.ts";
import type { Scenario } from "./scenarios.ts";
import type { Site } from "./site.ts";
import { type Outcome, Stage } from "./stage.ts";

/** `index`: a number that no other run at this site has. @throws when the address is not announced, or the site does not get well again */
export async function runScenario(site: Site, prober: Program, scenario: Scenario, index: number): Promise<Outcome> {
  await using stage = Stage.make(site, prober, index, scenario.family ?? "IPv4");
  await using stack = new AsyncDisposableStack();
  stack.defer(async () => {
    await site.lan.changes.restore();
    await site.settled();
  });
  if (scenario.before === undefined) await stage.open();
  else await scenario.before(stage);
  await scenario.play(stage);
  return stage.outcome();
}
