// What is broken so that alerts fire, and mended so that they clear.
import { patience } from "../../../src/lib/patience.ts";
import { until } from "../../lab/traffic/test-lab.ts";
import type { Prometheus } from "./prometheus.ts";

export interface Breakage {
  readonly name: string;
  /** Those that it makes fire, at least. */
  readonly alerts: readonly string[];
  /** Returns what mends it. */
  apply(): Promise<() => Promise<void>>;
}

/** All of the alerts were seen to fire here. */
export const seenToFire = new Set<string>();

/**
 * Breaks all of it at once, waits until each alert fires, mends it, and waits until none fires any more but for `besides`. Prints how
 * long that took. @throws which alerts did not
 */
export async function breakAndMend(
  prometheus: Prometheus,
  breakages: readonly Breakage[],
  besides: ReadonlySet<string> = new Set(),
): Promise<void> {
  const began = Date.now();
  const seconds = (): string => ((Date.now() - began) / 1000).toFixed(1);
  const mends: (() => Promise<void>)[] = [];
  const missing = new Set(breakages.flatMap(({ alerts }) => alerts));
  const told: string[] = [];
  try {
    for (const one of breakages) mends.push(await one.apply());
    await until(
      "alerts to fire",
      async () => {
        for (const name of await prometheus.firing()) {
          if (!missing.delete(name)) continue;
          seenToFire.add(name);
          told.push(`${name} fires after ${seconds()} s`);
        }
        return missing.size === 0 ? true : undefined;
      },
      patience(400_000),
    ).catch((cause: unknown) => {
      throw new Error(`${[...missing].join(", ")} did not fire`, { cause });
    });
  } finally {
    process.stdout.write(`${breakages.map(({ name }) => name).join("; ")}\n  ${told.join("\n  ")}\n`);
    for (const mend of mends.reverse()) await mend();
  }
  const mended = seconds();
  let left: readonly string[] = [];
  await until(
    "alerts to clear",
    async () => {
      left = [...(await prometheus.firing())].filter((name) => !besides.has(name));
      return left.length === 0 ? true : undefined;
    },
    patience(400_000),
  ).catch((cause: unknown) => {
    throw new Error(`${left.join(", ")} did not clear`, { cause });
  });
  process.stdout.write(`  mended after ${mended} s, all clear after ${seconds()} s\n`);
}
