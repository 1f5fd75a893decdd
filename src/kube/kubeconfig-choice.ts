// Which kubeconfig a command of a person means: the flag's, KUBECONFIG's, the one in the home directory, as kubectl.
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import type { KubeconfigChoice } from "./identity.ts";

/** Undefined: there is none; in a pod its service account is left. `flag`, `context`: "" when not given. */
export function chooseKubeconfig(
  flag: string,
  context: string,
  env: NodeJS.ProcessEnv = process.env,
): KubeconfigChoice | undefined {
  const chosen = context === "" ? {} : { context };
  if (flag !== "") return { files: [flag], ...chosen };
  const listed = (env["KUBECONFIG"] ?? "").split(delimiter).filter((path) => path !== "");
  if (listed.length > 0) return { files: listed, ...chosen };
  const home = join(env["HOME"] ?? "/", ".kube/config");
  return existsSync(home) ? { files: [home], ...chosen } : undefined;
}
