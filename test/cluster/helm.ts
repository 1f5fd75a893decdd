// Helm for a cluster of the tests, as scripts/helm.sh builds it.
import { existsSync, mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Cluster } from "./cluster.ts";

const BUILT = resolve(import.meta.dirname, "../../.cache/helm");
export const CHART = resolve(import.meta.dirname, "../../deploy/helm/millrace");

/** What helm says. @throws Error with what it says when it fails, or is not built */
export async function helm(cluster: Cluster, version: "3" | "4", args: readonly string[]): Promise<string> {
  const program = join(BUILT, `helm-${version}`);
  if (!existsSync(program)) throw new Error(`${program} is missing: make test-chart builds it`);
  const home = join(cluster.paths.state, `helm-${version}`);
  mkdirSync(home, { recursive: true });
  const command = [program, `--kubeconfig=${cluster.kubeconfig}`, "--namespace=kube-system", ...args];
  const env = ["env", `HOME=${home}`];
  const { status, stdout, stderr } = await cluster.control.exec([...env, ...command], { timeoutMs: 280_000 });
  if (status !== 0) throw new Error(`helm ${args.join(" ")}: ${stderr}`);
  return stdout;
}
