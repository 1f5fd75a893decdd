// `millrace uninstall` from the first look to the last word.
import { Failure } from "../lib/errors.ts";
import { readClusterFacts } from "./cluster-facts.ts";
import { gatherCluster, missingRights, RIGHTS } from "./gather.ts";
import { type InstallRun, refuse, showPlan } from "./install.ts";
import { imageOf } from "./manifest.ts";
import { countObjects, uninstall } from "./uninstall.ts";
import { planUninstall, type UninstallOptions } from "./uninstall-plan.ts";

export interface UninstallRun
  extends Pick<
    InstallRun,
    "api" | "clock" | "signal" | "progress" | "kubeconfigServer" | "manifest" | "timeoutMs" | "confirm"
  > {
  readonly options: UninstallOptions;
  readonly drainTimeoutMs: number;
  readonly isDryRun: boolean;
}

/** @throws Failure */
export async function runUninstall(run: UninstallRun): Promise<void> {
  const { api, progress, manifest, options } = run;
  progress.live("looking at the cluster");
  const facts = readClusterFacts(await gatherCluster(api, run.kubeconfigServer));
  const crds = await countObjects(api, manifest);
  const plan = planUninstall({ facts, options, image: imageOf(manifest), crds });
  showPlan(progress, plan);
  if (plan.isEmpty) return;
  refuse(plan.refusals, "uninstall Millrace");
  if (run.isDryRun) return;
  const missing = await missingRights(api, RIGHTS);
  if (missing.length > 0) {
    const message = `could not uninstall Millrace: your account may not ${missing.join(", ")}; use one that may, such as a cluster administrator's`;
    throw new Failure("cluster", "rights", message);
  }
  if (!(await run.confirm("Do this?"))) throw new Failure("cluster", "the cluster", "not done: nothing was changed");
  const { drainTimeout, parallel } = options;
  await uninstall({ work: run, facts, plan, manifest, drainTimeout, drainTimeoutMs: run.drainTimeoutMs, parallel });
  if (plan.isPartial)
    return progress.line(
      "To take the nodes again: millrace install. It takes every node that --except names neither then nor before.",
    );
  progress.line(
    plan.kubeProxy === undefined
      ? "Nothing of Millrace is left. Nobody serves Services now."
      : "Nothing of Millrace is left. kube-proxy serves the cluster's Services.",
  );
}
