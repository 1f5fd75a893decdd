// Millrace's controller on a cluster: with the DaemonSet it is there already, else it runs beside the control plane.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { millraceCommand } from "../../src/lab/programs.ts";
import type { Cluster } from "./cluster.ts";
import { hasController } from "./installed.ts";
import { manifest } from "./workloads.ts";

const CRDS = resolve(import.meta.dirname, "../../deploy/crds.yaml");
/** Where MetalLB's objects are. */
export const POOL_NAMESPACE = "metallb-system";

/** Makes the cluster one whose LoadBalancer Services get addresses from pools; the namespace for these is there. It ends with the cluster. */
export async function startController(cluster: Cluster): Promise<void> {
  await cluster.apply(manifest({ apiVersion: "v1", kind: "Namespace", metadata: { name: POOL_NAMESPACE } }));
  if (hasController(cluster.config)) return;
  await cluster.apply(readFileSync(CRDS, "utf8"));
  const command = () => millraceCommand(["controller", "--kubeconfig", cluster.kubeconfig]);
  await cluster.control.component("millrace-controller", { command }).start();
}

/** A pool of these ranges that every node may announce. */
export function poolObjects(...addresses: readonly string[]): object[] {
  const object = (kind: string, spec: object) => ({
    apiVersion: "metallb.io/v1beta1",
    kind,
    metadata: { name: "lan", namespace: POOL_NAMESPACE },
    spec,
  });
  return [object("IPAddressPool", { addresses }), object("L2Advertisement", {})];
}
