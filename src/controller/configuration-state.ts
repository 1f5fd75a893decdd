// The ConfigurationState of the controller, as MetalLB 0.16 writes it: whether the configuration is valid, and why not.
import type { ClusterWriter } from "../kube/cluster-writer.ts";

export const CONFIGURATION_STATE = "controller";
const CONDITION = "poolReconcilerValid";
const SUMMARY_LENGTH = 8_192;

/** `faults`: why the configuration is not in force, a line for each. */
export function configurationStatus(
  faults: readonly string[],
  nowIso: string,
  reason = "ConfigurationError",
): Readonly<Record<string, unknown>> {
  const all = faults.join("\n");
  const message = all.length > SUMMARY_LENGTH ? `${all.slice(0, SUMMARY_LENGTH)}…` : all;
  const isValid = faults.length === 0;
  return {
    result: isValid ? "Valid" : "Invalid",
    errorSummary: message,
    conditions: [
      {
        type: CONDITION,
        status: isValid ? "True" : "False",
        reason: isValid ? "Reconciled" : reason,
        message,
        lastTransitionTime: nowIso,
      },
    ],
  };
}

/** Not written, and no problem: its CRD is not there. */
export async function writeConfigurationState(
  writer: Pick<ClusterWriter, "createConfigurationState" | "patchConfigurationStateStatus">,
  namespace: string,
  status: Readonly<Record<string, unknown>>,
): Promise<{ readonly isWritten: boolean; readonly problem?: string }> {
  const which = { namespace, name: CONFIGURATION_STATE };
  const patched = await writer.patchConfigurationStateStatus(which, { status });
  if (patched.outcome === "done") return { isWritten: true };
  const could = `could not write ConfigurationState ${namespace}/${CONFIGURATION_STATE}`;
  if (patched.outcome !== "absent") return { isWritten: false, problem: `${could}: ${patched.message}` };
  const created = await writer.createConfigurationState(namespace, {
    apiVersion: "metallb.io/v1beta1",
    kind: "ConfigurationState",
    metadata: { ...which, labels: { "metallb.io/component-type": "controller" } },
  });
  if (created.outcome === "absent") return { isWritten: false };
  if (created.outcome !== "done" && created.outcome !== "conflict")
    return { isWritten: false, problem: `${could}: ${created.message}` };
  const again = await writer.patchConfigurationStateStatus(which, { status });
  return again.outcome === "done" ? { isWritten: true } : { isWritten: false, problem: `${could}: ${again.message}` };
}
