// How many frames announcers put on the LAN: at rest with many addresses, and when the node that announces a share of them loses
// its power.
import { setTimeout as delay } from "node:timers/promises";
import type { Program } from "../lab/traffic/test-lab.ts";
import type { FrameCounts } from "./lan.ts";
import { manyServices, type Site } from "./site.ts";
import { Stage } from "./stage.ts";

export interface FrameFigures {
  readonly addresses: number;
  /** Per second, over `restSeconds`. */
  readonly atRest: FrameCounts;
  readonly restSeconds: number;
  /** In the 10 s from the power cut on. */
  readonly onFailover: FrameCounts;
  /** Until the client was served again at the last of the addresses that the node announced. */
  readonly unansweredMs: number;
}

const SETTLE_LIMIT_MS = 120_000;
const CALM_MS = 10_000;
const FEW = 200;

const perSecond = (counts: FrameCounts, seconds: number): FrameCounts =>
  Object.fromEntries(
    Object.entries(counts).map(([kind, count]) => [kind, Math.round((count / seconds) * 10) / 10]),
  ) as unknown as FrameCounts;

/** `index`: as of runScenario. */
export async function measureFrames(
  site: Site,
  prober: Program,
  index: number,
  addresses: number,
  restSeconds: number,
): Promise<FrameFigures> {
  const { lan, announcers } = site;
  const many = manyServices(addresses);
  await using stack = new AsyncDisposableStack();
  stack.defer(async () => {
    await lan.changes.restore();
    await site.settled();
    await site.withdraw(many.keys());
  });
  await using stage = Stage.make(site, prober, index, "IPv4");
  await stage.open();
  await site.expose(many);
  await lan.countFrames(announcers);
  await calm(site);
  await lan.countFrames(announcers);
  await stage.pause(restSeconds * 1000);
  const atRest = perSecond(await lan.readFrames(), restSeconds);
  await stage.calm(30_000);
  await lan.countFrames(announcers);
  await site.cutPower(stage.holder);
  await stage.pause(10_000);
  const onFailover = await lan.readFrames();
  await stage.recovered(30_000);
  await stage.take();
  return { addresses, atRest, restSeconds, onFailover, unansweredMs: stage.outcome().unansweredMs };
}

/** Until the new addresses are announced and said often enough: then frames of them are rare for a while. */
async function calm({ lan, announcers }: Site): Promise<void> {
  const end = Date.now() + SETTLE_LIMIT_MS;
  while (Date.now() < end) {
    await lan.countFrames(announcers);
    await delay(CALM_MS);
    const { resolution, neighbours } = await lan.readFrames();
    if (resolution + neighbours < FEW) return;
  }
}
