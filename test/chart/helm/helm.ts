// Helm as the tests run it: both major versions, as scripts/helm.sh built them.

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { CHART, KUBE_VERSION } from "../../../scripts/chart.ts";

export const HELMS = ["3", "4"] as const;
export type HelmVersion = (typeof HELMS)[number];

export interface Answer {
  readonly ok: boolean;
  readonly out: string;
  readonly err: string;
}

export function helmPath(version: HelmVersion): string {
  return resolve(import.meta.dirname, `../../../.cache/helm/helm-${version}`);
}

/** Runs helm in a home of its own: it keeps nothing, and finds no cluster. */
export function helm(version: HelmVersion, args: readonly string[]): Answer {
  const home = mkdtempSync(join(tmpdir(), "millrace-helm-"));
  try {
    const env = { ...process.env, HOME: home, KUBECONFIG: "", HELM_CACHE_HOME: join(home, "cache") };
    const { status, stdout, stderr, error } = spawnSync(helmPath(version), args, {
      encoding: "utf8",
      env,
      maxBuffer: 64 << 20,
    });
    if (error !== undefined) throw error;
    return { ok: status === 0, out: stdout, err: stderr };
  } finally {
    rmSync(home, { recursive: true });
  }
}

/** What `helm template` prints of the chart with these values over its own. */
export function template(version: HelmVersion, values: object, more: readonly string[] = []): Answer {
  const directory = mkdtempSync(join(tmpdir(), "millrace-values-"));
  const file = join(directory, "values.json");
  try {
    writeFileSync(file, JSON.stringify(values));
    return helm(version, [
      "template",
      "millrace",
      CHART,
      "--namespace=kube-system",
      `--values=${file}`,
      KUBE_VERSION,
      ...more,
    ]);
  } finally {
    rmSync(directory, { recursive: true });
  }
}
